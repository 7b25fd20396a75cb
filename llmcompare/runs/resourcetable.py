"""Resource use over time as the run page shows it: figures, a table by phase, what it cost to sample, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs.charts.resources import phase_title, resource_figures
from llmcompare.runs.tables import records
from profiling.quantities import number, percent, show, unknown

#: Column → title, how a phase's rows become one figure, and unit.
_COLUMNS = (
    ("process_cores", _("Cores, this run"), "mean", ""),
    ("other_cores", _("Cores, the rest"), "mean", ""),
    ("process_rss_bytes", _("Memory, highest (RSS)"), "max", "B"),
    ("available_bytes", _("Available, least"), "min", "B"),
    ("gpu_utilisation_pct", _("Accelerator busy"), "mean", "%"),
    ("gpu_memory_bytes", _("Accelerator memory, highest"), "max", "B"),
    ("gpu_power_w", _("Accelerator power"), "mean", "W"),
    ("package_power_w", _("Processor power"), "mean", "W"),
)
_ORDER = (
    "measure",
    "prepare",
    "load",
    "warmup",
    "iterations",
    "modules",
    "memory",
    "requests",
    "operators",
    "document",
    "estimate",
)
_WHAT = {
    "package_power_w": _("Energy of the processor"),
    "gpu": _("Accelerator"),
    "samples": _("Part of the time"),
}


def resource_use(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Context of ``runs/_resources.html``: ``None`` for runs that are not measured; ``figures`` empty where nothing was recorded."""
    if document.get("kind") != "measure":
        return None
    section = document.get("resources")
    rows = list(records(section.get("timeline"))) if isinstance(section, Mapping) else []
    if not isinstance(section, Mapping) or not rows:
        return {"figures": [], "columns": [], "rows": []}
    present = [column for column in _COLUMNS if any(number(row.get(column[0])) is not None for row in rows)]
    energies = [entry for entry in section.get("energy") or [] if isinstance(entry, Mapping)]
    cost = section.get("cost") or {}
    return {
        "figures": resource_figures(document),
        "columns": [str(column[1]) for column in present]
        + [gettext("Energy (%(source)s)") % {"source": source} for source in _sources(energies)],
        "rows": [_phase_row(phase, rows, present, energies) for phase in _phases(rows)],
        "interval": show(number(section.get("interval_s")), "s"),
        "samples": cost.get("samples"),
        "cost": percent(number(cost.get("cores"))),
        "energy_of": {str(entry.get("source")): said(str(entry.get("of"))) for entry in energies},
        "unavailable": [
            (str(_WHAT.get(str(note.get("what")), note.get("what"))), str(note.get("reason")))
            for note in section.get("unavailable") or []
        ],
    }


def _phases(rows: list[dict]) -> list[Any]:
    """As they follow each other; a short one may be seen in a later process only."""
    found = list(dict.fromkeys(row.get("phase") for row in rows))
    return sorted(found, key=lambda phase: _ORDER.index(phase) if phase in _ORDER else len(_ORDER))


def _sources(energies: list[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(entry.get("source")) for entry in energies))


def _phase_row(phase: Any, rows: list[dict], present: list[tuple], energies: list[Mapping[str, Any]]) -> dict[str, Any]:
    mine = [row for row in rows if row.get("phase") == phase]
    values = [_joined([(number(row.get(key)), number(row.get("seconds")) or 0.0) for row in mine], how, unit)
              for key, _title, how, unit in present]  # fmt: skip
    for source in _sources(energies):
        joules = [number(e.get("joules")) for e in energies if e.get("source") == source and e.get("phase") == phase]
        values.append(show(joules[0], "J") if joules else unknown())
    return {
        "phase": phase_title(phase),
        "seconds": show(sum(number(row.get("seconds")) or 0.0 for row in mine), "s"),
        "values": values,
    }


def _joined(values: list[tuple[float | None, float]], how: str, unit: str) -> str:
    known = [(value, seconds) for value, seconds in values if value is not None and seconds > 0]
    if not known:
        return unknown()
    if how != "mean":
        return show((max if how == "max" else min)(value for value, _ in known), unit)
    mean = sum(value * seconds for value, seconds in known) / sum(seconds for _, seconds in known)
    return f"{mean:.0f} %" if unit == "%" else show(mean, unit) if unit else f"{mean:.2f}"
