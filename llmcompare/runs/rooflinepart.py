"""The roofline of a run for its page: the figure, its switches, the table of its points, and which points no roof allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from llmcompare.common.saying import said
from llmcompare.runs import charts, layertable
from llmcompare.runs.charts.points import Folds, points_per
from llmcompare.runs.viewoptions import PER, ROOFS, Options
from profiling.quantities import percent, show

Document = Mapping[str, Any]

#: A table of points longer than this is cut, and says so.
MAX_POINTS = 120


def roofline(document: Document, options: Options, folds: Folds | None = None) -> dict[str, Any] | None:
    """Figure, its switches, and what is wrong with points above their roof; ``None`` without points and roofs."""
    folds = layertable.folds(document) if folds is None else folds
    points, roofs = points_per(document, options.per, folds), charts.roofs_of(document)
    if not points and not roofs:
        return None
    dtype = (document.get("workload") or {}).get("dtype")
    filters: dict[str, Any] = {}
    if options.roofs == "dtype":
        filters["dtypes"] = [dtype]
    elif options.roofs in ("datasheet", "measured"):
        filters["levels"] = [options.roofs]
    if options.formats:
        filters["dtypes"] = list(options.formats)
    levels = {str(r.get("level")) for r in roofs}
    several_dtypes = len({r.get("dtype") for r in roofs}) > 1
    offered = [
        key
        for key in ROOFS
        if key == "all" or (key in levels and len(levels) > 1) or (key == "dtype" and options.roofs == "dtype")
    ]
    stages = list(dict.fromkeys(str(p.get("stage")) for p in points))
    figure = charts.roofline_figure(
        [document], stages=[options.points] if options.points else None, points=points, **filters
    )
    return {
        "figure": figure,
        "per": str(PER[options.per]),
        "table": _point_rows(points, options) if options.per != "operator" else [],
        "per_links": [
            {"title": words, "href": options.link(per=name), "current": options.per == name}
            for name, words in PER.items()
            if name == "operator" or options.per == name or points_per(document, name, folds)
        ],
        "format_links": _format_links(roofs, options) if several_dtypes else [],
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
            {"title": gettext("all stages"), "href": options.link(points=""), "current": not options.points},
            *(
                {"title": said(s), "href": options.link(points=s), "current": options.points == s}
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


def _point_rows(points: list[dict[str, Any]], options: Options) -> dict[str, Any]:
    """The table twin of points that are not groups of operators: those have a table of their own."""
    shown = [p for p in points if not options.points or p["stage"] == options.points]
    shown.sort(key=lambda p: (p["origin"] != "measured", -(p["share"] or 0)))
    return {
        "cut": max(len(shown) - MAX_POINTS, 0),
        "rows": [
            {
                "at": p["at"],
                "label": p["label"],
                "stage": p["stage"],
                "origin": p["origin"],
                "flops": show(p["flops"], "FLOP"),
                "bytes": show(p["bytes"], "B"),
                "time": show(p["time_s"], "s"),
                "intensity": show(p["intensity"], "FLOP/B"),
                "reached": show(p["flops_per_s"], "FLOP/s"),
                "share": percent(p["share"]),
                "bound": "" if p["above_roof"] else str(p["bound"] or ""),
                "above": p["above_roof"],
            }
            for p in shown[:MAX_POINTS]
        ],
    }


def _format_links(roofs: list[dict[str, Any]], options: Options) -> list[dict[str, Any]]:
    """One link per data type that has a roof: it adds the type to those shown, or takes it away."""
    known = list(dict.fromkeys(str(r.get("dtype")) for r in roofs))
    chosen = set(options.formats) or set(known)
    result = [{"title": gettext("all types"), "href": options.link(formats=()), "current": not options.formats}]
    for name in known:
        alone = not options.formats
        wanted = {name} if alone else chosen ^ {name}
        formats = tuple(n for n in known if n in wanted)
        result.append(
            {
                "title": name,
                "href": options.link(formats=() if len(formats) in (0, len(known)) else formats),
                "current": not alone and name in chosen,
            }
        )
    return result
