"""Every figure of a comparison, and the same numbers for its JSON: for whoever is signed in, and for visitors of shared links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import QueryDict

from llmcompare.runs import charts, counterparts
from llmcompare.runs.compare import Column
from llmcompare.runs.compare_charts import BAR_METRICS, bar_figure
from llmcompare.runs.compare_graphs import graphs_json
from llmcompare.runs.compare_scatter import scatter, scatter_json
from profiling.quantities import number, percent, show

#: Points of all runs together that the table below the rooflines has at most.
MOST_POINTS = 400


def figures(params: QueryDict, columns: Sequence[Column], table: Mapping[str, Any]) -> dict[str, Any]:
    """Context of the charts: bars of one metric, two figures against each other, all rooflines, and what a click on one selects."""
    rows, chosen = _bar_rows(params, table)
    return {
        "bar_choices": [(row["key"], row["title"]) for row in rows],
        "bar_chosen": chosen["key"] if chosen else "",
        "bars": bar_figure(chosen, columns) if chosen else None,
        "bar_row": chosen,
        "scatter": scatter(params, columns, table),
        "roofline": (rooflines := _rooflines(columns)),
        "roofline_table": _roofline_table(columns) if rooflines else None,
        "links": {"points": counterparts.points(columns, counterparts.aligned_by_module(columns))},
    }


def _bar_rows(params: QueryDict, table: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[str, Any] | None]:
    """The metrics that one bar a run says something about, and the one that the address asks for."""
    rows = [
        row for row in table["metrics"] if row["key"] in BAR_METRICS and any(c["raw"] is not None for c in row["cells"])
    ]
    asked = params.get("metric")
    return rows, next((row for row in rows if row["key"] == asked), rows[0] if rows else None)


def _rooflines(columns: Sequence[Column]) -> dict[str, Any] | None:
    """All of them on one plot. A click on a point selects ``<column>|<label>``, what :func:`counterparts.points` knows it by."""
    drawn = [(at, column) for at, column in enumerate(columns) if column.document]
    if not any(charts.roofs_of(column.document) for _, column in drawn):
        return None
    figure = charts.roofline_figure([column.document for _, column in drawn], [column.label for _, column in drawn])
    for trace in figure["data"]:
        for point in trace.get("customdata") or []:
            label = str(point[0]).partition("|")[2]
            point[2] = f"{drawn[point[1]][0]}|{label}"
    return figure


def _roofline_table(columns: Sequence[Column]) -> dict[str, Any]:
    """The points of the plot in words, those with the largest share of each run first; ``cut``: how many are left to the JSON."""
    per_run = max(1, MOST_POINTS // max(1, len(columns)))
    rows, cut = [], 0
    for column in columns:
        points = sorted(charts.points_of(column.document), key=lambda point: -(number(point.get("share")) or 0))
        cut += max(0, len(points) - per_run)
        for point in points[:per_run]:
            rows.append(
                {
                    "run": column.label,
                    "label": charts.point_label(point),
                    "stage": str(point.get("stage") or ""),
                    "origin": str(point.get("origin") or ""),
                    "intensity": show(point.get("intensity"), "FLOP/B"),
                    "reached": show(point.get("flops_per_s"), "FLOP/s"),
                    "share": percent(point.get("share")),
                    "above": bool(point.get("above_roof")),
                    "bound": "" if point.get("above_roof") else str(point.get("bound") or ""),
                }
            )
    return {"rows": rows, "cut": cut}


def figures_json(
    params: QueryDict, columns: Sequence[Column], table: Mapping[str, Any], graphs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The numbers of the charts of the page at the same address. ``graphs``: what :func:`compare_graphs.graphs` found."""
    bars, drawn = _bar_rows(params, table)[1], graphs_json(graphs)
    return {
        "bars": bars
        and {
            "metric": bars["key"],
            "values": [cell["raw"] for cell in bars["cells"]],
            "origins": [cell["origin"] for cell in bars["cells"]],
        },
        "scatter": scatter_json(scatter(params, columns, table)),
        "rooflines": [
            {
                "run": column.run.public_id,
                "roofs": [roof for roof in charts.roofs_of(column.document) if roof.get("used", True)],
                "points": charts.points_of(column.document),
            }
            for column in columns
        ],
        **({"graphs": drawn} if drawn is not None else {}),
    }
