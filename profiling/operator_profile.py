"""One extra pass under ``torch.profiler``: operators nested under modules, memory that each module leaves behind, copies to and from
the device. The profiler slows the pass down, so none of its times is ever published as a latency."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Rows of the table of operators that are kept, those with the most time; the rest is summed up in ``dropped``.
ROW_LIMIT = 2000
#: Decode steps of the profiled pass: steps are alike, and every one of them adds an event per operator.
DECODE_STEPS = 4
OPERATOR_COLUMNS = [
    "stage",
    "path",
    "operator",
    "calls",
    "self_cpu_s",
    "self_device_s",
    "self_memory_bytes",
    "input_shapes",
]
MODULE_COLUMNS = ["stage", "path", "calls", "total_s", "own_s", "memory_delta_bytes"]
_MODULE, _STAGE = "module: ", "stage: "
_DIRECTIONS = {"HtoD": "host to device", "DtoH": "device to host"}


@dataclass
class _Group:
    """Sums over the events of one row."""

    calls: int = 0
    total_s: float = 0.0
    own_s: float = 0.0
    device_s: float = 0.0
    memory: int = 0
    shapes: Any = None


@dataclass
class _Found:
    """What the walk over the events collects, by (stage, path) and (stage, path, operator)."""

    operators: dict[tuple[str, str | None, str], _Group] = field(default_factory=dict)
    modules: dict[tuple[str, str], _Group] = field(default_factory=dict)
    stages: dict[str, _Group] = field(default_factory=dict)


class Marks:
    """Names stages and modules in the profile while it is active: ``switch(stage)`` begins a pass of that stage."""

    def __init__(self, model: Any, first: str) -> None:
        self._model, self._stage = model, first
        self._open: Any = None

    @contextmanager
    def active(self) -> Iterator[Marks]:
        handles, opened = [], []

        def begin(path: str) -> Callable[..., None]:
            def hook(module: Any, arguments: Any) -> None:
                opened.append(_annotate(_MODULE + path))

            return hook

        def end(module: Any, arguments: Any, output: Any) -> None:
            opened.pop().__exit__(None, None, None)

        for path, module in self._model.named_modules():
            handles.append(module.register_forward_pre_hook(begin(path)))
            handles.append(module.register_forward_hook(end, always_call=True))
        self._open = _annotate(_STAGE + self._stage)
        try:
            yield self
        finally:
            self._close()
            for handle in handles:
                handle.remove()

    def switch(self, stage: str | None) -> None:
        self._close()
        if stage is not None:
            self._open = _annotate(_STAGE + stage)

    def _close(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


def _annotate(name: str) -> Any:
    from torch.profiler import record_function

    mark = record_function(name)
    mark.__enter__()
    return mark


def profile_pass(runner: Any, model: Any, device: Any, *, encoder: bool, output_tokens: int) -> dict[str, Any]:
    """The ``profiled`` section: one prefill and up to ``DECODE_STEPS`` decode steps, or one encode.

    Numbers are means over the passes of a stage: seconds of the host's clock (``self_cpu_s``), of the device (``self_device_s``, null
    on processors), bytes allocated less bytes given back.
    """
    first = "encode" if encoder else "prefill"
    steps = 0 if encoder else min(DECODE_STEPS, output_tokens - 1)
    done = {"decode": 0}
    marks = Marks(model, first)

    def between(finished: str) -> None:
        done["decode"] += finished == "decode"
        marks.switch("decode" if not encoder and done["decode"] < steps else None)

    with profiled_times(device) as recorded, marks.active():
        if encoder:
            runner.encode(between)
        else:
            runner.generate(steps + 1, between)
    return recorded.tables()


class Recorded:
    """The profile of what ran inside :func:`profiled_times`, readable after it."""

    def __init__(self, profiled: Any, *, cuda: bool) -> None:
        self._profiled, self._cuda = profiled, cuda

    def tables(self) -> dict[str, Any]:
        """The ``profiled`` section of a run document."""
        found = _walk(self._profiled.events(), cuda=self._cuda)
        return _tables(found, cuda=self._cuda) | {"copies": _copies(self._profiled) if self._cuda else copies_of([])}


@contextmanager
def profiled_times(device: Any) -> Iterator[Recorded]:
    """Profile what runs inside, with shapes and memory."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=True, profile_memory=True) as profiled:
        yield Recorded(profiled, cuda=cuda)


