"""Run documents as plotly figures: plain dictionaries that ``static/charts.js`` draws.

Colours are not in the figures: a trace names its meaning (``meta.tone`` = "compute", "memory", …) and the browser takes the colour from
the stylesheet, so that light, dark and print need one figure. Every figure is built through ``plotly.graph_objects``, which refuses
anything that plotly would not understand; it is imported inside the functions, because most pages have no chart.
The page loads plotly's basic bundle: traces are ``scatter`` and ``bar``, nothing else. Texts have no markup but ``<br>``: plotly turns
``<b>`` and ``<sup>`` into inline styles, which the content security policy refuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmcompare.runs.tables import records
from profiling.quantities import count, number, percent, show

Document = Mapping[str, Any]

BOUND_TITLES = {
    "compute": "compute-bound",
    "memory": "memory-bound",
    "overhead": "overhead-bound",
    "network": "network-bound",
}
STAGE_TITLES = {"prefill": "prefill", "decode": "decode", "encode": "encode"}
_STAGE_SYMBOLS = {"prefill": "circle", "decode": "diamond", "encode": "square"}
_RUN_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "hexagon", "x")

#: More samples than this are thinned before they are sent to the browser; the figure says so.
MAX_SAMPLE_POINTS = 4000


def plain(text: Any, limit: int = 80) -> str:
    """A name without what plotly would read as markup ("<", "&") or as a template ("%{")."""
    cleaned = str(text).replace("<", "‹").replace(">", "›").replace("&", "+").replace("%{", "% {")
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def _figure(traces: list[Any], **layout: Any) -> dict[str, Any]:
    import plotly.graph_objects as go

    figure = go.Figure(traces, layout=go.Layout(template=None, **layout))
    return figure.to_plotly_json()


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, "automargin": True, **more}


def _log_axis(title: str, low: float, high: float, unit: str) -> dict[str, Any]:
    """Powers of ten, written by us: plotly would write 10¹⁵ with an inline style, which the content security policy refuses."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return _axis(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=[10.0**n for n in decades],
        ticktext=[show(10.0**n, unit) if unit else f"{10.0**n:,g}" for n in decades],
    )


# --- roofline


def roofs_of(document: Document) -> list[dict[str, Any]]:
    """Roofs with both figures known; a roof with an unknown peak or bandwidth cannot be drawn."""
    roofs = (document.get("roofline") or {}).get("roofs") or []
    return [r for r in roofs if (number(r.get("peak_flops")) or 0) > 0 and (number(r.get("bandwidth")) or 0) > 0]


def roof_name(roof: Mapping[str, Any]) -> str:
    """The name of the roof with its data type and level, where the name does not say them."""
    name = str(roof.get("name") or "")
    more = [str(roof[key]) for key in ("dtype", "level") if roof.get(key) and str(roof[key]) not in name]
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
        legendgrouptitle={"text": "Roofs"},
        hovertemplate=(
            f"{name}<br>peak {show(peak, 'FLOP/s')}<br>bandwidth {show(bandwidth, 'B/s')}"
            f"<br>ridge {show(ridge, 'FLOP/B')}<extra></extra>"
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
        legendgrouptitle={"text": plain(group)},
        marker={
            "symbol": [f"{symbol}-open" if flagged else symbol for flagged in above],
            "size": [8 + 26 * math.sqrt(max(number(p.get("share")) or 0, 0)) for p in points],
            "line": {"width": [3 if flagged else 1 for flagged in above]},
            "opacity": 0.85,
        },
        customdata=[[f"{p.get('stage')}|{p.get('label')}", label] for p in points],
        hovertext=[_point_card(p) for p in points],
        hovertemplate="%{hovertext}<extra></extra>",
        meta={"tone": tone, "select": True},
    )


