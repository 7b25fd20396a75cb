"""Line charts of an answer as plotly figures: plain dictionaries, since plotly's own classes take longer than the whole answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext

from llmcompare.common.saying import Text
from llmcompare.explore.asked import ALONG
from llmcompare.runs.charts.base import axis, log_axis, plain
from llmcompare.runs.words import level_word
from profiling.quantities import number, show

TONES = 8
_SYMBOLS = (
    "circle",
    "diamond",
    "square",
    "triangle-up",
    "cross",
    "star",
    "hexagon",
    "x",
    "triangle-down",
    "pentagon",
    "bowtie",
    "hourglass",
)
_DASHES = {"datasheet": "solid", "measured": "dash"}
HEIGHT = 400


def label_of(document: Mapping[str, Any], index: int) -> str:
    """A series by name, with the level of its ceilings."""
    item = document["series"][index]
    if item["level"] == "datasheet":
        return gettext("%(label)s (optimistic bound)") % {"label": item["label"]}
    return gettext("%(label)s (%(level)s ceilings)") % {"label": item["label"], "level": level_word(item["level"])}


def curve_figure(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The chosen metric along batch or length, a line for each series; open points do not fit."""
    curves = document["curves"]
    if curves is None or not any(number(y) is not None for line in curves["lines"] for y in line["y"]):
        return None
    traces = []
    for line in curves["lines"]:
        cards = [
            f"{ALONG[curves['along']]} {x:,}<br>{curves['title']}: {show(y, curves['unit'])}{_fit(fits)}"
            for x, y, fits in zip(line["x"], line["y"], line["fits"], strict=True)
        ]
        traces.append(_trace(document, line["series"], line["x"], line["y"], line["fits"], cards))
    xs = [x for line in curves["lines"] for x in line["x"]]
    ys = [y for line in curves["lines"] for y in line["y"]]
    return _figure(traces, _axis(ALONG[curves["along"]], xs, ""), _axis(curves["title"], ys, curves["unit"]))


def frontier_figure(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Throughput of a device against interactivity along the batch; large points are on the frontier of their level of ceilings."""
    frontier = document["frontier"]
    lines = [
        (line, [p for p in line["points"] if p["interactivity"] is not None and p["device_throughput"] is not None])
        for line in (frontier or {"lines": []})["lines"]
    ]
    lines = [(line, points) for line, points in lines if points]
    if not lines:
        return None
    traces = []
    for line, points in lines:
        cards = [
            "<br>".join(
                [
                    gettext("batch %(batch)s") % {"batch": f"{p['batch_size']:,}"},
                    gettext("%(rate)s per user") % {"rate": show(p["interactivity"], "token/s")},
                    gettext("%(rate)s per device") % {"rate": show(p["device_throughput"], "token/s")}
                    + _fit(p["fits"])
                    + ("<br>" + gettext("on the frontier") if p["on_frontier"] else ""),
                ]
            )
            for p in points
        ]
        trace = _trace(
            document,
            line["series"],
            [p["interactivity"] for p in points],
            [p["device_throughput"] for p in points],
            [p["fits"] for p in points],
            cards,
        )
        trace["marker"]["size"] = [13 if p["on_frontier"] else 6 for p in points]
        traces.append(trace)
    xs = [p["interactivity"] for _, points in lines for p in points]
    ys = [p["device_throughput"] for _, points in lines for p in points]
    x = _axis(gettext("Interactivity (tokens per second and user)"), xs, "")
    return _figure(traces, x, _axis(gettext("Output throughput per device"), ys, "token/s"))


def _fit(fits: bool | None) -> str:
    if fits:
        return ""
    return "<br>" + (gettext("fit unknown") if fits is None else gettext("does not fit"))


def _trace(
    document: Mapping[str, Any],
    index: int,
    x: Sequence[Any],
    y: Sequence[Any],
    fits: Sequence[bool | None],
    cards: list[str],
) -> dict[str, Any]:
    symbol = _SYMBOLS[index % len(_SYMBOLS)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(label_of(document, index), 100),
        "x": list(x),
        "y": list(y),
        "line": {"width": 2, "dash": _DASHES.get(document["series"][index]["level"], "solid")},
        "marker": {
            "symbol": [f"{symbol}-open" if ok is False else symbol for ok in fits],
            "size": 8,
            "line": {"width": 1},
        },
        "hovertext": cards,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {"tone": f"series-{index % TONES}"},
    }


def _axis(title: Text, values: Sequence[Any], unit: str) -> dict[str, Any]:
    """Logarithmic, with a little air; linear where there is nothing above 0."""
    known = [float(v) for v in values if number(v) is not None and v > 0]
    if not known:
        return axis(title)
    low, high = min(known) / 1.3, max(known) * 1.3
    found = log_axis(title, low, high, unit)
    if high / low < 30:  # one or two powers of ten say too little
        steps = [f * 10.0**n for n in range(-12, 22) for f in (1, 2, 5) if low <= f * 10.0**n <= high]
        found |= {"tickvals": steps, "ticktext": [show(s, unit) if unit else f"{s:,g}" for s in steps]}
    return found


def _figure(traces: list[dict[str, Any]], xaxis: dict[str, Any], yaxis: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": traces,
        "layout": {
            "xaxis": xaxis,
            "yaxis": yaxis,
            "hovermode": "closest",
            "height": HEIGHT + 24 * len(traces),
            "margin": {"l": 72, "r": 12, "t": 12, "b": 48},
            "showlegend": True,
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
        },
    }
