"""Treemap and icicle as SVG that the server draws: rectangles, texts that fit, links that select; no script is needed to read them.

Each drawing is made for three widths of screen, because texts in a scaled picture would become too small to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from llmcompare.runs import areas
from llmcompare.runs.areas import Area, Whole
from llmcompare.runs.charts.layout import ROW, TITLE, Box, icicle, treemap
from llmcompare.runs.layertable import ModuleRow
from llmcompare.runs.modelroles import ROLES
from llmcompare.runs.viewoptions import AREAS, VIEWS, Options
from profiling.quantities import count, percent, show

#: Width and height of the drawings, in the pixels that they have on such screens.
SIZES = {"wide": (1180.0, 440.0), "medium": (680.0, 460.0), "narrow": (350.0, 520.0)}
#: Room that a character takes at the size of the texts, on the generous side.
_CHARACTER = 6.7
_LINE = 15.0
#: The table lists no more.
MAX_ROWS = 120


def area_view(document: Mapping[str, Any], rows: Mapping[str, ModuleRow], options: Options) -> dict[str, Any] | None:
    """Drawings, key, switches and table of the parts of one stage; ``None`` when no module has a figure."""
    offered = [name for name in areas.measures_of(document, rows) if name in AREAS]
    measure = options.area if options.area in offered else (offered[0] if offered else "")
    found = areas.whole(document, rows, measure, options.stage) if measure else None
    if found is None:
        return None
    title, unit = areas.MEASURES[measure][1:]
    tree = areas.drawable(found.root)
    listed = areas.parts_of(found.root)
    return {
        "measure": measure,
        "title": str(title),
        "unit": unit,
        "origin": "measured" if measure == "measured" else "estimated",
        "stage": options.stage,
        "total": show(found.root.total, unit),
        "raw": found.root.total,
        "drawings": [drawing(tree, found, options, size) for size in SIZES],
        "roles": _key(tree),
        "rows": [_table_row(area, found, options) for area in listed[:MAX_ROWS]],
        "cut": max(len(listed) - MAX_ROWS, 0),
        "unknown": found.unknown,
        "shared_by": [areas_name(path) for path in found.shared_by],
        "note": found.note,
        "view_links": [
            {"title": words, "href": options.link(view=name), "current": options.view == name}
            for name, words in VIEWS.items()
        ],
        "area_links": [
            {"title": areas.MEASURES[name][1], "href": options.link(area=name), "current": name == measure}
            for name in offered
        ],
    }


def areas_name(path: str) -> str:
    return path or gettext("the whole model")


def drawing(tree: Area, found: Whole, options: Options, size: str) -> dict[str, Any]:
    """One SVG: its size, and a cell for every box."""
    width, height = SIZES[size]
    if options.view == "icicle":
        boxes, height = icicle(tree, width)
    else:
        boxes = treemap(tree, width, height)
    return {
        "size": size,
        "width": f"{width:g}",
        "height": f"{height:g}",
        "cells": [_cell(box, found, options) for box in boxes],
    }


def _cell(box: Box, found: Whole, options: Options) -> dict[str, Any]:
    area, unit = box.area, areas.MEASURES[found.measure][2]
    share = area.total / found.root.total
    name = named(area)
    solid = options.view == "icicle" or not box.frame
    lines = _lines(box, name, show(area.total, unit), percent(share), titled=not solid)
    return {
        "path": area.path,
        "x": f"{box.x:.2f}",
        "y": f"{box.y:.2f}",
        "width": f"{box.width:.2f}",
        "height": f"{box.height:.2f}",
        "role": area.role,
        "frame": not solid,
        "module": area.module,
        "value": area.total,
        "lines": [
            {"text": text, "x": f"{box.x + 5:.2f}", "y": f"{box.y + 13 + at * _LINE:.2f}"}
            for at, text in enumerate(lines)
        ],
        "title": f"{area.path or name}{_times(area)}: {show(area.total, unit)}, {percent(share)}, {ROLES[area.role].lower()}",
        "href": options.selecting(area.path) if area.module else "",
        "current": area.module and options.at is not None and options.at == area.path,
    }


def named(area: Area) -> str:
    return f"{areas.shown_name(area)}{_times(area)}"


def _times(area: Area) -> str:
    return f" × {area.times}" if area.times > 1 else ""


def _lines(box: Box, name: str, value: str, share: str, *, titled: bool) -> list[str]:
    """The texts that fit into a box: name, value, share; in a title or a row of the icicle all in one line."""
    room = int((box.width - 9) / _CHARACTER)
    if room < 3 or box.height < TITLE - 1:
        return []
    together = f"{name}  {value}"
    if titled or box.height <= ROW:
        return [together if len(together) <= room else _short(name, room)]
    lines = [_short(name, room)]
    for text in (value, share):
        if len(text) <= room and (len(lines) + 1) * _LINE <= box.height - 3:
            lines.append(text)
    return lines


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"


def _key(tree: Area) -> list[dict[str, str]]:
    """The roles that the drawing shows, in the order in which a token meets them."""
    present, stack = set(), [tree]
    while stack:
        area = stack.pop()
        stack += area.children
        if not area.children and area.module:
            present.add(area.role)
    return [{"role": role, "title": str(title)} for role, title in ROLES.items() if role in present]


def _table_row(area: Area, found: Whole, options: Options) -> dict[str, Any]:
    unit = areas.MEASURES[found.measure][2]
    return {
        "path": area.path,
        "module": area.module,
        "name": area.path or areas.shown_name(area),
        "times": area.times,
        "count": count(area.times),
        "role": area.role,
        "role_title": ROLES[area.role] if area.module else "–",
        "own": show(area.own, unit),
        "raw": area.own,
        "total": show(area.total, unit),
        "share": percent(area.own / found.root.total),
        "href": options.selecting(area.path) if area.module else "",
        "current": area.module and options.at == area.path,
    }
