"""Several models layer by layer: their parts aligned by what they are for, and where the difference between two of them lies. Pure.

Everything is a *own* figure, without the modules inside, over all repetitions: figures of roles add up to the whole, and so do differences.
Models of one architecture are aligned module by module; others by role and name, and what only one of them has is said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmcompare.runs.areas import MEASURES
from llmcompare.runs.compare import Column
from llmcompare.runs.counterparts import aligned_by_module, match_of, of_role, part_key
from llmcompare.runs.modelroles import ROLES
from llmcompare.runs.partverdicts import WHOLE, part_verdicts
from profiling.quantities import number
from profiling.verdicts import Verdict

#: Rows of single parts, those that differ most.
MAX_PARTS = 40


@dataclass(frozen=True)
class Row:
    """A role or a part. ``values``: own figure of each column, in the measure's unit; None: the column has none. ``modules``: how many
    modules it is. ``changes``: value − baseline (a part that one side lacks counts 0 there). ``shares``: of the column's whole.
    ``match``: what its counterparts in graphs and rooflines are found by. ``verdicts``: of times of several processes, else None."""

    key: str
    title: str
    role: str
    values: tuple[float | None, ...]
    modules: tuple[int, ...]
    changes: tuple[float | None, ...]
    shares: tuple[float | None, ...]
    match: str = ""
    verdicts: tuple[Verdict | None, ...] = ()


@dataclass(frozen=True)
class Diff:
    """``totals`` of the columns; ``by_module``: parts are aligned by module, not by name; ``missing``: columns without the measure;
    ``verdicts`` on the totals."""

    stage: str
    measure: str
    unit: str
    origins: tuple[str, ...]
    totals: tuple[float | None, ...]
    baseline: int
    by_module: bool
    roles: list[Row] = field(default_factory=list)
    parts: list[Row] = field(default_factory=list)
    cut: int = 0
    verdicts: tuple[Verdict | None, ...] = ()

    @property
    def missing(self) -> list[int]:
        return [at for at, total in enumerate(self.totals) if total is None]

    def explained(self, row: Row, at: int) -> float | None:
        """Part of the difference of column ``at`` to the baseline that lies in ``row``; can be negative or above 1."""
        total, base, change = self.totals[at], self.totals[self.baseline], row.changes[at]
        if total is None or base is None or change is None or abs(total - base) <= 1e-9 * max(total, base):
            return None
        return change / (total - base)


def stages_of(columns: Sequence[Column]) -> list[str]:
    """Stages that at least two columns have, in the order of the first that has them."""
    seen: dict[str, int] = {}
    for column in columns:
        for stage in column.document.get("roles") or {}:
            seen[stage] = seen.get(stage, 0) + 1
    return [stage for stage, count in seen.items() if count > 1]


def measures_of(columns: Sequence[Column], stage: str) -> list[str]:
    """Measures that at least two columns have in ``stage``; what all of them have comes first."""
    counts = {
        name: sum(name in ((column.document.get("roles") or {}).get(stage) or {}) for column in columns)
        for name in MEASURES
    }
    able = [name for name, count in counts.items() if count > 1]
    return sorted(able, key=lambda name: (counts[name] < len(columns), list(MEASURES).index(name)))


def diff(columns: Sequence[Column], stage: str, measure: str, baseline: int) -> Diff | None:
    """The alignment of all columns; None where fewer than two have the measure."""
    wholes = [((column.document.get("roles") or {}).get(stage) or {}).get(measure) for column in columns]
    if sum(whole is not None for whole in wholes) < 2:
        return None
    by_module = aligned_by_module(columns)
    tables = [_table(whole, by_module) if whole else None for whole in wholes]
    totals = tuple(number(whole["total"]) if whole else None for whole in wholes)
    keys = list(dict.fromkeys(key for table in tables if table for key in table))
    parts = [_row(key, tables, totals, baseline) for key in keys]
    parts.sort(key=_largest_change, reverse=True)
    roles = [row for role in ROLES if (row := _role(role, tables, totals, baseline)) is not None]
    parts, cut = parts[:MAX_PARTS], max(len(parts) - MAX_PARTS, 0)
    verdicts = part_verdicts(columns, stage, wholes, by_module, baseline) if measure == "measured" else {}
    return Diff(
        stage=stage,
        measure=measure,
        unit=MEASURES[measure][2],
        origins=tuple(_origin(column, measure) for column in columns),
        totals=totals,
        baseline=baseline,
        by_module=by_module,
        roles=[replace(row, verdicts=verdicts.get(row.match, ())) for row in roles],
        parts=[replace(row, verdicts=verdicts.get(row.match, ())) for row in parts],
        cut=cut,
        verdicts=verdicts.get(WHOLE, ()),
    )


def _origin(column: Column, measure: str) -> str:
    return "measured" if measure == "measured" else "estimated"


@dataclass
class _Part:
    title: str
    role: str
    value: float = 0.0
    modules: int = 0


def _table(whole: Mapping[str, Any], by_module: bool) -> dict[str, _Part]:
    found: dict[str, _Part] = {}
    for pattern, name, role, own, times in whole["parts"]:
        key = part_key(str(pattern), str(name), str(role), by_module)
        part = found.setdefault(
            key, _Part(str(pattern).removeprefix("#") or "whole model" if by_module else str(name), str(role))
        )
        part.value += number(own) or 0.0
        part.modules += int(times)
    return found


def _row(key: str, tables: Sequence[dict[str, _Part] | None], totals: Sequence[float | None], baseline: int) -> Row:
    parts = [table.get(key) if table else None for table in tables]
    first = next(part for part in parts if part is not None)
    return replace(_made(key, first.title, first.role, parts, tables, totals, baseline), match=match_of(key))


def _role(
    role: str, tables: Sequence[dict[str, _Part] | None], totals: Sequence[float | None], baseline: int
) -> Row | None:
    parts: list[_Part | None] = []
    for table in tables:
        own = [part for part in (table or {}).values() if part.role == role]
        parts.append(
            _Part(str(ROLES[role]), role, sum(p.value for p in own), sum(p.modules for p in own)) if own else None
        )
    if not any(parts):
        return None
    return replace(_made(role, str(ROLES[role]), role, parts, tables, totals, baseline), match=of_role(role))


def _made(
    key: str,
    title: str,
    role: str,
    parts: Sequence[_Part | None],
    tables: Sequence[dict[str, _Part] | None],
    totals: Sequence[float | None],
    baseline: int,
) -> Row:
    values = tuple(part.value if part else None for part in parts)
    base = values[baseline] or 0.0 if tables[baseline] is not None else None
    return Row(
        key=key,
        title=title,
        role=role,
        values=values,
        modules=tuple(part.modules if part else 0 for part in parts),
        changes=tuple(
            None if base is None or table is None else (value or 0.0) - base
            for value, table in zip(values, tables, strict=True)
        ),
        shares=tuple(
            value / total if value is not None and total else None for value, total in zip(values, totals, strict=True)
        ),
    )


def _largest_change(row: Row) -> tuple[float, float]:
    changes = [abs(change) for change in row.changes if change is not None]
    return max(changes, default=0.0), max((value or 0.0 for value in row.values), default=0.0)


def diff_json(found: Diff | None, columns: Sequence[Column]) -> dict[str, Any] | None:
    """What page and chart show, as the export has it."""
    if found is None:
        return None

    def lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
        return [
            {
                "key": r.key,
                "title": r.title,
                "role": r.role,
                "values": r.values,
                "modules": r.modules,
                "changes": r.changes,
                "shares": r.shares,
                **_verdicts_json(r.verdicts),
            }
            for r in rows
        ]

    return {
        "stage": found.stage,
        "measure": found.measure,
        "title": str(MEASURES[found.measure][1]),
        "unit": found.unit,
        "runs": [column.run.public_id for column in columns],
        "baseline": columns[found.baseline].run.public_id,
        "origins": found.origins,
        "totals": found.totals,
        **_verdicts_json(found.verdicts),
        "aligned_by": "module" if found.by_module else "role and name",
        "roles": lines(found.roles),
        "parts": lines(found.parts),
        "parts_left_out": found.cut,
    }


def _verdicts_json(verdicts: Sequence[Verdict | None]) -> dict[str, Any]:
    """Of each column against the baseline; nothing where there are none."""
    return {"verdicts": [verdict and verdict.to_json() for verdict in verdicts]} if verdicts else {}
