"""Memory: the estimated breakdown against the capacity, and what was measured over time."""

from __future__ import annotations

from typing import Any

from llmcompare.runs.charts.base import Document, axis, figure, plain
from llmcompare.runs.tables import records
from profiling.quantities import number, show

_MEMORY_PARTS = (
    ("weights_bytes", "Weights", "part-0"),
    ("kv_cache_bytes", "KV cache", "part-1"),
    ("state_bytes", "State", "part-2"),
    ("activation_peak_bytes", "Activations (peak)", "part-3"),
    ("widened_bytes", "Widened copy", "part-4"),
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
    return figure(
        traces,
        barmode="stack",
        height=230 if measured is not None else 190,
        margin={"l": 10, "r": 20, "t": 28, "b": 40},
        xaxis=axis("", exponentformat="SI", ticksuffix="B", rangemode="tozero", nticks=7),
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
    return figure(
        traces,
        height=280,
        margin={"l": 10, "r": 20, "t": 16, "b": 40},
        xaxis=axis("Seconds since the start"),
        yaxis=axis("Memory", exponentformat="SI", ticksuffix="B  ", rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
    )
