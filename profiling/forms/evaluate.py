"""A model on devices, at any number of points: times, throughput, memory, fit, and what limits. numpy only, no torch.

One function for one point and for a million; the points are cut into chunks that stay in a processor's cache.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from profiling.forms.prepare import prepare
from profiling.forms.terms import ModelForm, NoForm
from profiling.forms.timing import PARTS, Rates, by_kernel, pass_seconds, small_share, steps_seconds
from profiling.parallel import Plan
from profiling.precision import Precision, kv_bits
from profiling.roofline import Ceilings
from profiling.spec import Workload
from profiling.speculative import steps_per_token

#: Points per chunk: some hundred rows of them fit into a processor's second-level cache.
CHUNK = 8192
#: Chunks from which on threads are worth starting.
MANY = 4
#: Fewer points than this are too few for threads inside of products to matter.
FEW = 256

#: What is returned for every point; seconds, tokens/s, bytes, parts of the whole time (0–1). ``fits``: 1, 0, or nan where unknown.
COLUMNS = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "output_tokens_per_s",
    "weights_bytes",
    "cache_bytes",
    "activation_peak_bytes",
    "widened_bytes",
    "total_bytes",
    "fits",
    *(f"{part}_share" for part in PARTS),
)


@dataclass(frozen=True, eq=False)
class Points:
    """Arrays of the same length. ``device``: position in the lists of ceilings and capacities given beside them."""

    batch_size: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    device: np.ndarray

    def __len__(self) -> int:
        return len(self.batch_size)

    def at(self, chosen: slice | np.ndarray) -> Points:
        return Points(*(getattr(self, f)[chosen] for f in ("batch_size", "input_tokens", "output_tokens", "device")))


def _on_first(points: Points) -> Points:
    return replace(points, device=np.zeros(len(points), dtype=np.int64))


def _unchanging(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same for every step after a prompt."""
    return {name: prompt[name] for name in ("batch", "source") if name in prompt}


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


