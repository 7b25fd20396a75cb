"""Resource use over time: one small figure for each kind of quantity, phases marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, said
from llmcompare.runs.charts.base import Document, at_seconds, axis, figure, plain
from llmcompare.runs.tables import records
from profiling.quantities import number, show

#: (key, title of the axis, its format, columns with their names and tones)
_FIGURES: tuple[tuple[str, Text, dict[str, Any], tuple[tuple[str, Text, str], ...]], ...] = (
    (
        "cores",
        _("Busy cores"),
        {},
        (("process_cores", _("this run"), "part-0"), ("other_cores", _("everything else"), "part-5")),
    ),
    (
        "memory",
        _("Memory"),
        {"exponentformat": "SI", "ticksuffix": "B  "},
        (
            ("process_rss_bytes", _("this run (RSS)"), "part-0"),
            ("available_bytes", _("available on the machine"), "part-5"),
            ("gpu_memory_bytes", _("accelerator, in use"), "part-3"),
        ),
    ),
    ("utilisation", _("Accelerator (%)"), {}, (("gpu_utilisation_pct", _("accelerator busy"), "part-3"),)),
    (
        "power",
        _("Power (W)"),
        {},
        (("gpu_power_w", _("accelerator board"), "part-3"), ("package_power_w", _("processor packages"), "part-0")),
    ),
)
#: A phase is named in the figure when it takes at least this part of the width.
_NAMED = 0.12


def resource_figures(document: Document) -> list[dict[str, Any]]:
    """``key``, ``title`` and ``figure`` for each kind of quantity that was sampled; every row is drawn over its own time."""
    rows = list(records((document.get("resources") or {}).get("timeline")))
    found = []
    for key, title, form, columns in _FIGURES:
        series = [column for column in columns if _values(rows, column[0])]
        if key == "memory":
            series = [column for column in series if column[0] != "available_bytes" or _is_near(rows)]
        if series:
            found.append({"key": key, "title": str(title), "figure": _figure(rows, title, form, series)})
    return found


def _values(rows: list[dict[str, Any]], key: str) -> list[float]:
    return [value for row in rows if (value := number(row.get(key))) is not None]


def _is_near(rows: list[dict[str, Any]]) -> bool:
    """Whether the memory that was left is of the size of what the run used: far more would press its line to the ground."""
    return min(_values(rows, "available_bytes")) <= 8 * max(_values(rows, "process_rss_bytes"), default=0.0)


def _figure(rows: list[dict[str, Any]], title: Text, form: dict[str, Any], series: Sequence[tuple]) -> dict[str, Any]:
    import plotly.graph_objects as go

    traces = []
    for column, name, tone in series:
        unit = "B" if column.endswith("_bytes") else "W" if column.endswith("_w") else ""
        xs, ys, texts = [], [], []
        for row in rows:
            at, seconds, value = (number(row.get(key)) for key in ("t_s", "seconds", column))
            if at is None or seconds is None:
                continue
            text = show(value, unit)
            # A step holds from the beginning of its row to its end; an unknown one leaves a gap.
            xs += [at, at + seconds]
            ys += [value, value]
            texts += [f"{plain(phase_title(row.get('phase')))}: {text}"] * 2
        traces.append(
            go.Scatter(
                x=xs,
                y=ys,
                mode="lines",
                name=str(name),
                hovertext=texts,
                hovertemplate=at_seconds(1),
                line={"width": 2},
                meta={"tone": tone},
            )
        )
    shapes, notes = _phases(rows)
    return figure(
        traces,
        height=240,
        margin={"l": 10, "r": 10, "t": 30, "b": 40},
        xaxis=axis(gettext("Seconds since the start")),
        yaxis=axis(title, rangemode="tozero", **form),
        legend={"orientation": "h", "y": -0.35},
        shapes=shapes,
        annotations=notes,
    )


def _phases(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A line where each phase (of each process) begins, and names of the long ones."""
    begins: list[tuple[Any, Any, float]] = []
    for row in rows:
        key = (row.get("process"), row.get("phase"))
        if not begins or begins[-1][:2] != key:
            begins.append((*key, number(row.get("t_s")) or 0.0))
    last = rows[-1] if rows else {}
    end = (number(last.get("t_s")) or 0.0) + (number(last.get("seconds")) or 0.0)
    shapes = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "opacity": 0.5,
         "line": {"width": 1, "dash": "dot"}}
        for _, _, at in begins[1:]
    ]  # fmt: skip
    notes = []
    for index, (_process, phase, at) in enumerate(begins):
        until = begins[index + 1][2] if index + 1 < len(begins) else end
        if end and (until - at) / end >= _NAMED:
            notes.append(
                {"x": (at + until) / 2, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False,
                 "text": plain(phase_title(phase), 18), "name": "quiet"}
            )  # fmt: skip
    return shapes, notes


def phase_title(phase: Any) -> str:
    """A phase in words: the time before the first stage is named after the request, and goes into imports."""
    return str(said({"measure": gettext_noop("start"), "": gettext_noop("end")}.get(str(phase), str(phase))))
