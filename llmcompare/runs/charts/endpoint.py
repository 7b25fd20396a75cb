"""Levels of a sweep: what all users get together against what each of them gets."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from llmcompare.runs.charts.base import Document, axis, figure
from llmcompare.runs.tables import records
from profiling.quantities import number, show


def sweep_figure(document: Document) -> dict[str, Any] | None:
    """Throughput against interactivity over the levels, the best one and the one at which it ended marked; None with fewer than two points."""
    import plotly.graph_objects as go

    sweep = document.get("sweep") or {}
    rows = [
        row
        for row in records(sweep.get("levels"))
        if number(row.get("interactivity")) is not None and number(row.get("output_throughput")) is not None
    ]
    if len(rows) < 2:
        return None
    best, end = sweep.get("best"), sweep.get("saturated_at")

    def word(row: dict[str, Any]) -> str:
        mark = _("best") if row["users"] == best else _("saturated") if row["users"] == end else ""
        users = ngettext("{users} user", "{users} users", row["users"]).format(users=row["users"])
        return f"{users}, {mark}" if mark else users

    cards = [
        f"{word(row)}<br>{show(row['interactivity'], 'token/s')} {_('per user')}<br>{show(row['output_throughput'], 'token/s')} {_('in all')}"
        for row in rows
    ]
    trace = go.Scatter(
        x=[row["interactivity"] for row in rows],
        y=[row["output_throughput"] for row in rows],
        mode="lines+markers+text",
        text=[word(row) if row["users"] in (best, end, rows[0]["users"]) else str(row["users"]) for row in rows],
        textposition=["middle right" if at % 2 else "middle left" for at in range(len(rows))],
        hovertext=cards,
        hovertemplate="%{hovertext}<extra></extra>",
        marker={
            "size": [14 if row["users"] == best else 9 for row in rows],
            "symbol": ["star" if row["users"] == best else "x" if row["users"] == end else "circle" for row in rows],
        },
        showlegend=False,
        meta={"tone": "series-0"},
    )
    return figure(
        [trace],
        height=340,
        margin={"l": 10, "r": 10, "t": 24, "b": 40},
        xaxis=axis(
            _("Interactivity: tokens per second that one user sees"),
            range=_around([row["interactivity"] for row in rows]),
        ),
        yaxis=axis(_("Output tokens per second of all users"), rangemode="tozero"),
        hovermode="closest",
    )


def _around(values: list[float]) -> list[float]:
    """A range with room for the words beside the points; it need not begin at zero, since nothing is read off its length."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.35, high * 0.05)
    return [max(0.0, low - room), high + room]
