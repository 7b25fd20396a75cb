"""Estimate and measurement of one workload in one document: the estimate's tables with measured times, and the error between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from profiling.failures import describe
from profiling.hooks import ModuleTime, central_mean
from profiling.units import metric

if TYPE_CHECKING:
    from profiling.session import Session  # it needs torch, and the portal reads this module

#: What is kept of an embedded estimate; its tables stand in the measured document already.
EMBEDDED = ("created", "conventions", "metrics", "stages", "memory", "unknown_operators", "warnings")
#: Metrics whose estimate can be held against the measurement. Rates are left out where their time is in.
COMPARED = ("ttft", "tpot", "e2e_latency", "prefill_time", "decode_time_per_step", "encode_time", "peak_memory")
#: A point counts as above its roof only beyond this margin: ceilings are measured too, and have their own noise.
ROOF_MARGIN = 1.05


def attach_estimates(document: dict[str, Any], session: Session) -> None:
    """Add ``estimates``, ``errors``, tables, stages and roofline to a measured document, one estimate per level of ceilings.

    An estimate that fails costs the measurement nothing: a warning says why it is missing.
    """
    document["estimates"], document["errors"] = [], {}
    estimates = _estimates(session)
    for level, estimate in estimates.items():
        document["estimates"].append({"level": level} | {key: estimate[key] for key in EMBEDDED})
    if not estimates:
        return
    main = estimates.get("measured") or next(iter(estimates.values()))
    times = {stage: central_mean(passes) for stage, passes in session.hooked.items()}
    document["model"]["active_parameters"] = main["model"]["active_parameters"]
    document["conventions"] = main["conventions"] | {"window": main["conventions"].get("window", "as executed")}
    document["stages"] = main["stages"]
    document["operators"] = main["operators"]
    document["modules"] = with_measured_times(main["modules"], times)
    document["graph"] = {stage: _graph(graph, times.get(stage, {})) for stage, graph in main["graph"].items()}
    document["memory"] |= {key: main["memory"][key] for key in ("kv_cache_bytes_per_token", "estimate")}
    document["unknown_operators"] = main["unknown_operators"]
    roofs = main["roofline"]["roofs"]  # every known one, both levels
    points = main["roofline"]["points"] + measured_points(document["modules"], main["roofline"]["roofs"][0])
    document["roofline"] = {"roofs": roofs, "points": points}
    if same_shape(document):
        document["metrics"] |= _utilisation(document, main, estimates)
    document["errors"] = errors(document["metrics"], estimates, compared(document))


def same_shape(document: Mapping[str, Any]) -> bool:
    """Whether every pass had the shape that the estimates are of. Of prompts in batches of different shapes, only the largest has."""
    return (document.get("batches") or {}).get("same_shape", True)


def compared(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Metrics whose estimate is of the same work: all, or the memory of the largest batch where batches differ."""
    return COMPARED if same_shape(document) else ("peak_memory",)


def _estimates(session: Session) -> dict[str, dict[str, Any]]:
    """level → estimate, for the levels that this hardware has ceilings for."""
    from profiling.estimate import estimate

    hardware = session.hardware
    if session.ranks is not None and session.ranks.shared_machine:
        # Its rates and memory are those of the whole machine, of which each rank has a part: counts and memory alone can be estimated.
        memory = None if hardware.memory_bytes is None else hardware.memory_bytes // session.ranks.size
        hardware = replace(hardware, peak_flops={}, memory_bandwidth=None, ceilings=[], memory_bytes=memory)
    levels = ["measured"] if hardware.ceilings else []
    if any(hardware.peak_flops.values()) and hardware.memory_bandwidth:
        levels.append("datasheet")
    found = {}
    # With no ceiling at all the estimate still counts FLOPs, bytes and memory, without times.
    for level in levels or ["datasheet"]:
        try:
            found[level] = estimate(session.model, replace(hardware), session.instrumented, level=level)
        except Exception as error:  # the measurement is whole without it
            session.warn(
                "estimate_failed", f"The estimate of this workload ({level} ceilings) failed. {describe(error)}"
            )
    return found


def with_measured_times(table: dict[str, Any], times: dict[str, dict[str, ModuleTime]]) -> dict[str, Any]:
    """The estimate's ``modules`` table with measured ``calls``, ``inclusive_s`` and ``exclusive_s`` by stage and path."""
    columns = table["columns"]
    at = {name: columns.index(name) for name in ("stage", "path", "calls", "inclusive_s", "exclusive_s")}
    rows = []
    for row in table["rows"]:
        row = list(row)
        time = times.get(row[at["stage"]], {}).get(row[at["path"]])
        if time is not None:
            row[at["inclusive_s"]], row[at["exclusive_s"]] = time.inclusive_s, time.exclusive_s
            row[at["calls"]] = round(time.calls) if float(time.calls).is_integer() else time.calls
        rows.append(row)
    return {"columns": columns, "rows": rows}


