"""The module table of one stage as a tree that folds: identical blocks are one row "× N" with the sums of all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmcompare.runs.tables import records
from profiling.quantities import number

#: Column → key of the row to sort by; ``None`` keeps the order of the model.
SORTS = {
    "": None,
    "parameters": "parameters",
    "weights": "weight_bytes",
    "flops": "flops",
    "bytes": "bytes",
    "estimate": "estimate_s",
    "inclusive": "inclusive_s",
    "exclusive": "exclusive_s",
    "calls": "calls",
}
_SUMMED = (
    "calls",
    "parameters",
    "weight_bytes",
    "flops",
    "bytes",
    "output_bytes",
    "estimate_s",
    "inclusive_s",
    "exclusive_s",
)

#: A table with more rows than this is cut, and says so: the page stays light however many modules are opened.
MAX_ROWS = 300


@dataclass
class ModuleRow:
    """One module, or N identical ones: ``repeat`` counts them within their parent; figures are sums over all of them."""

    path: str
    parent: str | None
    raw: Mapping[str, Any]
    members: int = 0
    repeat: int = 1
    depth: int = 0
    sums: dict[str, float | None] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    share: float | None = None


def fold(table: Any, stage: str) -> dict[str, ModuleRow]:
    """Rows of ``stage`` by path, one for each group of identical siblings, in the order of the model."""
    rows: dict[str, ModuleRow] = {}
    stand_in: dict[str, str] = {}
    own = {str(r.get("path")): r for r in records(table) if r.get("stage") == stage}
    for path, record in own.items():
        parent = record.get("parent")
        first = str(record.get("fold") or path)
        # The fold of a module names its first identical sibling; its parent may itself be folded into another.
        if parent and parent in stand_in and first.startswith(f"{parent}."):
            first = stand_in[parent] + first[len(parent) :]
        target = first if first in own else path
        stand_in[path] = target
        row = rows.get(target)
        if row is None:
            above = stand_in.get(parent, parent) if parent is not None else None
            row = rows[target] = ModuleRow(target, above if above in own else None, own[target])
        row.members += 1
        for key in _SUMMED:
            value = number(record.get(key))
            if value is not None:
                row.sums[key] = (row.sums.get(key) or 0) + value
            else:
                row.sums.setdefault(key, None)
    _link(rows)
    return rows


def folds(document: Mapping[str, Any]) -> dict[str, dict[str, ModuleRow]]:
    """Folded rows of every stage of the document: what graph, table, areas, pairs and points of a page are made from."""
    return {stage: fold(document.get("modules"), stage) for stage in document.get("stages") or {}}


def _link(rows: dict[str, ModuleRow]) -> None:
    """Parents, depth, repetition within the parent, and the share of the stage's time."""
    roots = [r for r in rows.values() if r.parent is None or r.parent not in rows]
    for row in rows.values():
        if row.parent is not None and row.parent in rows and row.parent != row.path:
            above = rows[row.parent]
            above.children.append(row.path)
            row.repeat = max(row.members // max(above.members, 1), 1)
        else:
            row.parent = None
            row.repeat = row.members
    measured = any(r.sums.get("inclusive_s") for r in roots)
    key = "inclusive_s" if measured else "estimate_s"
    known = [r.sums[key] for r in roots if r.sums.get(key) is not None]
    total = sum(known) if known else 0  # type: ignore[arg-type]
    for row in rows.values():
        value = row.sums.get(key)
        row.share = value / total if value is not None and total else None


def visible_rows(
    rows: Mapping[str, ModuleRow], *, open_ids: Collection[str], sort: str = "", find: str = "", limit: int = MAX_ROWS
) -> tuple[list[ModuleRow], int]:
    """Rows to draw, and how many were cut off at ``limit``.

    Children of open modules only, each level sorted by ``sort`` (largest first). With ``find`` the rows whose path or class contains
    it, whatever is open, with everything above them.
    """
    wanted: set[str] | None = None
    if find:
        needle = find.lower()
        wanted = set()
        for row in rows.values():
            if needle in row.path.lower() or needle in str(row.raw.get("class", "")).lower():
                current: ModuleRow | None = row
                while current is not None and current.path not in wanted:
                    wanted.add(current.path)
                    current = rows.get(current.parent) if current.parent is not None else None
    key = SORTS.get(sort)
    result: list[ModuleRow] = []
    stack = [(path, 0) for path in reversed(_ordered([r.path for r in rows.values() if r.parent is None], rows, key))]
    while stack:
        path, depth = stack.pop()
        row = rows[path]
        if wanted is not None and path not in wanted:
            continue
        row.depth = depth
        result.append(row)
        if path in open_ids or wanted is not None:
            stack += [(child, depth + 1) for child in reversed(_ordered(row.children, rows, key))]
    return result[:limit], max(len(result) - limit, 0)


def _ordered(paths: Sequence[str], rows: Mapping[str, ModuleRow], key: str | None) -> list[str]:
    if key is None:
        return list(paths)
    values = {path: rows[path].sums.get(key) for path in paths}

    def rank(path: str) -> float:
        value = values[path]
        return 1.0 if value is None else -value

    # Python's sort is stable: equal values keep the order of the model, unknown ones come last.
    return sorted(paths, key=rank)
