"""What products with few rows reach on a host by the shape of their weights: a table, and the figure of the same numbers. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext, ngettext

from hardware.models import Ceiling
from hardware.roofchart import log_axis, threads_text
from profiling.ceiling_rows import few_rows
from profiling.quantities import show
from profiling.spec import DTYPE_BYTES

DASHES = ("solid", "dash", "dot", "dashdot")


def host_products(ceilings: Iterable[Ceiling]) -> list[dict[str, Any]]:
    """One curve per format, thread count, rows of the left matrix and length of a sum, where several shapes were timed; most threads, fewest
    rows and longest sums first.

    ``points``: by size, smallest first: ``bytes`` of the weights, ``rate`` (bytes of weights per second: their size over the time of one
    product, so that any number of rows can be compared), ``ceiling`` (as stored), ``accepted``.
    """
    found: dict[tuple[str, int, int, int], list[dict[str, Any]]] = {}
    for row in ceilings:
        rows, nbytes, inner = few_rows(row.op_class), row.detail.get("bytes"), row.detail.get("inner")
        if rows is None or not nbytes or not inner or row.value <= 0 or row.dtype not in DTYPE_BYTES:
            continue
        # Two operations a weight and row.
        rate = row.value if rows == 1 else row.value / (2 * rows) * DTYPE_BYTES[row.dtype]
        accepted = row.quality == "ok"
        point = {"bytes": nbytes, "size": size_text(nbytes), "rate": rate, "ceiling": row, "accepted": accepted}
        found.setdefault((row.dtype, row.threads, rows, inner), []).append(point)
    curves = [
        {
            "dtype": dtype,
            "threads": threads,
            "rows": rows,
            "inner": inner,
            "points": sorted(points, key=lambda point: point["bytes"]),
        }
        for (dtype, threads, rows, inner), points in found.items()
        if len(points) > 1
    ]
    order = list(DTYPE_BYTES)
    return sorted(curves, key=lambda c: (-c["threads"], order.index(c["dtype"]), c["rows"], -c["inner"]))


def size_figure(curves: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Log-log: weights per second over the size of the weights. Colour is the format with the length of the sums, dashes are the rows; points
    that processes do not agree on are open. Only the first format with all threads is drawn at once, the others wait in the legend. None
    without curves."""
    import plotly.graph_objects as go

    if not curves:
        return None
    shown = (curves[0]["dtype"], curves[0]["threads"])
    tones = {inner: index for index, inner in enumerate(sorted({curve["inner"] for curve in curves}, reverse=True))}
    dashes = {rows: DASHES[index % len(DASHES)] for index, rows in enumerate(sorted({c["rows"] for c in curves}))}
    traces = []
    for curve in curves:
        rows, threads, points = curve["rows"], curve["threads"], curve["points"]
        words = ngettext(
            "%(dtype)s, %(rows)s row, sums of %(inner)s", "%(dtype)s, %(rows)s rows, sums of %(inner)s", rows
        )
        name = words % {"dtype": curve["dtype"], "rows": rows, "inner": f"{curve['inner']:,}"} + threads_text(threads)
        cards = [
            f"{name}<br>{point['size']}: {show(point['rate'], 'B/s')}{'' if point['accepted'] else gettext(' (contended)')}"
            for point in points
        ]
        traces.append(
            go.Scatter(
                x=[point["bytes"] for point in points],
                y=[point["rate"] for point in points],
                mode="lines+markers",
                name=name,
                visible=True if (curve["dtype"], threads) == shown else "legendonly",
                line={"width": 2, "dash": dashes[rows]},
                marker={"size": 7, "symbol": ["circle" if p["accepted"] else "circle-open" for p in points]},
                text=cards,
                hovertemplate="%{text}<extra></extra>",
                meta={"tone": f"series-{tones[curve['inner']] % 8}"},
            )
        )
    rates = [point["rate"] for curve in curves for point in curve["points"]]
    sizes = sorted({point["bytes"] for curve in curves for point in curve["points"]})
    axis = log_axis(gettext("Weights of the product"), sizes[0] / 1.5, sizes[-1] * 1.5, "")
    ticks = {size_text(size): size for size in sizes}  # sizes that differ by less than a row of a matrix are one tick
    axis |= {"tickvals": list(ticks.values()), "ticktext": list(ticks)}
    layout = go.Layout(
        template=None,
        height=460,
        margin={"l": 64, "r": 12, "t": 16, "b": 56},
        xaxis=axis,
        yaxis=log_axis(gettext("Weights read per second"), min(rates) / 1.5, max(rates) * 1.5, "B/s"),
        hovermode="closest",
        legend={"orientation": "v"},
    )
    return go.Figure(traces, layout=layout).to_plotly_json()


def size_text(nbytes: int) -> str:
    """In MiB, as these sizes are close to powers of two: "16 MiB"."""
    return f"{round(nbytes / (1 << 20), 1):g} MiB"
