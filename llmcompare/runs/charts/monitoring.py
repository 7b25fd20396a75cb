"""What a cloud's monitoring says of the time of a run: one small figure for each metric, over the seconds of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.utils.text import slugify
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text
from llmcompare.runs.charts.base import at_seconds, axis, figure, plain
from profiling.quantities import moment, number, show

#: A point says something of the minute that ends at its time.
MINUTE_S = 60.0
#: Unit → title of the axis and the format of its figures.
_AXES: dict[str, tuple[Text, dict[str, Any]]] = {
    "ratio": (_("Share of the time"), {"tickformat": ".0%"}),
    "B": (_("Memory"), {"exponentformat": "SI", "ticksuffix": "B  "}),
    "s": (_("Seconds"), {}),
    "request/s": (_("Responses per second"), {}),
    "replicas": (_("Replicas"), {}),
}
_TONES = 8


def monitoring_figures(series: Iterable[Mapping[str, Any]], started: datetime, seconds: float) -> list[dict[str, Any]]:
    """``key``, ``title`` and ``figure`` of each metric that has points. ``series``: ``{metric, name, parts, unit, points}`` with points
    ``[RFC 3339 time, value]``; series of one metric (kinds of latency, replicas) are lines of one figure. ``started``: when the run began,
    ``seconds``: how long it took; the axis of every figure is that of the whole run."""
    by_metric: dict[str, list[Mapping[str, Any]]] = {}
    for one in series:
        if any(number(value) is not None for _at, value in one["points"]):
            by_metric.setdefault(str(one["metric"]), []).append(one)
    return [
        {
            "key": slugify(metric.replace("_", "-")),
            "title": str(lines[0]["name"]),
            "figure": _figure(lines, started, seconds),
        }
        for metric, lines in by_metric.items()
    ]


def _figure(lines: Sequence[Mapping[str, Any]], started: datetime, seconds: float) -> dict[str, Any]:
    import plotly.graph_objects as go

    unit = str(lines[0]["unit"])
    title, form = _AXES.get(unit, (unit, {}))
    traces = []
    for index, one in enumerate(lines):
        xs, ys, texts = _minutes(one["points"], started, unit)
        name = plain(" · ".join(map(str, one["parts"])) or one["name"])
        traces.append(
            go.Scatter(
                x=xs,
                y=ys,
                mode="lines",
                connectgaps=False,
                name=name,
                hovertext=[f"{name}: {text}" if text else "" for text in texts],
                hovertemplate=at_seconds(0),
                line={"width": 2},
                meta={"tone": f"series-{index % _TONES}"},
            )
        )
    return figure(
        traces,
        height=240,
        margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis=axis(gettext("Seconds since the start"), range=[0, seconds]),
        yaxis=axis(title, rangemode="tozero", **form),
        legend={"orientation": "h", "y": -0.35},
        showlegend=len(traces) > 1,
    )


def _minutes(points: Iterable[Sequence[Any]], started: datetime, unit: str) -> tuple[list[Any], list[Any], list[str]]:
    """Each value over its own minute; where a minute has none, the line is interrupted: nothing is known of it."""
    xs: list[Any] = []
    ys: list[Any] = []
    texts: list[str] = []
    for at, given in points:
        when, value = moment(at), number(given)
        if when is None or value is None:
            continue
        end = (when - started).total_seconds()
        if xs and end - MINUTE_S > xs[-1] + 1:
            xs, ys, texts = [*xs, xs[-1]], [*ys, None], [*texts, ""]
        xs += [end - MINUTE_S, end]
        ys += [value, value]
        texts += [show(value, unit)] * 2
    return xs, ys, texts
