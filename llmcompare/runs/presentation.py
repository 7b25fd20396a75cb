"""A run document as the page shows it: ``run_context`` makes everything that ``templates/runs/_result.html`` needs.

Pure functions of the document and the parameters of the address, used by the run page and by shared links alike. With ``shared=True``
whatever may name a person, a machine's paths or environment is left out; with ``include_text=False`` prompts and generated text are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs import charts, layertable
from llmcompare.runs.charts.areas import area_view
from llmcompare.runs.division import division_of
from llmcompare.runs.endpointpage import endpoint_section, served_part
from llmcompare.runs.facts import conditions_badge, fact_sections, phase_rows
from llmcompare.runs.loadtable import load_table
from llmcompare.runs.memorytable import memory_by_part, timeline_rows
from llmcompare.runs.models import Run
from llmcompare.runs.network import network
from llmcompare.runs.operatortable import operator_table
from llmcompare.runs.pairs import pairs
from llmcompare.runs.processtable import process_table
from llmcompare.runs.replaytable import replay_view
from llmcompare.runs.resourcetable import resource_use
from llmcompare.runs.rooflinepart import roofline
from llmcompare.runs.selection import links
from llmcompare.runs.serving import devices, precision, speculation
from llmcompare.runs.tables import records
from llmcompare.runs.tiles import ceilings_level, ceilings_note, memory_fit, metric_tiles, stage_tiles
from llmcompare.runs.turns import turns_table
from llmcompare.runs.viewoptions import Options, read_options, stages_of
from profiling.quantities import count, number, percent, show, unknown

Document = Mapping[str, Any]
logger = logging.getLogger(__name__)

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
    body = served_part(document)
    try:
        options, parts = _parts(document, body, params)
    except Exception:
        if body is document:
            raise
        # It came from another machine: what it says of itself must not take the rest of the page away.
        logger.exception("The profile that came from an endpoint's server cannot be shown")
        body = {}
        options, parts = _parts(document, body, params)
    facts = fact_sections(_facts_of(document, body), shared=shared or not include_text)
    return {
        "shared": shared,
        "options": options,
        "result": parts
        | {
            "output": output(document) if include_text else None,
            "facts": facts,
            "environment": next((section["rows"][:14] for section in facts if section["key"] == "environment"), []),
        },
    }


def _facts_of(document: Document, body: Document) -> Document:
    """Of an endpoint also what its server says of model, machine and conditions."""
    if body is document:
        return document
    shown = ("model", "hardware", "conventions", "environment", "conditions")
    return {**{name: body[name] for name in shown if name in body}, **document}


def _of_server(warnings: list[dict[str, str]]) -> list[dict[str, str]]:
    """Warnings that an endpoint's server gave with its profile, told apart by their code."""
    return [{"code": f"served: {warning['code']}", "message": warning["message"]} for warning in warnings]


def _parts(document: Document, body: Document, params: Mapping[str, str]) -> tuple[Options, dict[str, Any]]:
    """Everything but texts and facts. ``body``: what layers, memory and samples are of (:func:`served_part`)."""
    options = read_options(params, body)
    stages = stages_of(body)
    folds = layertable.folds(body)
    rows = folds.get(options.stage) or {}
    return options, {
        "kind": document.get("kind"),
        "measured": document.get("kind") != "estimate",
        "served": document.get("kind") == "endpoint" and bool(body),
        "notices": notices(body),
        "warnings": warnings_of(document) + ([] if body is document else _of_server(warnings_of(body))),
        "unknown_operators": [str(name) for name in body.get("unknown_operators") or []],
        "tiles": metric_tiles(document),
        "stage_tiles": stage_tiles(body, stages),
        "ceilings_note": ceilings_note(body),
        "ceilings_level": ceilings_level(body),
        "conditions": conditions_badge(body),
        "stage_links": [
            {"title": said(s), "href": options.link(stage=s), "current": s == options.stage} for s in stages
        ],
        "links": links(_group_names(body), rows),
        "findings": findings(body, options),
        "roofline": roofline(body, options, folds),
        "operators": operators(body, options),
        "areas": area_view(body, rows, options),
        "network": network(body, options, folds),
        "pairs": pairs(body, rows, options),
        "profiled": operator_table(body, options.stage, options.find),
        "memory": memory(body),
        "memory_title": division_of(body).memory_title(),
        "device_count": division_of(body).devices,
        "resources": resource_use(body),
        "precision": precision(body),
        "devices": devices(body),
        "speculation": speculation(body),
        "replay": replay_view(document),
        "samples": samples(body),
        "processes": process_table(body),
        "turns": turns_table(body),
        "load": load_table(body),
        "endpoint": endpoint_section(document),
    }


