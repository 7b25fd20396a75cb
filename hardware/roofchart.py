"""The ceilings of a host as roofs: a table and the figure that ``static/charts.js`` draws from it. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext, ngettext

from hardware.models import Ceiling
from profiling.quantities import show

#: Kernels that tell what memory gives beyond the caches.
STREAMS = ("copy", "read", "triad")
BURST, SUSTAINED = "gemm", "gemm-sustained"
DTYPE_ORDER = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")
#: Arithmetic intensity from and to which roofs are drawn, in operations per byte.
LOW, HIGH = 0.1, 10_000.0


def host_roofs(ceilings: Iterable[Ceiling]) -> list[dict[str, Any]]:
    """One roof per format, thread count and kind (``burst``, ``sustained``), most threads first.

    ``peak``: the matrix product's rate; ``bandwidth``: the fastest of copy, read and triad with those threads (``bandwidth_from``);
    ``ridge``: their quotient; ``accepted``: whether processes agreed on both.
    """
    rows = list(ceilings)
    roofs = []
    for row in rows:
        if row.op_class not in (BURST, SUSTAINED):
            continue
        streams = [other for other in rows if other.op_class in STREAMS and other.threads == row.threads]
        if not streams or row.value <= 0:
            continue
        stream = max(streams, key=lambda other: other.value)
        roofs.append(
            {
                "dtype": row.dtype,
                "threads": row.threads,
                "kind": "sustained" if row.op_class == SUSTAINED else "burst",
                "peak": row.value,
                "unit": row.unit,
                "bandwidth": stream.value,
                "bandwidth_from": stream.op_class,
                "ridge": row.value / stream.value,
                "accepted": row.quality == stream.quality == "ok",
            }
        )
    return sorted(roofs, key=lambda roof: (-roof["threads"], _order(roof["dtype"]), roof["kind"]))


def threads_text(threads: int) -> str:
    """ ", 2 threads" behind the name of a rate; empty where threads play no part."""
    if not threads:
        return ""
    return ngettext(", %(count)s thread", ", %(count)s threads", threads) % {"count": threads}


def _order(dtype: str) -> int:
    return DTYPE_ORDER.index(dtype) if dtype in DTYPE_ORDER else len(DTYPE_ORDER)


def roof_figure(roofs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Log-log: operations per second over operations per byte. Roofs on which processes disagree are dotted, those with fewer than all
    threads wait in the legend; None without roofs."""
    import plotly.graph_objects as go

    if not roofs:
        return None
    most = max(roof["threads"] for roof in roofs)
    tones = {dtype: index for index, dtype in enumerate(dict.fromkeys(roof["dtype"] for roof in roofs))}
    traces = []
    for roof in roofs:
        xs = sorted({LOW, HIGH, min(max(roof["ridge"], LOW), HIGH)})
        ys = [min(roof["peak"], x * roof["bandwidth"]) for x in xs]
        name = f"{roof['dtype']}{gettext(', sustained') if roof['kind'] == 'sustained' else ''}"
        name += threads_text(roof["threads"])
        name += "" if roof["accepted"] else gettext(" (contended)")
        card = (
            f"{name}<br>{show(roof['peak'], roof['unit'])}, {show(roof['bandwidth'], 'B/s')} ({roof['bandwidth_from']})"
        )
        traces.append(
            go.Scatter(
                x=xs,
                y=ys,
                mode="lines",
                name=name,
                visible=True if roof["threads"] == most else "legendonly",
                line={
                    "width": 2,
                    "dash": "dot" if not roof["accepted"] else "dash" if "sustained" in name else "solid",
                },
                hovertemplate=f"{card}<extra></extra>",
                meta={"tone": f"series-{tones[roof['dtype']] % 8}"},
            )
        )
    low = min(roof["bandwidth"] for roof in roofs) * LOW
    high = max(roof["peak"] for roof in roofs) * 1.5
    layout = go.Layout(
        template=None,
        height=420,
        margin={"l": 64, "r": 12, "t": 16, "b": 56},
        xaxis=log_axis(gettext("Arithmetic intensity (operations per byte)"), LOW, HIGH, ""),
        yaxis=log_axis(gettext("Performance"), low, high, "FLOP/s"),
        hovermode="closest",
        legend={"orientation": "v"},
    )
    return go.Figure(traces, layout=layout).to_plotly_json()


def log_axis(title: str, low: float, high: float, unit: str) -> dict[str, Any]:
    """Powers of ten written by us: plotly would write exponents with an inline style, which the content security policy refuses."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return {
        "title": {"text": title},
        "automargin": True,
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": [10.0**n for n in decades],
        "ticktext": [show(10.0**n, unit) if unit else f"{10.0**n:,g}" for n in decades],
    }
