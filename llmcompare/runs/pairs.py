"""Estimate against measurement, module by module: a pair of bars on one scale and the error between them.

Both are *own* times, without the modules inside, of all repetitions of a folded module together; so every second is in one pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from llmcompare.runs.layertable import ModuleRow
from llmcompare.runs.modelroles import role_of
from llmcompare.runs.viewoptions import Options
from profiling.quantities import number, show, signed_percent

Document = Mapping[str, Any]

#: Pairs beyond these stand together in one.
MAX_PAIRS = 24


def pairs(document: Document, rows: Mapping[str, ModuleRow], options: Options) -> dict[str, Any] | None:
    """Pairs of one stage, the largest first, and all together; ``None`` where nothing was measured or nothing estimated."""
    found = [pair for path, row in rows.items() if (pair := _pair(path, row, rows)) is not None]
    found = [pair for pair in found if max(pair["estimated"], pair["measured"]) > 0]
    if not any(p["measured"] for p in found) or not any(p["estimated"] for p in found):
        return None
    found.sort(key=lambda pair: -max(pair["estimated"], pair["measured"]))
    kept, rest = found[:MAX_PAIRS], found[MAX_PAIRS:]
    if len(rest) == 1:
        kept, rest = found, []
    if rest:
        kept.append(_together(rest, gettext("%(count)s smaller modules") % {"count": len(rest)}))
    longest = max(max(pair["estimated"], pair["measured"]) for pair in kept)
    coverage = ((document.get("instrumentation") or {}).get(options.stage) or {}).get("coverage")
    return {
        "stage": options.stage,
        "rows": [_shown(pair, longest, options) for pair in kept],
        "total": _shown(_together(found, gettext("all modules")), longest, options),
        "coverage": number(coverage),
        "modules": len(found),
    }


def _pair(path: str, row: ModuleRow, rows: Mapping[str, ModuleRow]) -> dict[str, Any] | None:
    """Own times in seconds. A module without an estimate or a measurement has no pair: half of one would look like an error."""
    whole = number(row.sums.get("estimate_s"))
    measured = number(row.sums.get("exclusive_s"))
    if whole is None or measured is None:
        return None
    inside = sum(number(rows[child].sums.get("estimate_s")) or 0 for child in row.children)
    estimated = whole - inside
    return {
        "path": path,
        "name": path or gettext("whole model"),
        "own": bool(row.children),
        "times": row.members,
        "role": role_of(path, str(row.raw.get("class") or "")),
        # Sums of floats: what is left of them is no work of its own.
        "estimated": estimated if estimated > 1e-9 * whole else 0.0,
        "measured": max(measured, 0.0),
    }


def _together(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return {
        "path": None,
        "name": name,
        "own": False,
        "times": 1,
        "role": "other",
        "estimated": sum(pair["estimated"] for pair in found),
        "measured": sum(pair["measured"] for pair in found),
    }


def _shown(pair: Mapping[str, Any], longest: float, options: Options) -> dict[str, Any]:
    estimated, measured = pair["estimated"], pair["measured"]
    # Nothing estimated (containers of modules) has an error of −100 % that says nothing.
    error = 100 * (estimated - measured) / measured if measured and estimated else None
    path = pair["path"]
    return {
        "path": path,
        "name": pair["name"],
        "own": pair["own"],
        "times": pair["times"],
        "role": pair["role"],
        "estimated": show(estimated, "s"),
        "measured": show(measured, "s"),
        "estimated_raw": estimated,
        "measured_raw": measured,
        "estimated_width": f"{100 * min(estimated / longest, 1):.2f}" if longest else "0",
        "measured_width": f"{100 * min(measured / longest, 1):.2f}" if longest else "0",
        "error": signed_percent(error) if error is not None else "–",
        "grade": _grade(error),
        "href": options.selecting(path) if path is not None else "",
        "current": path is not None and options.at == path,
    }


def _grade(error: float | None) -> str:
    if error is None:
        return "unknown"
    return "good" if abs(error) <= 15 else "fair" if abs(error) <= 40 else "poor"