def notices(document: Document) -> list[dict[str, str]]:
    """What must be known before any number is believed: random or dequantised weights."""
    model = document.get("model") or {}
    result = []
    if model.get("weights") == "random":
        result.append(
            {
                "title": gettext("Random weights"),
                "text": gettext(
                    "Speed and memory are those of the real model; the generated text and any quality say nothing."
                ),
            }
        )
    if model.get("weights_note"):
        note = str(said(str(model["weights_note"])))
        result.append({"title": gettext("Weights"), "text": note[:1].upper() + note[1:]})
    return result


def warnings_of(document: Document) -> list[dict[str, str]]:
    return [
        {"code": str(w.get("code", "")), "message": str(w.get("message", ""))}
        for w in document.get("warnings") or []
        if isinstance(w, Mapping)
    ]


def _group_names(document: Document) -> list[str]:
    """Groups of operators, and the groups of modules that were measured: what a point of the roofline may be called."""
    named = [str(r.get("group")) for r in records(document.get("operators"))]
    return list(dict.fromkeys([*named, *(str(p.get("label")) for p in charts.points_of(document))]))


def findings(document: Document, options: Options) -> list[dict[str, Any]]:
    """What would make the run better, as the document says it: ``findings`` with ``title``, ``text``, ``at`` (a module or a group of
    operators) and ``gain`` (words with their number). Empty when there are none: the page then says nothing about it."""
    found = [f for f in document.get("findings") or [] if isinstance(f, Mapping) and f.get("title")]
    return [
        {
            "title": said(str(f["title"])),
            "text": said(str(f.get("text") or "")),
            "gain": said(str(f.get("gain") or "")),
            "at": str(f["at"]) if f.get("at") is not None else None,
            "href": options.link(at=str(f["at"])) if f.get("at") is not None else "",
        }
        for f in found
    ]


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
                "current": options.at is not None and options.at == r.get("group"),
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
                "share": percent(size / total) if size is not None and total else unknown(),
                "tone": tone,
            }
            for title, size, tone in charts.memory_parts(document)
        ],
        "total": show(total, "B"),
        "fit": memory_fit(document),
        "has_cache": "kv_cache_bytes_per_token" in section and section["kv_cache_bytes_per_token"] is not None,
        "per_token": show(section.get("kv_cache_bytes_per_token"), "B"),
        "suggestions": [said(str(s)) for s in estimate.get("suggestions") or []],
        "phases": phase_rows(document),
        "by_part": memory_by_part(document),
        "timeline_rows": timeline_rows(document),
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
                "first": show(float(mine[0]["wall_ns"]) / 1e9, "s") if mine else unknown(),
                "figure": charts.samples_figure(document, name) if name != "cold" else None,
                "distribution": charts.distribution_figure(document, name) if name != "cold" else None,
            }
        )
    return {"phases": phases}


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


_FINISHES = {"length": _("stopped at the asked number of tokens"), "eos": _("the model ended its answer")}


def output(document: Document) -> dict[str, Any] | None:
    section = document.get("output")
    if not isinstance(section, Mapping):
        return None
    texts = section.get("texts") or []
    inputs, outputs = section.get("input_tokens") or [], section.get("output_tokens") or []

    def at(values: Any, index: int) -> Any:
        return values[index] if isinstance(values, list) and index < len(values) else None

    asked = section.get("prompts")
    finish = section.get("finish")
    per_text = finish if isinstance(finish, list) else [finish] * len(texts)
    return {
        "prompt": section.get("prompt"),
        "texts": [
            {
                "text": str(text),
                "prompt": at(asked, i),
                "input_tokens": at(inputs, i),
                "output_tokens": at(outputs, i),
                "finish": _FINISHES.get(str(at(per_text, i)), str(at(per_text, i) or unknown())),
            }
            for i, text in enumerate(texts)
        ],
    }
