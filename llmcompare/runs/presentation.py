"""A run document as the page shows it: ``run_context`` makes everything that ``templates/runs/_result.html`` needs.

Pure functions of the document and the parameters of the address, used by the run page and by shared links alike. With ``shared=True``
whatever may name a person, a machine's paths or environment is left out; with ``include_text=False`` prompts and generated text are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcompare.runs import charts
from llmcompare.runs.facts import conditions_badge, fact_sections, phase_rows
from llmcompare.runs.loadtable import load_table
from llmcompare.runs.models import Run
from llmcompare.runs.network import network
from llmcompare.runs.operatortable import operator_table
from llmcompare.runs.processtable import process_table
from llmcompare.runs.resourcetable import resource_use
from llmcompare.runs.serving import devices, precision, speculation
from llmcompare.runs.tables import records
from llmcompare.runs.tiles import ceilings_level, ceilings_note, memory_fit, metric_tiles, stage_tiles
from llmcompare.runs.turns import turns_table
from llmcompare.runs.viewoptions import ROOFS, Options, read_options, stages_of
from profiling.quantities import UNKNOWN, count, number, percent, show

Document = Mapping[str, Any]

#: An operator table longer than this is cut, and says so.
MAX_OPERATORS = 200


def document_of(source: Run | Document) -> Document:
    """The run document; empty when the run has none (yet)."""
    if not isinstance(source, Run):
        return source
    stored = getattr(source, "document", None)
    return stored.data if stored is not None and isinstance(stored.data, Mapping) else {}


def run_context(
    source: Run | Document, params: Mapping[str, str], *, shared: bool = False, include_text: bool = True
) -> dict[str, Any]:
    """Context for ``runs/_result.html``. ``params`` is ``request.GET``; parameters that make no sense are ignored.

    ``result`` is ``None`` when there is no document.
    """
    document = document_of(source)
    if not document:
        return {"result": None, "shared": shared}
    options = read_options(params, document)
    stages = stages_of(document)
    return {
        "shared": shared,
        "options": options,
        "result": {
            "kind": document.get("kind"),
            "measured": document.get("kind") == "measure",
            "notices": notices(document),
            "warnings": warnings_of(document),
            "unknown_operators": [str(name) for name in document.get("unknown_operators") or []],
            "tiles": metric_tiles(document),
            "stage_tiles": stage_tiles(document, stages),
            "ceilings_note": ceilings_note(document),
            "ceilings_level": ceilings_level(document),
            "conditions": conditions_badge(document),
            "stage_links": [{"stage": s, "href": options.link(stage=s), "current": s == options.stage} for s in stages],
            "roofline": roofline(document, options),
            "operators": operators(document, options),
            "network": network(document, options),
            "profiled": operator_table(document, options.stage, options.find),
            "memory": memory(document),
            "resources": resource_use(document),
            "precision": precision(document),
            "devices": devices(document),
            "speculation": speculation(document),
            "samples": samples(document),
            "processes": process_table(document),
            "turns": turns_table(document),
            "load": load_table(document),
            "output": output(document) if include_text else None,
            "facts": fact_sections(document, shared=shared or not include_text),
        },
    }


def notices(document: Document) -> list[dict[str, str]]:
    """What must be known before any number is believed: random or dequantised weights."""
    model = document.get("model") or {}
    result = []
    if model.get("weights") == "random":
        result.append(
            {
                "title": "Random weights",
                "text": "Speed and memory are those of the real model; the generated text and any quality say nothing.",
            }
        )
    if model.get("weights_note"):
        note = str(model["weights_note"])
        result.append({"title": "Weights", "text": note[:1].upper() + note[1:]})
    return result


def warnings_of(document: Document) -> list[dict[str, str]]:
    return [
        {"code": str(w.get("code", "")), "message": str(w.get("message", ""))}
        for w in document.get("warnings") or []
        if isinstance(w, Mapping)
    ]


def roofline(document: Document, options: Options) -> dict[str, Any] | None:
    """Figure, its switches, and what is wrong with points above their roof; ``None`` without points and roofs."""
    points, roofs = charts.points_of(document), charts.roofs_of(document)
    if not points and not roofs:
        return None
    dtype = (document.get("workload") or {}).get("dtype")
    filters: dict[str, Any] = {}
    if options.roofs == "dtype":
        filters["dtypes"] = [dtype]
    elif options.roofs in ("datasheet", "measured"):
        filters["levels"] = [options.roofs]
    levels = {str(r.get("level")) for r in roofs}
    several_dtypes = len({r.get("dtype") for r in roofs}) > 1
    offered = [
        key
        for key in ROOFS
        if key == "all" or (key == "dtype" and several_dtypes) or (key in levels and len(levels) > 1)
    ]
    stages = list(dict.fromkeys(str(p.get("stage")) for p in points))
    figure = charts.roofline_figure([document], stages=[options.points] if options.points else None, **filters)
    return {
        "figure": figure,
        "roofs": [
            {
                "name": str(r.get("name") or r.get("dtype")),
                "level": r.get("level"),
                "dtype": r.get("dtype"),
                "peak": show(r.get("peak_flops"), "FLOP/s"),
                "bandwidth": show(r.get("bandwidth"), "B/s"),
                "ridge": show(r["peak_flops"] / r["bandwidth"], "FLOP/B"),
            }
            for r in roofs
        ],
        "undrawn_roofs": len((document.get("roofline") or {}).get("roofs") or []) - len(roofs),
        "above": [
            {
                "label": str(p.get("label")),
                "stage": str(p.get("stage")),
                "reached": show(p.get("flops_per_s"), "FLOP/s"),
            }
            for p in points
            if p.get("above_roof")
        ],
        "point_links": [
            {"title": "all stages", "href": options.link(points=""), "current": not options.points},
            *(
                {"title": s, "href": options.link(points=s), "current": options.points == s}
                for s in stages
                if len(stages) > 1
            ),
        ],
        "roof_links": [
            {"title": ROOFS[k], "href": options.link(roofs=k), "current": options.roofs == k}
            for k in offered
            if len(offered) > 1
        ],
    }


def operators(document: Document, options: Options) -> dict[str, Any] | None:
    """The table twin of the roofline: every operator group, largest share of its stage first."""
    rows = list(records(document.get("operators")))
    if not rows:
        return None
    if options.points:
        rows = [r for r in rows if r.get("stage") == options.points]
    above = {(p.get("stage"), p.get("label")) for p in charts.points_of(document) if p.get("above_roof")}
    order = {stage: i for i, stage in enumerate(stages_of(document))}
    rows.sort(key=lambda r: (order.get(str(r.get("stage")), 9), -(number(r.get("share")) or 0)))
    return {
        "cut": max(len(rows) - MAX_OPERATORS, 0),
        "rows": [
            {
                "key": f"{r.get('stage')}|{r.get('group')}",
                "stage": r.get("stage"),
                "group": str(r.get("group")),
                "class": r.get("op_class"),
                "calls": count(r.get("calls")),
                "flops": show(r.get("flops"), "FLOP"),
                "elementwise": show(r.get("elementwise_flops"), "FLOP"),
                "read": show(r.get("bytes_read"), "B"),
                "written": show(r.get("bytes_written"), "B"),
                "time": show(r.get("time_s"), "s"),
                "intensity": show(r.get("intensity"), "FLOP/B") if r.get("intensity") is not None else "–",
                "share": percent(r.get("share")),
                "share_width": f"{100 * (number(r.get('share')) or 0):.2f}",
                "bound": str(r.get("bound") or ""),
                "above": (r.get("stage"), r.get("group")) in above,
            }
            for r in rows[:MAX_OPERATORS]
        ],
    }


def memory(document: Document) -> dict[str, Any] | None:
    section = document.get("memory")
    if not isinstance(section, Mapping):
        return None
    estimate = section.get("estimate") or {}
    total = number(estimate.get("total_bytes"))
    return {
        "figure": charts.memory_figure(document),
        "timeline": charts.memory_timeline_figure(document),
        "parts": [
            {
                "title": title,
                "size": show(size, "B"),
                "share": percent(size / total) if size is not None and total else UNKNOWN,
                "tone": tone,
            }
            for title, size, tone in charts.memory_parts(document)
        ],
        "total": show(total, "B"),
        "fit": memory_fit(document),
        "has_cache": "kv_cache_bytes_per_token" in section and section["kv_cache_bytes_per_token"] is not None,
        "per_token": show(section.get("kv_cache_bytes_per_token"), "B"),
        "suggestions": [str(s) for s in estimate.get("suggestions") or []],
        "phases": phase_rows(document),
        "device_phases": any(
            entry.get(key) is not None
            for entry in section.get("phases") or []
            for key in ("device_allocated_peak_bytes", "device_reserved_peak_bytes")
        ),
    }


def samples(document: Document) -> dict[str, Any] | None:
    """Latency samples of a measured run: figures by phase, and what was recorded."""
    rows = list(records(document.get("samples")))
    if not rows:
        return None
    phases = []
    for name in dict.fromkeys(str(r.get("phase")) for r in rows):
        mine = [r for r in rows if r.get("phase") == name and number(r.get("wall_ns")) is not None]
        timed = sorted(float(r["wall_ns"]) for r in mine if not r.get("warmup"))
        phases.append(
            {
                "phase": name,
                "timed": len(timed),
                "warmup": len(mine) - len(timed),
                "median": show(_median(timed) / 1e9, "s") if timed else "–",
                "min": show(timed[0] / 1e9, "s") if timed else "–",
                "max": show(timed[-1] / 1e9, "s") if timed else "–",
                "first": show(float(mine[0]["wall_ns"]) / 1e9, "s") if mine else UNKNOWN,
                "figure": charts.samples_figure(document, name) if name != "cold" else None,
            }
        )
    return {"phases": phases}


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


_FINISHES = {"length": "stopped at the asked number of tokens", "eos": "the model ended its answer"}


def output(document: Document) -> dict[str, Any] | None:
    section = document.get("output")
    if not isinstance(section, Mapping):
        return None
    texts = section.get("texts") or []
    inputs, outputs = section.get("input_tokens") or [], section.get("output_tokens") or []

    def at(values: Any, index: int) -> Any:
        return values[index] if isinstance(values, list) and index < len(values) else None

    finish = section.get("finish")
    per_text = finish if isinstance(finish, list) else [finish] * len(texts)
    return {
        "prompt": section.get("prompt"),
        "texts": [
            {
                "text": str(text),
                "input_tokens": at(inputs, i),
                "output_tokens": at(outputs, i),
                "finish": _FINISHES.get(str(at(per_text, i)), str(at(per_text, i) or UNKNOWN)),
            }
            for i, text in enumerate(texts)
        ],
    }
