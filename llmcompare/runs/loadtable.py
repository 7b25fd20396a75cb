"""The load of a measurement for the run page: what was sent, what came of it, and every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs import charts
from llmcompare.runs.tables import records
from profiling.quantities import count, number, percent, show, unknown
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
_OBJECTIVES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": _("end to end")}


def load_table(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Words, metrics, figure and rows; None of a run without a load."""
    load = document.get("load")
    if not isinstance(load, Mapping):
        return None
    requests = list(records(document.get("requests")))
    objectives = [
        gettext("%(what)s at most %(time)s") % {"what": title, "time": show(number(value), "s")}
        for name, title in _OBJECTIVES.items()
        if (value := (load.get("objectives") or {}).get(name)) is not None
    ]
    return {
        "what": _what(load),
        "lengths": [
            title % {"lengths": load[name]}
            for name, title in (
                ("input_lengths", gettext("input tokens: %(lengths)s")),
                ("output_lengths", gettext("output tokens: %(lengths)s")),
            )
            if load.get(name)
        ],
        "scheduling": said(str(load["scheduling"])) if load.get("scheduling") else unknown(),
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
    if load.get("mode") == "constant":
        return gettext("%(rate)s at equal distances") % {"rate": show(number(load.get("rate")), "request/s")}
    if load.get("mode") == "poisson":
        return gettext("Poisson arrivals, %(rate)s on average") % {"rate": show(number(load.get("rate")), "request/s")}
    users = load.get("concurrency")
    return ngettext("closed loop of %(count)s user", "closed loop of %(count)s users", int(number(users) or 0)) % {
        "count": count(users)
    }


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
                "title": said(definition.name),
                "definition": said(definition.formula),
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


def request_name(row: Mapping[str, Any]) -> str:
    """Its number from 1, after that of its process where there may be several."""
    own, process = count((number(row.get("request")) or 0) + 1), number(row.get("process"))
    return own if process is None else f"{count(process + 1)}.{own}"


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    tokens, decoding = number(row.get("output_tokens")), seconds(row, "first_token_ns", "end_ns")
    per_token = decoding / (tokens - 1) if decoding is not None and tokens and tokens > 1 else None
    within = row.get("within_objectives")
    served = row.get("end_ns") is not None
    return {
        "number": request_name(row),
        "scheduled": show((number(row.get("scheduled_ns")) or 0) / 1e9, "s"),
        "input": count(row.get("input_tokens")),
        "output": count(row.get("output_tokens")),
        "queue": show(seconds(row, "scheduled_ns", "started_ns"), "s") if served else gettext("not served"),
        "ttft": show(seconds(row, "scheduled_ns", "first_token_ns"), "s") if served else "–",
        "tpot": show(per_token, "s") if per_token is not None else "–",
        "e2e": show(seconds(row, "scheduled_ns", "end_ns"), "s") if served else "–",
        "within": "–" if within is None else gettext("yes") if within else gettext("no"),
    }
