"""A comparison as a visitor's table: figures as text, with differences to the first run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS
from llmcompare.runs.tiles import ORDER
from profiling.quantities import show, signed_percent
from profiling.units import DEFINITIONS

#: Rows that are no metrics, where the key alone does not say what they are.
TITLES = {
    "dtype": _("Data type"),
    "memory_bytes": _("Memory"),
    "fits": _("Fits into memory"),
    "bound": _("Limited by"),
    "created": pgettext_lazy("when", "Created"),
}
#: Rows whose values are words of ours; those of others are names.
WORDS = ("state", "bound")
BY_NAME = {option.name: option for option in OPTIONS}
KINDS = dict(Run.Kind.choices)


def comparison_rows(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of ``exports.comparison_object`` as ``{title, origin, cells: [{text, delta}]}``; the name is in the table's head."""
    rows = []
    for row in sorted(compared["rows"], key=_place):  # sorted() keeps the order of rows that are no metrics
        if row["key"] == "name":
            continue
        deltas = row.get("delta_pct") or [None] * len(row["values"])
        cells = [
            {
                "text": _cell(row, value),
                "delta": signed_percent(delta) if delta else "",
            }
            for value, delta in zip(row["values"], deltas, strict=True)
        ]
        rows.append({"title": _title(row["key"]), "origin": row["origin"], "cells": cells})
    return rows


def _cell(row: Mapping[str, Any], value: Any) -> str:
    if row["key"] in BY_NAME:
        return BY_NAME[row["key"]].says(value)
    if row["key"] == "kind":
        return str(KINDS.get(value, value)).lower()
    return _text(said(value) if row["key"] in WORDS else value, row["unit"])


def _place(row: Mapping[str, Any]) -> int:
    """Metrics in the order of the run page, after everything else; those that it does not know come last."""
    if not row["origin"]:
        return -1
    return ORDER.index(row["key"]) if row["key"] in ORDER else len(ORDER)


def _title(key: str) -> str:
    if key in BY_NAME:
        return str(BY_NAME[key].title)
    definition = DEFINITIONS.get(f"{key}/1")
    words = definition.name if definition else TITLES.get(key) or key.replace("_", " ").capitalize()
    return str(said(str(words)))


def _text(value: Any, unit: str) -> str:
    if value is None or value == "":
        return gettext("unknown")
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return show(value, unit) if isinstance(value, (int, float)) else str(value)
