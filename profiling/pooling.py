"""Several processes' documents of one measurement as one document. numpy and the standard library only, so the parent can do it.

What a process says of the structure (estimates, tables, memory) is taken from the first; times are of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from profiling.energy import METRICS, energy_metrics
from profiling.load_pooling import pool_load
from profiling.merge import compared, errors
from profiling.resources import pool_resources
from profiling.statistics import rates, summarise
from profiling.student import interval
from profiling.units import metric

Document = dict[str, Any]


def series_of(samples: Mapping[str, Any], batch: int) -> dict[str, list[float]]:
    """metric key → one value an iteration (seconds, or tokens/s), from the rows of one process, warm-up left out.

    As ``profiling.measured`` computes them: ``itl`` has every gap, ``decode_time_per_step`` the steps in the middle third.
    """
    at = {name: samples["columns"].index(name) for name in samples["columns"]}
    passes: dict[int, list[list[Any]]] = {}
    for row in samples["rows"]:
        if not row[at["warmup"]]:
            passes.setdefault(row[at["iteration"]], []).append(row)
    found: dict[str, list[float]] = {}
    several = "sequences" in at  # of prompts of their own: a row's tokens are those that were made

    def add(key: str, *values: float) -> None:
        found.setdefault(key, []).extend(values)

    for rows in passes.values():
        first, *steps = [row[at["wall_ns"]] / 1e9 for row in rows]
        kind, tokens = rows[0][at["phase"]], rows[0][at["tokens"]]
        if kind not in ("encode", "prefill"):
            continue  # the beginning of this pass was cut off in a partial document
        if kind == "encode":
            add("encode_time", first)
            add("encode_throughput", *rates(tokens, first))
            continue
        whole = first + sum(steps)
        add("ttft", first)
        add("prefill_time", first)
        add("e2e_latency", whole)
        add("prefill_throughput", *rates(tokens, first))
        sequences = rows[0][at["sequences"]] if several else batch
        made = sum(row[at["tokens"]] for row in rows[1:]) if several else batch * len(steps)
        add("output_throughput", *rates(sequences + made, whole))
        if steps:
            add("tpot", sum(steps) / len(steps))
            add("decode_throughput", *rates(made, sum(steps)))
            add("itl", *steps)
            third = len(steps) // 3
            add("decode_time_per_step", *steps[third : len(steps) - third])
    return found


def pool(
    documents: Sequence[Document], *, protocol: Mapping[str, Any], workload: Mapping[str, Any] | None = None
) -> Document:
    """One document of ``documents`` (at least one; the last may be partial), one a process in the order in which they ran.

    Adds ``protocol``, ``processes`` and the column ``process`` of ``samples``. Of metrics that every iteration gives, ``value`` and
    ``median`` are the median of the processes' medians, ``ci95`` is Student's t over their logarithms (null for one process), and
    ``processes`` lists the medians; n, extremes and quartiles are of all iterations.
    """
    first = documents[0]
    result = first | {"protocol": dict(protocol), "metrics": _metrics(documents), "samples": _samples(documents)}
    result["workload"] = first["workload"] | {"time_limit_s": (workload or first["workload"])["time_limit_s"]}
    result["duration_s"] = sum(document["duration_s"] for document in documents)
    result["module_times"] = _module_times(documents)
    result["processes"] = [_process(index, document) for index, document in enumerate(documents)]
    known = [document["conditions"] for document in documents if document.get("conditions")]
    if known:
        result["conditions"] = _conditions(known)
    load = pool_load(documents)
    result["metrics"] |= load.pop("metrics", {})
    result |= load
    result.pop("resources", None)
    resources = pool_resources([document.get("resources") for document in documents])
    if resources is not None:
        result["resources"] = resources
    result["metrics"] = _with_energy(result, documents)
    result["warnings"] = _warnings(documents)
    if first.get("estimates"):
        estimates = {entry["level"]: entry for entry in first["estimates"]}
        result["errors"] = errors(result["metrics"], estimates, compared(first))
    return result


def _with_energy(result: Document, documents: Sequence[Document]) -> Document:
    """The metrics with energy per token, of all processes together: none where one of them lacks the energy, or ended early, for its
    tokens would count and its energy not."""
    plain = {key: value for key, value in result["metrics"].items() if key not in METRICS.values()}
    own = [energy_metrics(document) if document.get("conditions") else {} for document in documents]
    return plain | {key: value for key, value in energy_metrics(result).items() if all(key in each for each in own)}


def _metrics(documents: Sequence[Document]) -> Document:
    batch = documents[0]["workload"]["batch_size"]
    by_process = [series_of(document["samples"], batch) for document in documents]
    result = dict(documents[0]["metrics"])
    for key in {key: None for series in by_process for key in series}:
        groups = [series[key] for series in by_process if series.get(key)]
        if not groups:  # unknown in every process
            result.pop(key, None)
            continue
        medians = [float(np.median(group)) for group in groups]
        summary = summarise([value for group in groups for value in group])
        summary |= {"median": float(np.median(medians)), "processes": medians, "ci95": interval(medians)}
        result[key] = metric(key, summary["median"], "measured", **summary)
    # Utilisation is the same count over the pooled time.
    for key, time in (("mfu_prefill", "prefill_time"), ("mbu_decode", "decode_time_per_step")):
        if key in result and time in documents[0]["metrics"] and result[time]["value"]:
            ratio = documents[0]["metrics"][time]["value"] / result[time]["value"]
            result[key] = result[key] | {"value": result[key]["value"] * ratio}
    return result


def _samples(documents: Sequence[Document]) -> Document:
    columns = ["process", *documents[0]["samples"]["columns"]]
    rows = [[index, *row] for index, document in enumerate(documents) for row in document["samples"]["rows"]]
    return {"columns": columns, "rows": rows}


def _module_times(documents: Sequence[Document]) -> Document:
    """One list a process, in the order of the first one's paths; a module that a process did not time has null there."""
    found: Document = {}
    for stage, first in (documents[0].get("module_times") or {}).items():
        lists = []
        for document in documents:
            own = (document.get("module_times") or {}).get(stage) or {"paths": [], "exclusive_s": [[]]}
            times = dict(zip(own["paths"], own["exclusive_s"][0], strict=True))
            lists.append([times.get(path) for path in first["paths"]])
        found[stage] = {"paths": first["paths"], "exclusive_s": lists}
    return found


