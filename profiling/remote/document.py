"""The run document of an endpoint: what was sent, what came back, what the server says of itself. Pure."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from profiling import __version__
from profiling.load import Load, describe
from profiling.load_metrics import rates
from profiling.remote.levels import Sweep
from profiling.remote.load import Sent
from profiling.remote.served import Served
from profiling.remote.spec import workload_json
from profiling.remote.sweep import Level, as_served, best_level, percentile, within
from profiling.remote.sweep import describe as describe_sweep
from profiling.spec import Workload
from profiling.statistics import summarise
from profiling.units import metric

if TYPE_CHECKING:
    from profiling.remote.endpoint import Endpoint, Outcome

#: This side is late when its event loop is, at the 99th percentile, by more than this.
MAX_LAG_S = 0.005
#: Counts of the server and of the tokenizer that differ by more than this are worth a word.
MAX_DIFFERENCE = 0.05
COLUMNS = (
    *("request", "users", "due_ns", "sent_ns", "first_event_ns", "first_token_ns", "last_token_ns", "finish_ns"),
    *("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "tokens_from", "events"),
    *("status", "finish", "failure", "retry_after_s", "tpot_s", "within_objectives"),
    *("connect_s", "connect_waited"),
)
#: What stands on counts of tokens.
OF_TOKENS = ("endpoint_tpot", "request_output_throughput")


def document(
    endpoint: Endpoint,
    workload: Workload,
    load: Load,
    outcome: Outcome,
    *,
    sweep: Sweep | None,
    served: Served | None,
    tokens: dict[str, Any],
    started: datetime,
    duration_s: float,
    final: bool = True,
) -> dict[str, Any]:
    """Raises nothing; a run in which nothing succeeded has no metrics. Those of a sweep are of its best level. One that is not ``final`` is
    written beside a load, and has no intervals: what takes longer would make its times longer."""
    sent = outcome.sent
    best = None if sweep is None else best_level(outcome.levels, sweep)
    # A sweep of which no level was sent to its end has the figures of what was sent of the first.
    chosen = best or (outcome.levels[0] if outcome.levels else None)
    good = [one for one in sent if one.answer.error is None]
    shown = load if chosen is None or sweep is None else chosen.load
    lags = [lag for level in outcome.levels for lag in level.loaded.lags_s]
    found: dict[str, Any] = {
        "schema": "llmcompare-run",
        "schema_version": "1.0",
        "kind": "endpoint",
        "created": started.astimezone(UTC).isoformat(),
        "duration_s": duration_s,
        "producer": {"name": "llmcompare", "version": __version__, "python": platform.python_version()},
        "endpoint": {
            "name": endpoint.name,
            "model": endpoint.model,
            "api": endpoint.api,
            "unique_prompts": endpoint.unique,
        },
        "workload": workload_json(workload),
        "load": describe(shown)
        | {
            "due": len(sent) + sum(level.loaded.unsent + level.loaded.earlier.ended for level in outcome.levels),
            "served": len(good) + sum(one.ended - one.failed for one in outcome.earlier),
            "warmup": len(outcome.warmups),
        },
        "requests": {"columns": list(COLUMNS), "rows": list(_rows(outcome.levels))},
        "metrics": _metrics_of(chosen, tokens, best, final),
        "tokens": tokens | {"early_ends": len(_early(good))},
        "failures": _failures(sent),
        "client": {
            "lag_p99_s": percentile(lags, 0.99),
            "lag_max_s": max(lags, default=None),
            "late_max_s": max((one.late_s for one in sent), default=None),
            **_connections(sent),
        },
        "output": _output(workload, good),
        "clocks": served.clocks if served else None,
        "warnings": list(_warnings(outcome, good, lags, tokens)),
    }
    if sweep is not None:
        found["sweep"] = describe_sweep(outcome.levels, sweep)
    if endpoint.profile:
        found["served"] = served.document if served else None
        note = "The run ended before the server's own times and layers had come."
        if served or not good:
            note = (
                served.note if served else "The request for the profile was not sent: nothing before it had succeeded."
            )
        if note:
            found["warnings"].append({"code": "no_profile", "message": note})
        if served and served.dropped:
            names = ", ".join(served.dropped[:5]) + (" and more" if len(served.dropped) > 5 else "")
            message = (
                f"The server left {len(served.dropped)} parts out of its profile to keep the answer small: {names}."
            )
            found["warnings"].append({"code": "profile_cut", "message": message})
    return found


def _metrics_of(level: Level | None, tokens: dict[str, Any], best: Level | None, final: bool) -> dict[str, Any]:
    if level is None:
        return {}
    sent = level.loaded.sent
    good = [one for one in sent if one.answer.error is None]
    found = metrics(sent, level.load, final)
    if best is not None:
        for entry in found.values():
            entry["note"] = f"with {level.users} at once, the best level of the sweep"
    if any(one.answer.counted for one in good):
        words = f"output tokens counted here with the tokenizer of {tokens['tokenizer']}: the server gives no count"
        for key in OF_TOKENS:
            if key in found:
                note = found[key].get("note")
                found[key] |= {"origin": "estimated", "note": f"{note}; {words}" if note else words}
    return found


def metrics(sent: Sequence[Sent], load: Load, final: bool = True) -> dict[str, Any]:
    """Latencies of the requests that succeeded; rates over all. A metric without a value is left out."""
    series: dict[str, list[float]] = {
        "endpoint_ttft": [],
        "endpoint_first_event": [],
        "endpoint_tpot": [],
        "endpoint_e2e_latency": [],
        "inter_chunk_latency": [],
    }
    good = [one for one in sent if one.answer.error is None]
    for one in good:
        answer, due = one.answer, one.due_ns
        for key, at in (
            ("endpoint_ttft", answer.first_token_ns),
            ("endpoint_first_event", answer.first_chunk_ns),
            ("endpoint_e2e_latency", answer.last_token_ns),
        ):
            if at is not None:
                series[key].append((at - due) / 1e9)
        if answer.tpot_s is not None:
            series["endpoint_tpot"].append(answer.tpot_s)
        series["inter_chunk_latency"] += [(b - a) / 1e9 for a, b in itertools.pairwise(answer.arrivals)]
    found = {}
    for key, values in series.items():
        if values:
            summary = summarise(values, interval=final)
            found[key] = metric(key, summary["median"], "measured", **summary)
    known = {"request_throughput", "request_goodput", "goodput_share"}
    if all(one.answer.usage is not None and one.answer.usage.output is not None for one in good):
        known.add("request_output_throughput")
    begin = min((one.due_ns for one in sent), default=0)
    of_load = rates([as_served(one, begin) for one in sent], load, [within(one, load) for one in sent])
    return found | {key: value for key, value in of_load.items() if key in known}


def _rows(levels: Sequence[Level]) -> Iterable[list[Any]]:
    """Every request; nanoseconds since its own load began, so that levels lie over one another."""
    for level in levels:
        begin = min((one.due_ns for one in level.loaded.sent), default=0)
        users = None if level.load.open else level.load.concurrency
        for one in level.loaded.sent:
            yield _row(one, begin, users, level.load)


def _row(one: Sent, begin: int, users: int | None, load: Load) -> list[Any]:
    answer, usage = one.answer, one.answer.usage
    began = (one.due_ns, answer.sent_ns, answer.first_chunk_ns, answer.first_token_ns)
    times = (*began, answer.last_token_ns, answer.finish_ns)
    counts = (usage.input, usage.output, usage.reasoning, usage.cached) if usage else (None,) * 4
    known = usage is not None and usage.output is not None
    return [
        one.index,
        users,
        *(None if at is None else at - begin for at in times),
        *counts,
        None if not known else "counted" if answer.counted else "server",
        len(answer.arrivals),
        answer.status,
        answer.finish,
        answer.error,
        answer.retry_after_s,
        None if answer.error is not None else answer.tpot_s,
        within(one, load),
        None if answer.connect_ns is None else answer.connect_ns / 1e9,
        answer.connect_waited,
    ]


def _connections(sent: Sequence[Sent]) -> dict[str, Any]:
    """Of the requests that were the first of their connection: how many found it open, how many waited for it, how long opening took."""
    first = [one.answer for one in sent if one.answer.connect_ns is not None]
    took = [(answer.connect_ns or 0) / 1e9 for answer in first]
    waited = sum(answer.connect_waited for answer in first)
    return {
        "connections_ahead": len(first) - waited,
        "connections_waited": waited,
        "connect_median_s": median(took) if took else None,
        "connect_max_s": max(took, default=None),
    }


def _failures(sent: Sequence[Sent]) -> list[dict[str, Any]]:
    """Sentence → how often, most frequent first; rate limits are among them, with the longest time that the server asked to wait."""
    counts: dict[tuple[str, str], list[float | None]] = {}
    for one in sent:
        if one.answer.error is not None:
            kind = "rate_limit" if one.limited else one.answer.kind or "stream"
            counts.setdefault((kind, one.answer.error), []).append(one.answer.retry_after_s)
    rows = sorted(counts.items(), key=lambda item: -len(item[1]))
    return [
        {
            "kind": kind,
            "message": message,
            "requests": len(waits),
            "retry_after_s": max((wait for wait in waits if wait is not None), default=None),
        }
        for (kind, message), waits in rows[:20]
    ]


def _output(workload: Workload, good: Sequence[Sent]) -> dict[str, Any] | None:
    """The first answer, as the words of a measurement have it."""
    if not good:
        return None
    answer = good[0].answer
    usage = answer.usage
    return {
        "prompt": workload.prompt,
        "texts": [answer.text],
        "reasoning": answer.reasoning,
        "finish": [answer.finish],
        "input_tokens": [usage.input if usage else None],
        "output_tokens": [usage.output if usage else None],
    }


def _early(good: Sequence[Sent]) -> list[Sent]:
    """Answers that the model ended before their limit of tokens."""
    return [one for one in good if one.answer.finish not in (None, "length")]


def _warnings(
    outcome: Outcome, good: Sequence[Sent], lags: Sequence[float], tokens: dict[str, Any]
) -> Iterable[dict[str, str]]:
    before = outcome.earlier
    sent = len(outcome.sent) + sum(one.ended for one in before)
    failed = len(outcome.sent) - len(good) + sum(one.failed for one in before)
    early = _early(good)
    lag = percentile(lags, 0.99)
    limited = sum(one.limited for one in outcome.sent) + sum(one.limited for one in before)
    unknown = any(one.answer.usage is None or one.answer.usage.output is None for one in good)
    compared = tokens.get("compared") or {}
    difference = compared.get("difference")
    cold = [one.answer.connect_ns or 0 for one in outcome.sent if one.answer.connect_waited]
    cases = (
        (
            failed,
            "failed_requests",
            f"{failed} of {sent} requests failed. Latencies are of the others; see why below.",
        ),
        (
            limited,
            "rate_limited",
            f"{limited} requests met the server's rate limit (status 429). They are counted, and not sent again: figures are those of a "
            "server that holds this client back.",
        ),
        (
            outcome.cut,
            "load_cut",
            f"The load ended early, after {sent} requests: no time was left, it was cancelled, or every request failed.",
        ),
        (
            lag is not None and lag > MAX_LAG_S,
            "client_lag",
            f"This side was late by {(lag or 0) * 1e3:.1f} ms at the 99th percentile: it had too much to do, and times may be too long by as much.",
        ),
        (
            cold,
            "new_connections",
            f"{len(cold)} of {sent} requests waited until a new connection was open, up to {max(cold, default=0) / 1e6:.1f} ms: that is in "
            "their times. They are marked in the table of requests.",
        ),
        (
            good and unknown,
            "no_usage",
            "The server does not say how many tokens it generated, so time per token and token throughput are unknown.",
        ),
        (
            tokens.get("output_from") in ("counted", "mixed"),
            "counted_tokens",
            f"The server does not say how many tokens it generated: they were counted here with the tokenizer of {tokens.get('tokenizer')}. "
            "Time per token and token throughput stand on that count.",
        ),
        (
            difference is not None and abs(difference) > MAX_DIFFERENCE,
            "token_difference",
            f"The tokenizer of {tokens.get('tokenizer')} counts {100 * (difference or 0):+.1f} % tokens against the server. Ends of answers "
            "and templates are in the server's count alone; much more means another tokenizer.",
        ),
        (
            good and all(one.answer.first_token_ns is None for one in good),
            "no_stream",
            "The server answered in one piece although a stream was asked for: there is no time to first token.",
        ),
        (
            early and len(early) < len(good),
            "early_ends",
            f"{len(early)} of {len(good)} answers ended before their limit of tokens, so requests are of different length.",
        ),
        (
            any(one.answer.usage is not None and one.answer.usage.cached for one in good),
            "cached",
            "Parts of prompts came from the server's cache, so times to first token are shorter than those of new prompts.",
        ),
    )
    for holds, code, message in cases:
        if holds:
            yield {"code": code, "message": message}
