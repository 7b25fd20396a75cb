"""The roofline: FLOP/s over FLOP per byte, the roofs above, one point per operator group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext, gettext_noop

from llmcompare.common.saying import said
from llmcompare.runs.charts.base import Document, figure, log_axis, plain
from llmcompare.runs.tiles import BOUND_WORDS
from profiling.quantities import number, percent, show

_STAGE_SYMBOLS = {"prefill": "circle", "decode": "diamond", "encode": "square"}
#: What stands for the bound of a point above its roof.
SUSPICIOUS = gettext_noop("suspicious")
_RUN_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "hexagon", "x")


def roofs_of(document: Document) -> list[dict[str, Any]]:
    """Roofs with both figures known; a roof with an unknown peak or bandwidth cannot be drawn."""
    roofs = (document.get("roofline") or {}).get("roofs") or []
    return [r for r in roofs if (number(r.get("peak_flops")) or 0) > 0 and (number(r.get("bandwidth")) or 0) > 0]


def roof_name(roof: Mapping[str, Any]) -> str:
    """The name of the roof with its data type and level, where the name does not say them."""
    name = str(roof.get("name") or "")
    more = [str(said(str(roof[key]))) for key in ("dtype", "level") if roof.get(key) and str(roof[key]) not in name]
    return ", ".join([name, *more] if name else more)


def points_of(document: Document) -> list[dict[str, Any]]:
    points = (document.get("roofline") or {}).get("points") or []
    return [p for p in points if (number(p.get("intensity")) or 0) > 0 and (number(p.get("flops_per_s")) or 0) > 0]


def _roof_trace(roof: Mapping[str, Any], low: float, high: float, *, prefix: str, main: bool, tone: str) -> Any:
    """The roof as a line: bandwidth × intensity up to the ridge, the peak from there on."""
    import plotly.graph_objects as go

    peak, bandwidth = float(roof["peak_flops"]), float(roof["bandwidth"])
    ridge = peak / bandwidth
    xs = sorted({low, min(max(ridge, low), high), high})
    measured = roof.get("level") == "measured"
    name = plain(f"{prefix}{roof_name(roof)}")
    return go.Scatter(
        x=xs,
        y=[min(peak, bandwidth * x) for x in xs],
        mode="lines",
        name=name,
        line={"width": 2.5 if main else 1.2, "dash": "dash" if measured else "solid"},
        opacity=1 if main else 0.6,
        legendgroup="roofs",
        legendgrouptitle={"text": gettext("Roofs")},
        hovertemplate=(
            f"{name}<br>{gettext('peak %(rate)s') % {'rate': show(peak, 'FLOP/s')}}"
            f"<br>{gettext('bandwidth %(rate)s') % {'rate': show(bandwidth, 'B/s')}}"
            f"<br>{gettext('ridge %(intensity)s') % {'intensity': show(ridge, 'FLOP/B')}}<extra></extra>"
        ),
        meta={"tone": tone},
    )


def _point_trace(
    points: Sequence[Mapping[str, Any]], *, name: str, symbol: str, tone: str, group: str, label: int, middle: float
) -> Any:
    import plotly.graph_objects as go

    above = [bool(p.get("above_roof")) for p in points]
    return go.Scatter(
        x=[p["intensity"] for p in points],
        y=[p["flops_per_s"] for p in points],
        mode="markers+text" if label == 0 and group != "Runs" else "markers",
        text=_point_names(points) if group != "Runs" else None,
        # Names lean to the inside, where there is room, and away from the roof, which rises to the left half and is flat in the right one.
        textposition=["top left" if math.log10(p["intensity"]) > middle else "bottom right" for p in points],
        cliponaxis=False,
        name=plain(name),
        legendgroup=plain(group),
        legendgrouptitle={"text": plain(said(group))},
        marker={
            "symbol": [f"{symbol}-open" if flagged else symbol for flagged in above],
            "size": [8 + 26 * math.sqrt(max(number(p.get("share")) or 0, 0)) for p in points],
            "line": {"width": [3 if flagged else 1 for flagged in above]},
            "opacity": 0.85,
        },
        customdata=[[f"{p.get('stage')}|{p.get('label')}", label, p.get("at")] for p in points],
        hovertext=[_point_card(p) for p in points],
        hovertemplate="%{hovertext}<extra></extra>",
        meta={"tone": tone, "select": True},
    )


def point_label(point: Mapping[str, Any]) -> str:
    """What the point is called: as the model calls it, with the engine's words for own work."""
    label = str(point.get("label"))
    return str(said(label)) if label.endswith("(own work)") else label


