"""Operator replay against a measurement on the same device: one check of :mod:`benchmarks.gpu_check`."""

from __future__ import annotations

from typing import Any

from profiling.client import EngineChild
from profiling.quantities import say
from profiling.spec import ModelSpec, Workload

#: Predictions of a model that was never run, from its operators, are to be no further off than this.
TOLERANCE = 0.25
TIMEOUT_S = 240
#: Stage of a prediction, its metric there, and the one of a measurement that is the same: one step in the middle of the output.
COMPARED = (("prefill", "ttft", "ttft"), ("decode", "tpot", "decode_time_per_step"))


def check(model: ModelSpec, workload: Workload, measured: dict[str, Any]) -> tuple[bool, str, dict[str, Any]]:
    """(whether prefill and decode are predicted within :data:`TOLERANCE`; both figures in words; the prediction, with ``errors`` by stage).

    ``measured``: run document of the same model and workload; the prediction is of the device that it ran on, made in a process of its
    own from an empty table. Raises :class:`profiling.client.EngineError`.
    """
    device = "cpu" if measured["environment"]["device"] == "cpu" else "cuda"
    request: dict[str, Any] = {"model": model.to_json(), "workloads": [workload.to_json()], "device": device}
    with EngineChild() as engine:
        (document,) = engine.request("replay", request, timeout_s=TIMEOUT_S)["predictions"]
    return compared(document, measured)


def compared(document: dict[str, Any], measured: dict[str, Any]) -> tuple[bool, str, dict[str, Any]]:
    """As :func:`check`, of a prediction that is there. A stage without a prediction or a measurement is none that agrees."""
    words, errors = [], {}
    for stage, metric, same in COMPARED:
        parts, value = document["stages"].get(stage), (document["metrics"].get(metric) or {}).get("value")
        actual = (measured["metrics"].get(same) or {}).get("value")
        errors[stage] = value / actual - 1 if value is not None and actual else None
        if value is None:
            lacking = ", ".join(parts["unknown_operators"]) or "the glue" if parts else "its stage"
            words.append(f"{stage}: not predicted, for want of {lacking}")
        elif not actual:
            words.append(f"{stage}: predicted {say(value, 's')}, not measured")
        else:
            bound = {"host": ", the host's time", "device": ", the device's time"}.get(parts["bound"] or "", "")
            alone = say(parts["own_s"] + parts["interpolated_s"], "s")
            words.append(
                f"{stage}: predicted {say(value, 's')} (operators {alone}, host {say(parts['glue_s'], 's')}{bound}), "
                f"measured {say(actual, 's')}, {errors[stage]:+.0%}"
            )
    good = all(error is not None and abs(error) <= TOLERANCE for error in errors.values())
    return good, "; ".join(words), document | {"errors": errors}
