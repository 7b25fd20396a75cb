"""Runs side by side: a pure function from runs and their documents to the rows that the comparison page shows.

A difference is given in per cent of the baseline. Whether it is an improvement follows from the metric's definition. Two numbers of
different origin (estimated, measured) or of estimates on different ceilings are never ranked: the difference is shown without a colour,
and the page says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmcompare.runs.facts import text_of
from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS
from llmcompare.runs.tiles import MAIN, ORDER, ceilings_level
from profiling.judgements import verdict_on, where
from profiling.quantities import number, show, signed_percent
from profiling.units import DEFINITIONS
from profiling.verdicts import FASTER, SLOWER

MAX_RUNS = 20

#: Conditions that can make two runs incomparable: title, where it stands in the document (or the frozen spec), and whether a
#: difference deserves a warning. A different model or hardware is what people compare, so it does not.
CONDITIONS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("Kind", ("kind",), False),
    ("Model", ("model", "name"), False),
    ("Architecture", ("model", "architecture"), False),
    ("Parameters", ("model", "parameters"), False),
    ("Weights", ("model", "weights"), False),
    ("Weights note", ("model", "weights_note"), False),
    ("Hardware", ("hardware", "name"), False),
    ("Batch size", ("workload", "batch_size"), True),
    ("Input tokens", ("workload", "input_tokens"), True),
    ("Output tokens", ("workload", "output_tokens"), True),
    ("Data type", ("workload", "dtype"), True),
    ("Attention", ("workload", "attn_implementation"), True),
    ("Logits", ("conventions", "logits"), True),
    ("Execution", ("conventions", "execution"), True),
    ("Ceilings", ("conventions", "ceilings"), False),
    ("Threads", ("environment", "threads"), True),
    ("torch", ("producer", "torch"), True),
    ("transformers", ("producer", "transformers"), True),
    ("Engine", ("producer", "version"), True),
)


@dataclass(frozen=True)
class Column:
    """One run of the comparison. ``document`` is empty while there is none."""

    run: Run
    document: Mapping[str, Any]

    @property
    def label(self) -> str:
        return str(self.run)

    @property
    def origin(self) -> str:
        """What the times of this run are: ``measured``, or ``estimated`` on which ceilings."""
        if self.document.get("kind") == "measure":
            return "measured"
        level = ceilings_level(self.document)
        return f"estimated, {level} ceilings" if level else "estimated"


def columns_of(runs: Sequence[Run]) -> list[Column]:
    return [Column(run, run.document.data if hasattr(run, "document") else {}) for run in runs]


def comparison(columns: Sequence[Column], *, baseline: int = 0, only_differences: bool = False) -> dict[str, Any]:
    """``metrics`` and ``conditions`` rows with one cell per column, ``notes`` to read before drawing conclusions.

    With ``only_differences`` conditions that are the same everywhere are left out (``hidden`` counts them); metrics never are.
    """
    conditions = [_condition_row(title, path, columns) for title, path, _ in CONDITIONS] + _option_rows(columns)
    conditions = [row for row in conditions if any(cell != "" for cell in row["cells"])]
    shown = [row for row in conditions if row["differs"] or not only_differences]
    return {
        "metrics": [_metric_row(key, columns, baseline) for key in _metric_keys(columns)],
        "conditions": shown,
        "hidden": len(conditions) - len(shown),
        "notes": notes(columns),
    }


def _metric_keys(columns: Sequence[Column]) -> list[str]:
    present = {key for column in columns for key in (column.document.get("metrics") or {})}
    return [k for k in ORDER if k in present] + sorted(present - set(ORDER))


def _metric_row(key: str, columns: Sequence[Column], baseline: int) -> dict[str, Any]:
    figures = [(column.document.get("metrics") or {}).get(key) for column in columns]
    first = next(figure for figure in figures if figure)
    definition = DEFINITIONS.get(str(first.get("definition")))
    return {
        "key": key,
        "title": definition.name if definition else key.replace("_", " ").capitalize(),
        "definition": definition.formula if definition else "",
        "better": definition.better if definition else "",
        "main": key in MAIN,
        "cells": [
            _metric_cell(key, column, columns[baseline], definition.better if definition else "")
            | {"origin": column.origin if figure else "", "is_baseline": index == baseline}
            for index, (column, figure) in enumerate(zip(columns, figures, strict=True))
        ],
    }


def _metric_cell(key: str, column: Column, baseline: Column, better: str) -> dict[str, Any]:
    """``tone`` is ``better``, ``worse`` or "" where nothing may be said; ``verdict`` and ``why`` (of measurements) say what and why."""
    figure, base = ((c.document.get("metrics") or {}).get(key) for c in (column, baseline))
    if figure is None:
        return {"text": "–", "raw": None, "delta": "", "tone": "", "verdict": "", "why": ""}
    unit = str(figure.get("unit", ""))
    value, reference = number(figure.get("value")), number((base or {}).get("value"))
    cell = {"text": show(figure.get("value"), unit), "raw": value, "delta": "", "tone": "", "verdict": "", "why": ""}
    if base is None or column is baseline or value is None or not reference:
        return cell
    if base.get("definition") != figure.get("definition") or base.get("unit") != unit:
        return cell
    change = 100.0 * (value - reference) / reference
    cell["delta"] = signed_percent(change)
    if column.origin != baseline.origin or not better:
        return cell
    if column.origin == "measured":
        return cell | _judged(key, column, baseline, change, better)
    # Estimates have no noise: all that the text, with its one decimal, shows as a difference is one.
    return cell | {"tone": _tone(change < 0, better) if abs(change) >= 0.05 else ""}


def _tone(lower: bool, better: str) -> str:
    return "better" if lower == (better == "lower") else "worse"


#: Figures that a measurement takes once: ranked beyond so many per cent.
TAKEN_ONCE, MEASURED_NOISE = ("peak_memory", "load_time"), 5.0


def _judged(key: str, column: Column, baseline: Column, change: float, better: str) -> dict[str, str]:
    """Tone, verdict and reasons of a measured figure; of one that iterations do not give, the tone alone."""
    verdict = verdict_on(key, baseline.document, column.document)
    if verdict is None:
        busy = any((side.document.get("conditions") or {}).get("contended") for side in (column, baseline))
        ranked = key in TAKEN_ONCE and abs(change) >= MEASURED_NOISE and not (busy and key == "load_time")
        return {"tone": _tone(change < 0, better) if ranked else ""}
    tone = {FASTER: "better", SLOWER: "worse"}.get(verdict.verdict, "")
    return {"tone": tone, "verdict": verdict.verdict, "why": " ".join((*verdict.reasons, where(verdict))).strip()}


def _condition_row(title: str, path: tuple[str, ...], columns: Sequence[Column]) -> dict[str, Any]:
    values = [_lookup(column, path) for column in columns]
    return {
        "title": title,
        "cells": ["" if value is None else text_of(path[-1], value) for value in values],
        "differs": any(value != values[0] for value in values[1:]),
    }


def _option_rows(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The options that not every run leaves as they are by themselves, and that no other row shows: an absent value is the default."""
    others = {path[-1] for _, path, _ in CONDITIONS}
    workloads = [_lookup(column, ("workload",)) or {} for column in columns]
    rows = []
    for option in (o for o in OPTIONS if o.name not in others):
        # Whatever leaves the option as it is counts as its default, however it is written.
        values = [None if option.is_plain(w) else w[option.name] for w in workloads]
        if any(value is not None for value in values):
            shown = [option.says(option.default if value is None else value) for value in values]
            rows.append({"title": option.title, "cells": shown, "differs": len(set(map(repr, values))) > 1})
    return rows


