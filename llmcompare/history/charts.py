"""Charts of history, drawn from the exported values: a plotly figure of one metric, and sparklines as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.history.models import Mark
from llmcompare.runs.charts.base import axis, figure, plain
from profiling.quantities import show, signed_percent

_AXIS = {
    "s": (_("Milliseconds"), 1e3),
    "B": (_("Gigabytes (10⁹ bytes)"), 1e-9),
    "token/s": (_("Tokens per second"), 1.0),
    "1": (_("Per cent"), 100.0),
    "request/s": (_("Requests per second"), 1.0),
}


def metric_figure(metric: Mapping[str, Any], exported: Mapping[str, Any], *, by: str = "order") -> dict[str, Any]:
    """``metric``: one of ``exported["metrics"]`` (``exports.series_object``). ``by``: ``order`` draws runs at even distances, ``time`` when
    they ended. Values are scaled by powers of ten only (:data:`_AXIS`); ``customdata`` has run and exact value."""
    import plotly.graph_objects as go

    title, scale = _AXIS.get(metric["unit"], (metric["unit"], 1.0))
    points = [(at, point) for at, point in enumerate(metric["points"])]
    xs = {point["run"]: (point["time"].isoformat() if by == "time" else at + 1) for at, point in points}
    traces = _band_traces(go, points, xs, scale)
    for name, wanted, symbol, tone in (
        (gettext("Accepted"), True, "circle", "series-0"),
        (gettext("Not used (contended or unknown conditions)"), False, "x-thin-open", "muted"),
    ):
        kept = [point for _, point in points if point["accepted"] is wanted and point["value"] is not None]
        if kept:
            traces.append(_points_trace(go, kept, xs, scale, metric["unit"], name, symbol, tone))
    shapes, notes = _lines(metric, exported, xs)
    return figure(
        traces,
        height=380,
        margin={"l": 10, "r": 16, "t": 34, "b": 44},
        xaxis=axis(gettext("When the run ended"), type="date")
        if by == "time"
        else axis(gettext("Run, oldest first"), range=[0.5, len(points) + 0.5], tickformat="d", zeroline=False),
        yaxis=axis(title),
        legend={"orientation": "h", "y": -0.22},
        hovermode="closest",
        shapes=shapes,
        annotations=notes,
    )


def _points_trace(go, kept, xs, scale, unit, name, symbol, tone) -> Any:
    values = [point["value"] * scale for point in kept]
    error = None
    if any(point["ci95"] for point in kept):
        # A run without an interval has none drawn, not one of length zero that would look like certainty.
        upper = [
            (point["ci95"][1] * scale - value) if point["ci95"] else None
            for point, value in zip(kept, values, strict=True)
        ]
        lower = [
            (value - point["ci95"][0] * scale) if point["ci95"] else None
            for point, value in zip(kept, values, strict=True)
        ]
        error = {"type": "data", "symmetric": False, "array": upper, "arrayminus": lower, "thickness": 1, "width": 3}
    return go.Scatter(
        x=[xs[point["run"]] for point in kept],
        y=values,
        mode="markers",
        name=name,
        error_y=error,
        hovertext=[_hover(point, unit) for point in kept],
        hovertemplate="%{hovertext}<extra></extra>",
        customdata=[[point["run"], point["value"]] for point in kept],
        marker={"symbol": symbol, "size": 9, "line": {"width": 2}}
        if "open" in symbol
        else {"symbol": symbol, "size": 8},
        meta={"tone": tone, "select": True},
    )


def _hover(point: Mapping[str, Any], unit: str) -> str:
    lines = [f"{point['time']:%Y-%m-%d %H:%M} UTC", show(point["value"], unit)]
    if point["ci95"]:
        lines.append(
            gettext("95 %%: %(low)s to %(high)s")
            % {"low": show(point["ci95"][0], unit), "high": show(point["ci95"][1], unit)}
        )
    if point["change_pct"] is not None:
        lines.append(
            gettext("%(change)s against the %(runs)s before")
            % {"change": signed_percent(point["change_pct"]), "runs": point["band"]["runs"]}
        )
    if point["why_not"]:
        lines.append(plain(said(point["why_not"])))
    return "<br>".join(lines)


def _band_traces(go, points, xs, scale) -> list[Any]:
    """The band of each run as a filled area; it is interrupted where there is none."""
    if not any(point["band"] for _, point in points):
        return []
    x = [xs[point["run"]] for _, point in points]

    def line(name: str) -> list[float | None]:
        return [point["band"][name] * scale if point["band"] else None for _, point in points]

    common = {"x": x, "mode": "lines", "hoverinfo": "skip", "legendgroup": "band", "meta": {"tone": "other"}}
    return [
        go.Scatter(y=line("low"), line={"width": 0.5}, showlegend=False, **common),
        go.Scatter(
            y=line("high"), line={"width": 0.5}, fill="tonexty", name=gettext("Look-back band"), opacity=0.35, **common
        ),
        go.Scatter(y=line("centre"), line={"width": 1, "dash": "dot"}, showlegend=False, **common),
    ]


#: Part of the width that a word beside a line takes, on a phone.
LABEL_SHARE = 0.22


def _lines(metric, exported, xs) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Upright lines: steps (solid), expected changes (dashed), changes of versions (dotted), each with a word."""
    wanted: list[tuple[str, str, str]] = [
        (step["run"], gettext("step %(change)s") % {"change": signed_percent(step["change_pct"])}, "solid")
        for step in metric["steps"]
    ]
    wanted += [
        (mark["run"], gettext("expected"), "dash") for mark in exported["marks"] if mark["kind"] == Mark.Kind.EXPECTED
    ]
    wanted += [(mark["run"], gettext("note"), "dot") for mark in exported["marks"] if mark["kind"] == Mark.Kind.NOTE]
    for change in exported["version_changes"]:
        wanted.append((change["run"], plain(", ".join(change["changes"]), 24), "dot"))
    place = {point["run"]: at for at, point in enumerate(metric["points"])}
    apart = max(3, len(place) * LABEL_SHARE)
    shapes, notes = [], []
    ends: list[float] = []  # of each row of words, where its last one ends
    for run, word, dash in sorted(wanted, key=lambda line: place[line[0]]):
        level = next((at for at, end in enumerate(ends) if place[run] >= end), len(ends))
        ends[level:] = [place[run] + apart, *ends[level + 1 :]]
        shapes.append(
            {"type": "line", "xref": "x", "yref": "paper", "x0": xs[run], "x1": xs[run], "y0": 0, "y1": 1,
             "opacity": 0.7, "line": {"width": 2 if dash == "solid" else 1, "dash": dash}}
        )  # fmt: skip
        notes.append(
            {"x": xs[run], "y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "left", "yshift": -14 * min(level, 5),
             "showarrow": False, "text": word, "name": "" if dash == "solid" else "quiet"}
        )  # fmt: skip
    return shapes, notes