def _point_names(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names beside the points that take at least a tenth of their stage; of several at the same place the largest is named."""
    names, taken = [""] * len(points), set()
    for index in sorted(range(len(points)), key=lambda i: -(number(points[i].get("share")) or 0)):
        point = points[index]
        place = _place(point)
        if (number(point.get("share")) or 0) >= 0.1 and place not in taken:
            names[index] = plain(point_label(point), 34)
            same = sum(1 for other in points if _place(other) == place)
            if same > 1:
                names[index] = gettext("%(name)s and %(count)s more") % {"name": names[index], "count": same - 1}
            taken.add(place)
    return names


def _place(point: Mapping[str, Any]) -> tuple[float, float]:
    return round(math.log10(point["intensity"]), 1), round(math.log10(point["flops_per_s"]), 1)


def _point_card(point: Mapping[str, Any]) -> str:
    lines = [
        f"{plain(point_label(point))} · {plain(said(point.get('stage')))}",
        f"{show(point.get('flops'), 'FLOP')}, {show(point.get('bytes'), 'B')}, {show(point.get('time_s'), 's')}",
        gettext("intensity %(intensity)s") % {"intensity": show(point.get("intensity"), "FLOP/B")},
        gettext("reaches %(rate)s") % {"rate": show(point.get("flops_per_s"), "FLOP/s")},
        # A verdict from a point above its roof would be one from a wrong specification or from cached data.
        gettext("%(share)s of the stage")
        % {"share": percent(point.get("share"))}
        + f" · {said(SUSPICIOUS) if point.get('above_roof') else plain(said(point.get('bound')))}"
        f" · {plain(said(point.get('origin')))}",
    ]
    if point.get("above_roof"):
        lines.append(gettext("above its roof: check the specification"))
    return "<br>".join(lines)


def roofline_figure(
    documents: Sequence[Document],
    labels: Sequence[str] = (),
    *,
    stages: Sequence[str] | None = None,
    levels: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    points: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Log-log roofline of one or several run documents: FLOP/s over FLOP per byte.

    One point per operator group: size by share of the stage's time. With one document colour is the bound and symbol the stage;
    with several, colour and symbol are the document. ``stages``, ``levels`` and ``dtypes`` keep only those (``None``: all).
    ``points``: those of one document in place of its operator groups (``charts.points.points_per``).
    Roofs of the workload's dtype are drawn strong. Points above their roof are drawn open, never left out.
    """
    several = len(documents) > 1
    labels = list(labels) or [str((d.get("model") or {}).get("name", "run")) for d in documents]
    chosen: list[tuple[Document, list[dict], list[dict]]] = []
    for document in documents:
        roofs = [
            r
            for r in roofs_of(document)
            if (levels is None or r.get("level") in levels)
            and (dtypes is None or r.get("dtype") in dtypes)
            # Every roof of every run would hide the points: of several runs only those that their times stand on.
            and (not several or r.get("used", True))
        ]
        mine = points_of(document) if points is None else points
        shown = [dict(p) for p in mine if stages is None or p.get("stage") in stages]
        chosen.append((document, roofs, shown))

    low, high, bottom, top = _roofline_window(chosen)
    middle = math.log10(low) + 0.55 * (math.log10(high) - math.log10(low))
    traces: list[Any] = []
    seen: set[tuple] = set()
    for index, (document, roofs, _points) in enumerate(chosen):
        dtype = (document.get("workload") or {}).get("dtype")
        for roof in roofs:
            device = str((document.get("hardware") or {}).get("name", ""))
            key = (device, roof.get("level"), roof.get("dtype"), roof["peak_flops"], roof["bandwidth"])
            if key in seen:
                continue
            seen.add(key)
            prefix = f"{device}: " if several and device not in roof_name(roof) else ""
            tone = f"series-{index}" if several else ("roof" if roof.get("dtype") == dtype else "roof-other")
            traces.append(_roof_trace(roof, low, high, prefix=prefix, main=roof.get("dtype") == dtype, tone=tone))
    for index, (_document, _roofs, points) in enumerate(chosen):
        if several:
            traces += _traces_of_several(points, labels[index], index, middle)
            continue
        traces += _traces_of_one(points, middle)
    return figure(
        traces,
        xaxis=log_axis(gettext("Arithmetic intensity (FLOP per byte)"), low, high, ""),
        yaxis=log_axis(gettext("Performance"), bottom, top, "FLOP/s"),
        hovermode="closest",
        height=520 + (22 * len(traces) if several else 0),
        margin={"l": 64, "r": 12, "t": 16, "b": 64},
        # Names of several runs are long: beside the chart they would take half of its width.
        legend={"groupclick": "toggleitem"}
        | ({"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0} if several else {"orientation": "v"}),
        annotations=_ridge_notes(chosen),
    )


def _traces_of_several(points: Sequence[Mapping[str, Any]], label: str, index: int, middle: float) -> list[Any]:
    """The points of one run among others: measured ones filled, estimated ones pale (a measured run has both)."""
    symbol = _RUN_SYMBOLS[index % len(_RUN_SYMBOLS)]
    traces = []
    for origin in ("estimated", "measured"):
        mine = [p for p in points if (p.get("origin") == "measured") == (origin == "measured")]
        if mine:
            trace = _point_trace(
                mine,
                name=f"{index + 1}. {label}, {said(origin)}",
                symbol=symbol,
                tone=f"series-{index}",
                group="Runs",
                label=index,
                middle=middle,
            )
            if origin == "estimated":
                trace.update(opacity=0.45)
            traces.append(trace)
    return traces


def _traces_of_one(points: Sequence[Mapping[str, Any]], middle: float) -> list[Any]:
    """A trace per stage, origin and bound. Where some points were measured, estimated ones step back: pale and without names."""
    measured = any(p.get("origin") == "measured" for p in points)
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for point in points:
        bound = SUSPICIOUS if point.get("above_roof") else str(point.get("bound"))
        groups.setdefault((str(point.get("stage")), str(point.get("origin")), bound), []).append(point)
    traces = []
    for (stage, origin, bound), mine in groups.items():
        pale = measured and origin != "measured"
        title = said(stage).capitalize() + (f", {said(origin)}" if measured else "")
        trace = _point_trace(
            mine,
            name=gettext("above the roof") if bound == SUSPICIOUS else str(BOUND_WORDS.get(bound, bound)),
            symbol=_STAGE_SYMBOLS.get(stage, "x"),
            tone=bound if bound in BOUND_WORDS else "other",
            group=title,
            label=0,
            middle=middle,
        )
        if pale:
            trace.update(opacity=0.3, mode="markers")
        traces.append(trace)
    return sorted(traces, key=lambda t: t.opacity is None)  # measured ones on top


def _ridge_notes(chosen: Sequence[tuple[Document, list[dict], list[dict]]]) -> list[dict[str, Any]]:
    """The ridge point in words, where one main roof is drawn; with several the card of each roof has it."""
    ridges = {
        (roof["peak_flops"], roof["bandwidth"])
        for document, roofs, _ in chosen
        for roof in roofs
        if roof.get("dtype") == (document.get("workload") or {}).get("dtype")
    }
    if len(ridges) != 1:
        return []
    ((peak, bandwidth),) = ridges
    return [
        {"x": math.log10(peak / bandwidth), "y": math.log10(peak), "text": gettext("ridge %(intensity)s") % {"intensity": show(peak / bandwidth, "FLOP/B")},
         "showarrow": False, "xanchor": "left", "yanchor": "top", "xshift": 4, "yshift": -4, "name": "quiet"}
    ]  # fmt: skip


def _roofline_window(chosen: Sequence[tuple[Document, list[dict], list[dict]]]) -> tuple[float, float, float, float]:
    """Axis limits that hold every point, every ridge, and some air."""
    points = [p for _, _, ps in chosen for p in ps]
    roofs = [r for _, rs, _ in chosen for r in rs]
    xs = [p["intensity"] for p in points] + [r["peak_flops"] / r["bandwidth"] for r in roofs] or [1.0]
    low, high = min(xs) / 3, max(xs) * 6
    ys = [p["flops_per_s"] for p in points] + [r["peak_flops"] for r in roofs] or [1.0]
    return low, high, min(ys) / 4, max(ys) * 3