def _process(index: int, document: Document) -> Document:
    """One entry of ``processes``: what is this process's own."""
    own = series_of(document["samples"], document["workload"]["batch_size"])
    times = own.get("encode_time") or own.get("e2e_latency") or []
    return {
        "process": index,
        "created": document.get("created"),
        "duration_s": document["duration_s"],
        "iterations": len(times),
        "complete": "conditions" in document,
        "load_time_s": document["metrics"].get("load_time", {}).get("value"),
        "conditions": document.get("conditions"),
    }


#: Readings of which a pooled document has the worst of all processes.
_LOW_IS_BAD = ("cpu_mhz", "gpu_clock_mhz")
_WORST = (
    *("wall_over_cpu", "foreign_cores", "steal_pct", "cpu_temperature_c", "thermal_events"),
    *("gpu_temperature_c", "gpu_power_w", "gpu_foreign_processes"),
    *_LOW_IS_BAD,
)


def _conditions(known: Sequence[Mapping[str, Any]]) -> Document:
    """Of all processes the worst: one that was disturbed spoils the whole."""

    def worst(name: str) -> Any:
        pick = min if name in _LOW_IS_BAD else max
        return pick((c[name] for c in known if c.get(name) is not None), default=None)

    limits = [c["gpu_throttle"] for c in known if c.get("gpu_throttle") is not None]
    throttled = [c.get("throttled") for c in known]
    steady = [conditions["steady"] for conditions in known]
    return dict(known[0]) | {
        **{name: worst(name) for name in _WORST if any(name in conditions for conditions in known)},
        **({"gpu_throttle": sorted(set().union(*limits))} if limits else {}),
        "throttled": True if True in throttled else None if None in throttled else False,
        "contended": any(conditions["contended"] for conditions in known),
        "steady": False if False in steady else None if None in steady else True,
        "reasons": [f"Process {i + 1}: {reason}" for i, c in enumerate(known) for reason in c["reasons"]],
    }


def _warnings(documents: Sequence[Document]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for document in documents:
        found += [warning for warning in document["warnings"] if warning not in found]
    return found
