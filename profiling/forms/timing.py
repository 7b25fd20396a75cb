"""Seconds of many points at once under the roofline of :mod:`profiling.roofline`. numpy only.

Four parts that add up to the time: of the operators that the peak limits, of those that the bandwidth limits, overhead of launching
them, and what is sent between devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiling.demand import Routing, spread_of
from profiling.forms.prepare import Matrices, rows_at, tokens_at, weights_at
from profiling.roofline import Ceilings, Load, rates, ridge_roofs

#: Order of the parts in a result, shape (4, points).
PARTS = ("compute", "memory", "overhead", "network")


@dataclass(frozen=True, eq=False)
class Rates:
    """Rates at each of some points, arrays of the same length; nan where one is unknown. FLOP/s, bytes/s, seconds.

    ``limits``: the ceilings where they are the same at all points and differ between kinds of kernels, else None.
    """

    peak: np.ndarray
    low_peak: np.ndarray
    vector: np.ndarray
    bandwidth: np.ndarray
    interconnect: np.ndarray
    overhead: np.ndarray
    ahead: np.ndarray
    limits: Ceilings | None = None

    @classmethod
    def of(cls, limits: Sequence[Ceilings], device: np.ndarray) -> Rates:
        """``device``: for each point, which of ``limits`` holds there. Rates of kinds of kernels are kept of a single device alone: with
        several, ask for one after the other."""

        def column(values: list[float | None], missing: float) -> np.ndarray:
            return np.array([missing if v is None else v for v in values], dtype=np.float64)[device]

        nan, never = float("nan"), float("inf")
        known = [item.known for item in limits]

        def rate(values: list[float | None]) -> np.ndarray:
            return column([v if k else None for v, k in zip(values, known, strict=True)], nan)

        return cls(
            peak=rate([item.peak_flops for item in limits]),
            low_peak=rate([low_peak(item) for item in limits]),
            vector=column([item.vector for item in limits], never),
            bandwidth=rate([item.bandwidth for item in limits]),
            interconnect=column([item.interconnect for item in limits], never),
            overhead=column([item.overhead_s for item in limits], 0.0),
            ahead=np.array([item.ahead and item.overhead_s > 0 for item in limits])[device],
            limits=limits[0] if len(limits) == 1 and by_kernel(limits[0]) else None,
        )

    def at(self, chosen: np.ndarray | slice) -> Rates:
        return Rates(
            peak=self.peak[chosen],
            low_peak=self.low_peak[chosen],
            vector=self.vector[chosen],
            bandwidth=self.bandwidth[chosen],
            interconnect=self.interconnect[chosen],
            overhead=self.overhead[chosen],
            ahead=self.ahead[chosen],
            limits=self.limits,
        )


def low_peak(limits: Ceilings) -> float | None:
    """FLOP/s of products in the format of quantised layers, as :func:`profiling.roofline.rates` has it."""
    low = limits.quantised
    return low.peak_flops if low is not None and low.known else limits.peak_flops


def by_kernel(limits: Ceilings) -> bool:
    """Do kinds of kernels have rates of their own?"""
    return bool(limits.stream or limits.attention or limits.product or limits.copy or limits.skinny or limits.sized)


def roof_times(matrices: Matrices, x: np.ndarray, r: Rates) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(seconds under the peak, seconds under the bandwidth, which of them are no arithmetic whatever is longer: see
    :class:`profiling.roofline.Timing`; None: none) of every term at every point, shapes (terms, points)."""
    if r.limits is not None and r.limits.known:
        return _by_kernel(matrices, x, r.limits)
    by = (r.peak, r.low_peak, r.vector) if matrices.has_low else (r.peak, r.vector)
    scaled = np.concatenate([x / rate for rate in by])
    return matrices.stacked @ scaled, matrices.moved @ (x / r.bandwidth), None