def _point_names(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names beside the points that take at least a tenth of their stage; of several at the same place the largest is named."""
    names, taken = [""] * len(points), set()
    for index in sorted(range(len(points)), key=lambda i: -(number(points[i].get("share")) or 0)):
        point = points[index]
        place = _place(point)
        if (number(point.get("share")) or 0) >= 0.1 and place not in taken:
            names[index] = plain(point.get("label"), 24)
            same = sum(1 for other in points if _place(other) == place)
            names[index] += f" and {same - 1} more" if same > 1 else ""
            taken.add(place)
    return names


def _place(point: Mapping[str, Any]) -> tuple[float, float]:
    return round(math.log10(point["intensity"]), 1), round(math.log10(point["flops_per_s"]), 1)


def _point_card(point: Mapping[str, Any]) -> str:
    lines = [
        f"{plain(point.get('label'))} · {plain(point.get('stage'))}",
        f"{show(point.get('flops'), 'FLOP')}, {show(point.get('bytes'), 'B')}, {show(point.get('time_s'), 's')}",
        f"intensity {show(point.get('intensity'), 'FLOP/B')}",
        f"reaches {show(point.get('flops_per_s'), 'FLOP/s')}",
        f"{percent(point.get('share'))} of the stage · {plain(point.get('bound'))} · {plain(point.get('origin'))}",
    ]
    if point.get("above_roof"):
        lines.append("above its roof: check the specification")
    return "<br>".join(lines)


def roofline_figure(
    documents: Sequence[Document],
    labels: Sequence[str] = (),
    *,
    stages: Sequence[str] | None = None,
    levels: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Log-log roofline of one or several run documents: FLOP/s over FLOP per byte.

    One point per operator group: size by share of the stage's time. With one document colour is the bound and symbol the stage;
    with several, colour and symbol are the document. ``stages``, ``levels`` and ``dtypes`` keep only those (``None``: all).
    Roofs of the workload's dtype are drawn strong. Points above their roof are drawn open, never left out.
    """
    several = len(documents) > 1
    labels = list(labels) or [str((d.get("model") or {}).get("name", "run")) for d in documents]
    chosen: list[tuple[Document, list[dict], list[dict]]] = []
    for document in documents:
        roofs = [
            r
            for r in roofs_of(document)
            if (levels is None or r.get("level") in levels) and (dtypes is None or r.get("dtype") in dtypes)
        ]
        points = [p for p in points_of(document) if stages is None or p.get("stage") in stages]
        chosen.append((document, roofs, points))

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
    return _figure(
        traces,
        xaxis=_log_axis("Arithmetic intensity (FLOP per byte)", low, high, ""),
        yaxis=_log_axis("Performance", bottom, top, "FLOP/s"),
        hovermode="closest",
        height=520,
        margin={"l": 64, "r": 12, "t": 16, "b": 56},
        legend={"orientation": "v", "groupclick": "toggleitem"},
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
                name=f"{index + 1}. {label}, {origin}",
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
        groups.setdefault(tuple(str(point.get(k)) for k in ("stage", "origin", "bound")), []).append(point)  # type: ignore[arg-type]
    traces = []
    for (stage, origin, bound), mine in groups.items():
        pale = measured and origin != "measured"
        title = STAGE_TITLES.get(stage, stage).capitalize() + (f", {origin}" if measured else "")
        trace = _point_trace(
            mine,
            name=BOUND_TITLES.get(bound, bound),
            symbol=_STAGE_SYMBOLS.get(stage, "x"),
            tone=bound if bound in BOUND_TITLES else "other",
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
        {"x": math.log10(peak / bandwidth), "y": math.log10(peak), "text": f"ridge {show(peak / bandwidth, 'FLOP/B')}",
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


# --- memory

_MEMORY_PARTS = (
    ("weights_bytes", "Weights", "part-0"),
    ("kv_cache_bytes", "KV cache", "part-1"),
    ("state_bytes", "State", "part-2"),
    ("activation_peak_bytes", "Activations (peak)", "part-3"),
)


def memory_parts(document: Document) -> list[tuple[str, float | None, str]]:
    """(title, bytes or None, tone) of the estimated breakdown, without parts that are exactly zero."""
    estimate = (document.get("memory") or {}).get("estimate") or {}
    parts = [(title, number(estimate.get(key)), tone) for key, title, tone in _MEMORY_PARTS if key in estimate]
    return [part for part in parts if part[1] != 0]


def memory_figure(document: Document) -> dict[str, Any] | None:
    """Stacked bar of the estimated memory by kind, the measured peaks below it, and the capacity as a line; bytes."""
    import plotly.graph_objects as go

    parts = [(title, size, tone) for title, size, tone in memory_parts(document) if size is not None]
    if not parts:
        return None
    traces = [
        go.Bar(
            y=["Estimate"],
            x=[size],
            orientation="h",
            name=title,
            hovertemplate=f"{title}: {show(size, 'B')}<extra></extra>",
            meta={"tone": tone},
        )
        for title, size, tone in parts
    ]
    peak = (document.get("metrics") or {}).get("peak_memory") or {}
    measured = number(peak.get("value")) if peak.get("origin") == "measured" else None
    if measured is not None:
        traces.append(
            go.Bar(
                y=["Measured peak"],
                x=[measured],
                orientation="h",
                name="Measured peak",
                hovertemplate=f"Measured peak: {show(measured, 'B')}<extra></extra>",
                meta={"tone": "measured"},
            )
        )
    estimate = document["memory"]["estimate"]
    capacity = number(estimate.get("capacity_bytes"))
    total = sum(size for _, size, _ in parts)
    layout: dict[str, Any] = {}
    # A capacity far beyond the need would squeeze the bar to nothing: then it is stated in words only.
    if capacity and capacity <= total * 8:
        layout["shapes"] = [
            {"type": "line", "xref": "x", "yref": "paper", "x0": capacity, "x1": capacity, "y0": 0, "y1": 1,
             "line": {"width": 2, "dash": "dash"}}
        ]  # fmt: skip
        layout["annotations"] = [
            {"x": capacity, "y": 1, "yref": "paper", "text": f"capacity {show(capacity, 'B')}", "showarrow": False,
             "xanchor": "right" if capacity > total * 0.6 else "left", "yanchor": "bottom"}
        ]  # fmt: skip
    return _figure(
        traces,
        barmode="stack",
        height=230 if measured is not None else 190,
        margin={"l": 10, "r": 20, "t": 28, "b": 40},
        xaxis=_axis("", exponentformat="SI", ticksuffix="B", rangemode="tozero", nticks=7),
        yaxis={"automargin": True, "autorange": "reversed", "ticksuffix": "  "},
        legend={"orientation": "h", "y": -0.55},
        hovermode="closest",
        **layout,
    )


def memory_timeline_figure(document: Document) -> dict[str, Any] | None:
    """Measured memory over time, one line per kind (RSS, allocated, reserved); ``None`` when nothing was sampled."""
    import plotly.graph_objects as go

    series: dict[str, list[tuple[float, float, str]]] = {}
    for row in records((document.get("memory") or {}).get("timeline")):
        at, size = number(row.get("t_ns")), number(row.get("bytes"))
        if at is not None and size is not None:
            series.setdefault(str(row.get("kind")), []).append((at, size, str(row.get("phase"))))
    if not series:
        return None
    start = min(points[0][0] for points in series.values())
    traces = [
        go.Scatter(
            x=[(at - start) / 1e9 for at, _, _ in points],
            y=[size for _, size, _ in points],
            mode="lines",
            name=plain(kind),
            hovertext=[f"{plain(phase)}: {show(size, 'B')}" for _, size, phase in points],
            hovertemplate="%{hovertext} at %{x:.2f} s<extra></extra>",
            line={"shape": "hv", "width": 2},
            meta={"tone": f"part-{i % 6}"},
        )
        for i, (kind, points) in enumerate(series.items())
    ]
    return _figure(
        traces,
        height=280,
        margin={"l": 10, "r": 20, "t": 16, "b": 40},
        xaxis=_axis("Seconds since the start"),
        yaxis=_axis("Memory", exponentformat="SI", ticksuffix="B  ", rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
    )


# --- samples


def samples_figure(document: Document, phase: str) -> dict[str, Any] | None:
    """Raw wall times of one phase in milliseconds: ``prefill`` by iteration, ``decode`` by step. Warm-up is drawn open."""
    import plotly.graph_objects as go

    groups: dict[str, list[tuple[float, float, str]]] = {"timed": [], "warm-up": []}
    step_of: dict[Any, int] = {}
    total = 0
    for row in records(document.get("samples")):
        wall = number(row.get("wall_ns"))
        if row.get("phase") != phase or wall is None:
            continue
        iteration = row.get("iteration")
        step = step_of[iteration] = step_of.get(iteration, 0) + 1
        warm = bool(row.get("warmup"))
        x = step if phase == "decode" else total + 1
        total += 1
        text = f"iteration {iteration}{f', step {step}' if phase == 'decode' else ''}: {show(wall / 1e9, 's')}"
        groups["warm-up" if warm else "timed"].append((x, wall / 1e6, text))
    if not total:
        return None
    every = max(1, math.ceil(total / MAX_SAMPLE_POINTS))
    traces = []
    for name, points in groups.items():
        kept = points[::every]
        if not kept:
            continue
        traces.append(
            go.Scatter(
                x=[x for x, _, _ in kept],
                y=[y for _, y, _ in kept],
                mode="markers",
                name=name,
                hovertext=[text for _, _, text in kept],
                hovertemplate="%{hovertext}<extra></extra>",
                marker={
                    "symbol": "circle-open" if name == "warm-up" else "circle",
                    "size": 7,
                    "opacity": 0.9 if total < 200 else 0.6,
                },
                meta={"tone": "muted" if name == "warm-up" else "series-0"},
            )
        )
    note = f" (every {every}th of {count(total)} shown)" if every > 1 else ""
    return _figure(
        traces,
        height=300,
        margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis=_axis(
            ("Step" if phase == "decode" else "Call") + note, rangemode="tozero" if phase == "decode" else "normal"
        ),
        yaxis=_axis("Milliseconds", rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
        hovermode="closest",
    )
