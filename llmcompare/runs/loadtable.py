"""The load of a measurement for the run page: what was sent, what came of it, and every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcompare.runs import charts
from llmcompare.runs.tables import records
from profiling.quantities import UNKNOWN, count, number, percent, show
from profiling.units import DEFINITIONS

#: Metrics of the load, in the order of the table.
LOAD_METRICS = (
    "request_goodput",
    "goodput_share",
    "request_throughput",
    "request_output_throughput",
    "request_ttft",
    "request_tpot",
    "request_e2e_latency",
    "request_queue_time",
)
#: A table of requests longer than this is cut, and says so; the exports have all.
MAX_REQUESTS = 200
_OBJECTIVES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "end to end"}


def load_table(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Words, metrics, figure and rows; None of a run without a load."""
    load = document.get("load")
    if not isinstance(load, Mapping):
        return None
    requests = list(records(document.get("requests")))
    objectives = [
        f"{title} at most {show(number(value), 's')}"
        for name, title in _OBJECTIVES.items()
        if (value := (load.get("objectives") or {}).get(name)) is not None
    ]
    return {
        "what": _what(load),
        "lengths": [
            f"{title} tokens: {load[name]}"
            for name, title in (("input_lengths", "input"), ("output_lengths", "output"))
            if load.get(name)
        ],
        "scheduling": str(load.get("scheduling") or UNKNOWN),
        "batch": count(load.get("batch_size")),
        "due": count(load.get("due")),
        "served": count(load.get("served")),
        "objectives": objectives,
        "grows": load.get("queue_grows") is True,
        "disturbed": load.get("contended") is True,
        "metrics": _metrics(document.get("metrics") or {}),
        "figure": charts.load_figure(document),
        "rows": [_row(row) for row in requests[:MAX_REQUESTS]],
        "cut": max(len(requests) - MAX_REQUESTS, 0),
    }


def _what(load: Mapping[str, Any]) -> str:
    if load.get("mode") == "poisson":
        return f"Poisson arrivals, {show(number(load.get('rate')), 'request/s')} on average"
    users = load.get("concurrency")
    return f"closed loop of {count(users)} user{'' if users == 1 else 's'}"


def _metrics(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for key in LOAD_METRICS:
        entry = metrics.get(key)
        if not isinstance(entry, Mapping):
            continue
        definition, unit = DEFINITIONS[f"{key}/1"], str(entry.get("unit") or "")
        shown = {name: show(number(entry[name]), unit) for name in ("min", "p90", "p95", "p99", "max") if name in entry}
        value = percent(number(entry.get("value"))) if unit == "1" else show(number(entry.get("value")), unit)
        found.append(
            {
                "title": definition.name,
                "definition": definition.formula,
                "value": value,
                "n": count(entry.get("n")),
                **{name: shown.get(name, "–") for name in ("min", "p90", "p95", "p99", "max")},
            }
        )
    return found


def seconds(row: Mapping[str, Any], begin: str, end: str) -> float | None:
    """Seconds between two columns of a request; None where it was not served."""
    first, last = number(row.get(begin)), number(row.get(end))
    return None if first is None or last is None else (last - first) / 1e9


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    tokens, decoding = number(row.get("output_tokens")), seconds(row, "first_token_ns", "end_ns")
    per_token = decoding / (tokens - 1) if decoding is not None and tokens and tokens > 1 else None
    within = row.get("within_objectives")
    served = row.get("end_ns") is not None
    return {
        "number": count((number(row.get("request")) or 0) + 1),
        "scheduled": show((number(row.get("scheduled_ns")) or 0) / 1e9, "s"),
        "input": count(row.get("input_tokens")),
        "output": count(row.get("output_tokens")),
        "queue": show(seconds(row, "scheduled_ns", "started_ns"), "s") if served else "not served",
        "ttft": show(seconds(row, "scheduled_ns", "first_token_ns"), "s") if served else "–",
        "tpot": show(per_token, "s") if per_token is not None else "–",
        "e2e": show(seconds(row, "scheduled_ns", "end_ns"), "s") if served else "–",
        "within": "–" if within is None else "yes" if within else "no",
    }
