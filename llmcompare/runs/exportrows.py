"""The long format: every figure of a run as one row, whatever table of the document it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from llmcompare.runs.tables import records
from profiling.load import Load

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
    "seconds": "s",
    "gain": "1",
    "rate": "request/s",
    "request_throughput": "request/s",
    "goodput": "request/s",
    "goodput_share": "1",
    "output_throughput": "token/s",
    "interactivity": "token/s",
    "tdp_w": "W",
}
MEASURED_COLUMNS = {"inclusive_s", "exclusive_s"}
#: Fields of a load that were asked for, and not measured.
ASKED_OF_LOAD = {field.name for field in fields(Load)} | {"warmup"}
#: Columns of the levels of a sweep that stand on counts of output tokens.
OF_COUNTED = ("output_throughput", "interactivity", "tpot_s", "tpot_p90_s", "gain")


def unit_of(name: str) -> str:
    """Unit of a figure by its name: the house rule is that the suffix says it."""
    if name in UNITS:
        return UNITS[name]
    for suffix, unit in (("_bytes", "B"), ("_ns", "ns"), ("_per_s", "1/s"), ("_s", "s"), ("_pct", "%")):
        if name.endswith(suffix):
            return unit
    return ""


def run_rows(exported: Mapping[str, Any]) -> Iterator[tuple]:
    """Rows of :data:`RUN_HEADER` from what :func:`run_object` made: identity, metrics, stages, operators, modules, memory, roofline.

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
    yield from _roofline_rows(exported.get("roofline") or {})
    yield from _device_rows(exported.get("parallelism") or {})
    yield from _flat_rows("parallel", exported.get("parallel") or {})
    yield from _replay_rows(exported.get("replay") or {})
    yield from _table_rows("sample", exported.get("samples"), ("phase", "iteration"), "measured")
    for row in _flat_rows("load", exported.get("load") or {}, origin="measured"):
        yield row if row[3] not in ASKED_OF_LOAD else (*row[:6], "", row[7])
    labels = ("users", "request") if exported.get("sweep") else ("process", "request")
    told = _told if exported.get("kind") == "endpoint" else None
    yield from _table_rows("request", exported.get("requests"), labels, "measured", told)
    yield from _endpoint_rows(exported)
    yield from _flat_rows("environment", exported.get("environment") or {})
    yield from _flat_rows("conditions", exported.get("conditions") or {}, origin="measured")
    for warning in exported.get("warnings") or []:
        yield ("warning", "", warning.get("code", ""), "message", warning.get("message"), "", "", "")


def _endpoint_rows(exported: Mapping[str, Any]) -> Iterator[tuple]:
    """What only a run of an endpoint has; the profile that its server gave has sections of its own, ``served`` before their names."""
    for section, origin in (("endpoint", ""), ("client", "measured")):
        yield from _flat_rows(section, exported.get(section) or {}, origin=origin)
    tokens = exported.get("tokens") or {}
    yield from _token_rows(tokens)
    sweep = exported.get("sweep") or {}
    yield from _flat_rows("sweep", {name: value for name, value in sweep.items() if name != "levels"})
    counted = dict.fromkeys(OF_COUNTED, "estimated") if tokens.get("output_from") in ("counted", "mixed") else {}
    yield from _table_rows("level", sweep.get("levels"), ("users",), "measured", lambda line: counted)
    for row in exported.get("failures") or []:
        yield ("failure", "", row.get("kind", ""), row.get("message"), row.get("requests"), "", "measured", "")
    for row in records(exported.get("clocks")):
        for name, origin in (("here_s", "measured"), ("server_s", "reported"), ("difference_s", "measured")):
            yield ("clock", "", row.get("figure", ""), name, row.get(name), "s", origin, "")
    for one in (exported.get("monitoring") or {}).get("series") or []:
        for at, value in one["points"]:
            yield ("monitoring", "", " ".join([*one["parts"], at]), one["metric"], value, one["unit"], "reported", "")
    if isinstance(served := exported.get("served"), Mapping):
        for section, *rest in run_rows({**served, "run": {}}):
            yield (f"served {section}", *rest)


def _told(line: Mapping[str, Any]) -> dict[str, str]:
    """Where the tokens of a request to an endpoint come from: the server says them, unless its answer was counted here."""
    said = dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"), "reported")
    return said | (
        dict.fromkeys(("output_tokens", "tpot_s"), "estimated") if line.get("tokens_from") == "counted" else {}
    )