WIDTH, HEIGHT, INSET = 160, 36, 4


def sparkline(values: Sequence[Mapping[str, Any]], band: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Geometry of a small picture: ``line`` (points of accepted values), ``apart`` (positions of the others), ``last``, ``band`` (top and
    height), all in pixels of a :data:`WIDTH` × :data:`HEIGHT` box. Its height is that of the accepted values and the band; what lies
    beyond is put on the edge, so that one disturbed run does not flatten the rest. None for fewer than two values."""
    if len(values) < 2:
        return None
    accepted = [entry["value"] for entry in values if entry["accepted"]] or [entry["value"] for entry in values]
    sizes = accepted + ([band["low"], band["high"]] if band else [])
    low, high = min(sizes), max(sizes)
    span = (high - low) or abs(high) or 1.0

    def y(value: float) -> float:
        return round(INSET + (high - min(max(value, low), high)) / span * (HEIGHT - 2 * INSET), 1)

    step = (WIDTH - 2 * INSET) / (len(values) - 1)
    places = [(round(INSET + at * step, 1), y(entry["value"]), entry["accepted"]) for at, entry in enumerate(values)]
    line = [(px, py) for px, py, used in places if used]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "line": " ".join(f"{px},{py}" for px, py in line),
        "apart": [(px, py) for px, py, used in places if not used],
        "last": line[-1] if line else None,
        "band": (y(band["high"]), round(max(y(band["low"]) - y(band["high"]), 1), 1)) if band else None,
    }
