"""Columnar tables of the run document (``{"columns": [...], "rows": [[...]]}``) read by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def records(table: Any) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries; an absent or malformed table has none, and a short row lacks its last keys."""
    if not isinstance(table, Mapping):
        return
    columns = table.get("columns") or []
    for row in table.get("rows") or []:
        yield dict(zip(columns, row, strict=False))
