"""Seconds of many decode steps at once, whose load is a straight line in the context. Pure functions, standard library only."""

from __future__ import annotations

from typing import NamedTuple

from profiling.roofline import Ceilings, Load, timing


class Parts(NamedTuple):
    """Seconds by what they go to; they add up to the whole."""

    compute: float = 0.0
    memory: float = 0.0
    overhead: float = 0.0
    network: float = 0.0

    def plus(self, other: Parts, times: float = 1.0) -> Parts:
        return Parts(*(a + times * b for a, b in zip(self, other, strict=True)))


def parts_over_contexts(first: Load, last: Load, span: int, steps: range, limits: Ceilings) -> Parts:
    """Of an operator over decode steps whose load changes linearly.

    The load is ``first`` at offset 0 and ``last`` at offset ``span``; ``steps`` is a range of consecutive offsets. Each
    roof is a straight line in the offset, so the larger of the two changes hands at most once: two arithmetic series; what is
    sent is a third.
    """
    if not steps:
        return Parts()
    begin, end = timing(first, limits), timing(last, limits)
    if span == 0:
        return Parts().plus(Parts(**begin.parts), len(steps))

    lines = ((begin.compute_s, end.compute_s), (begin.memory_s, end.memory_s))

    def at(ends: tuple[float, float], x: float) -> float:
        return ends[0] * ((span - x) / span) + ends[1] * (x / span)

    def series(ends: tuple[float, float], low: int, high: int) -> float:
        return (high - low) * at(ends, (low + high - 1) / 2)

    low, high = steps.start, steps.stop
    apart = [compute - memory for compute, memory in zip(*lines, strict=True)]
    cross = span * apart[0] / (apart[0] - apart[1]) if apart[0] != apart[1] else None
    split = int(cross) + 1 if cross is not None and low < cross < high - 1 else high
    waits = begin.streams and end.streams
    compute = memory = 0.0
    for start, stop in ((low, split), (split, high)):
        under_peak, under_bandwidth = (series(ends, start, stop) for ends in lines)
        if under_peak > under_bandwidth and not waits:
            compute += under_peak
        else:
            memory += max(under_peak, under_bandwidth)
    network = series((begin.network_s, end.network_s), low, high)
    return Parts(compute, memory, begin.overhead_s * len(steps), network)
