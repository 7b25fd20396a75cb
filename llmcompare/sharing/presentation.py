"""A comparison as a visitor's table: figures as text, with differences to the first run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from profiling.quantities import UNKNOWN, show, signed_percent


def comparison_rows(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of ``exports.comparison_object`` as ``{title, origin, cells: [{text, delta}]}``; the name is in the table's head."""
    rows = []
    for row in compared["rows"]:
        if row["key"] == "name":
            continue
        deltas = row.get("delta_pct") or [None] * len(row["values"])
        cells = [
            {"text": _text(value, row["unit"]), "delta": signed_percent(delta) if delta else ""}
            for value, delta in zip(row["values"], deltas, strict=True)
        ]
        title = row["key"].replace("_", " ").capitalize()
        rows.append({"title": title, "origin": row["origin"], "cells": cells})
    return rows


def _text(value: Any, unit: str) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return show(value, unit) if isinstance(value, (int, float)) else str(value)
