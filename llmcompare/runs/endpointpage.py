"""A run of an endpoint for the run page: what was sent and how, the levels of its sweep, every request, tokens, failures, both clocks.

Pure functions of the document; what is not known says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from llmcompare.runs.charts.endpoint import sweep_figure
from llmcompare.runs.loadtable import MAX_REQUESTS, seconds
from llmcompare.runs.tables import records
from profiling.quantities import count, number, show, signed_percent, unknown

Document = Mapping[str, Any]
_OBJECTIVES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}
_FIGURES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}


def served_part(document: Document) -> Document:
    """What layers, graph, memory and areas of a page are made of: the document itself, or the one that the endpoint's server gave."""
    if document.get("kind") != "endpoint":
        return document
    served = document.get("served")
    return served if isinstance(served, Mapping) else {}


def endpoint_section(document: Document) -> dict[str, Any] | None:
    """None of every other kind of run."""
    if document.get("kind") != "endpoint":
        return None
    load = document.get("load") or {}
    requests = list(records(document.get("requests")))
    sweep, kinds = sweep_table(document), _failure_kinds()
    return {
        "what": _what(load, document.get("sweep")),
        "due": count(load.get("due")),
        "served": count(load.get("served")),
        "warmup": count(load.get("warmup")),
        "objectives": [
            _("{figure} at most {time}").format(figure=title, time=show(number(value), "s"))
            for name, title in _OBJECTIVES.items()
            if (value := (load.get("objectives") or {}).get(name)) is not None
        ],
        "about": _about(document),
        "sweep": sweep,
        "tokens": _tokens(document),
        "failures": [
            {
                "kind": kinds.get(str(row.get("kind")), str(row.get("kind"))),
                "message": str(row.get("message")),
                "requests": count(row.get("requests")),
                "retry": show(row["retry_after_s"], "s") if row.get("retry_after_s") is not None else "–",
            }
            for row in document.get("failures") or []
        ],
        "client": _client(document.get("client") or {}),
        "clocks": _clocks(document),
        "rows": [_row(row) for row in requests[:MAX_REQUESTS]],
        "levels_shown": sweep is not None,
        "cut": max(len(requests) - MAX_REQUESTS, 0),
        "served_profile": isinstance(document.get("served"), Mapping),
    }


def _failure_kinds() -> dict[str, str]:
    """Kind of a failure in the document → words."""
    return {
        "refused": _("not sent"),
        "connect": _("no connection"),
        "timeout": _("out of time"),
        "http": _("error from the server"),
        "stream": _("unusable answer"),
        "cut": _("broken off"),
        "rate_limit": _("rate limit"),
    }


def _what(load: Mapping[str, Any], sweep: Any) -> str:
    if isinstance(sweep, Mapping):
        return _("sweep over users of a closed loop")
    rate = show(number(load.get("rate")), "request/s")
    if load.get("mode") == "constant":
        return _("{rate} at equal distances").format(rate=rate)
    if load.get("mode") == "poisson":
        return _("Poisson arrivals, {rate} on average").format(rate=rate)
    if load.get("requests") == 1:
        return _("one request")
    users = load.get("concurrency") or 0
    return ngettext("closed loop of {users} user", "closed loop of {users} users", users).format(users=count(users))


def _about(document: Document) -> list[tuple[str, str]]:
    endpoint = document.get("endpoint") or {}
    said = endpoint.get("said") or {}
    routes = {"chat": "/chat/completions", "completions": "/completions"}
    load = document.get("load") or {}
    rows = [
        (_("Endpoint"), endpoint.get("name")),
        (_("Model of the server"), endpoint.get("model")),
        (_("Route"), routes.get(str(endpoint.get("api")), endpoint.get("api"))),
        (
            _("Prompts"),
            _("each begins differently")
            if endpoint.get("unique_prompts")
            else _("the same every time: caches may answer"),
        ),
        (
            _("Input lengths"),
            load.get("input_lengths") if (document.get("workload") or {}).get("prompt") is None else None,
        ),
        (_("Output lengths"), load.get("output_lengths")),
        (_("Model behind it, as its owner says"), said.get("model")),
        (_("Hardware behind it, as its owner says"), said.get("hardware")),
    ]
    return [(title, str(value)) for title, value in rows if value]


_LEVEL_TIMES = (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("e2e_s", "E2E"))


