"""From a run document (docs/run-document.md) to what the database keeps beside it: metric rows and the columns of lists. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmcompare.runs.series import contended_of, versions_of
from llmcompare.runs.tiles import ceilings_level

#: Column of ``Run`` → keys of metrics, the first that has a value counts. An encoder has no other end-to-end time than encoding.
COLUMNS = {
    "ttft_s": ("ttft", "endpoint_ttft"),
    "tpot_s": ("tpot", "endpoint_tpot"),
    "e2e_s": ("e2e_latency", "encode_time", "endpoint_e2e_latency"),
    "output_tokens_per_s": ("output_throughput",),
}

#: The largest number that a column for bytes holds: 9.2 exabytes. What needs more is in the document alone.
MAX_BYTES = 2**63 - 1

#: Keys of a metric that have columns of their own in ``RunMetric``.
METRIC_COLUMNS = ("value", "unit", "origin", "definition")


@dataclass(frozen=True)
class Summary:
    """``columns``: field of ``Run`` → value. ``metrics``: one mapping per ``RunMetric`` row, without the run."""

    columns: dict[str, Any]
    metrics: list[dict[str, Any]]


def summarise(document: Mapping[str, Any]) -> Summary:
    """The summary of a complete document. Raises ``KeyError``, ``TypeError`` or ``ValueError`` when it is not one."""
    if document["schema"] != "llmcompare-run":
        raise ValueError(f"This is not a run document: schema is {document['schema']!r}.")
    metrics = document["metrics"]
    columns: dict[str, Any] = {
        column: next((value for key in keys if (value := _value(metrics, key)) is not None), None)
        for column, keys in COLUMNS.items()
    }
    if document["kind"] == "endpoint":
        return Summary(
            columns | _of_endpoint(document), [_metric(key, metric, document) for key, metric in metrics.items()]
        )
    estimate = document["memory"]["estimate"]
    peak = _value(metrics, "peak_memory")
    memory = peak if peak is not None else estimate.get("total_bytes")
    columns["memory_bytes"] = None if memory is None or memory > MAX_BYTES else round(memory)
    columns["fits"] = estimate.get("fits")
    workload = document["workload"]
    columns["bound"] = _bound(document["stages"], workload["output_tokens"]) or ""
    columns["ceilings"] = ceilings_level(document) if document["kind"] == "estimate" else ""
    columns |= {name: workload[name] for name in ("batch_size", "input_tokens", "output_tokens", "dtype")}
    columns |= {"contended": contended_of(document), "versions": versions_of(document)}
    return Summary(columns, [_metric(key, metric, document) for key, metric in metrics.items()])


def _of_endpoint(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a run of an endpoint. Its throughput is that of all requests together; nothing is known of memory, formats and limits.
    Tokens are those that were asked for, as the run has them since its launch; input tokens of a prompt are those that the server reports,
    0 where it does not."""
    found = {
        "output_tokens_per_s": _value(document["metrics"], "request_output_throughput"),
        "versions": versions_of(document),
    }
    if document["workload"].get("input_tokens") is None:
        total, served = document["tokens"]["input"], document["load"]["served"]
        found["input_tokens"] = round(total / served) if total is not None and served else 0
    return found


def storable(value: Any) -> Any:
    """``value`` as every database can store it: no NaN or infinity (JSON has none), no NUL or lone surrogate (PostgreSQL has none)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def _value(metrics: Mapping[str, Any], key: str) -> float | None:
    return metrics.get(key, {}).get("value")


def _metric(key: str, metric: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    detail = {name: value for name, value in metric.items() if name not in METRIC_COLUMNS}
    if errors := document.get("errors", {}).get(key):
        detail["errors"] = errors
    return {"key": key, **{name: metric[name] for name in METRIC_COLUMNS}, "detail": detail}


def _bound(stages: Mapping[str, Any], output_tokens: int) -> str | None:
    """What limits the stage in which the run spends most of its time. Each token but the first takes one decode step."""
    seconds = {name: stage.get("latency_s") for name, stage in stages.items()}
    if None in seconds.values() or not seconds:
        best: Mapping[str, Any] = stages.get("decode") or stages.get("prefill") or next(iter(stages.values()), {})
    else:
        spent = {name: s * (output_tokens - 1 if name == "decode" else 1) for name, s in seconds.items()}
        best = stages[max(spent, key=lambda name: spent[name])]
    return best.get("bound")
