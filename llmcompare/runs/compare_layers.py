"""What the comparison page shows of :mod:`llmcompare.runs.rolediff`: figures as text, bars as positions in per cent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext

from llmcompare.common.saying import Text, enumerated, said
from llmcompare.runs.areas import MEASURES
from llmcompare.runs.compare import Column
from llmcompare.runs.counterparts import of_role
from llmcompare.runs.modelroles import ROLES
from llmcompare.runs.rolediff import Diff, Row, diff, measures_of, stages_of
from llmcompare.runs.words import level_word
from profiling.quantities import percent, show, signed_percent, unknown
from profiling.verdicts import NO_DIFFERENCE, NOT_COMPARABLE, Verdict

#: A change below this part of the larger whole is drawn and ranked as none.
NOTHING = 0.0005


def chosen(params: Mapping[str, Any], columns: Sequence[Column], baseline: int) -> Diff | None:
    """The diff that the address asks for; what it does not say, or what there is none of, is the first that there is."""
    stages = stages_of(columns)
    if not stages:
        return None
    stage = str(params.get("stage", ""))
    stage = stage if stage in stages else ("decode" if "decode" in stages else stages[0])
    measures = measures_of(columns, stage)
    if not measures:
        return None
    measure = str(params.get("by", ""))
    return diff(columns, stage, measure if measure in measures else measures[0], baseline)


def layers(params: QueryDict, columns: Sequence[Column], baseline: int) -> dict[str, Any] | None:
    """The section of the page; None where no two runs have layers to show."""
    found = chosen(params, columns, baseline)
    if found is None:
        return None
    longest = max(total for total in found.totals if total is not None) or 1.0
    return {
        "stage": found.stage,
        "measure": found.measure,
        "title": MEASURES[found.measure][1],
        "unit": found.unit,
        "by_module": found.by_module,
        "stage_links": _links(params, "stage", {name: said(name) for name in stages_of(columns)}, found.stage),
        "measure_links": _links(
            params, "by", {name: MEASURES[name][1] for name in measures_of(columns, found.stage)}, found.measure
        ),
        "bars": [_bar(found, column, at, longest) for at, column in enumerate(columns)],
        "heads": [
            {"number": at + 1, "label": column.label, "is_baseline": at == baseline}
            for at, column in enumerate(columns)
        ],
        "key": [{"role": row.role, "title": ROLES[row.role]} for row in found.roles],
        "roles": [_line(found, row, params) for row in found.roles],
        "total": _total(found),
        "parts": [_line(found, row, params) for row in found.parts],
        "selected": _selected(found, params),
        "cut": found.cut,
        "missing": [columns[at].label for at in found.missing],
        "notes": _notes(found, columns),
    }


def _notes(found: Diff, columns: Sequence[Column]) -> list[str]:
    notes = []
    if found.measure == "time":
        levels = sorted({column.estimate_level for column in columns if column.estimate_level})
        if len(levels) > 1:
            notes.append(
                gettext(
                    "These estimates stand on ceilings of different levels (%(levels)s): differences of time are shown, not ranked."
                )
                % {"levels": enumerated(map(level_word, levels))}
            )
        elif levels == ["datasheet"]:
            notes.append(gettext("Estimates on datasheet ceilings are optimistic bounds."))
    if found.measure == "measured":
        notes.append(
            gettext("Measured with hooks on every module, of the first process: shares of a pass, not latencies.")
        )
    busy = [column.label for column in columns if (column.document.get("conditions") or {}).get("contended")]
    if found.measure == "measured" and busy:
        notes.append(
            gettext("Measured on a machine that was busy with something else: %(busy)s.") % {"busy": enumerated(busy)}
        )
    return notes + _verdict_notes(found)


def _verdict_notes(found: Diff) -> list[str]:
    """What verdicts on modules are, and why there are none where there are none."""
    given = [verdict for verdict in found.verdicts if verdict is not None]
    notes = []
    if any(verdict.verdict != NOT_COMPARABLE for verdict in given):
        notes.append(
            gettext(
                "Faster, slower or no difference shown: each process counts once, as for latencies. Of many modules "
                "one in twenty would fall outside its interval by chance, so no change below 5 % is called one."
            )
        )
    reasons = dict.fromkeys(r for v in given if v.verdict == NOT_COMPARABLE for r in v.reasons)
    return notes + [gettext("No verdicts on modules: %(reason)s") % {"reason": said(reason)} for reason in reasons]


def _links(params: QueryDict, name: str, titles: Mapping[str, Text], current: str) -> list[dict[str, Any]]:
    found = []
    for value, title in titles.items():
        query = params.copy()
        query[name] = value
        found.append({"title": title, "href": f"?{query.urlencode(safe=',')}#layers", "current": value == current})
    return found


def _bar(found: Diff, column: Column, at: int, longest: float) -> dict[str, Any]:
    """One run as a bar of its roles, on the scale of the largest run."""
    pieces, x = [], 0.0
    for row in found.roles:
        value = row.values[at]
        if value:
            width = 100 * value / longest
            text = f"{said_title(row)}: {show(value, found.unit)}, {percent(row.shares[at])}"
            pieces.append({"role": row.role, "x": f"{x:.3f}", "width": f"{width:.3f}", "text": text})
            x += width
    total = found.totals[at]
    return {
        "number": at + 1,
        "label": column.label,
        "pieces": pieces,
        "total": show(total, found.unit),
        "known": total is not None,
        "is_baseline": at == found.baseline,
    }


def said_title(row: Row) -> str:
    """Roles have a name in every language; parts are called as the model calls them, unless they are none of its modules."""
    named = row.key.startswith(("#", "other ")) or row.key == row.role or row.title.endswith(": own work")
    return str(said(row.title)) if named or row.title == "whole model" else row.title


def _line(found: Diff, row: Row, params: QueryDict) -> dict[str, Any]:
    asked = params.get("at")
    return {
        "title": said_title(row),
        "role": row.role,
        "match": row.match,
        "selected": bool(asked) and asked in (row.match, of_role(row.role)),
        "select": select_link(params, None if asked == row.match else row.match),
        "cells": [_cell(found, row, at) for at in range(len(row.values))],
    }


def _selected(found: Diff, params: QueryDict) -> dict[str, str] | None:
    """What ``?at=`` selects, and the address without it."""
    asked = params.get("at")
    row = next((row for row in (*found.roles, *found.parts) if asked and row.match == asked), None)
    return {"title": said_title(row), "clear": select_link(params, None)} if row else None


def select_link(params: QueryDict, at: str | None) -> str:
    """The address with ``at`` selected; with None nothing is."""
    query = params.copy()
    query.pop("at", None)
    if at is not None:
        query["at"] = at
    return f"?{query.urlencode(safe=',:*')}#layers"


def _total(found: Diff) -> list[dict[str, Any]]:
    base = found.totals[found.baseline]
    cells = []
    for at, total in enumerate(found.totals):
        change = None if total is None or base is None or at == found.baseline else total - base
        cells.append(
            {
                "text": show(total, found.unit),
                "change": _signed(change, found.unit),
                "relative": signed_percent(100 * change / base) if change is not None and base else "",
                **_judged(found.verdicts, at),
            }
        )
    return cells


def _judged(verdicts: Sequence[Verdict | None], at: int) -> dict[str, str]:
    """The verdict in words and its reasons; empty where none is drawn."""
    verdict = verdicts[at] if at < len(verdicts) else None
    if verdict is None or verdict.verdict == NOT_COMPARABLE:
        return {"verdict": "", "why": ""}
    return {"verdict": verdict.verdict, "why": " ".join(verdict.reasons)}


def _cell(found: Diff, row: Row, at: int) -> dict[str, Any]:
    """Value and share; of other columns than the baseline also the change, and how much of the whole difference it is."""
    value, change, base = row.values[at], row.changes[at], row.values[found.baseline]
    modules = row.modules[at]
    cell: dict[str, Any] = {
        "text": show(value, found.unit)
        if value is not None
        else gettext("none")
        if found.totals[at] is not None
        else unknown(),
        "share": percent(row.shares[at]) if row.shares[at] is not None else "",
        "modules": modules,
        "change": "",
        "relative": "",
        "explained": "",
        "only": "",
        "bar": None,
        **_judged(row.verdicts, at),
    }
    if at == found.baseline or change is None:
        return cell
    scale = max(total for total in found.totals if total is not None) or 1.0
    if abs(change) > NOTHING * scale:
        part = found.explained(row, at)
        cell |= {
            "change": _signed(change, found.unit),
            "relative": signed_percent(100 * change / base) if base else "",
            "explained": percent(part) if part is not None else "",
            # What the processes of one program differ by as well is no bar to look at.
            "bar": None if cell["verdict"] == NO_DIFFERENCE else _diverging(found, change, at),
        }
    if value is None and base:
        cell["only"] = gettext("only in the baseline")
    elif value and base is None:
        cell["only"] = gettext("not in the baseline")
    return cell


def _diverging(found: Diff, change: float, at: int) -> dict[str, str] | None:
    """A bar from the middle of 0–100, on the scale of the largest change of a role in this column."""
    largest = max((abs(row.changes[at] or 0.0) for row in found.roles), default=0.0)
    if not largest:
        return None
    width = min(50 * abs(change) / largest, 50)
    return {
        "x": f"{50 - width if change < 0 else 50:.2f}",
        "width": f"{width:.2f}",
        "sign": "less" if change < 0 else "more",
    }


def _signed(change: float | None, unit: str) -> str:
    return "" if change is None else f"{'−' if change < 0 else '+'}{show(abs(change), unit)}"
