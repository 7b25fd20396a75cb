"""Which operators each module ran, from one pass under ``torch.profiler``: names, calls and own times, nested under module paths.

The profiler slows a pass down, and unevenly: its times are published as shares of the profiled pass, never as a latency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

#: Decode steps that are profiled: enough for a mean, few enough for the profiler's memory.
STEPS = 8
#: Rows that a document keeps, those with most time; what is dropped is counted.
ROWS = 4000
COLUMNS = ["stage", "path", "operator", "calls", "self_cpu_s", "self_device_s"]
#: Time of a module in no operator: Python, and the dispatch of operators.
OUTSIDE = "(outside of operators)"

_MODULE, _STAGE = "module::", "stage::"


class OperatorProfile:
    """Context manager around one pass of ``model``. ``stage`` names what runs first; call :meth:`finished` after each pass through it.

    :meth:`table` afterwards: columns as :data:`COLUMNS` (calls and seconds of one pass, decode: of one step on average; device seconds
    null where there is no accelerator).
    """

    def __init__(self, model: Any, device: torch.device, stage: str) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self._profile = profile(activities=activities)
        self._has_device = device.type == "cuda"
        self._paths = {module: path for path, module in model.named_modules()}
        self._first, self._stage = stage, ExitStack()
        self._open: list[record_function] = []
        self.passes: dict[str, int] = defaultdict(int)

    def __enter__(self) -> OperatorProfile:
        self._handles = [
            handle
            for module in self._paths
            for handle in (module.register_forward_pre_hook(self._begin), module.register_forward_hook(self._end))
        ]
        self._profile.__enter__()
        self._stage.enter_context(record_function(_STAGE + self._first))
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stage.close()
        self._profile.__exit__(None, None, None)
        for handle in self._handles:
            handle.remove()

    def finished(self, stage: str, following: str | None = None) -> None:
        """A pass of ``stage`` has ended; ``following``: the stage of the next one, if there is one."""
        self.passes[stage] += 1
        self._stage.close()
        self._stage = ExitStack()
        if following:
            self._stage.enter_context(record_function(_STAGE + following))

    def _begin(self, module: Any, arguments: Any) -> None:
        entered = record_function(_MODULE + self._paths[module])
        entered.__enter__()
        self._open.append(entered)

    def _end(self, module: Any, arguments: Any, output: Any) -> None:
        self._open.pop().__exit__(None, None, None)

    # -- afterwards --------------------------------------------------------------------------------------------------

    def table(self) -> dict[str, Any]:
        sums: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        copies: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        for event in self._profile.events():
            if event.name.startswith("Memcpy"):
                direction = event.name.split("(")[0].strip()
                copies[direction][0] += 1
                copies[direction][1] += event.self_device_time_total / 1e6
                continue
            place = _place(event)
            if place is None or event.name.startswith(_STAGE):
                continue
            stage, path = place
            is_range = event.name.startswith(_MODULE)
            row = sums[stage, path, OUTSIDE if is_range else event.name]
            row[0] += 0 if is_range else 1
            row[1] += event.self_cpu_time_total / 1e6
            row[2] += 0.0 if is_range else event.self_device_time_total / 1e6
        rows = [self._row(key, numbers) for key, numbers in sums.items()]
        rows.sort(key=lambda row: -(row[4] + (row[5] or 0.0)))
        return {
            "method": "torch.profiler, module ranges by forward hooks",
            "passes": dict(self.passes),
            "columns": COLUMNS,
            "rows": rows[:ROWS],
            "dropped_rows": max(0, len(rows) - ROWS),
            "copies": [
                {"direction": name, "calls": int(calls), "time_s": seconds}
                for name, (calls, seconds) in sorted(copies.items())
            ],
        }

    def _row(self, key: tuple[str, str, str], numbers: list[float]) -> list[Any]:
        stage, path, operator = key
        passes = self.passes[stage] or 1
        calls = numbers[0] / passes
        device = numbers[2] / passes if self._has_device else None
        return [stage, path, operator, int(calls) if calls.is_integer() else calls, numbers[1] / passes, device]


def _place(event: Any) -> tuple[str, str] | None:
    """(stage, path of the innermost module) in which an event lies; None outside of every module."""
    path: str | None = None
    while event is not None:
        if path is None and event.name.startswith(_MODULE):
            path = event.name.removeprefix(_MODULE)
        if event.name.startswith(_STAGE):
            return None if path is None else (event.name.removeprefix(_STAGE), path)
        event = event.cpu_parent
    return None


def profile_pass(
    model: Any, device: torch.device, stage: str, run: Callable[[Callable[[str], None]], Any], steps: int
) -> dict[str, Any]:
    """The table of one pass. ``run`` makes it and calls its argument with the stage after each pass through the model; ``steps`` of
    decode follow the first."""
    with OperatorProfile(model, device, stage) as recorded:

        def finished(name: str) -> None:
            more = recorded.passes.get("decode", 0) + (name == "decode") < steps
            recorded.finished(name, "decode" if more else None)

        run(finished)
    return recorded.table()
