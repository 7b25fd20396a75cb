"""The long format: every figure of a run as one row, whatever table of the document it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: The long format: every figure of a run is one row, whatever table it comes from.
RUN_HEADER = ("section", "stage", "path", "metric", "value", "unit", "origin", "definition")

#: Units of the columns of the document's tables and of its plain figures; a name that is not here has none.
UNITS = {
    "flops": "FLOP",
    "elementwise_flops": "FLOP",
    "peak_flops": "FLOP/s",
    "flops_per_s": "FLOP/s",
    "bandwidth": "B/s",
    "memory_bandwidth": "B/s",
    "interconnect_bandwidth": "B/s",
    "bytes": "B",
    "bytes_read": "B",
    "bytes_written": "B",
    "arithmetic_intensity": "FLOP/B",
    "intensity": "FLOP/B",
    "ridge": "FLOP/B",
    "kv_cache_bytes_per_token": "B/token",
    "tokens": "token",
    "context": "token",
    "parameters": "1",
    "active_parameters": "1",
    "share": "1",
    "tdp_w": "W",
}
MEASURED_COLUMNS = {"inclusive_s", "exclusive_s"}


def unit_of(name: str) -> str:
    """Unit of a figure by its name: the house rule is that the suffix says it."""
    if name in UNITS:
        return UNITS[name]
    for suffix, unit in (("_bytes", "B"), ("_ns", "ns"), ("_per_s", "1/s"), ("_s", "s"), ("_pct", "%")):
        if name.endswith(suffix):
            return unit
    return ""


def run_rows(exported: Mapping[str, Any]) -> Iterator[tuple]:
    """Rows of :data:`RUN_HEADER` from what :func:`run_object` made: identity, metrics, stages, operators, modules, memory.

    An empty value is unknown. Nothing is rounded or rescaled; values stay numbers.
    """
    yield from _flat_rows("run", {k: v for k, v in exported.get("run", {}).items() if k != "spec"})
    for section in ("producer", "model", "hardware", "workload", "conventions"):
        yield from _flat_rows(section, exported.get(section) or {})
    yield from _metric_rows(exported)
    estimated = "estimated"
    for stage, figures in (exported.get("stages") or {}).items():
        yield from _flat_rows("stage", figures, stage=stage, origin=estimated)
    yield from _table_rows("operator", exported.get("operators"), ("group", "operator"), estimated)
    yield from _table_rows("module", exported.get("modules"), ("path",), estimated)
    yield from _memory_rows(exported.get("memory") or {})
    yield from _device_rows(exported.get("parallelism") or {})
    yield from _table_rows("sample", exported.get("samples"), ("phase", "iteration"), "measured")
    yield from _flat_rows("load", exported.get("load") or {}, origin="measured")
    yield from _table_rows("request", exported.get("requests"), ("request",), "measured")
    yield from _flat_rows("environment", exported.get("environment") or {})
    yield from _flat_rows("conditions", exported.get("conditions") or {}, origin="measured")
    for warning in exported.get("warnings") or []:
        yield ("warning", "", warning.get("code", ""), "message", warning.get("message"), "", "", "")


def _flat_rows(section: str, figures: Mapping[str, Any], *, stage: str = "", path: str = "", origin: str = ""):
    """One row per value of an object; objects within it go into the path."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat_rows(section, value, stage=stage, path=_join(path, name), origin=origin)
        else:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            yield (section, stage, path, name, value, unit_of(name), origin if number else "", "")


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _metric_rows(exported: Mapping[str, Any]) -> Iterator[tuple]:
    for key, metric in (exported.get("metrics") or {}).items():
        unit, origin, definition = (metric.get(name, "") for name in ("unit", "origin", "definition"))
        yield ("metric", "", "", key, metric.get("value"), unit, origin, definition)
        for name in ("n", "min", "q1", "q3", "max", "cv", "ci95"):
            if name in metric:
                of_what = "" if name in ("n", "cv") else unit
                yield ("metric", "", key, f"{key}.{name}", metric[name], of_what, origin, definition)
    for key, comparisons in (exported.get("errors") or {}).items():
        for row in comparisons:
            yield ("error", "", row.get("level", ""), key, row.get("error_pct"), "%", "estimated", "")


def _table_rows(section: str, table: Mapping | None, labels: Sequence[str], origin: str) -> Iterator[tuple]:
    """A columnar table of the document, one row per cell; ``labels`` are the columns that name a line."""
    if not table:
        return
    columns = table["columns"]
    naming = {columns.index(name) for name in (*labels, "stage") if name in columns}
    stage_at = columns.index("stage") if "stage" in columns else None
    for line in table["rows"]:
        path = " / ".join(str(line[columns.index(name)]) for name in labels if name in columns)
        stage = line[stage_at] if stage_at is not None else ""
        for at, name in enumerate(columns):
            if at not in naming:
                number = isinstance(line[at], (int, float)) and not isinstance(line[at], bool)
                source = ("measured" if name in MEASURED_COLUMNS else origin) if number else ""
                yield (section, stage, path, name, line[at], unit_of(name), source, "")


def _memory_rows(memory: Mapping[str, Any]) -> Iterator[tuple]:
    if "kv_cache_bytes_per_token" in memory:
        value = memory["kv_cache_bytes_per_token"]
        yield ("memory", "", "", "kv_cache_bytes_per_token", value, "B/token", "estimated", "")
    yield from _flat_rows("memory", memory.get("estimate") or {}, path="estimate", origin="estimated")
    for phase in memory.get("phases") or []:
        rest = {name: value for name, value in phase.items() if name != "phase"}
        yield from _flat_rows("memory", rest, stage=phase.get("phase", ""), path="phases", origin="measured")


def _device_rows(parallelism: Mapping[str, Any]) -> Iterator[tuple]:
    """The deployment: its degrees, what one device of each pipeline stage holds and does, and what devices send."""
    tables = ("stages", "communication")
    plain = {name: value for name, value in parallelism.items() if name not in tables}
    yield from _flat_rows("parallelism", plain, origin="estimated")
    for held in parallelism.get("stages") or []:
        first, last = held["layers"]
        rest = {name: value for name, value in held.items() if name != "layers"}
        yield from _flat_rows("parallelism", rest, path=f"layers {first}-{last}", origin="estimated")
    yield from _table_rows("communication", parallelism.get("communication"), ("collective", "group"), "estimated")
