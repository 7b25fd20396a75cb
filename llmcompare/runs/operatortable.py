"""Operators of the profiled pass as the run page shows them: under their modules, identical blocks together, the most time first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext

from llmcompare.common.saying import said
from llmcompare.runs.tables import records
from profiling.quantities import number, percent, show

#: Groups of modules and operators of each that are drawn; the rest is counted, and in the document.
MAX_GROUPS, MAX_OPERATORS = 12, 6


@dataclass
class _Sum:
    """One row: an operator of a group of modules, or the whole group."""

    name: str
    calls: float = 0.0
    cpu_s: float = 0.0
    device_s: float | None = None
    shapes: Any = None
    members: dict[str, int] = field(default_factory=dict)
    inner: dict[str, _Sum] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        self.calls += number(record.get("calls")) or 0.0
        self.cpu_s += number(record.get("self_cpu_s")) or 0.0
        device_s = number(record.get("self_device_s"))
        if device_s is not None:
            self.device_s = (self.device_s or 0.0) + device_s
        self.shapes = self.shapes or record.get("input_shapes")

    def time(self) -> float:
        return self.cpu_s if self.device_s is None else self.device_s


def operator_table(document: Mapping[str, Any], stage: str, find: str = "") -> dict[str, Any] | None:
    """Context of the part "Operators" of ``runs/_network.html``: None for runs without a profiled pass of ``stage``.

    Shares are of the profiled pass: of the device's time where there is one, else of the host's.
    """
    section = document.get("profiled")
    if not isinstance(section, Mapping) or stage not in (section.get("stages") or {}):
        return None
    facts = section["stages"][stage]
    memory = _memory(section, stage)
    groups = _groups([row for row in records(section.get("operators")) if row.get("stage") == stage])
    on_device = any(group.device_s is not None for group in groups)
    whole = sum(group.time() for group in groups) if on_device else number(facts.get("total_s"))
    needle = find.lower()
    wanted = [g for g in groups if needle in g.name.lower() or any(needle in name.lower() for name in g.inner)]
    wanted.sort(key=lambda group: -group.time())
    dropped = section.get("dropped") or {}
    return {
        "groups": [_group(group, whole, memory.get(group.name)) for group in wanted[:MAX_GROUPS]],
        "more": max(len(wanted) - MAX_GROUPS, 0),
        "find": find,
        "on_device": on_device,
        "passes": facts.get("passes"),
        "total": show(number(facts.get("total_s")), "s"),
        "overhead": percent(number(facts.get("overhead"))),
        "dropped": dropped.get("rows") or 0,
        "copies": _copies(section, on_device),
    }


def _fold(path: Any) -> str:
    """Blocks that differ in their number alone are one group."""
    if path is None:
        return gettext("outside the model")
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", str(path)) or gettext("whole model")


def _groups(rows: list[dict[str, Any]]) -> list[_Sum]:
    found: dict[str, _Sum] = {}
    for row in rows:
        name = _fold(row.get("path"))
        group = found.setdefault(name, _Sum(name))
        # Documents since identical blocks are one row say how many modules it stands for; earlier ones have a row for each.
        path = str(row.get("path"))
        group.members[path] = max(group.members.get(path, 1), int(number(row.get("modules")) or 1))
        group.add(row)
        operator = str(row.get("operator"))
        group.inner.setdefault(operator, _Sum(operator)).add(row)
    return list(found.values())


def _memory(section: Mapping[str, Any], stage: str) -> dict[str, float | None]:
    """Group → bytes that its modules together leave allocated, unknown where one of them is."""
    found: dict[str, float | None] = {}
    for row in records(section.get("modules")):
        if row.get("stage") == stage:
            name, value = _fold(row.get("path")), number(row.get("memory_delta_bytes"))
            before = found.get(name, 0.0)
            found[name] = None if value is None or before is None else before + value
    return found


def _row(row: _Sum, whole: float | None) -> dict[str, Any]:
    return {
        "name": row.name,
        "calls": f"{row.calls:g}",
        "cpu": show(row.cpu_s, "s"),
        "device": show(row.device_s, "s"),
        "share": percent(row.time() / whole if whole else None),
        "shapes": ", ".join("×".join(str(n) for n in shape) for shape in row.shapes or [] if shape)[:80],
    }


def _group(group: _Sum, whole: float | None, memory: float | None) -> dict[str, Any]:
    operators = sorted(group.inner.values(), key=lambda row: -row.time())
    rest = operators[MAX_OPERATORS:]
    return _row(group, whole) | {
        "members": sum(group.members.values()),
        "shapes": "",
        "memory": show(memory, "B"),
        "operators": [_row(row, whole) for row in operators[:MAX_OPERATORS]],
        "rest": len(rest),
        "rest_time": show(sum(row.time() for row in rest), "s"),
    }


def _copies(section: Mapping[str, Any], on_device: bool) -> str:
    if not on_device:
        return gettext("The run was on the processor: there are no copies between host and device.")
    parts = [
        gettext("%(count)s copies %(direction)s, %(size)s in %(time)s")
        % {
            "count": entry.get("count"),
            "direction": said(str(entry.get("direction"))),
            "size": show(number(entry.get("bytes")), "B"),
            "time": show(number(entry.get("seconds")), "s"),
        }
        for entry in section.get("copies") or []
    ]
    if not parts:
        return gettext("Copies were not recorded.")
    return gettext("In the whole profiled pass: %(copies)s.") % {"copies": "; ".join(parts)}