class Evaluator:
    """A form under the formats, conventions and devices of ``workload``, whose batch and lengths do not matter.

    ``limits`` and ``capacities`` (bytes, None: unknown) belong to the devices that points name by position.
    """

    def __init__(
        self, form: ModelForm, workload: Workload, limits: Sequence[Ceilings], capacities: Sequence[int | None]
    ) -> None:
        self._form, self._workload = form, workload
        self._limits = list(limits)
        self._capacities = np.array([np.nan if c is None else c for c in capacities], dtype=np.float64)
        self._precision = Precision.of(workload)
        self._plan = Plan.of(workload, form.facts["layers"])
        self._stages = {
            name: prepare(stage, self._precision, self._plan, workload.experts) for name, stage in form.stages.items()
        }

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the model is (see :mod:`profiling.forms.make`)."""
        return self._form.facts

    def on(self, limits: Sequence[Ceilings], capacities: Sequence[int | None]) -> Evaluator:
        """The same form and options on other devices: nothing is prepared anew."""
        other = copy.copy(self)
        other._limits = list(limits)
        other._capacities = np.array([np.nan if c is None else c for c in capacities], dtype=np.float64)
        return other

    def by_stage(self, points: Points) -> dict[str, np.ndarray]:
        """Seconds of each stage by what limits them, shape (4, points), in the order of ``timing.PARTS``; decode: all steps together. The
        evaluator has one device.

        Raises :class:`NoForm` for points that the form does not cover.
        """
        size, r = len(points), Rates.of(self._limits, points.device)
        batch = -(-points.batch_size // self._plan.data)
        if "encode" in self._stages:
            return {"encode": self._pass("encode", self._encoder_input(points, batch), r, size)[0]}
        prompt = {**self._prompt(points.input_tokens, size), "batch": batch}
        first, *memory = self._pass("prefill", prompt, r, size)
        steps = np.maximum(points.output_tokens - 1, 0)
        if not steps.any():
            return {"prefill": first}
        decode = self._decode(prompt, steps, r, (memory[0], memory[1], memory[2]))[0]
        return {"prefill": first, "decode": decode * steps_per_token(self._workload)}

    def small_shares(self, points: Points) -> dict[str, np.ndarray]:
        """Part (0–1) of each stage's time that goes to products with smaller weights than any that were timed on the device, as
        :func:`profiling.small_products.warning` takes it; of decode, in the step in the middle, as an estimate lists it. 0 on devices
        without rates by shape, {} where all are such. Raises :class:`NoForm` for points that the form does not cover."""
        found: dict[str, np.ndarray] = {}
        for rows, alone in self._device_by_device(points):
            if alone._limits[0].shapes is None or not alone._limits[0].known:
                continue
            for start in range(0, len(rows), CHUNK):
                some = rows[start : start + CHUNK]
                for stage, share in alone._small_by_stage(_on_first(points.at(some))).items():
                    found.setdefault(stage, np.zeros(len(points)))[some] = share
        return found

    def _device_by_device(self, points: Points) -> Iterator[tuple[np.ndarray, Evaluator]]:
        """(positions of its points, this on it alone) for every device that points name."""
        for device in np.unique(points.device).tolist():
            yield np.flatnonzero(points.device == device), self.on([self._limits[device]], [self._capacities[device]])

    def _small_by_stage(self, points: Points) -> dict[str, np.ndarray]:
        size, r = len(points), Rates.of(self._limits, points.device)
        batch = -(-points.batch_size // self._plan.data)
        if "encode" in self._stages:
            return {"encode": self._small("encode", self._encoder_input(points, batch), r, size)}
        prompt = {**self._prompt(points.input_tokens, size), "batch": batch}
        found = {"prefill": self._small("prefill", prompt, r, size)}
        steps = np.maximum(points.output_tokens - 1, 0)
        some = steps > 0
        if some.any():
            count = int(some.sum())
            step = {name: v[some] for name, v in _unchanging(prompt).items()}
            constants = self._form.stages["decode"].constants
            step |= {name: np.full(count, v) for name, v in constants.items() if name not in step}
            step["context"] = (prompt["tokens"] + prompt["context"] + steps // 2)[some]
            found["decode"] = np.zeros(size)
            found["decode"][some] = self._small("decode", step, r.at(some), count)
        return found

    def _small(self, stage: str, point: Mapping[str, Any], r: Rates, size: int) -> np.ndarray:
        share = np.empty(size)
        for piece, chosen, count in self._places(stage, point, size):
            x = piece.features({name: v[chosen] for name, v in point.items()}, count)
            share[chosen] = small_share([piece.steady, piece.growing], x, r.at(chosen))
        return share

    def __call__(self, points: Points) -> dict[str, np.ndarray]:
        """Every column of :data:`COLUMNS` at every point. Raises :class:`NoForm` for points that the form does not cover."""
        result = {name: np.empty(len(points)) for name in COLUMNS}
        if len(self._limits) > 1 and any(map(by_kernel, self._limits)):
            for rows, alone in self._device_by_device(points):
                for name, values in alone(_on_first(points.at(rows))).items():
                    result[name][rows] = values
            return result

        def fill(start: int) -> None:
            chosen = slice(start, start + CHUNK)
            for name, values in self._chunk(points.at(chosen)).items():
                result[name][chosen] = values

        starts = range(0, len(points), CHUNK)
        if len(points) < FEW:  # telling the library how many threads to take would take longer than they do
            for start in starts:
                fill(start)
            return result
        # The products of a chunk are small: threads of our own, one per chunk, not threads inside of each product.
        with _libraries().limit(limits=1, user_api="blas"):
            if len(starts) < MANY:
                for start in starts:
                    fill(start)
            else:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    for _ in pool.map(fill, starts):
                        pass
        return result

    def covered(self, points: Points) -> np.ndarray:
        """Which points the form covers."""
        size, batch = len(points), -(-points.batch_size // self._plan.data)
        if "encode" in self._stages:
            return self._inside("encode", self._encoder_input(points, batch), size)
        prompt = {**self._prompt(points.input_tokens, size), "batch": batch}
        inside = self._inside("prefill", prompt, size)
        steps = np.maximum(points.output_tokens - 1, 0)
        if not steps.any():
            return inside
        found = np.zeros(size, dtype=np.int64)
        for _, held, begin, end in self._spans(prompt, steps):
            found[held] += (end - begin + 1)[held]
        return inside & (found == steps)

    def _inside(self, stage: str, point: Mapping[str, Any], size: int) -> np.ndarray:
        held = np.zeros(size, dtype=bool)
        for piece in self._stages[stage]:
            held |= piece.holds(point, [n for n in piece.piece.ranges if n in point], size)
        return held

    def _chunk(self, points: Points) -> dict[str, np.ndarray]:
        size = len(points)
        r = Rates.of(self._limits, points.device)
        whole_batch = points.batch_size.astype(np.float64)
        batch = -(-points.batch_size // self._plan.data)
        outputs = points.output_tokens
        if "encode" in self._stages:
            return self._encoded(points, batch, whole_batch, r)
        prompt = {**self._prompt(points.input_tokens, size), "batch": batch}
        first, cache, peak, copy = self._pass("prefill", prompt, r, size)
        steps = np.maximum(outputs - 1, 0)
        decode = np.zeros((4, size))
        if steps.any():
            decode, cache, peak, copy = self._decode(prompt, steps, r, (cache, peak, copy))
            decode *= steps_per_token(self._workload)
        ttft, later = first.sum(axis=0), decode.sum(axis=0)
        total = ttft + later
        generated = np.where(outputs > 0, outputs, np.nan)
        some = np.where(steps > 0, steps, np.nan)
        parts = (first + decode) / total
        return {
            "ttft_s": ttft,
            "tpot_s": later / some,
            "e2e_s": total + 0 * generated,
            "prefill_tokens_per_s": whole_batch * (points.input_tokens - self._workload.prefix_tokens) / ttft,
            "decode_tokens_per_s": whole_batch * some / later,
            "output_tokens_per_s": whole_batch * generated / total,
            **self._memory(batch, cache, peak, copy, points.device),
            **{f"{name}_share": part for name, part in zip(PARTS, parts, strict=True)},
        }

    def _prompt(self, tokens: np.ndarray, size: int) -> dict[str, Any]:
        constants = {name: np.full(size, v) for name, v in self._form.stages["prefill"].constants.items()}
        variable = "source" if self._form.facts["kind"] == "encdec" else "tokens"
        prefix = self._workload.prefix_tokens
        return {**constants, variable: tokens - prefix}

    def _encoded(self, points: Points, batch: np.ndarray, whole: np.ndarray, r: Rates) -> dict[str, np.ndarray]:
        at = self._encoder_input(points, batch)
        seconds, cache, peak, copy = self._pass("encode", at, r, len(points))
        fixed = self._form.facts["sequence_length"] if self._form.facts["kind"] == "vision" else None
        total = seconds.sum(axis=0)
        nothing = np.full(len(points), np.nan)
        return {
            "ttft_s": nothing,
            "tpot_s": nothing,
            "e2e_s": total,
            "prefill_tokens_per_s": whole * (fixed or at["tokens"]) / total,
            "decode_tokens_per_s": nothing,
            "output_tokens_per_s": nothing,
            **self._memory(batch, cache, peak, copy, points.device),
            **{f"{name}_share": part for name, part in zip(PARTS, seconds / total, strict=True)},
        }

    def _encoder_input(self, points: Points, batch: np.ndarray) -> dict[str, np.ndarray]:
        tokens = points.input_tokens
        return {"batch": batch, "tokens": np.ones_like(tokens) if self._form.facts["kind"] == "vision" else tokens}

    def _pass(
        self, stage: str, point: Mapping[str, Any], r: Rates, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(parts of the time, bytes of the cache after it, peak of activations, largest widened copy) of one pass at every point."""
        seconds, cache, peak, copy = np.empty((4, size)), np.empty(size), np.empty(size), np.empty(size)
        for piece, chosen, count in self._places(stage, point, size):
            here = {name: v[chosen] for name, v in point.items()}
            x = piece.features(here, count)
            seconds[:, chosen] = pass_seconds([piece.steady, piece.growing], x, r.at(chosen))
            cache[chosen] = piece.cache @ x
            peak[chosen] = (piece.peaks @ x).max(axis=0, initial=0.0)
            copy[chosen] = (piece.copies @ x).max(axis=0, initial=0.0)
        return seconds, cache, peak, copy

    def _places(self, stage: str, point: Mapping[str, Any], size: int):
        """(piece, which points, how many) for every piece that holds somewhere; each point once."""
        left = np.ones(size, dtype=bool)
        for piece in self._stages[stage]:
            held = piece.holds(point, [n for n in piece.piece.ranges if n in point], size) & left
            count = int(held.sum())
            if count:
                left &= ~held
                yield piece, (slice(None) if count == size else held), count
            if not left.any():
                return
        position = int(np.argmax(left))
        where = ", ".join(f"{name} {int(v[position]):,}" for name, v in point.items())
        raise NoForm(f"The closed form does not cover {stage} at {where}.")

    def _decode(
        self, prompt: Mapping[str, Any], steps: np.ndarray, r: Rates, before: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All steps of every point: parts of the time; cache, activation peak and widened copy up to the last step (``before``: of
        the prefill)."""
        size = len(steps)
        seconds, (cache, peak, copy) = np.zeros((4, size)), (item.copy() for item in before)
        last = prompt["tokens"] + prompt["context"] + steps - 1
        fixed = _unchanging(prompt)
        constants = self._form.stages["decode"].constants
        covered = np.zeros(size, dtype=np.int64)
        for piece, held, begin, end in self._spans(prompt, steps):
            count = int(held.sum())
            chosen: Any = slice(None) if count == size else held
            here = {name: v[chosen] for name, v in fixed.items()}
            here |= {name: np.full(count, v) for name, v in constants.items() if name not in here}
            a = piece.features({**here, "context": begin[chosen]}, count)
            b = piece.features({**here, "context": end[chosen]}, count)
            n = (end - begin + 1)[chosen]
            seconds[:, chosen] += steps_seconds(piece.steady, piece.growing, a, b, n.astype(np.float64), r.at(chosen))
            covered[chosen] += n
            at_end = (end == last)[chosen]
            cache[chosen] = np.where(at_end, piece.cache @ b, cache[chosen])
            highest = (piece.peaks @ b).max(axis=0, initial=0.0)
            peak[chosen] = np.where(at_end, np.maximum(peak[chosen], highest), peak[chosen])
            widest = (piece.copies @ b).max(axis=0, initial=0.0)
            copy[chosen] = np.where(at_end, np.maximum(copy[chosen], widest), copy[chosen])
        if (covered != steps).any():
            position = int(np.argmax(covered != steps))
            raise NoForm(f"The closed form does not cover decoding up to a context of {int(last[position]):,} tokens.")
        return seconds, cache, peak, copy

    def _spans(self, prompt: Mapping[str, Any], steps: np.ndarray):
        """(piece, points with steps in it, their first context in it, their last) for every piece with some."""
        first = prompt["tokens"] + prompt["context"]
        last, fixed = first + steps - 1, _unchanging(prompt)
        for piece in self._stages.get("decode", ()):
            low, high = piece.piece.ranges["context"]
            begin, end = np.maximum(first, low), np.minimum(last, high)
            names = [n for n in fixed if n in piece.piece.ranges]
            held = piece.holds(fixed, names, len(steps)) & (begin <= end) & (steps > 0)
            if held.any():
                yield piece, held, begin, end

    def _memory(
        self, batch: np.ndarray, cache: np.ndarray, peak: np.ndarray, copy: np.ndarray, device: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Of the device that needs the most, in the formats of the workload."""
        facts, precision = self._form.facts, self._precision
        held = facts["held"]
        ratio = 1.0
        if precision.cache and held["vectors"]:
            bits = sum(part * kv_bits(precision.cache, vector) for vector, part in held["vectors"])
            ratio = bits / 8 / precision.base_bytes
        state = facts["state_bytes"] * batch.astype(np.float64)
        keys_values = np.maximum(cache - state, 0.0) * ratio
        stored = held["weights"][precision.weights.name if precision.weights else ""]
        best_weights, best_cache = np.zeros(len(cache)), np.full(len(cache), -np.inf)
        for weights, kv_share, state_share in zip(stored, held["kv_cache"], held["state"], strict=True):
            here = keys_values * kv_share + state * state_share
            more = weights + here > best_weights + best_cache
            best_weights, best_cache = np.where(more, weights, best_weights), np.where(more, here, best_cache)
        total = best_weights + best_cache + peak + copy
        capacity = self._capacities[device]
        return {
            "weights_bytes": best_weights,
            "cache_bytes": best_cache,
            "activation_peak_bytes": peak,
            "widened_bytes": copy,
            "total_bytes": total,
            "fits": np.where(np.isnan(capacity), np.nan, total <= capacity),
        }
