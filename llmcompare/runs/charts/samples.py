"""Raw samples of a measured run."""

from __future__ import annotations

import math
from typing import Any

from llmcompare.runs.charts.base import Document, axis, figure
from llmcompare.runs.tables import records
from profiling.quantities import count, number, show

#: More samples than this are thinned before they are sent to the browser; the figure says so.
MAX_SAMPLE_POINTS = 4000


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
        iteration, process = row.get("iteration"), number(row.get("process"))
        step = step_of[process, iteration] = step_of.get((process, iteration), 0) + 1
        warm = bool(row.get("warmup"))
        x = step if phase == "decode" else total + 1
        total += 1
        where = "" if process is None else f"process {int(process) + 1}, "
        text = f"{where}iteration {iteration}{f', step {step}' if phase == 'decode' else ''}: {show(wall / 1e9, 's')}"
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
    return figure(
        traces,
        height=300,
        margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis=axis(
            ("Step" if phase == "decode" else "Call") + note, rangemode="tozero" if phase == "decode" else "normal"
        ),
        yaxis=axis("Milliseconds", rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
        hovermode="closest",
    )
