"""One figure of the compared runs against another, as points: what one gives up of one for the other. Its table twin is below it.

Which of the points no other one beats in both is said of estimates on one level of ceilings alone: measurements have noise that a single
figure does not show, and a bound is never ranked against a calibrated figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext, ngettext

from llmcompare.common.saying import said
from llmcompare.runs.charts.base import axis, figure, plain
from llmcompare.runs.compare import Column
from llmcompare.runs.compare_charts import BAR_METRICS, axis_title, is_measured
from profiling.replay.section import METRICS as OF_REPLAY
from profiling.units import DEFINITIONS

#: What is drawn where the address does not say: latency to the right, throughput up.
FIRST_X, FIRST_Y = (
    ("tpot", "e2e_latency", "ttft", "encode_time"),
    ("output_throughput", "encode_throughput", "peak_memory"),
)


def scatter(params: Mapping[str, Any], columns: Sequence[Column], table: Mapping[str, Any]) -> dict[str, Any] | None:
    """``x`` and ``y`` of the address against each other; None where no two figures are known of two runs."""
    # What replay predicts stands on other ground than every other figure: one must not rank the other.
    drawn = BAR_METRICS - set(OF_REPLAY)
    rows = {row["key"]: row for row in table["metrics"] if row["key"] in drawn and _known(row) > 1}
    if len(rows) < 2:
        return None
    x = _asked(str(params.get("x", "")), rows, FIRST_X, "")
    y = _asked(str(params.get("y", "")), rows, FIRST_Y, x)
    points = _points(rows[x], rows[y], columns)
    shown = [point for point in points if point["x"] is not None and point["y"] is not None]
    origins = sorted({point["origin"] for point in shown})
    unbeaten = _unbeaten(shown, rows[x]["better"], rows[y]["better"]) if _rankable(origins, rows[x], rows[y]) else None
    for point in points:
        point["unbeaten"] = None if unbeaten is None else point["run"] in unbeaten
    return {
        "x": x,
        "y": y,
        "x_title": rows[x]["title"],
        "y_title": rows[y]["title"],
        "choices": [(key, row["title"]) for key, row in rows.items()],
        "points": points,
        "ranked": unbeaten is not None,
        "notes": _notes(origins, len(points) - len(shown)),
        "figure": _figure(shown, rows[x], rows[y]),
    }


def scatter_json(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The points as the export has them."""
    if found is None:
        return None
    names = ("run", "x", "y", "origin", "unbeaten")
    return {
        "x": found["x"],
        "y": found["y"],
        "points": [{name: point[name] for name in names} for point in found["points"]],
        "notes": found["notes"],
    }


def _known(row: Mapping[str, Any]) -> int:
    return sum(cell["raw"] is not None for cell in row["cells"])


def _asked(key: str, rows: Mapping[str, Any], first: Sequence[str], other: str) -> str:
    """The asked figure, else the first of those that say most which is not ``other``."""
    if key in rows:
        return key
    return next(name for name in (*first, *rows) if name in rows and name != other)


def _points(x: Mapping[str, Any], y: Mapping[str, Any], columns: Sequence[Column]) -> list[dict[str, Any]]:
    return [
        {
            "number": at + 1,
            "run": column.run.public_id,
            "label": column.label,
            "origin": _origin(x["cells"][at], y["cells"][at], column),
            "measured": is_measured(x["cells"][at]) and is_measured(y["cells"][at]),
            "cautions": list(column.cautions),
            "x": x["cells"][at]["raw"],
            "y": y["cells"][at]["raw"],
            "x_text": x["cells"][at]["text"],
            "y_text": y["cells"][at]["text"],
        }
        for at, column in enumerate(columns)
    ]


def _origin(x: Mapping[str, Any], y: Mapping[str, Any], column: Column) -> str:
    """That of the run, unless one of the two figures has another one: of an endpoint, what stands on tokens counted here is an estimate."""
    return next((cell["origin"] for cell in (x, y) if cell["origin"] not in ("", column.origin)), column.origin)


def _rankable(origins: Sequence[str], x: Mapping[str, Any], y: Mapping[str, Any]) -> bool:
    """Estimates of one origin, and both figures have a better direction."""
    return len(origins) == 1 and origins[0].startswith("estimated,") and bool(x["better"] and y["better"])


def _unbeaten(points: Sequence[Mapping[str, Any]], better_x: str, better_y: str) -> set[str]:
    """Runs than which no other is at least as good in both figures and better in one."""
    signs = {"lower": 1.0, "higher": -1.0}
    places = {p["run"]: (signs[better_x] * p["x"], signs[better_y] * p["y"]) for p in points}
    return {
        run
        for run, (x, y) in places.items()
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in places.values())
    }


def _notes(origins: Sequence[str], unknown: int) -> list[str]:
    notes = []
    if len(origins) > 1:
        notes.append(
            gettext(
                "Points of different origin (%(origins)s) are not ranked: an estimate on datasheet ceilings is an optimistic bound."
            )
            % {"origins": "; ".join(said(origin) for origin in origins)}
        )
    elif origins == ["measured"]:
        notes.append(
            gettext("Measured points are not ranked: one figure a run does not show the noise between processes.")
        )
    elif origins and "datasheet" in origins[0]:
        notes.append(gettext("All points are estimates on datasheet ceilings: optimistic bounds."))
    if unknown:
        notes.append(
            ngettext(
                "%(count)s of the runs lacks one of the figures and is not drawn.",
                "%(count)s of the runs lack one of the figures and are not drawn.",
                unknown,
            )
            % {"count": unknown}
        )
    return notes


def _figure(points: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    import plotly.graph_objects as go

    traces = [
        go.Scatter(
            x=[point["x"]],
            y=[point["y"]],
            mode="markers+text",
            text=[str(point["number"])],
            textposition="top center",
            cliponaxis=False,
            name=f"{point['number']}. {plain(point['label'], 40)}",
            marker={
                "size": 13,
                "symbol": "circle" if point["measured"] else "circle-open",
                "line": {"width": 3},
            },
            hovertemplate=(
                f"{point['number']}. {plain(point['label'])}<br>{plain(x['title'])}: {plain(point['x_text'])}"
                f"<br>{plain(y['title'])}: {plain(point['y_text'])}<br>{plain(said(point['origin']))}<extra></extra>"
            ),
            meta={"tone": f"series-{(point['number'] - 1) % 8}"},
        )
        for point in points
    ]
    return figure(
        traces,
        showlegend=False,
        hovermode="closest",
        height=380,
        margin={"l": 64, "r": 24, "t": 24, "b": 56},
        xaxis=axis(_axis_title(x), rangemode="tozero", exponentformat="SI", nticks=6),
        yaxis=axis(_axis_title(y), rangemode="tozero", exponentformat="SI", nticks=6),
    )


def _axis_title(row: Mapping[str, Any]) -> str:
    """Short, for phones: the heading above the chart names both figures."""
    definition = DEFINITIONS.get(f"{row['key']}/1")
    return axis_title(definition.unit if definition else "", row["better"])