def _token_rows(tokens: Mapping[str, Any]) -> Iterator[tuple]:
    """Sums of tokens: the server says them; what was counted here, or partly so, is an estimate."""
    output = "reported" if tokens.get("output_from") == "server" else "estimated"
    origins = {"output": output, "counted": "estimated", "difference": "estimated"} | dict.fromkeys(
        ("early_ends", "answers"), "measured"
    )
    for section, stage, path, name, value, unit, origin, definition in _flat_rows("tokens", tokens, origin="reported"):
        tokens_of = name in ("input", "output", "reasoning", "cached", "server", "counted")
        unit = "token" if tokens_of else "1" if name == "difference" else unit
        yield (section, stage, path, name, value, unit, origins.get(name, origin) if origin else "", definition)


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
        for name in ("n", "min", "q1", "q3", "max", "cv", "ci95", "low", "high", "method"):
            if name in metric:
                of_what = "" if name in ("n", "cv", "method") else unit
                yield ("metric", "", key, f"{key}.{name}", metric[name], of_what, origin, definition)
    for key, comparisons in (exported.get("errors") or {}).items():
        for row in comparisons:
            yield ("error", "", row.get("level", ""), key, row.get("error_pct"), "%", "estimated", "")


def _table_rows(
    section: str,
    table: Mapping | None,
    labels: Sequence[str],
    origin: str,
    others: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None,
) -> Iterator[tuple]:
    """A columnar table of the document, one row per cell; ``labels`` are the columns that name a line. ``others``: of a line, column →
    origin where it is another one."""
    if not table:
        return
    columns = table["columns"]
    naming = {columns.index(name) for name in (*labels, "stage") if name in columns}
    stage_at = columns.index("stage") if "stage" in columns else None
    for line in table["rows"]:
        path = " / ".join(str(line[columns.index(name)]) for name in labels if name in columns)
        stage = line[stage_at] if stage_at is not None else ""
        known = others(dict(zip(columns, line, strict=False))) if others else {}
        for at, name in enumerate(columns):
            if at not in naming:
                number = isinstance(line[at], (int, float)) and not isinstance(line[at], bool)
                source = known.get(name) or ("measured" if name in MEASURED_COLUMNS else origin) if number else ""
                yield (section, stage, path, name, line[at], unit_of(name), source, "")


def _memory_rows(memory: Mapping[str, Any]) -> Iterator[tuple]:
    if "kv_cache_bytes_per_token" in memory:
        value = memory["kv_cache_bytes_per_token"]
        yield ("memory", "", "", "kv_cache_bytes_per_token", value, "B/token", "estimated", "")
    yield from _flat_rows("memory", memory.get("estimate") or {}, path="estimate", origin="estimated")
    for phase in memory.get("phases") or []:
        rest = {name: value for name, value in phase.items() if name != "phase"}
        yield from _flat_rows("memory", rest, stage=phase.get("phase", ""), path="phases", origin="measured")


def _roofline_rows(roofline: Mapping[str, Any]) -> Iterator[tuple]:
    """Roofs by device, level and format, then points by what they stand for: the plot of the run's page in numbers."""
    for roof in roofline.get("roofs") or []:
        rest = {name: value for name, value in roof.items() if name not in ("name", "level", "dtype")}
        path = " / ".join(str(roof[name]) for name in ("name", "level", "dtype") if roof.get(name))
        yield from _flat_rows("roof", rest, path=path, origin="measured" if roof.get("level") == "measured" else "")
    for point in roofline.get("points") or []:
        rest = {name: value for name, value in point.items() if name not in ("label", "stage", "origin")}
        stage, path, origin = (str(point.get(name) or "") for name in ("stage", "label", "origin"))
        yield from _flat_rows("point", rest, stage=stage, path=path, origin=origin)


def _replay_rows(replay: Mapping[str, Any]) -> Iterator[tuple]:
    """What a prediction by replay is made of; its figures are metrics."""
    plain = {name: value for name, value in replay.items() if name not in ("stages", "not_replayed", "conditions")}
    yield from _flat_rows("replay", plain)
    yield from _flat_rows("replay", replay.get("conditions") or {}, path="conditions", origin="measured")
    for stage, parts in (replay.get("stages") or {}).items():
        rest = {name: value for name, value in parts.items() if name != "largest"}
        yield from _flat_rows("replay", rest, stage=stage, origin="estimated")
        for place, row in enumerate(parts.get("largest") or [], 1):
            yield from _flat_rows("replay", row, stage=stage, path=f"largest.{place}", origin="estimated")
    for item in replay.get("not_replayed") or []:
        yield ("replay", "", item.get("operator", ""), "not_replayed", item.get("reason"), "", "", "")


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
