"""Decoding token after token: the load of each step as a function of the context, and the time of all steps.

Between the points where something changes (a window fills up), FLOPs and bytes of each operator are straight lines in the
context. Two traces give the line, a third in the middle proves it; where it does not hold, the span is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from profiling.execution import Work, works
from profiling.launching import limited_by
from profiling.passes import Trace
from profiling.roofline import Ceilings, timing
from profiling.spec import Counting
from profiling.steps import Parts, parts_over_contexts


@dataclass(frozen=True)
class Segment:
    """Contexts ``first`` … ``last`` (both included) over which every operator's load is linear."""

    first: int
    last: int
    start: Sequence[Work]
    end: Sequence[Work]


@dataclass(frozen=True)
class DecodeCurve:
    """All decode steps of a workload, as segments that follow each other."""

    segments: tuple[Segment, ...]

    def seconds(self, limits: Ceilings) -> float | None:
        """Sum of the times of all steps, or None when a ceiling is unknown."""
        parts = self.parts(limits)
        return None if parts is None else sum(parts)

    def parts(self, limits: Ceilings) -> Parts | None:
        """The same by what the seconds go to."""
        if not limits.known:
            return None
        whole = Parts()
        for segment in self.segments:
            whole = whole.plus(_segment_parts(segment, limits))
        return whole


def _segment_parts(segment: Segment, limits: Ceilings) -> Parts:
    span = segment.last - segment.first
    if not limits.ahead or not limits.overhead_s:
        return _steps_parts(segment, span, range(span + 1), limits)
    host = sum(w.times * timing(w.load(), limits).overhead_s for w in segment.start)
    alone = replace(limits, overhead_s=0.0)
    hidden, shown = limited_by(host, lambda steps: sum(_steps_parts(segment, span, steps, alone)), span + 1)
    return _steps_parts(segment, span, shown, alone).plus(Parts(overhead=host * len(hidden)))


def _steps_parts(segment: Segment, span: int, steps: range, limits: Ceilings) -> Parts:
    whole = Parts()
    for a, b in zip(segment.start, segment.end, strict=True):
        whole = whole.plus(parts_over_contexts(a.load(), b.load(), span, steps, limits), a.times)
    return whole


def decode_curve(
    trace_at: Callable[[int], Trace],
    first: int,
    last: int,
    counting: Counting | str | Callable[[Trace], list[Work]],
    windows: Iterable[int] = (),
) -> DecodeCurve:
    """The curve for contexts ``first`` to ``last``; ``trace_at(context)`` traces the step with that context.

    ``counting``: conventions, or what makes the operators of a traced step (``profiling.options.operators``).
    ``windows``: sliding windows of the model. The load changes around a full window, so segments are cut there at once
    instead of being searched for; what is cut needlessly does no harm, and every segment is checked in any case.
    """

    def at(context: int) -> list[Work]:
        trace = trace_at(context)
        return counting(trace) if callable(counting) else works(trace, counting)

    cuts = {w + d for w in windows for d in (-2, -1, 0, 1) if first < w + d <= last}
    starts = sorted({first, *cuts})
    ends = [start - 1 for start in starts[1:]] + [last]
    segments: list[Segment] = []
    for begin, end in zip(starts, ends, strict=True):
        segments += _segments(at, begin, at(begin), end, at(end))
    return DecodeCurve(tuple(segments))


def _segments(at, first: int, start: list[Work], last: int, end: list[Work]) -> list[Segment]:
    if last == first:
        return [Segment(first, first, start, start)]
    if last == first + 1:
        if _same_operators(start, end):
            return [Segment(first, last, start, end)]
        return [Segment(first, first, start, start), Segment(last, last, end, end)]
    middle = (first + last) // 2
    halfway = at(middle)
    if _is_line(first, start, middle, halfway, last, end):
        return [Segment(first, last, start, end)]
    left = _segments(at, first, start, middle, halfway)
    right = _segments(at, middle + 1, at(middle + 1), last, end)
    return left + right


def _same_operators(a: Sequence[Work], b: Sequence[Work]) -> bool:
    return len(a) == len(b) and all(
        x.call.name == y.call.name and x.call.path == y.call.path and x.times == y.times
        for x, y in zip(a, b, strict=True)
    )


def _is_line(x0: int, a: Sequence[Work], x1: int, b: Sequence[Work], x2: int, c: Sequence[Work]) -> bool:
    """Do three points lie on one line, operator by operator, in FLOPs and bytes? Expected values may be rounded by one."""
    if not (_same_operators(a, b) and _same_operators(b, c)):
        return False

    def straight(p: float, q: float, r: float) -> bool:
        # Bytes of scales and shares of devices are fractions, exact to a few units in the last place.
        allowed = 1 + 1e-12 * max(abs(p), abs(r))
        return abs((q - p) * (x2 - x0) - (r - p) * (x1 - x0)) <= allowed * (x2 - x0)

    return all(
        straight(p.flops, q.flops, r.flops)
        and straight(p.elementwise_flops, q.elementwise_flops, r.elementwise_flops)
        and straight(p.bytes_moved, q.bytes_moved, r.bytes_moved)
        for p, q, r in zip(a, b, c, strict=True)
    )
