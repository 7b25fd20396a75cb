"""One extra pass under ``torch.profiler``: operators nested under modules, memory that each module leaves behind, copies to and from
the device. The profiler slows the pass down, so none of its times is ever published as a latency."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiling.allocations import MODULE, STAGE, Allocation, Peak, allocations, storages
from profiling.artifacts import plain_snapshot
from profiling.block_folds import folded_paths
from profiling.generation import CACHE_NAMES
from profiling.hooks import wrapped
from profiling.tensors import cache_tensors

#: Rows of the table of operators that are kept, those with the most time; the rest is summed up in ``dropped``. Identical blocks are
#: one by then, so only models of very many different parts have more.
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
    "modules",
]
MODULE_COLUMNS = ["stage", "path", "calls", "total_s", "own_s", "memory_delta_bytes"]
#: A trace that torch wrote is read up to this size: read, it takes several times as much memory.
TRACE_LIMIT = 256 * 2**20
#: Entries of the history of CUDA's allocator.
HISTORY_ENTRIES = 200_000
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
    members: set[str | None] = field(default_factory=set)


@dataclass
class _Found:
    """What the walk over the events collects, by (stage, path) and (stage, path, operator)."""

    operators: dict[tuple[str, str | None, str], _Group] = field(default_factory=dict)
    modules: dict[tuple[str, str], _Group] = field(default_factory=dict)
    stages: dict[str, _Group] = field(default_factory=dict)


class Marks:
    """Names stages and modules in the profile while it is active: ``switch(stage)`` begins a pass of that stage.

    ``with_caches``: look at the cache after each pass, outside of the root's range but inside of whatever wraps the root besides.
    """

    def __init__(self, model: Any, first: str, *, with_caches: bool = True) -> None:
        self._model, self._stage, self._with_caches = model, first, with_caches
        self._open: Any = None
        #: Storages of the cache after each pass of the whole model: address → bytes.
        self.caches: list[dict[int, int]] = []

    @contextmanager
    def active(self) -> Iterator[Marks]:
        def wrap(path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(forward)
            def named(*args: Any, **kwargs: Any) -> Any:
                mark = _annotate(MODULE + path)
                try:
                    output = forward(*args, **kwargs)
                finally:
                    mark.__exit__(None, None, None)
                if not path and self._with_caches:
                    self.caches.append(storages(cached_in(output)))
                return output

            return named

        with wrapped(self._model, wrap):
            self._open = _annotate(STAGE + self._stage)
            try:
                yield self
            finally:
                self._close()

    def switch(self, stage: str | None) -> None:
        self._close()
        if stage is not None:
            self._open = _annotate(STAGE + stage)

    def _close(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


def _annotate(name: str) -> Any:
    """A named range, begun. torch's own for compiled code where it is there: it costs a tenth of ``record_function`` (0.7 in place of 8 µs),
    which falls into the own time of the module around."""
    import torch

    mark = getattr(torch._C._profiler, "_RecordFunctionFast", torch.profiler.record_function)(name)
    mark.__enter__()
    return mark


def cached_in(output: Any) -> list[Any]:
    """The tensors of the cache that a pass returned; none where it returns no cache."""
    caches = (getattr(output, name, None) for name in CACHE_NAMES)
    return [tensor for cache in caches if cache is not None for tensor in cache_tensors(cache)]


@dataclass(frozen=True)
class Profile:
    """What one profiled pass tells. ``tables``: the ``profiled`` section. ``events``: of the profiler's trace; None when it was too
    large to be read. ``allocated``, ``peaks``: what its memory events say. ``snapshot``: of CUDA's allocator, where it was asked for."""

    tables: dict[str, Any]
    events: list[dict[str, Any]] | None
    allocated: list[Allocation]
    peaks: dict[str, Peak]
    snapshot: dict[str, Any] | None = None


