"""The bar chart of a comparison: one metric, one bar per run. Its table twin is the row of that metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs.charts import plain
from llmcompare.runs.compare import Column
from llmcompare.runs.tiles import OF_ENDPOINT, ORDER
from profiling.quantities import unknown
from profiling.replay.section import METRICS as OF_REPLAY
from profiling.units import DEFINITIONS

#: Metrics that one bar per run says something about.
BAR_METRICS = frozenset((*ORDER, *OF_ENDPOINT, *OF_REPLAY))

_AXIS_UNITS = {"s": _("seconds"), "B": _("bytes"), "token/s": _("tokens per second"), "1": _("ratio")}
_BETTER = {"lower": _("lower is better"), "higher": _("higher is better")}


def is_measured(cell: Mapping[str, Any]) -> bool:
    """Whether a figure was measured, be it from outside of an endpoint: all others are estimates, and drawn as such."""
    return str(cell["origin"]).startswith("measured")


def bar_figure(row: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """``row`` is a metric row of ``compare.comparison``. Bars start at zero; estimated ones are hatched, measured ones solid.

    A run without the figure has no bar, but keeps its place with the word.
    """
    import plotly.graph_objects as go

    labels = [f"{at + 1}. {plain(column.label, 26)}" for at, column in enumerate(columns)]
    traces = []
    for at, cell in enumerate(row["cells"]):
        measured = is_measured(cell)
        text = cell["text"] if cell["raw"] is not None else unknown()
        traces.append(
            go.Bar(
                x=[cell["raw"] or 0],
                y=[labels[at]],
                orientation="h",
                name=labels[at],
                text=[text],
                textposition="auto",
                cliponaxis=False,
                marker={"pattern": {"shape": "" if measured else "/", "solidity": 0.15}},
                hovertemplate=f"{labels[at]}<br>{plain(text)}<br>{plain(said(cell['origin']))}<extra></extra>",
                meta={"tone": f"series-{at % 8}"},
            )
        )
    figure = go.Figure(
        traces,
        layout=go.Layout(
            template=None,
            showlegend=False,
            barmode="overlay",
            bargap=0.35,
            height=110 + 42 * len(columns),
            margin={"l": 8, "r": 24, "t": 8, "b": 48},
            xaxis={
                "title": {"text": _axis_title(row)},
                "rangemode": "tozero",
                "automargin": True,
                "exponentformat": "SI",
                "nticks": 6,
            },
            yaxis={"automargin": True, "autorange": "reversed", "type": "category", "ticksuffix": "  "},
        ),
    )
    return figure.to_plotly_json()


def axis_title(unit: str, better: str) -> str:
    """The unit in words and which direction is the better one."""
    return ", ".join(str(part) for part in (_AXIS_UNITS.get(unit, unit), _BETTER.get(better, "")) if part)


def _axis_title(row: Mapping[str, Any]) -> str:
    """Short, for phones: the metric's name is the heading above the chart."""
    definition = DEFINITIONS.get(f"{row['key']}/1")
    return axis_title(definition.unit if definition else "", row["better"])
