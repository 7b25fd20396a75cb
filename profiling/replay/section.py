"""What a run document has of a prediction by replay: metrics of their own names, and the parts that they are made of.

They are no measurement, since no pass of the model ran, and no roofline estimate either: so they have keys and definitions of their own, and
nothing that reads ``ttft`` ever meets one of them. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.units import metric

METHOD = "operator replay"
#: Metric of a prediction → that of a run document.
KEYS = {"ttft": "replay_ttft", "tpot": "replay_tpot", "encode_time": "replay_encode_time"}
END_TO_END = "replay_e2e_latency"
METRICS = ("replay_ttft", "replay_tpot", END_TO_END, "replay_encode_time")
#: Parts of a prediction that a run document keeps as they are.
_KEPT = ("stages", "shapes", "not_replayed", "conditions", "cap_bytes", "duration_s")
_BOUNDS = ("value", "low", "high")


def run_metrics(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a run document from a prediction (:func:`profiling.replay.predict.predict`); seconds, null where a part is unknown.

    ``low`` and ``high``: least and most, every interpolated part at its 90th percentile at once.
    """
    found = prediction["metrics"]
    values = {KEYS[key]: {name: entry[name] for name in _BOUNDS} for key, entry in found.items()}
    if "ttft" in found:
        values[END_TO_END] = {
            name: _end_to_end(found, name, prediction["workload"]["output_tokens"]) for name in _BOUNDS
        }
    return {
        key: metric(key, entry["value"], "estimated", low=entry["low"], high=entry["high"], method=METHOD)
        for key, entry in values.items()
    }


def _end_to_end(found: Mapping[str, Any], name: str, output_tokens: int) -> float | None:
    """The first token and a decode step for each one after it; the cost of a step is near enough a line in its context that the step in
    the middle stands for all."""
    first = found["ttft"][name]
    if output_tokens < 2 or first is None:
        return first
    step = found["tpot"][name]
    return None if step is None else first + (output_tokens - 1) * step


def beside(document: Mapping[str, Any], prediction: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """The run document of an estimate with what replay predicts of the same workload. ``table``: what the host's table had, and whether it
    keeps what was timed."""
    return {
        **document,
        "metrics": document["metrics"] | run_metrics(prediction),
        "replay": section(prediction) | {"table": table},
    }


def section(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """The part ``replay`` of a run document. ``fingerprint``, ``torch``, ``threads``, ``device``: what the times belong to."""
    return {"method": METHOD, **prediction["host"], **{name: prediction[name] for name in _KEPT}}
