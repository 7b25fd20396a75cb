"""The tables of an estimate: stages, operator groups, modules, roofline points. Pure functions over evaluated work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.build import Built, block_index
from profiling.execution import Work
from profiling.launching import launched
from profiling.passes import Trace
from profiling.roles import Roles
from profiling.roofline import Ceilings, Timing, timing

OPERATOR_COLUMNS = [
    "stage",
    "group",
    "operator",
    "op_class",
    "calls",
    "flops",
    "elementwise_flops",
    "bytes_read",
    "bytes_written",
    "weight_bytes",
    "time_s",
    "bound",
    "intensity",
    "share",
]
MODULE_COLUMNS = [
    "stage",
    "path",
    "parent",
    "name",
    "class",
    "depth",
    "calls",
    "parameters",
    "weight_bytes",
    "flops",
    "bytes",
    "output_bytes",
    "output_shape",
    "activation_peak_bytes",
    "estimate_s",
    "bound",
    "inclusive_s",
    "exclusive_s",
    "fold",
]


@dataclass(frozen=True)
class Evaluated:
    """One stage on one device: each operator with its time (None when a ceiling is unknown), aligned."""

    trace: Trace
    works: Sequence[Work]
    timings: Sequence[Timing] | None

    def time_s(self) -> float | None:
        if self.timings is None:
            return None
        return sum(w.times * t.time_s for w, t in zip(self.works, self.timings, strict=True))


def evaluate(trace: Trace, works: Sequence[Work], limits: Ceilings) -> Evaluated:
    if not limits.known:
        return Evaluated(trace, works, None)
    timings = launched([timing(w.load(), limits) for w in works], [w.times for w in works], limits)
    return Evaluated(trace, works, timings)


def ratio(a: float, b: float) -> float | None:
    return a / b if b else None


class _Sum:
    """Totals of some operators, and their time by what it goes to."""

    __slots__ = ("bounds", "calls", "elementwise", "flops", "network", "read", "time", "weights", "written")

    def __init__(self) -> None:
        self.calls = self.flops = self.elementwise = self.read = self.written = self.weights = self.network = 0
        self.time = 0.0
        self.bounds: dict[str, float] = defaultdict(float)

    def add(self, work: Work, time: Timing | None, times: int | None = None) -> None:
        n = work.times if times is None else times
        self.calls += n
        self.flops += n * work.flops
        self.elementwise += n * work.elementwise_flops
        self.read += n * work.bytes_read
        self.written += n * work.bytes_written
        self.weights += n * work.weight_bytes
        self.network += n * work.network
        if time is not None and time.time_s:
            self.time += n * time.time_s
            for part, seconds in time.parts.items():
                if seconds:
                    self.bounds[part] += n * seconds

    def bound(self) -> str | None:
        return max(sorted(self.bounds), key=self.bounds.__getitem__) if self.bounds else None


def _pairs(item: Evaluated) -> Iterator[tuple[Work, Timing | None]]:
    return zip(item.works, timings_of(item), strict=True)


def timings_of(item: Evaluated) -> Sequence[Timing | None]:
    """One timing per work, ``None`` where rates are unknown."""
    return item.timings if item.timings is not None else [None] * len(item.works)


def stage_summary(item: Evaluated) -> dict[str, Any]:
    """The ``stages`` entry: totals, latency, bound, seconds by bound."""
    total = _Sum()
    for work, time in _pairs(item):
        total.add(work, time)
    spec = item.trace.spec
    moved = total.read + total.written
    return {
        "batch_size": spec.batch_size,
        "tokens": _tokens(item.trace),
        "context": spec.context,
        "flops": total.flops,
        "elementwise_flops": total.elementwise,
        "bytes": moved,
        **({"network_bytes": total.network} if total.network else {}),
        "arithmetic_intensity": ratio(total.flops, moved),
        "latency_s": item.time_s(),
        "bound": total.bound(),
        "time_by_bound": dict(sorted(total.bounds.items())),
    }


def _tokens(trace: Trace) -> int:
    """Per sequence. An image is as many tokens as it has patches, whatever was asked for."""
    spec, length = trace.spec, trace.sequence_length
    if spec.front_end:
        return spec.tokens * (length or 0)
    return length or spec.tokens if spec.stage == "encode" else spec.tokens


def operator_rows(built: Built, items: dict[str, Evaluated]) -> list[list[Any]]:
    """One row per stage, role and operator, in order of first execution."""
    roles = Roles(built)
    rows = []
    for stage, item in items.items():
        groups: dict[tuple[str, str, str], _Sum] = {}
        for work, time in _pairs(item):
            key = (roles.of(work.call), work.call.name, work.call.op_class)
            groups.setdefault(key, _Sum()).add(work, time)
        whole = item.time_s()
        for (role, name, op_class), total in groups.items():
            rows.append(
                [
                    stage,
                    role,
                    name,
                    op_class,
                    total.calls,
                    total.flops,
                    total.elementwise,
                    total.read,
                    total.written,
                    total.weights,
                    total.time if whole is not None else None,
                    total.bound(),
                    ratio(total.flops, total.read + total.written),
                    total.time / whole if whole else None,
                ]
            )
    return rows


def roofline_points(built: Built, items: dict[str, Evaluated]) -> list[dict[str, Any]]:
    """One point per stage and role that has FLOPs. ``above_roof`` cannot be true of an estimate."""
    roles = Roles(built)
    points = []
    for stage, item in items.items():
        groups: dict[str, _Sum] = {}
        for work, time in _pairs(item):
            if work.flops:
                groups.setdefault(roles.of(work.call), _Sum()).add(work, time)
        whole = item.time_s()
        for role, total in groups.items():
            moved = total.read + total.written
            points.append(
                {
                    "label": role,
                    "stage": stage,
                    "origin": "estimated",
                    "intensity": ratio(total.flops, moved),
                    "flops_per_s": ratio(total.flops, total.time),
                    "flops": total.flops,
                    "bytes": moved,
                    "time_s": total.time if whole is not None else None,
                    "share": total.time / whole if whole else None,
                    "bound": total.bound(),
                    "above_roof": False,
                }
            )
    return points


def module_rows(built: Built, items: dict[str, Evaluated], threads: int | None = None) -> list[list[Any]]:
    """One row per module of the complete model and stage, children included. Blocks that were not traced have the numbers
    of the identical block that was. ``threads``: of a processor; None for an accelerator."""
    rows = []
    for stage, item in items.items():
        sums = module_sums(built, item)
        outputs = item.trace.outputs()
        peaks = _with_holders(item.trace.recording.module_peaks(threads))
        known = item.timings is not None
        for info in built.modules:
            traced = traced_path(built, info.path)
            total = sums.get(info.path) if _holds_blocks(built, info.path) else sums.get(traced)
            output = outputs.get(traced)
            rows.append(
                [
                    stage,
                    info.path,
                    info.parent,
                    info.name,
                    info.class_name,
                    info.depth,
                    output.calls if output else 0,
                    info.parameters,
                    info.weight_bytes,
                    total.flops if total else 0,
                    total.read + total.written if total else 0,
                    output.nbytes if output else None,
                    list(output.shape) if output and output.shape is not None else None,
                    peaks.get(traced),
                    (total.time if total else 0.0) if known else None,
                    total.bound() if total else None,
                    None,
                    None,
                    info.fold,
                ]
            )
    return rows


def _with_holders(peaks: dict[str, int]) -> dict[str, int]:
    """Peaks of modules that ran, and of those that only hold such modules (a list of blocks): the highest of these."""
    found = dict(peaks)
    for path, peak in peaks.items():
        while path:
            path = path.rpartition(".")[0]
            found[path] = max(found.get(path, 0), peak)
    return found


def traced_path(built: Built, path: str) -> str:
    """The path that was traced in place of ``path``."""
    for fold in built.folds:
        index = block_index(fold, path)
        if index is not None:
            head = f"{fold.path}.{index}"
            return f"{fold.path}.{fold.kinds[index]}{path[len(head) :]}"
    return path


def _holds_blocks(built: Built, path: str) -> bool:
    return any(fold.path == path or not path or fold.path.startswith(path + ".") for fold in built.folds)


def module_sums(built: Built, item: Evaluated) -> dict[str, _Sum]:
    """Totals by traced module path, children included: per single module inside blocks, of all blocks above them."""
    sums: dict[str, _Sum] = {}
    for work, time in _pairs(item):
        path: str | None = work.call.path
        while path is not None:
            inside = any(block_index(fold, path) is not None for fold in built.folds)
            sums.setdefault(path, _Sum()).add(work, time, 1 if inside else work.times)
            path = (path.rsplit(".", 1)[0] if "." in path else "") if path else None
    return sums
