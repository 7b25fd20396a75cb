"""Time of every module of a model: inclusive and exclusive, one record per pass through the model.

Each module's ``forward`` is wrapped. Forward hooks would do the same, but while a module has any, torch calls it on a slower way, which
costs several times what taking the time does, all of it inside the exclusive times of the modules around.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

Wrap = Callable[[str, Callable[..., Any]], Callable[..., Any]]


@contextmanager
def wrapped(model: Any, wrap: Wrap) -> Iterator[None]:
    """Every module's ``forward`` is ``wrap(path, forward)`` while this is active."""
    before: list[tuple[Any, Any]] = []
    try:
        for path, module in model.named_modules():
            before.append((module, vars(module).get("forward")))
            module.forward = wrap(path, module.forward)
        yield
    finally:
        for module, forward in before:
            if forward is not None:
                module.forward = forward
            elif "forward" in vars(module):
                del module.forward


@dataclass(frozen=True)
class ModuleTime:
    """One module in one pass: how often it was called, seconds with (inclusive) and without (exclusive) its children."""

    calls: float
    inclusive_s: float
    exclusive_s: float


class ModuleTimer:
    """Context manager that times all modules of ``model`` while it is active.

    ``collect()`` after each pass (one prefill, one decode step) returns path → :class:`ModuleTime` and starts afresh. What taking a
    module's time costs (:func:`call_cost`) falls into the exclusive time of the module around it, which ``instrumentation`` in the
    document shows; nothing is subtracted. Functions that no module stands for (attention kernels, residual sums) are in the exclusive
    time of the module that calls them, hooks that others put on a module in that of the one around it.
    """

    def __init__(self, model: Any, device: Any, clock: Callable[[], int] | None = None) -> None:
        """``clock``: nanoseconds, in place of the host's performance counter (of the processor's own time, where others disturb)."""
        self._mark: Callable[[], Any]
        self._seconds: Callable[[list[tuple[Any, Any]]], list[float]]
        self._mark, self._seconds = _clock(device) if clock is None else (clock, _from_ns)
        self._records: list[list[Any]] = []  # [path, index of the parent's record or -1, begin, end]
        self._stack: list[int] = [-1]
        self._wrapped = wrapped(model, self._timed)

    def __enter__(self) -> Self:
        self._wrapped.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wrapped.__exit__(None, None, None)

    def _timed(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        mark, records, stack = self._mark, self._records, self._stack

        @functools.wraps(forward)
        def timed(*args: Any, **kwargs: Any) -> Any:
            record = [path, stack[-1], None, None]
            stack.append(len(records))
            records.append(record)
            record[2] = mark()
            try:
                return forward(*args, **kwargs)
            finally:
                record[3] = mark()
                stack.pop()

        return timed

    def collect(self) -> dict[str, ModuleTime]:
        """Times of the pass that just ended; the root's inclusive time is under the path ``""``."""
        spent = self._seconds([(record[2], record[3]) for record in self._records])
        children = [0.0] * len(spent)
        for (_, parent, _, _), seconds in zip(self._records, spent, strict=True):
            if parent >= 0:
                children[parent] += seconds
        times: dict[str, ModuleTime] = {}
        for (path, *_), seconds, inner in zip(self._records, spent, children, strict=True):
            old = times.get(path, ModuleTime(0, 0.0, 0.0))
            times[path] = ModuleTime(old.calls + 1, old.inclusive_s + seconds, old.exclusive_s + seconds - inner)
        self._records.clear()
        return times


def _clock(device: Any) -> tuple[Callable[[], Any], Callable[[list[tuple[Any, Any]]], list[float]]]:
    """(mark, pairs of marks → seconds). On CUDA, events on the stream: the host's clock would time only the launches."""
    if device.type != "cuda":
        return time.perf_counter_ns, _from_ns
    import torch

    # Making an event and asking for the present stream cost several times what recording one does, in every module of every pass.
    stream = torch.cuda.current_stream(device)
    idle: list[Any] = []

    def mark() -> Any:
        event = idle.pop() if idle else torch.cuda.Event(enable_timing=True)
        event.record(stream)
        return event

    def seconds(pairs: list[tuple[Any, Any]]) -> list[float]:
        torch.cuda.synchronize(device)
        found = [begin.elapsed_time(end) / 1e3 for begin, end in pairs]
        idle.extend(event for pair in pairs for event in pair)
        return found

    return mark, seconds


def _from_ns(pairs: list[tuple[Any, Any]]) -> list[float]:
    return [(end - begin) / 1e9 for begin, end in pairs]


def call_cost(device: Any, calls: int = 500) -> float:
    """Seconds that taking the time of one module call costs here: calls of a module that does nothing, with and without, middle of five."""
    import torch

    class Nothing(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x

    module = Nothing()

    def spent() -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            module(None)
        return time.perf_counter() - begin

    found = []
    for _ in range(5):
        plain = spent()
        with ModuleTimer(module, device):
            found.append(spent() - plain)
    return max(0.0, statistics.median(found) / calls)


def central_mean(passes: list[dict[str, ModuleTime]]) -> dict[str, ModuleTime]:
    """Mean over the middle half of the passes, ordered by their whole time.

    Whole passes are kept or dropped, so parts still add up to the whole; a disturbed pass does not spoil the rest.
    """
    if not passes:
        return {}
    ordered = sorted(passes, key=lambda times: times[""].inclusive_s)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    result = {}
    for path in dict.fromkeys(path for times in kept for path in times):  # one may lack a module that others call
        rows = [times[path] for times in kept if path in times]
        result[path] = ModuleTime(
            sum(row.calls for row in rows) / len(kept),
            sum(row.inclusive_s for row in rows) / len(kept),
            sum(row.exclusive_s for row in rows) / len(kept),
        )
    return result