def _lookup(column: Column, path: tuple[str, ...]) -> Any:
    value: Any = column.document or {"kind": column.run.kind, **column.run.spec}
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def notes(columns: Sequence[Column]) -> list[str]:
    """What a reader has to know before comparing these columns; empty when nothing stands against it."""
    found = []
    waiting = [column.label for column in columns if not column.document]
    if waiting:
        found.append(f"No results yet: {', '.join(waiting)}.")
    origins = {column.origin for column in columns if column.document}
    if len(origins) > 1:
        found.append(
            "These numbers are of different origin (" + "; ".join(sorted(origins)) + "). "
            "An estimate on datasheet ceilings is an optimistic bound: differences between columns of different origin are shown without a verdict."
        )
    different = [
        title.lower()
        for title, path, matters in CONDITIONS
        if matters and len({repr(v) for v in (_lookup(c, path) for c in columns if c.document) if v is not None}) > 1
    ]
    different += [
        row["title"][0].lower() + row["title"][1:]
        for row in _option_rows([c for c in columns if c.document])
        if row["differs"]
    ]
    if different:
        found.append(f"The conditions differ in {', '.join(different)}: part of each difference may come from that.")
    if any((column.document.get("parallelism") or {}).get("devices", 1) > 1 for column in columns):
        found.append(
            "Of runs on several devices memory and utilisation are those of one device, throughput is that of all together."
        )
    contended = [c.label for c in columns if (c.document.get("conditions") or {}).get("contended")]
    if contended:
        found.append(f"Measured while the machine was busy with something else: {', '.join(contended)}.")
    if sum(column.origin == "measured" for column in columns) > 1:
        found.append(
            "Measurements are ranked by the differences between their processes, not between iterations of one: a run of a single process "
            "differs from the next by several per cent without any reason, so it is not ranked."
        )
    return found