def profile_pass(
    runner: Any, model: Any, device: Any, *, encoder: bool, output_tokens: int, snapshot: bool = False
) -> Profile:
    """One prefill and up to ``DECODE_STEPS`` decode steps, or one encode, under the profiler.

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

    history: dict[str, Any] = {}
    with _history(device, history, wanted=snapshot), profiled_times(device) as recorded, marks.active():
        if encoder:
            runner.encode(between)
        else:
            runner.generate(steps + 1, between)
    events = recorded.events()
    found, peaks = allocations(events or [], marks.caches, cuda=device.type == "cuda")
    return Profile(recorded.tables(folded_paths(model)), events, found, peaks, history.get("snapshot"))


@contextmanager
def _history(device: Any, found: dict[str, Any], *, wanted: bool) -> Iterator[None]:
    """On CUDA, keep what its allocator does inside, without stacks: their frames are paths of this machine."""
    if not wanted or device.type != "cuda":
        yield
        return
    import torch

    torch.cuda.memory._record_memory_history(enabled="all", context=None, stacks="python", max_entries=HISTORY_ENTRIES)
    try:
        yield
        torch.cuda.synchronize(device)
        found["snapshot"] = plain_snapshot(torch.cuda.memory._snapshot(device))
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)


class Recorded:
    """The profile of what ran inside :func:`profiled_times`, readable after it."""

    def __init__(self, profiled: Any, *, cuda: bool) -> None:
        self._profiled, self._cuda = profiled, cuda
        self._events: list[dict[str, Any]] | None = None
        self._read = False

    def events(self) -> list[dict[str, Any]] | None:
        """The events of the profiler's trace; None when they are too many to be read (``TRACE_LIMIT``)."""
        if not self._read:
            self._read, self._events = True, _exported(self._profiled)
        return self._events

    def tables(self, folds: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The ``profiled`` section of a run document. ``folds``: module → the first one that is identical, which stands for it."""
        found = _walk(self._profiled.events(), folds or {}, cuda=self._cuda)
        copies = (self.events() if self._cuda else []) or []
        return _tables(found, cuda=self._cuda) | {"copies": copies_of(copies)}


@contextmanager
def profiled_times(device: Any) -> Iterator[Recorded]:
    """Profile what runs inside, with shapes and memory."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=True, profile_memory=True) as profiled:
        yield Recorded(profiled, cuda=cuda)


def _walk(events: Sequence[Any], folds: Mapping[str, str], *, cuda: bool) -> _Found:
    """Every event on the host under its stage, its module (None: outside the model; operators: the first that is like it) and its
    operator."""
    found = _Found()
    waiting = [(event, None, None) for event in events if event.cpu_parent is None and not _of_device(event)]
    while waiting:
        event, stage, path = waiting.pop()
        name = event.name
        is_module = name.startswith(MODULE)
        if name.startswith(STAGE):
            if not any(child.name.startswith(MODULE) for child in event.cpu_children):
                continue  # begun for a step that never came, as every sequence had ended: it is no pass
            stage = name[len(STAGE) :]
            group = found.stages.setdefault(stage, _Group())
        elif is_module and stage is not None:
            path = name[len(MODULE) :]
            group = found.modules.setdefault((stage, path), _Group())
            group.own_s += (event.cpu_time_total - _inner_modules(event)) / 1e6
        elif stage is not None:
            first = path if path is None else folds.get(path, path)
            group = found.operators.setdefault((stage, first, name), _Group())
            group.members.add(path)
            group.own_s += event.self_cpu_time_total / 1e6
            group.device_s += event.self_device_time_total / 1e6
            group.shapes = group.shapes or event.input_shapes or None
        if stage is not None:
            memory = (
                ("device_memory_usage" if cuda else "cpu_memory_usage")
                if name.startswith((STAGE, MODULE))
                else ("self_device_memory_usage" if cuda else "self_cpu_memory_usage")
            )
            group.calls += 1
            group.total_s += event.cpu_time_total / 1e6
            group.memory += getattr(event, memory)
        waiting += [(child, stage, path) for child in event.cpu_children]
    return found


def _of_device(event: Any) -> bool:
    """Kernels, and the ranges of stages and modules once more as the device saw them: counting those would double the passes."""
    from torch.autograd import DeviceType

    return getattr(event, "device_type", DeviceType.CPU) != DeviceType.CPU


def _inner_modules(event: Any) -> float:
    """Microseconds of the modules directly inside; between them and the module there may be other events."""
    total, waiting = 0.0, list(event.cpu_children)
    while waiting:
        child = waiting.pop()
        if child.name.startswith(MODULE):
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
        figures = [group.calls / n, group.own_s / n, device_s, group.memory / n]
        rows.append([stage, path, name, *figures, group.shapes, len(group.members)])
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


def _exported(profiled: Any) -> list[dict[str, Any]] | None:
    """The events as torch writes them: the only place with the bytes of copies and the addresses of allocations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        if path.stat().st_size > TRACE_LIMIT:
            return None
        # A module's or kernel's name may hold what is no UTF-8.
        events: list[dict[str, Any]] = json.loads(path.read_text(errors="replace")).get("traceEvents", [])
        return events


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