def _walk(events: Sequence[Any], *, cuda: bool) -> _Found:
    """Every event on the host under its stage, its module (None: outside the model) and its operator."""
    found = _Found()
    waiting = [(event, None, None) for event in events if event.cpu_parent is None]
    while waiting:
        event, stage, path = waiting.pop()
        name = event.name
        is_module = name.startswith(_MODULE)
        if name.startswith(_STAGE):
            stage = name[len(_STAGE) :]
            group = found.stages.setdefault(stage, _Group())
        elif is_module and stage is not None:
            path = name[len(_MODULE) :]
            group = found.modules.setdefault((stage, path), _Group())
            group.own_s += (event.cpu_time_total - _inner_modules(event)) / 1e6
        elif stage is not None:
            group = found.operators.setdefault((stage, path, name), _Group())
            group.own_s += event.self_cpu_time_total / 1e6
            group.device_s += event.self_device_time_total / 1e6
            group.shapes = group.shapes or event.input_shapes or None
        if stage is not None:
            memory = (
                ("device_memory_usage" if cuda else "cpu_memory_usage")
                if name.startswith((_STAGE, _MODULE))
                else ("self_device_memory_usage" if cuda else "self_cpu_memory_usage")
            )
            group.calls += 1
            group.total_s += event.cpu_time_total / 1e6
            group.memory += getattr(event, memory)
        waiting += [(child, stage, path) for child in event.cpu_children]
    return found


def _inner_modules(event: Any) -> float:
    """Microseconds of the modules directly inside; between them and the module there may be other events."""
    total, waiting = 0.0, list(event.cpu_children)
    while waiting:
        child = waiting.pop()
        if child.name.startswith(_MODULE):
            total += child.cpu_time_total
        else:
            waiting += child.cpu_children
    return total


def _tables(found: _Found, *, cuda: bool) -> dict[str, Any]:
    passes = {stage: group.calls for stage, group in found.stages.items()}
    rows = []
    for (stage, path, name), group in found.operators.items():
        n = passes[stage]
        device_s = group.device_s / n if cuda else None
        rows.append([stage, path, name, group.calls / n, group.own_s / n, device_s, group.memory / n, group.shapes])
    time = OPERATOR_COLUMNS.index("self_device_s" if cuda else "self_cpu_s")
    kept = sorted(rows, key=lambda row: -row[time])[:ROW_LIMIT]
    left = sorted(rows, key=lambda row: -row[time])[ROW_LIMIT:]
    modules = [
        [
            stage,
            path,
            g.calls / passes[stage],
            g.total_s / passes[stage],
            g.own_s / passes[stage],
            g.memory / passes[stage],
        ]
        for (stage, path), g in found.modules.items()
    ]
    stages = {
        stage: {
            "passes": group.calls,
            "total_s": group.total_s / group.calls,
            "memory_delta_bytes": group.memory / group.calls,
        }
        for stage, group in found.stages.items()
    }
    return {
        "method": "torch.profiler",
        "stages": stages,
        "operators": {"columns": OPERATOR_COLUMNS, "rows": kept},
        "modules": {"columns": MODULE_COLUMNS, "rows": modules},
        "dropped": {"rows": len(left), "self_cpu_s": sum(row[4] for row in left)},
    }


def _copies(profiled: Any) -> list[dict[str, Any]]:
    """Copies between host and device in the whole profiled pass, from the profiler's trace: the only place with their bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        return copies_of(json.loads(path.read_text()).get("traceEvents", []))


def copies_of(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One ``{direction, count, bytes, seconds}`` per direction, of the ``gpu_memcpy`` events of a Chrome trace (``dur`` in µs)."""
    found = {name: {"direction": name, "count": 0, "bytes": 0, "seconds": 0.0} for name in _DIRECTIONS.values()}
    for event in events:
        if event.get("cat") != "gpu_memcpy":
            continue
        name = next((name for short, name in _DIRECTIONS.items() if short in str(event.get("name"))), None)
        if name is None:
            continue
        entry: dict[str, Any] = found[name]
        entry["count"] += 1
        entry["bytes"] += int((event.get("args") or {}).get("bytes") or 0)
        entry["seconds"] += float(event.get("dur") or 0) / 1e6
    return list(found.values())