def _graph(graph: dict[str, Any], times: dict[str, ModuleTime]) -> dict[str, Any]:
    """The graph with ``measured_s`` on nodes that are modules; ``time_s`` is of one of ``repeat`` identical ones, so is this."""
    nodes = []
    for node in graph["nodes"]:
        time = times.get(node["id"]) if node["kind"] == "module" else None
        nodes.append(node | {"measured_s": time.inclusive_s if time else None})
    return graph | {"nodes": nodes}


def measured_points(modules: dict[str, Any], roof: dict[str, Any]) -> list[dict[str, Any]]:
    """One roofline point per stage and group of identical modules that do FLOPs of their own.

    FLOPs, bytes and time are each the module's own, without its children: an attention module stands for its attention kernel.
    """
    columns = modules["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in modules["rows"]]
    children: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["parent"] is not None:
            inner = children.setdefault((row["stage"], row["parent"]), [0.0, 0.0])
            inner[0] += row["flops"]
            inner[1] += row["bytes"]
    groups: dict[tuple[str, str], dict[str, float]] = {}
    whole: dict[str, float] = {}
    for row in rows:
        if row["exclusive_s"] is None:
            continue
        if row["parent"] is None:
            whole[row["stage"]] = row["inclusive_s"]
        inner_flops, inner_bytes = children.get((row["stage"], row["path"]), (0.0, 0.0))
        flops, moved = row["flops"] - inner_flops, row["bytes"] - inner_bytes
        if flops <= 0 or moved <= 0 or row["exclusive_s"] <= 0:
            continue
        label = _label(row["fold"], row["class"], own=inner_flops > 0)
        group = groups.setdefault((row["stage"], label), {"flops": 0.0, "bytes": 0.0, "time": 0.0})
        group["flops"] += flops
        group["bytes"] += moved
        group["time"] += row["exclusive_s"]
    return [_point(stage, label, group, whole.get(stage), roof) for (stage, label), group in groups.items()]


def _label(fold: str, class_name: str, *, own: bool) -> str:
    parts = [part for part in fold.split(".") if not part.isdigit()]
    name = ".".join(parts[-2:]) or class_name
    return f"{name} (own work)" if own else name


def _point(
    stage: str, label: str, group: dict[str, float], whole: float | None, roof: dict[str, Any]
) -> dict[str, Any]:
    intensity, rate = group["flops"] / group["bytes"], group["flops"] / group["time"]
    peak, bandwidth = roof["peak_flops"], roof["bandwidth"]
    known = bool(peak and bandwidth)
    limit = min(peak, intensity * bandwidth) if known else None
    return {
        "label": label,
        "stage": stage,
        "origin": "measured",
        "intensity": intensity,
        "flops_per_s": rate,
        "flops": group["flops"],
        "bytes": group["bytes"],
        "time_s": group["time"],
        "share": group["time"] / whole if whole else None,
        "bound": ("compute" if intensity >= peak / bandwidth else "memory") if known else None,
        "above_roof": rate > ROOF_MARGIN * limit if limit else None,
    }


def _utilisation(
    document: dict[str, Any], estimate: dict[str, Any], estimates: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Measured MFU and MBU: the counts of the estimate over measured times; against the datasheet where it is known.

    The bytes a step needs are those of the estimate's own MBU: value × step time × bandwidth.
    """
    metrics, result = document["metrics"], {}
    roof = estimates.get("datasheet", estimate)["roofline"]["roofs"][0]
    if not roof["peak_flops"]:
        roof = estimate["roofline"]["roofs"][0]
    prefill = estimate["stages"].get("prefill")
    if prefill and roof["peak_flops"] and "prefill_time" in metrics:
        value = prefill["flops"] / (metrics["prefill_time"]["value"] * roof["peak_flops"])
        result["mfu_prefill"] = metric("mfu_prefill", value, "measured", basis=f"{roof['level']} {roof['dtype']} peak")
    needed, step = _bytes_of_step(estimate), metrics.get("decode_time_per_step")
    if needed and step and roof["bandwidth"]:
        value = needed / (step["value"] * roof["bandwidth"])
        result["mbu_decode"] = metric("mbu_decode", value, "measured", basis=f"{roof['level']} bandwidth")
    return result


def _bytes_of_step(estimate: dict[str, Any]) -> float | None:
    share, step = (estimate["metrics"].get(key, {}).get("value") for key in ("mbu_decode", "decode_time_per_step"))
    bandwidth = estimate["roofline"]["roofs"][0]["bandwidth"]
    return share * step * bandwidth if share and step and bandwidth else None


def errors(
    metrics: dict[str, Any], estimates: dict[str, dict[str, Any]], keys: Sequence[str] = COMPARED
) -> dict[str, list[dict[str, Any]]]:
    """metric key → one ``{level, estimated, measured, error_pct}`` per level; metrics that either side lacks are left out."""
    result: dict[str, list[dict[str, Any]]] = {}
    for key in keys:
        measured = metrics.get(key, {}).get("value")
        for level, estimate in estimates.items():
            estimated = estimate["metrics"].get(key, {}).get("value")
            if measured and estimated is not None:
                error = 100 * (estimated - measured) / measured
                entry = {"level": level, "estimated": estimated, "measured": measured, "error_pct": error}
                result.setdefault(key, []).append(entry)
    return result
