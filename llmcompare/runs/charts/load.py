"""Latencies of a load over the time at which requests were due."""

from __future__ import annotations

import math
from typing import Any

from llmcompare.runs.charts.base import Document, axis, figure
from llmcompare.runs.tables import records
from profiling.quantities import count, number, show

#: More requests than this are thinned before they are sent to the browser; the figure says so.
MAX_POINTS = 4000
_SERIES = (
    ("To the last token", "end_ns", "series-1"),
    ("To the first token", "first_token_ns", "series-0"),
    ("In the queue", "started_ns", "muted"),
)


def load_figure(document: Document) -> dict[str, Any] | None:
    """Milliseconds of each request that was served, by the second at which it was due; None without any."""
    import plotly.graph_objects as go

    served = [row for row in records(document.get("requests")) if number(row.get("end_ns")) is not None]
    if not served:
        return None
    every = max(1, math.ceil(len(served) / MAX_POINTS))
    kept = sorted(served, key=lambda row: row["scheduled_ns"])[::every]
    traces = []
    for title, column, tone in _SERIES:
        values = [(row[column] - row["scheduled_ns"]) / 1e6 for row in kept]
        texts = [
            f"request {row['request'] + 1}, {title.lower()}: {show(value / 1e3, 's')}"
            for row, value in zip(kept, values, strict=True)
        ]
        traces.append(
            go.Scatter(
                x=[row["scheduled_ns"] / 1e9 for row in kept],
                y=values,
                mode="markers",
                name=title,
                hovertext=texts,
                hovertemplate="%{hovertext}<extra></extra>",
                marker={"size": 6, "opacity": 0.8},
                meta={"tone": tone},
            )
        )
    note = f" (every {every}th of {count(len(served))} shown)" if every > 1 else ""
    return figure(
        traces,
        height=320,
        margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis=axis(f"Due at, seconds{note}", rangemode="tozero"),
        yaxis=axis("Milliseconds", rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
        hovermode="closest",
    )
