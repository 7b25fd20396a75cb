"""What a measurement in turns says of both sides, for the run page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from llmcompare.common.saying import said
from llmcompare.runs.facts import title_of
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
                "title": said(definition.name),
                "definition": said(definition.formula),
                "base": show(number(before), definition.unit) if base else "",
                "this": show(number(after), definition.unit),
                "effect": signed_percent(number(verdict.get("effect_pct"))),
                "interval": _interval(verdict.get("ci95_pct")),
                "verdict": str(verdict.get("verdict") or ""),
                "tone": TONES.get(str(verdict.get("verdict")), ""),
                "why": " ".join(
                    [
                        *(said(str(r)) for r in verdict.get("reasons") or ()),
                        said(where_text(verdict.get("modules") or ())),
                    ]
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
    return gettext("%(low)s to %(high)s") % {"low": low, "high": high}


def _differs(base: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """In what the two were asked differently, in words."""
    found = []
    names = [(side.get("model") or {}).get("name") for side in (base, document)]
    if base and len(set(names)) > 1:
        found.append(gettext("model: A %(base)s, this run %(this)s") % {"base": names[0], "this": names[1]})
    mine = document.get("workload") or {}
    for name, value in (base.get("workload") or {}).items():
        if name not in ("time_limit_s", "prompt", "prompts") and value != mine.get(name):
            found.append(
                gettext("%(setting)s: A %(base)s, this run %(this)s")
                % {"setting": title_of(name), "base": value, "this": mine.get(name)}
            )
    return found
