"""Time of every module of a model by forward hooks: inclusive and exclusive, one record per pass through the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class ModuleTime:
    """One module in one pass: how often it was called, seconds with (inclusive) and without (exclusive) its children."""

    calls: float
    inclusive_s: float
    exclusive_s: float


class ModuleTimer:
    """Context manager that times all modules of ``model`` while it is active.

    ``collect()`` after each pass (one prefill, one decode step) returns path → :class:`ModuleTime` and starts afresh. A module's own
    hooks lie outside its times; those of its children fall into its exclusive time, which ``instrumentation`` in the document shows.
    Functions that no module stands for (attention kernels, residual sums) are in the exclusive time of the module that calls them.
    """

    def __init__(self, model: Any, device: Any, clock: Callable[[], int] | None = None) -> None:
        """``clock``: nanoseconds, in place of the host's performance counter (of the processor's own time, where others disturb)."""
        self._paths = {module: path for path, module in model.named_modules()}
        self._mark: Callable[[], Any]
        self._seconds: Callable[[list[tuple[Any, Any]]], list[float]]
        self._mark, self._seconds = _clock(device) if clock is None else (clock, _from_ns)
        self._records: list[list[Any]] = []  # [path, index of the parent's record or -1, begin, end]
        self._stack: list[int] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for module in self._paths:
            self._handles.append(module.register_forward_pre_hook(self._begin))
            self._handles.append(module.register_forward_hook(self._end, always_call=True))
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _begin(self, module: Any, arguments: Any) -> None:
        record = [self._paths[module], self._stack[-1] if self._stack else -1, None, None]
        self._stack.append(len(self._records))
        self._records.append(record)
        record[2] = self._mark()

    def _end(self, module: Any, arguments: Any, output: Any) -> None:
        end = self._mark()
        self._records[self._stack.pop()][3] = end

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
        self._stack.clear()
        return times


def _clock(device: Any) -> tuple[Callable[[], Any], Callable[[list[tuple[Any, Any]]], list[float]]]:
    """(mark, pairs of marks → seconds). On CUDA, events on the stream: the host's clock would time only the launches."""
    if device.type != "cuda":
        return time.perf_counter_ns, _from_ns
    import torch

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(pairs: list[tuple[Any, Any]]) -> list[float]:
        torch.cuda.synchronize(device)
        return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]

    return mark, seconds


def _from_ns(pairs: list[tuple[Any, Any]]) -> list[float]:
    return [(end - begin) / 1e9 for begin, end in pairs]


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
    for path in kept[0]:
        rows = [times[path] for times in kept if path in times]
        result[path] = ModuleTime(
            sum(row.calls for row in rows) / len(kept),
            sum(row.inclusive_s for row in rows) / len(kept),
            sum(row.exclusive_s for row in rows) / len(kept),
        )
    return result