def sweep_table(document: Document) -> dict[str, Any] | None:
    sweep = document.get("sweep")
    if not isinstance(sweep, Mapping):
        return None
    rows = list(records(sweep.get("levels")))
    return {
        "rule": str(sweep.get("rule") or ""),
        "best": count(sweep.get("best")),
        "best_users": int(number(sweep.get("best")) or 0),
        "has_best": sweep.get("best") is not None,
        "saturated": count(sweep.get("saturated_at")) if sweep.get("saturated_at") is not None else "",
        "why": str(sweep.get("why") or ""),
        "goodput": any(row.get("goodput") is not None for row in rows),
        "figure": sweep_figure(document),
        "rows": [
            {
                "users": count(row.get("users")),
                "best": row.get("users") == sweep.get("best"),
                "saturated": row.get("users") == sweep.get("saturated_at"),
                "cut": row.get("cut") is True,
                "served": count(row.get("served")),
                "failed": count(row.get("failed")),
                "limited": count(row.get("rate_limited")),
                "output": show(row.get("output_throughput"), "token/s"),
                "requests": show(row.get("request_throughput"), "request/s"),
                "interactivity": show(row.get("interactivity"), "token/s"),
                "gain": signed_percent(100 * row["gain"]) if number(row.get("gain")) is not None else "–",
                "goodput": show(row.get("goodput"), "request/s") if row.get("goodput") is not None else "–",
                **{name: show(row.get(name), "s") for name, _title in _LEVEL_TIMES},
            }
            for row in rows
        ],
    }


def _tokens(document: Document) -> list[tuple[str, str]]:
    tokens = document.get("tokens") or {}
    source = {
        "server": _("as the server counts them"),
        "counted": _("counted here with the tokenizer of {model}").format(model=tokens.get("tokenizer")),
        "mixed": _("partly as the server counts them, partly counted here with the tokenizer of {model}").format(
            model=tokens.get("tokenizer")
        ),
    }
    uncounted = (
        _("unknown: the server does not count them") if (document.get("load") or {}).get("served") else unknown()
    )
    rows = [
        (_("Output tokens"), source.get(str(tokens.get("output_from")), uncounted)),
        (_("All output tokens"), count(tokens.get("output"))),
        (_("of them reasoning"), count(tokens.get("reasoning"))),
        (_("All input tokens"), count(tokens.get("input"))),
        (_("of them from the server's cache"), count(tokens.get("cached"))),
        (_("Answers that ended before their limit"), count(tokens.get("early_ends"))),
    ]
    compared = tokens.get("compared")
    if isinstance(compared, Mapping):
        difference = number(compared.get("difference"))
        text = _("server {server}, tokenizer of {model} {counted} ({difference}), over {answers} answers").format(
            server=count(compared.get("server")),
            model=tokens.get("tokenizer"),
            counted=count(compared.get("counted")),
            difference=unknown() if difference is None else signed_percent(100 * difference),
            answers=count(compared.get("answers")),
        )
        rows.append((_("Both counts"), text))
    return rows


def _client(client: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (_("Lag of this side, 99th percentile"), show(client.get("lag_p99_s"), "s")),
        (_("Lag of this side, most"), show(client.get("lag_max_s"), "s")),
        (_("Sent later than due, most"), show(client.get("late_max_s"), "s")),
    ]
    if "connections_waited" in client:  # documents of earlier versions do not say it
        rows += [
            (_("New connections, open before their first request"), count(client.get("connections_ahead"))),
            (_("New connections that a request waited for"), count(client.get("connections_waited"))),
        ]
    if client.get("connect_median_s") is not None:
        rows.append((_("Opening a connection, median"), show(number(client["connect_median_s"]), "s")))
    return rows


def _clocks(document: Document) -> list[dict[str, str]]:
    """One request by both clocks; the difference is the way there and back, and what lies on it."""
    return [
        {
            "figure": _FIGURES.get(str(row.get("figure")), str(row.get("figure"))),
            **{name: show(number(row.get(name)), "s") for name in ("here_s", "server_s")},
            "difference_s": show(row["difference_s"], "s") if number(row.get("difference_s")) is not None else "–",
        }
        for row in records(document.get("clocks"))
    ]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    tokens, decoding = number(row.get("output_tokens")), seconds(row, "first_token_ns", "last_token_ns")
    events, within = number(row.get("events")), row.get("within_objectives")
    known = decoding is not None and decoding > 0 and tokens is not None and tokens > 1
    failed = row.get("failure") is not None
    # Documents of earlier versions do not say it.
    per_token = number(row["tpot_s"]) if "tpot_s" in row else (decoding or 0) / ((tokens or 2) - 1) if known else None

    def since_due(name: str) -> str:
        found = seconds(row, "due_ns", name)
        return "–" if failed or found is None else show(found, "s")

    return {
        "number": count((number(row.get("request")) or 0) + 1),
        "users": count(row.get("users")) if row.get("users") is not None else "–",
        "due": show((number(row.get("due_ns")) or 0) / 1e9, "s"),
        "input": count(row.get("input_tokens")),
        "output": count(row.get("output_tokens")),
        "counted": row.get("tokens_from") == "counted",
        "reasoning": count(row["reasoning_tokens"]) if row.get("reasoning_tokens") is not None else "–",
        "cached": count(row["cached_tokens"]) if row.get("cached_tokens") is not None else "–",
        "events": count(events),
        "ttft": since_due("first_token_ns"),
        "connect": show(number(row.get("connect_s")), "s") if row.get("connect_waited") is True else "",
        "tpot": "–" if failed or per_token is None else show(per_token, "s"),
        "e2e": since_due("last_token_ns"),
        "end": str(row.get("failure") or row.get("finish") or unknown()),
        "failed": failed,
        "within": "–" if within is None else _("yes") if within else _("no"),
    }
