"""The heat map as shapes that a template writes: cells, hatching where a point does not fit, iso-lines, axes, legend.

Drawn by the server: it needs no script, prints, and costs a page some kilobytes where plotly's cartesian bundle has half a megabyte.
All coordinates are those of the SVG's view box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext

from llmcompare.common.saying import said
from llmcompare.explore.asked import ALONG
from profiling.quantities import count, number, show, unknown

STEPS = 8
LEFT, TOP, ROW, BELOW = 64, 8, 30, 44
#: Width of all cells together, at most; of one; and from which on one holds its number.
WIDTH, WIDEST, READABLE = 860, 84, 52
MOST_LINES = 6
LETTERS = {"compute": "C", "memory": "M", "overhead": "O", "network": "N"}


def heat_map(heat: Mapping[str, Any]) -> dict[str, Any]:
    """What the template draws, of the ``heat_map`` of a document."""
    values, batches, lengths = heat["values"], heat["batch_size"], heat["lengths"]
    words = heat["metric"] == "bound"
    flat = [v for row in values for v in row if number(v) is not None and v > 0]
    low, high = (min(flat), max(flat)) if flat else (1.0, 1.0)
    cell = min(WIDEST, WIDTH / len(lengths))
    shape = _Shape(cell, len(batches))
    cells = [
        _cell(heat, shape, row, column, low, high) for row in range(len(batches)) for column in range(len(lengths))
    ]
    levels = [] if words or low == high else round_levels(low, high)
    unit = heat["unit"]
    return {
        "width": str(round(LEFT + cell * len(lengths) + 8)),
        "height": str(TOP + ROW * len(batches) + BELOW),
        "cells": cells,
        "cell_width": f"{cell:.1f}",
        "row": str(ROW),
        "x_labels": [
            {"x": f"{shape.x(n) + cell / 2:.1f}", "text": count(value)}
            for n, value in enumerate(lengths)
            if cell >= 34 or n % math.ceil(34 / cell) == 0
        ],
        "y_labels": [{"y": f"{shape.y(n) + ROW / 2 + 4:g}", "text": count(value)} for n, value in enumerate(batches)],
        "x_title": ALONG[heat["along"]],
        "x_title_at": f"{LEFT + cell * len(lengths) / 2:.1f}",
        "x_labels_at": str(TOP + ROW * len(batches) + 18),
        "titles_at": str(TOP + ROW * len(batches) + 38),
        "lines": [line for level in levels if (line := _line(values, shape, level, unit))],
        "legend": _word_legend(values) if words else [] if not flat else _legend(low, high, unit),
        "words": words,
        "some_unknown": any(v is None for row in values for v in row),
        "some_do_not_fit": any(fits is False for row in heat["fits"] for fits in row),
    }


class _Shape:
    """Where a cell is; the smallest batch is the lowest row."""

    def __init__(self, cell: float, rows: int) -> None:
        self.cell, self.rows = cell, rows

    def x(self, column: float) -> float:
        return LEFT + self.cell * column

    def y(self, row: float) -> float:
        return TOP + ROW * (self.rows - 1 - row)


def _cell(heat: Mapping[str, Any], shape: _Shape, row: int, column: int, low: float, high: float) -> dict[str, Any]:
    value, fits = heat["values"][row][column], heat["fits"][row][column]
    note = heat["notes"][row][column]
    batch, length = heat["batch_size"][row], heat["lengths"][column]
    text = show(value, heat["unit"]) if heat["unit"] else said(value) or unknown()
    if value is None:
        tone, short = "heat-none", "–"
    elif heat["metric"] == "bound":
        tone, short = f"fill-{value}", LETTERS.get(value, "?")
    else:
        tone, short = f"heat-{step_of(value, low, high)}", text
    state = gettext("fits") if fits else gettext("fit unknown") if fits is None else gettext("does not fit")
    words = note or f"{heat['title']}: {text}, {state}"
    return {
        "x": f"{shape.x(column):.1f}",
        "y": f"{shape.y(row):g}",
        "tone": tone,
        "text": short if shape.cell >= READABLE or heat["metric"] == "bound" else "",
        "text_x": f"{shape.x(column) + shape.cell / 2:.1f}",
        "text_y": f"{shape.y(row) + ROW / 2 + 4:g}",
        "dark": tone in {f"heat-{n}" for n in range(5, STEPS)} or tone.startswith("fill-"),
        "title": gettext("Batch %(batch)s, %(along)s %(length)s. %(words)s")
        % {"batch": f"{batch:,}", "along": ALONG[heat["along"]].lower(), "length": f"{length:,}", "words": words},
        "no_fit": fits is False,
        "value": value,
        "shown": text if value is not None else unknown(),
        "note": note or state,
    }


def step_of(value: float, low: float, high: float) -> int:
    """0 … 7 by the logarithm between the lowest and the highest value."""
    if value <= 0 or low <= 0 or high <= low:
        return 3 if high <= low else 0
    part = math.log(value / low) / math.log(high / low)
    return min(int(part * STEPS), STEPS - 1)


def round_levels(low: float, high: float) -> list[float]:
    """1, 2, 5 × 10ⁿ strictly between the two, thinned out to at most :data:`MOST_LINES`."""
    found = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factor in (1, 2, 5)
        if low < factor * 10.0**power < high
    ]
    keep = math.ceil(len(found) / MOST_LINES) or 1
    return found[::keep]


def _line(values: Sequence[Sequence[Any]], shape: _Shape, level: float, unit: str) -> dict[str, Any] | None:
    """An iso-line through the middles of cells (marching squares on logarithms), and its label at its right end."""
    pieces = list(segments(values, level))
    if not pieces:
        return None

    def at(point: tuple[float, float]) -> tuple[float, float]:
        row, column = point
        return shape.x(column + 0.5), shape.y(row) + ROW / 2

    drawn = [(at(a), at(b)) for a, b in pieces]
    path = " ".join(f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in drawn)
    # Beside the numbers, which stand in the middle of cells as the corners of the line do.
    a, b = max(drawn, key=lambda piece: (piece[0][0] + piece[1][0], -piece[0][1]))
    x, y = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    return {"path": path, "text": show(level, unit), "x": f"{x:.1f}", "y": f"{y + 4:.1f}"}


def segments(
    values: Sequence[Sequence[Any]], level: float
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Pieces of the line where the values equal ``level``: pairs of (row, column). Squares with an unknown corner have none."""
    wanted = math.log(level)
    for r in range(len(values) - 1):
        for c in range(len(values[0]) - 1):
            corners = [(r, c), (r, c + 1), (r + 1, c + 1), (r + 1, c)]
            known = [values[a][b] for a, b in corners]
            if any(number(v) is None or v <= 0 for v in known):
                continue
            logs = [math.log(v) for v in known]
            cuts = []
            for i in range(4):
                j = (i + 1) % 4
                if (logs[i] < wanted) != (logs[j] < wanted):
                    part = (wanted - logs[i]) / (logs[j] - logs[i])
                    (ra, ca), (rb, cb) = corners[i], corners[j]
                    cuts.append((ra + part * (rb - ra), ca + part * (cb - ca)))
            yield from zip(cuts[::2], cuts[1::2], strict=True)


def _legend(low: float, high: float, unit: str) -> list[dict[str, str]]:
    ratio = high / low
    return [{"tone": f"heat-{n}", "text": show(low * ratio ** (n / STEPS), unit)} for n in range(STEPS)]


def _word_legend(values: Sequence[Sequence[Any]]) -> list[dict[str, str]]:
    present = dict.fromkeys(v for row in values for v in row if v)
    return [{"tone": f"fill-{word}", "text": f"{LETTERS.get(word, '?')}: {said(word)}"} for word in present]
