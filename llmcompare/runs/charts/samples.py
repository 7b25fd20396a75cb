"""Raw samples of a measured run: one by one, and how they are distributed."""

from __future__ import annotations

import math
from typing import Any

from django.utils.translation import gettext, gettext_noop

from llmcompare.common.saying import said
from llmcompare.runs.charts.base import Document, axis, figure
from llmcompare.runs.tables import records
from profiling.quantities import count, number, show

#: More samples than this are thinned before they are sent to the browser; the figure says so.
MAX_SAMPLE_POINTS = 4000
#: The two kinds of calls.
TIMED, WARM_UP = gettext_noop("timed"), gettext_noop("warm-up")


def samples_figure(document: Document, phase: str) -> dict[str, Any] | None:
    """Raw wall times of one phase in milliseconds: ``prefill`` by iteration, ``decode`` by step. Warm-up is drawn open."""
    import plotly.graph_objects as go

    groups: dict[str, list[tuple[float, float, str]]] = {TIMED: [], WARM_UP: []}
    step_of: dict[Any, int] = {}
    total = 0
    for row in records(document.get("samples")):
        wall = number(row.get("wall_ns"))
        if row.get("phase") != phase or wall is None:
            continue
        iteration, process = row.get("iteration"), number(row.get("process"))
        step = step_of[process, iteration] = step_of.get((process, iteration), 0) + 1
        warm = bool(row.get("warmup"))
        x = step if phase == "decode" else total + 1
        total += 1
        text = _card(process, iteration, step if phase == "decode" else None, show(wall / 1e9, "s"))
        groups[WARM_UP if warm else TIMED].append((x, wall / 1e6, text))
    if not total:
        return None
    every = max(1, math.ceil(total / MAX_SAMPLE_POINTS))
    traces = []
    for name, points in groups.items():
        kept = points[::every]
        if not kept:
            continue
        traces.append(
            go.Scatter(
                x=[x for x, _, _ in kept],
                y=[y for _, y, _ in kept],
                mode="markers",
                name=said(name),
                hovertext=[text for _, _, text in kept],
                hovertemplate="%{hovertext}<extra></extra>",
                marker={
                    "symbol": "circle-open" if name == WARM_UP else "circle",
                    "size": 7,
                    "opacity": 0.9 if total < 200 else 0.6,
                },
                meta={"tone": "muted" if name == WARM_UP else "series-0"},
            )
        )
    title = gettext("Step") if phase == "decode" else gettext("Call")
    if every > 1:
        shown = gettext("%(what)s (every %(every)sth of %(count)s shown)")
        title = shown % {"what": title, "every": every, "count": count(total)}
    return figure(
        traces,
        height=300,
        margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis=axis(title, rangemode="tozero" if phase == "decode" else "normal"),
        yaxis=axis(gettext("Milliseconds"), rangemode="tozero"),
        legend={"orientation": "h", "y": 1.15},
        hovermode="closest",
    )


def _card(process: float | None, iteration: Any, step: int | None, time: str) -> str:
    """Which sample a point is, and how long it took."""
    where = []
    if process is not None:
        where.append(gettext("process %(number)s") % {"number": int(process) + 1})
    where.append(gettext("iteration %(number)s") % {"number": iteration})
    if step is not None:
        where.append(gettext("step %(number)s") % {"number": step})
    return f"{', '.join(where)}: {time}"


def distribution_figure(document: Document, phase: str) -> dict[str, Any] | None:
    """What share of the timed calls of ``phase`` took at most so long: the empirical distribution, one step per sample.

    No bins and no smoothing, so nothing depends on a choice; warm-up is not in it. With several processes a line for each, because
    their difference is what the interval of the run is made of. ``None`` with fewer than two timed samples.
    """
    import plotly.graph_objects as go

    groups: dict[float | None, list[float]] = {}
    for row in records(document.get("samples")):
        wall = number(row.get("wall_ns"))
        if row.get("phase") == phase and wall is not None and not row.get("warmup"):
            groups.setdefault(number(row.get("process")), []).append(wall / 1e6)
    if sum(len(values) for values in groups.values()) < 2:
        return None
    traces = []
    for at, (process, values) in enumerate(sorted(groups.items(), key=lambda item: item[0] or 0)):
        values.sort()
        every = max(1, math.ceil(len(values) * len(groups) / MAX_SAMPLE_POINTS))
        # The last one stays: it is the slowest call.
        kept = sorted({*range(0, len(values), every), len(values) - 1})
        name = gettext("all timed calls")
        if process is not None:
            name = gettext("process %(number)s") % {"number": int(process) + 1}
        traces.append(
            go.Scatter(
                x=[values[i] for i in kept],
                y=[100 * (i + 1) / len(values) for i in kept],
                mode="lines+markers" if len(kept) <= 60 else "lines",
                name=name,
                line={"shape": "hv", "width": 2, "dash": ("solid", "dash", "dot", "dashdot")[at % 4]},
                marker={"size": 5},
                hovertemplate=gettext("%(share)s took at most %(time)s")
                % {"share": "%{y:.1f} %", "time": "%{x:.4g} ms"}
                + "<extra></extra>",
                meta={"tone": f"series-{at % 8}"},
            )
        )
    return figure(
        traces,
        height=300,
        margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis=axis(gettext("Milliseconds")),
        yaxis=axis(gettext("Calls, per cent"), range=[0, 102]),
        legend={"orientation": "h", "y": 1.15},
        showlegend=len(traces) > 1,
        hovermode="closest",
    )
