"""What a measurement in turns says of both sides, for the run page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.judgements import TIME_OF, where_text
from profiling.quantities import number, show, signed_percent
from profiling.units import DEFINITIONS

TONES = {"faster": "better", "slower": "worse"}


def turns_table(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """``order``, what A is, and a row for each metric with a verdict; None of a run that took turns with none."""
    section = document.get("in_turns")
    if not isinstance(section, Mapping):
        return None
    base, metrics = section.get("base") or {}, document.get("metrics") or {}
    rows = []
    for key, verdict in (section.get("verdicts") or {}).items():
        definition = DEFINITIONS.get(f"{key}/1")
        if definition is None or key in TIME_OF:  # a rate says what its time says
            continue
        before, after = ((side.get(key) or {}).get("value") for side in (base.get("metrics") or {}, metrics))
        rows.append(
            {
                "title": definition.name,
                "definition": definition.formula,
                "base": show(number(before), definition.unit) if base else "",
                "this": show(number(after), definition.unit),
                "effect": signed_percent(number(verdict.get("effect_pct"))),
                "interval": _interval(verdict.get("ci95_pct")),
                "verdict": str(verdict.get("verdict") or ""),
                "tone": TONES.get(str(verdict.get("verdict")), ""),
                "why": " ".join(
                    [*map(str, verdict.get("reasons") or ()), where_text(verdict.get("modules") or ())]
                ).strip(),
            }
        )
    reasons = {row["why"] for row in rows}
    return {
        "same_reason": reasons.pop() if len(reasons) == 1 and len(rows) > 1 else "",
        "order": str(section.get("order") or ""),
        "differs": _differs(base, document),
        "rows": rows,
        "base": bool(base),
    }


def _interval(values: Any) -> str:
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        return ""
    low, high = (signed_percent(number(value)) for value in values)
    return f"{low} to {high}"


def _differs(base: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """In what the two were asked differently, in words."""
    found = []
    names = [(side.get("model") or {}).get("name") for side in (base, document)]
    if base and len(set(names)) > 1:
        found.append(f"model: A {names[0]}, this run {names[1]}")
    mine = document.get("workload") or {}
    for name, value in (base.get("workload") or {}).items():
        if name not in ("time_limit_s", "prompt") and value != mine.get(name):
            found.append(f"{name.replace('_', ' ')}: A {value}, this run {mine.get(name)}")
    return found