def _by_kernel(matrices: Matrices, x: np.ndarray, limits: Ceilings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same where each kind of kernel has rates of its own, which may depend on the rows of a product and on its weights."""
    flops = (matrices.flops + matrices.low_flops) @ x
    elementwise, moved = matrices.elementwise @ x, matrices.moved @ x
    compute, memory, streams = np.empty_like(flops), np.empty_like(moved), np.zeros(flops.shape, dtype=bool)
    for i, term in enumerate(matrices.terms):
        rows = rows_at(term, x, matrices.replicas, matrices.convention)
        weights = weights_at(term, x, flops[i], rows) if limits.sized else np.zeros_like(rows)
        sent, spread = term.routed_tokens, spread_of(term.routing, matrices.convention)
        by = rows if spread is None or sent is None else tokens_at(sent, x) * matrices.replicas
        # As complex numbers: finding distinct pairs in two rows takes ten times as long.
        pairs, first, place = np.unique(by + 1j * weights, return_index=True, return_inverse=True)
        found = np.empty((4, len(pairs)))
        for n, pair in enumerate(pairs.tolist()):
            some = float(rows[first[n]])
            whole = round(some)
            load = Load(
                term.op_class,
                1.0,
                0.0,
                1.0,
                whole if abs(some - whole) < 1e-6 else some,  # experts have parts of rows, on average
                compute_dtype=term.compute_dtype,
                weights=pair.imag,
                inner=term.inner,
                spread=spread and Routing(spread.experts, spread.top_k, round(pair.real)),
                narrow=term.quantised,
            )
            in_kernel = term.op_class == "attention" and bool(limits.attention) and some > 8
            at = rates(load, limits)
            roofs = ridge_roofs(load, at[0], limits)
            ridge = 0.0 if roofs is None else roofs[0] / roofs[1]
            found[:, n] = *at, 0.0 if in_kernel or not limits.vector else 1.0 / limits.vector, ridge
        peak, bandwidth, vector, ridge = found[:, place]
        compute[i] = flops[i] / peak + elementwise[i] * vector
        memory[i] = moved[i] / bandwidth
        streams[i] = flops[i] < moved[i] * ridge
    return compute, memory, streams


def pass_seconds(groups: Sequence[Matrices], x: np.ndarray, r: Rates) -> np.ndarray:
    """The four parts of one pass at every point, shape (4, points)."""
    return _launched(_apart(groups, x, r), r)


def _launched(parts: np.ndarray, r: Rates) -> np.ndarray:
    """``parts`` of one pass as they are where the host runs ahead of the device (:mod:`profiling.launching`): the longer of the two is all."""
    if r.ahead.any():
        host = parts[2] > parts[0] + parts[1] + parts[3]
        parts[2] = np.where(r.ahead & ~host, 0.0, parts[2])
        for part in (0, 1, 3):
            parts[part] = np.where(r.ahead & host, 0.0, parts[part])
    return parts


def _apart(groups: Sequence[Matrices], x: np.ndarray, r: Rates) -> np.ndarray:
    """The parts as if nothing overlapped."""
    result = np.zeros((4, x.shape[1]))
    for matrices in groups:
        if len(matrices.terms):
            compute, memory, streams = roof_times(matrices, x, r)
            top = np.maximum(compute, memory)
            whole = top.sum(axis=0)
            np.multiply(top, compute > memory, out=top)
            if streams is not None:
                top[streams] = 0.0
            bound = top.sum(axis=0)
            result[0] += bound
            result[1] += whole - bound
        result[2] += (matrices.calls @ x) * r.overhead
        if matrices.sends:
            result[3] += (matrices.network @ x) / r.interconnect
    return result


def small_share(groups: Sequence[Matrices], x: np.ndarray, r: Rates) -> np.ndarray:
    """Part (0–1) of one pass, at every point, that goes to products with smaller weights, or shorter sums, than any that were timed.

    0 where ``r`` has no rates by shape."""
    small = np.zeros(x.shape[1])
    if r.limits is None or r.limits.shapes is None:
        return small
    whole = pass_seconds(groups, x, r)
    by_host = r.ahead & (whole[2] > 0)
    for matrices in groups:
        flops = (matrices.flops + matrices.low_flops) @ x
        found = {}
        for i, term in enumerate(matrices.terms):
            if term.inner:
                rows = rows_at(term, x, matrices.replicas, matrices.convention)
                weights = weights_at(term, x, flops[i], rows)
                counts, place = np.unique(rows, return_inverse=True)
                smallest, shortest = np.array([r.limits.least_timed(count) for count in counts.tolist()])[place].T
                is_small = (weights > 0) & ((weights < smallest) | (term.inner < shortest))
                if is_small.any():
                    found[i] = is_small
        if found:
            compute, memory, _ = roof_times(matrices, x, r)
        for i, is_small in found.items():
            term = matrices.terms[i]
            roof, calls = np.maximum(compute[i], memory[i]), (term.calls @ x) * r.overhead
            sent = (term.network @ x) / r.interconnect
            small += is_small * np.where(by_host, calls, roof + sent + np.where(r.ahead, 0.0, calls))
    return small / whole.sum(axis=0) if small.any() else small


def steps_seconds(
    steady: Matrices, growing: Matrices, first: np.ndarray, last: np.ndarray, steps: np.ndarray, r: Rates
) -> np.ndarray:
    """The four parts of ``steps`` consecutive passes whose load grows in straight lines, from features ``first`` to ``last``.

    Where the host runs ahead, it limits the first of them, or the last, or none or all (see :func:`profiling.launching.longer_of`).
    """
    if not r.ahead.any():
        return _steps_apart(steady, growing, first, last, steps, r)
    span = np.maximum(steps - 1, 1)

    def at(step: np.ndarray, chosen: slice | np.ndarray) -> np.ndarray:
        return first[:, chosen] + (last[:, chosen] - first[:, chosen]) * (step / span[chosen])

    def limited(step: np.ndarray, chosen: slice | np.ndarray) -> np.ndarray:
        parts = _apart([steady, growing], at(step, chosen), r.at(chosen))
        return r.ahead[chosen] & (parts[2] > parts[0] + parts[1] + parts[3])

    # limited(low) == begins, limited(high) == ends; where both are the same, there is nothing to look for.
    low, high = np.zeros_like(steps), steps - 1
    begins, ends = limited(low, slice(None)), limited(high, slice(None))
    turns = np.flatnonzero(begins != ends)
    while len(turns) and (wide := high[turns] - low[turns] > 1).any():
        turns = turns[wide]
        middle = np.floor((low[turns] + high[turns]) / 2)
        same = limited(middle, turns) == begins[turns]
        low[turns], high[turns] = np.where(same, middle, low[turns]), np.where(same, high[turns], middle)
    # Steps before the cut are limited as the first is; without one, all of them are.
    cut = np.where(begins != ends, high, np.where(begins, steps, 0.0))
    hidden = np.where(begins, cut, np.where(ends, steps - cut, 0.0))
    shown = steps - hidden
    start = np.where(begins, np.minimum(cut, steps - 1), 0.0)
    stop = np.maximum(np.where(begins, steps, np.where(ends, cut, steps)) - 1, start)
    every = slice(None)
    result = _steps_apart(steady, growing, at(start, every), at(stop, every), np.maximum(shown, 1.0), r)
    calls = _apart([steady, growing], first, r)[2]
    some = shown > 0
    for part in (0, 1, 3):
        result[part] = np.where(some, result[part], np.where(r.ahead, 0.0, result[part]))
    result[2] = np.where(r.ahead, calls * hidden, result[2])
    return result


def _steps_apart(
    steady: Matrices, growing: Matrices, first: np.ndarray, last: np.ndarray, steps: np.ndarray, r: Rates
) -> np.ndarray:
    """The parts as if nothing overlapped."""
    result = _apart([steady], first, r) * steps
    if not len(growing.terms):
        return result
    (c0, m0, waits), (c1, m1, still) = roof_times(growing, first, r), roof_times(growing, last, r)
    before, after = c0 - m0, c1 - m1
    half = steps / 2
    top = (np.maximum(c0, m0) + np.maximum(c1, m1)) * half
    compute = np.where(before + after > 0, top, 0.0)
    crossing = before * after < 0
    if crossing.any():
        rows, points = np.nonzero(crossing)
        n = steps[points]
        a, b = before[rows, points], after[rows, points]
        span = np.maximum(n - 1, 1)
        split = np.floor(a / (a - b) * span) + 1  # steps before the lines cross
        whole, part = _two_series(
            (c0[rows, points], c1[rows, points]), (m0[rows, points], m1[rows, points]), n, span, split
        )
        top[rows, points], compute[rows, points] = whole, part
    if waits is not None and still is not None:
        compute[waits & still] = 0.0
    result[0] += compute.sum(axis=0)
    result[1] += (top - compute).sum(axis=0)
    result[2] += (growing.calls @ first) * r.overhead * steps
    if growing.sends:
        result[3] += (growing.network @ (first + last)) * half / r.interconnect
    return result


def _two_series(
    compute: tuple[np.ndarray, np.ndarray],
    memory: tuple[np.ndarray, np.ndarray],
    n: np.ndarray,
    span: np.ndarray,
    split: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(seconds, of which under the peak) of lines that cross: the larger one of each side, as arithmetic series."""

    def series(ends: tuple[np.ndarray, np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
        middle = (low + high - 1) / 2 / span
        return (high - low) * (ends[0] * (1 - middle) + ends[1] * middle)

    zero = np.zeros_like(split)
    split = np.minimum(split, n)
    compute_first = compute[0] > memory[0]
    early, late = series(compute, zero, split), series(compute, split, n)
    early_memory, late_memory = series(memory, zero, split), series(memory, split, n)
    whole = np.where(compute_first, early + late_memory, early_memory + late)
    return whole, np.where(compute_first, early, late)
