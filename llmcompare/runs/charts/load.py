"""Latencies of a load over the time at which requests were due."""

from __future__ import annotations

import math
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.runs.charts.base import Document, axis, figure
from llmcompare.runs.tables import records
from profiling.quantities import count, number, show

#: More requests than this are thinned before they are sent to the browser; the figure says so.
MAX_POINTS = 4000
_SERIES = (
    (_("To the last token"), "end_ns", "series-1"),
    (_("To the first token"), "first_token_ns", "series-0"),
    (_("In the queue"), "started_ns", "muted"),
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
            gettext("request %(number)s, %(what)s: %(time)s")
            % {"number": _number(row), "what": title.lower(), "time": show(value / 1e3, "s")}
            for row, value in zip(kept, values, strict=True)
        ]
        traces.append(
            go.Scatter(
                x=[row["scheduled_ns"] / 1e9 for row in kept],
                y=values,
                mode="markers",
                name=str(title),
                hovertext=texts,
                hovertemplate="%{hovertext}<extra></extra>",
                marker={"size": 6, "opacity": 0.8},
                meta={"tone": tone},
            )
        )
    when = gettext("Due at, seconds")
    if every > 1:
        when = gettext("Due at, seconds (every %(every)sth of %(count)s shown)") % {
            "every": every,
            "count": count(len(served)),
        }
    return figure(
        traces,
        height=320,
        margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis=axis(when, rangemode="tozero"),
        yaxis=axis(gettext("Milliseconds"), rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
        hovermode="closest",
    )


def _number(row: dict[str, Any]) -> str:
    """As in the table of requests: from 1, after that of its process where there may be several."""
    return (f"{row['process'] + 1}." if "process" in row else "") + f"{row['request'] + 1}"
