"""Verdicts between two measured runs, from the samples that their documents keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.pooling import series_of
from profiling.units import DEFINITIONS
from profiling.verdicts import NOT_COMPARABLE, Measurement, Verdict, compare

#: Throughput → the time that it is the inverse of: verdicts are of times.
TIME_OF = {
    "prefill_throughput": "prefill_time",
    "decode_throughput": "tpot",
    "output_throughput": "e2e_latency",
    "encode_throughput": "encode_time",
}

#: What must be the same in both documents before their times are ranked. Model, hardware and dtype are what people compare.
SAME: tuple[tuple[str, tuple[str, str]], ...] = (
    ("batch size", ("workload", "batch_size")),
    ("input tokens", ("workload", "input_tokens")),
    ("output tokens", ("workload", "output_tokens")),
)


def verdict_on(key: str, base: Mapping[str, Any], other: Mapping[str, Any]) -> Verdict | None:
    """The verdict on metric ``key`` of ``other`` against ``base`` (run documents of measurements); None where no iterations tell:
    memory, load time, documents without samples."""
    if f"{key}/1" not in DEFINITIONS:
        return None
    sides = [_times(TIME_OF.get(key, key), document) for document in (base, other)]
    if not all(sides):
        return None
    try:
        return compare(*(_measurement(side, document) for side, document in zip(sides, (base, other), strict=True)))
    except ValueError as error:  # an imported document with a time of zero
        return Verdict(NOT_COMPARABLE, (f"The samples cannot be compared: {error}.",))


def _measurement(times: list[list[int]], document: Mapping[str, Any]) -> Measurement:
    conditions = {name: (document.get(part) or {}).get(field) for name, (part, field) in SAME}
    return Measurement(times, conditions, contended=(document.get("conditions") or {}).get("contended"))


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
