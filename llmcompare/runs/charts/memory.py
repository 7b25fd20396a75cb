"""Memory: the estimated breakdown and the measured ones against the capacity, and what was measured over time."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, said
from llmcompare.runs.charts.base import Document, at_seconds, axis, figure, plain
from llmcompare.runs.tables import records
from profiling.memory_breakdown import STAGES
from profiling.quantities import number, show

_MEMORY_PARTS = (
    ("weights_bytes", _("Weights"), "part-0"),
    ("kv_cache_bytes", _("KV cache"), "part-1"),
    ("state_bytes", _("State"), "part-2"),
    ("activation_peak_bytes", _("Activations (peak)"), "part-3"),
    ("widened_bytes", _("Widened copy"), "part-4"),
)

#: Parts of the measured breakdown: title and colour, that of the same thing in the estimate. "other" has no estimate.
MEASURED_PARTS: dict[str, tuple[Text, str]] = {
    "weights": (_("Weights"), "part-0"),
    "cache": (_("Cache"), "part-1"),
    "activations": (_("Activations"), "part-3"),
    "other": (_("Other"), "part-5"),
}


def memory_parts(document: Document) -> list[tuple[str, float | None, str]]:
    """(title, bytes or None, tone) of the estimated breakdown, without parts that are exactly zero."""
    estimate = (document.get("memory") or {}).get("estimate") or {}
    parts = [(str(title), number(estimate.get(key)), tone) for key, title, tone in _MEMORY_PARTS if key in estimate]
    return [part for part in parts if part[1] != 0]


def measured_part(document: Document, part: str) -> tuple[str, str]:
    """(title, tone) of a part of the measured breakdown. A cache of states alone has the colour of states."""
    title, tone = MEASURED_PARTS.get(part, (plain(part), "part-5"))
    estimate = (document.get("memory") or {}).get("estimate") or {}
    if part == "cache" and number(estimate.get("state_bytes")) and not number(estimate.get("kv_cache_bytes")):
        tone = "part-2"
    return str(title), tone


def measured_stacks(document: Document) -> dict[str, dict[str, float]]:
    """Stage → part → measured bytes, where weights, cache and activations are all known; empty without a breakdown.

    Without one of these a stack would look like less than what was used; "other" may be unknown. Loading and warm-up have no
    pass that was looked into.
    """
    found: dict[str, dict[str, float]] = {}
    for row in records((document.get("memory") or {}).get("breakdown")):
        phase, part, size = str(row.get("phase")), str(row.get("part")), number(row.get("measured_bytes"))
        if phase in STAGES and part in MEASURED_PARTS and size is not None:
            found.setdefault(phase, {})[part] = size
    return {phase: stack for phase, stack in found.items() if {"weights", "cache", "activations"} <= stack.keys()}


def memory_figure(document: Document) -> dict[str, Any] | None:
    """Stacked bars of memory by kind, estimated and measured by stage, the measured peak below, the capacity as a line; bytes."""
    import plotly.graph_objects as go

    parts = [(title, size, tone) for title, size, tone in memory_parts(document) if size is not None]
    if not parts:
        return None
    #: Colour → name in the legend, and (bar, what the card says, bytes) of each piece.
    pieces: dict[str, tuple[str, list[tuple[str, str, float]]]] = {}
    for title, size, tone in parts:
        pieces[tone] = (title, [(gettext("Estimate"), f"{title}: {show(size, 'B')}", size)])
    stacks = measured_stacks(document)
    bars = [gettext("Estimate")]
    for phase, stack in stacks.items():
        bars.append(gettext("Measured (%(phase)s)") % {"phase": said(phase)})
        for part, size in stack.items():
            title, tone = measured_part(document, part)
            if size:
                pieces.setdefault(tone, (title, []))[1].append((bars[-1], f"{title}: {show(size, 'B')}", size))
    traces = [
        go.Bar(
            y=[bar for bar, _text, _size in mine],
            x=[size for _bar, _text, size in mine],
            orientation="h",
            name=name,
            hovertext=[text for _bar, text, _size in mine],
            hovertemplate="%{hovertext}<extra></extra>",
            meta={"tone": tone},
        )
        for tone, (name, mine) in sorted(pieces.items())
    ]
    peak = (document.get("metrics") or {}).get("peak_memory") or {}
    measured = number(peak.get("value")) if peak.get("origin") == "measured" else None
    if measured is not None:
        bars.append(gettext("Measured peak"))
        traces.append(
            go.Bar(
                y=[bars[-1]],
                x=[measured],
                orientation="h",
                name=bars[-1],
                hovertemplate=gettext("Measured peak: %(size)s") % {"size": show(measured, "B")} + "<extra></extra>",
                meta={"tone": "measured"},
            )
        )
    estimate = document["memory"]["estimate"]
    capacity = number(estimate.get("capacity_bytes"))
    longest = max(
        [sum(size for _, size, _ in parts), measured or 0, *(sum(stack.values()) for stack in stacks.values())]
    )
    height = 150 + 40 * len(bars)
    # In this order, whichever pieces each of them has.
    rows = {"categoryorder": "array", "categoryarray": bars}
    layout: dict[str, Any] = {}
    # A capacity far beyond the need would squeeze the bar to nothing: then it is stated in words only.
    if capacity and capacity <= longest * 8:
        layout["shapes"] = [
            {"type": "line", "xref": "x", "yref": "paper", "x0": capacity, "x1": capacity, "y0": 0, "y1": 1,
             "line": {"width": 2, "dash": "dash"}}
        ]  # fmt: skip
        layout["annotations"] = [
            {"x": capacity, "y": 1, "yref": "paper", "text": gettext("capacity %(size)s") % {"size": show(capacity, "B")}, "showarrow": False,
             "xanchor": "right" if capacity > longest * 0.6 else "left", "yanchor": "bottom"}
        ]  # fmt: skip
    return figure(
        traces,
        barmode="stack",
        height=height,
        margin={"l": 10, "r": 20, "t": 28, "b": 40},
        xaxis=axis("", exponentformat="SI", ticksuffix="B", rangemode="tozero", nticks=7),
        yaxis=rows | {"automargin": True, "autorange": "reversed", "ticksuffix": "  "},
        legend={"orientation": "h", "traceorder": "normal", "yanchor": "top", "y": -34 / (height - 100)},
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
            name=plain(said(kind)),
            hovertext=[f"{plain(said(phase))}: {show(size, 'B')}" for _, size, phase in points],
            hovertemplate=at_seconds(2),
            line={"shape": "hv", "width": 2},
            meta={"tone": f"part-{i % 6}"},
        )
        for i, (kind, points) in enumerate(series.items())
    ]
    most = max(size for points in series.values() for _, size, _ in points)
    return figure(
        traces,
        **_capacity_above(document, most),
        height=280,
        margin={"l": 10, "r": 20, "t": 16, "b": 40},
        xaxis=axis(gettext("Seconds since the start")),
        yaxis=axis(gettext("Memory"), exponentformat="SI", ticksuffix="B  ", rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
    )


def _capacity_above(document: Document, most: float) -> dict[str, Any]:
    """Layout of the capacity as a line, where it is not so far above what was measured that it would squeeze the lines to nothing."""
    estimate = (document.get("memory") or {}).get("estimate") or {}
    capacity = number(estimate.get("capacity_bytes"))
    if not capacity or capacity > most * 8:
        return {}
    line = {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": capacity, "y1": capacity}
    words = {
        "xref": "paper",
        "x": 1,
        "y": capacity,
        "text": gettext("capacity %(size)s") % {"size": show(capacity, "B")},
        "showarrow": False,
    }
    return {
        "shapes": [line | {"line": {"width": 2, "dash": "dash"}}],
        "annotations": [words | {"xanchor": "right", "yanchor": "bottom"}],
    }
