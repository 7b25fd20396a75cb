"""Verdicts between two measured runs, from the samples that their documents keep. numpy and the standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profiling.pooling import series_of
from profiling.quantities import number, percent, show
from profiling.units import DEFINITIONS
from profiling.verdicts import NOT_COMPARABLE, Measurement, Verdict, compare

#: Throughput → the time that it is the inverse of: verdicts are of times.
TIME_OF = {
    "prefill_throughput": "prefill_time",
    "decode_throughput": "tpot",
    "output_throughput": "e2e_latency",
    "encode_throughput": "encode_time",
}

#: Time → the stage whose modules it is spent in.
STAGE_OF = {
    "ttft": "prefill",
    "prefill_time": "prefill",
    "tpot": "decode",
    "itl": "decode",
    "decode_time_per_step": "decode",
    "encode_time": "encode",
}

#: What must be the same in both documents before their times are ranked. Model, hardware and dtype are what people compare.
SAME: tuple[tuple[str, tuple[str, str]], ...] = (
    ("batch size", ("workload", "batch_size")),
    ("input tokens", ("workload", "input_tokens")),
    ("output tokens", ("workload", "output_tokens")),
)


def verdict_on(
    key: str, base: Mapping[str, Any], other: Mapping[str, Any], *, order: str | None = None
) -> Verdict | None:
    """The verdict on metric ``key`` of ``other`` against ``base`` (run documents of measurements); None where no iterations tell:
    memory, load time, documents without samples. ``order``: as in :func:`profiling.verdicts.compare`."""
    if f"{key}/1" not in DEFINITIONS:
        return None
    time = TIME_OF.get(key, key)
    sides = [_times(time, document) for document in (base, other)]
    if not all(sides):
        return None
    stage = STAGE_OF.get(time, "")
    try:
        measured = [_measurement(side, document, stage) for side, document in zip(sides, (base, other), strict=True)]
        return compare(*measured, order=order)
    except ValueError as error:  # an imported document with a time of zero
        return Verdict(NOT_COMPARABLE, (f"The samples cannot be compared: {error}.",))


def where(verdict: Verdict) -> str:
    """A sentence on the module in which the difference lies; empty where it lies in no one."""
    return where_text(verdict.to_json()["modules"])


def where_text(modules: Sequence[Mapping[str, Any]]) -> str:
    """As :func:`where`, of the ``modules`` of a verdict in JSON."""
    if not modules:
        return ""
    path, change = modules[0]["path"], modules[0]["change"]
    what, verb = ("The modules", "explain") if "*" in path else ("The module", "explains")
    sign = "+" if change > 0 else "−"
    return f"{what} {path or '(model)'} {verb} {percent(modules[0]['share'])} of it ({sign}{show(abs(change), 's')} a pass)."


def _measurement(times: list[list[int]], document: Mapping[str, Any], stage: str) -> Measurement:
    conditions = {name: (document.get(part) or {}).get(field) for name, (part, field) in SAME}
    contended = (document.get("conditions") or {}).get("contended")
    return Measurement(times, conditions, contended=contended, modules=_modules(document, stage))


def _modules(document: Mapping[str, Any], stage: str) -> dict[str, list[float]]:
    """path → exclusive seconds in each process that timed it."""
    known = (document.get("module_times") or {}).get(stage)
    if not isinstance(known, Mapping):
        return {}
    paths, lists = known.get("paths") or (), known.get("exclusive_s") or ()
    found: dict[str, list[float]] = {}
    for own in lists:
        for path, seconds in zip(paths, own, strict=False):
            if (value := number(seconds)) is not None:
                found.setdefault(str(path), []).append(value)
    return found


def _times(key: str, document: Mapping[str, Any]) -> list[list[int]]:
    """Integer ns of ``key`` in each process; empty when the document has none."""
    samples = document.get("samples") or {}
    columns, rows = list(samples.get("columns") or ()), samples.get("rows") or ()
    if not {"iteration", "phase", "warmup", "wall_ns", "tokens"} <= set(columns):
        return []
    at = columns.index("process") if "process" in columns else None
    processes: dict[Any, list[Any]] = {}
    for row in rows:
        processes.setdefault(row[at] if at is not None else 0, []).append(row)
    batch = (document.get("workload") or {}).get("batch_size") or 1
    found = []
    for own in processes.values():
        seconds = series_of({"columns": columns, "rows": own}, batch).get(key)
        if seconds:
            found.append([round(1e9 * value) for value in seconds])
    return found
