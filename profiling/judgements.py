"""Verdicts between two measured runs, from the samples that their documents keep. numpy and the standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from profiling.load_pooling import ASKED, KEYS, times_of
from profiling.pooling import series_of
from profiling.quantities import number, percent, show
from profiling.spec import digest
from profiling.units import DEFINITIONS
from profiling.verdicts import NOT_COMPARABLE, Measurement, Verdict, compare

#: Throughput → the time in which it is made: verdicts are of times, of a rate the time per token. It is the inverse of that time only where
#: as many tokens are made, and of prompts of their own each has as many as the model wants.
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
    ("tokens of each prompt", ("batches", "prompt_tokens")),
)


def verdict_on(
    key: str, base: Mapping[str, Any], other: Mapping[str, Any], *, order: str | None = None
) -> Verdict | None:
    """The verdict on metric ``key`` of ``other`` against ``base`` (run documents of measurements); None where no iterations tell:
    memory, load time, documents without samples. ``order``: as in :func:`profiling.verdicts.compare`."""
    if f"{key}/1" not in DEFINITIONS:
        return None
    time = TIME_OF.get(key, key)
    of_load = key in KEYS
    sides = [times_of(key, document) if of_load else _times(key, document) for document in (base, other)]
    if not all(sides):
        return None
    stage = STAGE_OF.get(time, "")
    try:
        make = _measured_load if of_load else partial(_measurement, stage=stage)
        measured = [make(side, document) for side, document in zip(sides, (base, other), strict=True)]
        return compare(*measured, order=order)
    except ValueError as error:  # an imported document with a time of zero
        return Verdict(NOT_COMPARABLE, (f"The samples cannot be compared: {error}.",))


def verdicts_on_parts(
    stage: str, base: Mapping[str, Any], other: Mapping[str, Any], parts: tuple[Mapping[str, str], Mapping[str, str]]
) -> dict[str, Verdict]:
    """Part → the verdict on its time in ``other`` against ``base``: exclusive times of the modules that ``parts`` (path → part, of each
    document) puts together, added up in each process, so that a process counts once. Of parts that both have, in the processes that
    timed all of their modules; by the rule of :mod:`profiling.verdicts`. Times with hooks: what they show is where a difference lies.
    """
    times = [_part_times(document, stage, paths) for document, paths in zip((base, other), parts, strict=True)]
    found = {}
    for part in (part for part in times[0] if part in times[1]):
        sides = [
            _measurement([[value] for value in side[part]], document, "")
            for side, document in zip(times, (base, other), strict=True)
        ]
        if all(value > 0 for side in times for value in side[part]):
            found[part] = compare(*sides)
    return found


def _part_times(document: Mapping[str, Any], stage: str, parts: Mapping[str, str]) -> dict[str, list[int]]:
    """part → ns in each process that timed every module of it."""
    known = (document.get("module_times") or {}).get(stage)
    if not isinstance(known, Mapping):
        return {}
    paths = [parts.get(str(path)) for path in known.get("paths") or ()]
    found: dict[str, list[int]] = {part: [] for part in paths if part is not None}
    for own in known.get("exclusive_s") or ():
        sums: dict[str, float | None] = {}
        for part, seconds in zip(paths, own, strict=False):
            if part is not None:
                value, before = number(seconds), sums.get(part, 0.0)
                sums[part] = None if value is None or before is None else before + value
        for part, total in sums.items():
            if total is not None:
                found[part].append(round(1e9 * total))
    return found


def where(verdict: Verdict) -> str:
    """A sentence on the module in which the difference lies; empty where it lies in no one."""
    return where_text(verdict.to_json()["modules"])


def where_text(modules: Sequence[Mapping[str, Any]]) -> str:
    """As :func:`where`, of the ``modules`` of a verdict in JSON."""
    if not modules:
        return ""
    path, change = modules[0]["path"], modules[0]["change"]
    share, each = percent(modules[0]["share"]), f"{'+' if change > 0 else '−'}{show(abs(change), 's')}"
    if "*" in path:
        return f"The modules {path} explain {share} of it ({each} a pass)."
    path = path or "(model)"
    return f"The module {path} explains {share} of it ({each} a pass)."


def _measured_load(times: list[list[int]], document: Mapping[str, Any]) -> Measurement:
    """What was asked of the server must be the same; whether other work disturbed the load is known apart from the iterations."""
    load = document.get("load") or {}
    conditions = {"batch size": load.get("batch_size")} | {f"load: {name}": _short(load.get(name)) for name in ASKED}
    return Measurement(times, conditions, contended=load.get("contended"))


def _measurement(times: list[list[int]], document: Mapping[str, Any], stage: str) -> Measurement:
    conditions = {name: _short((document.get(part) or {}).get(field)) for name, (part, field) in SAME}
    contended = (document.get("conditions") or {}).get("contended")
    return Measurement(times, conditions, contended=contended, modules=_modules(document, stage))


def _short(value: Any) -> Any:
    """A list of many numbers as a few words that differ when it does."""
    if not isinstance(value, (list, tuple)):
        return value
    text = ", ".join(map(str, value))
    return text if len(text) <= 60 else f"{len(value)} of them, digest {digest(list(value))[:8]}"


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
    """Integer ns of ``key`` in each process, of a rate 10⁻¹⁵ s per token; empty when the document has none."""
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
        values = series_of({"columns": columns, "rows": own}, batch).get(key)
        if values and key in TIME_OF:
            found.append([round(1e15 / value) if value else 0 for value in values])
        elif values:
            found.append([round(1e9 * value) for value in values])
    return found
