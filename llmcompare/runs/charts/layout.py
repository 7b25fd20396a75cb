"""Where the parts of a whole are drawn: a squarified treemap and an icicle. Pure arithmetic, the same input gives the same picture.

Squarified treemaps: Bruls, Huizing & van Wijk, "Squarified Treemaps", 2000: rows are filled along the shorter side as long as that
makes their rectangles more like squares. The icicle is a flame graph upside down: each module as wide as its total, in the order of
the model, the modules inside below it; what nothing stands below of is the module's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmcompare.runs.areas import Area

#: Height of a frame's title, and the air inside it, in units of the drawing.
TITLE, AIR = 17.0, 2.0
#: Rows of the icicle.
ROW = 30.0


@dataclass(frozen=True)
class Box:
    """A rectangle of the drawing; ``frame``: it holds others and shows only a title."""

    area: Area
    x: float
    y: float
    width: float
    height: float
    depth: int
    frame: bool


def squarify(
    sizes: Sequence[float], x: float, y: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    """A rectangle ``(x, y, width, height)`` for each of ``sizes`` (descending, > 0), of that share of the given one."""
    total = sum(sizes)
    if not sizes or total <= 0 or width <= 0 or height <= 0:
        return [(x, y, 0.0, 0.0) for _ in sizes]
    scale = width * height / total
    areas = [size * scale for size in sizes]
    placed: list[tuple[float, float, float, float]] = []
    start = 0
    while start < len(areas):
        side = min(width, height)
        end = start + 1
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(areas[start:end], side):
            end += 1
        row = areas[start:end]
        thick = min(sum(row) / side, max(width, height)) if side else 0.0
        at = 0.0
        for area in row:
            long = area / thick if thick else 0.0
            placed.append((x, y + at, thick, long) if width >= height else (x + at, y, long, thick))
            at += long
        if width >= height:
            x, width = x + thick, max(width - thick, 0.0)
        else:
            y, height = y + thick, max(height - thick, 0.0)
        start = end
        if (width <= 0 or height <= 0) and start < len(areas):
            placed += [(x, y, 0.0, 0.0)] * (len(areas) - start)
            break
    return placed


def _worst(row: Sequence[float], side: float) -> float:
    """The worst ratio of sides in a row along ``side`` (Bruls et al., section 3)."""
    total = sum(row)
    return max(side * side * max(row) / (total * total), total * total / (side * side * min(row)))


def treemap(root: Area, width: float, height: float) -> list[Box]:
    """Boxes of the tree, frames before what is in them. A frame too small for a title has none."""
    boxes: list[Box] = []
    stack: list[tuple[Area, float, float, float, float, int]] = [(root, 0.0, 0.0, width, height, 0)]
    while stack:
        area, x, y, w, h, depth = stack.pop()
        boxes.append(Box(area, x, y, w, h, depth, bool(area.children)))
        if not area.children:
            continue
        if depth:
            title = TITLE if h > 3 * TITLE and w > 40 else AIR
            air = AIR if min(w, h) > 8 * AIR else 0.0
            x, y, w, h = x + air, y + (title if air else 0.0), w - 2 * air, h - (title + air if air else 0.0)
        children = sorted(area.children, key=lambda child: -child.total)  # stable: equal ones keep their order
        places = squarify([child.total for child in children], x, y, max(w, 0.0), max(h, 0.0))
        stack += [(child, *place, depth + 1) for child, place in reversed(list(zip(children, places, strict=True)))]
    return boxes[1:] if root.children else boxes


def icicle(root: Area, width: float) -> tuple[list[Box], float]:
    """Boxes of the tree by depth, and the height of the drawing. Parts narrower than half a unit are left out."""
    boxes: list[Box] = []
    stack: list[tuple[Area, float, int]] = [(root, 0.0, 0)]
    scale = width / root.total if root.total else 0.0
    deepest = 0
    while stack:
        area, x, depth = stack.pop()
        wide = area.total * scale
        if wide < 0.5:
            continue
        deepest = max(deepest, depth)
        boxes.append(Box(area, x, depth * ROW, wide, ROW, depth, bool(area.children)))
        at, inside = x, []
        for child in area.children:
            inside.append((child, at, depth + 1))
            at += child.total * scale
        stack += reversed(inside)
    return boxes, (deepest + 1) * ROW
