"""Metrics of a load from its table of requests. numpy and the standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiling.load import Load
from profiling.server import Served
from profiling.statistics import summarise, trend
from profiling.units import metric

#: Waiting that grows over the load by more than its own median and this many seconds is a queue that grows.
GROWTH, GROWTH_S = 1.0, 0.05


def latencies(one: Served) -> dict[str, float]:
    """``ttft_s``, ``e2e_s``, ``queue_s`` and (from two tokens on) ``tpot_s`` of a request that was served; empty of any other."""
    if one.started_ns is None or one.first_token_ns is None or one.end_ns is None:
        return {}
    found = {
        "ttft_s": (one.first_token_ns - one.scheduled_ns) / 1e9,
        "e2e_s": (one.end_ns - one.scheduled_ns) / 1e9,
        "queue_s": (one.started_ns - one.scheduled_ns) / 1e9,
    }
    if one.output_tokens > 1:
        found["tpot_s"] = (one.end_ns - one.first_token_ns) / (one.output_tokens - 1) / 1e9
    return found


def met(one: Served, load: Load) -> bool | None:
    """Whether a request met every objective; None when there are none. One that was not served met none; one with a single token has
    no time per token, so nothing to miss there."""
    if not load.objectives:
        return None
    own = latencies(one)
    return bool(own) and all(own.get(name, 0.0) <= limit for name, limit in load.objectives.items())


def load_metrics(served: Sequence[Served], load: Load) -> dict[str, dict[str, Any]]:
    """The metrics of all requests that were due; rates are over the time from the first arrival to the last end. Empty when none was
    served."""
    own = [latencies(one) for one in served]
    found = {}
    for key, name in SERIES.items():
        values = [each[name] for each in own if name in each]
        if values:
            summary = summarise(values)
            found[key] = metric(key, summary["median"], "measured", **summary)
    return found | rates(served, load)


def rates(
    served: Sequence[Served], load: Load, verdicts: Sequence[bool | None] | None = None
) -> dict[str, dict[str, Any]]:
    """Those of them that are of all requests together. ``verdicts``: which requests met the objectives, where :func:`met` cannot know; if one
    of them is None, goodput is unknown."""
    done = [(one, latencies(one)) for one in served]
    ended = [one.end_ns for one, own in done if own and one.end_ns is not None]
    if not ended:
        return {}
    duration = (max(ended) - min(one.scheduled_ns for one in served)) / 1e9
    found = {}
    tokens = sum(one.output_tokens for one, own in done if own)
    found["request_throughput"] = metric("request_throughput", len(ended) / duration, "measured", n=len(ended))
    found["request_output_throughput"] = metric(
        "request_output_throughput", tokens / duration, "measured", n=len(ended)
    )
    if verdicts is None:
        verdicts = [met(one, load) for one in served]
    if load.objectives and None not in verdicts:
        good = sum(map(bool, verdicts))
        found["request_goodput"] = metric("request_goodput", good / duration, "measured", n=len(served))
        found["goodput_share"] = metric("goodput_share", good / len(served), "measured", n=len(served))
    return found


#: Metric → the latency of a request that it is the middle of.
SERIES = {
    "request_ttft": "ttft_s",
    "request_tpot": "tpot_s",
    "request_e2e_latency": "e2e_s",
    "request_queue_time": "queue_s",
}


def queue_grows(served: Sequence[Served]) -> bool | None:
    """Whether requests of an open loop waited longer and longer, so that latencies depend on how long the load lasted; None where too
    few were served to say."""
    waits = [own["queue_s"] for own in map(latencies, served) if own]
    if len(waits) < 8:
        return None
    # Adding a constant keeps the slope and makes the median of an idle queue a number to divide by.
    found = trend([wait + GROWTH_S for wait in waits])
    return found is not None and found[1] and found[0] > GROWTH
