"""The processes of a measurement, side by side: what one run of a program says that another does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from profiling.quantities import count, number, show, unknown
from profiling.units import DEFINITIONS

#: Metrics whose medians are shown for each process, as far as the run has them.
SHOWN = (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e_latency", _("Total time")), ("encode_time", _("Encoding")))


def process_table(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """``columns`` (title, definition) and a row for each process; None of a run that was measured in one."""
    entries = [entry for entry in document.get("processes") or () if isinstance(entry, Mapping)]
    if len(entries) < 2:
        return None
    metrics = document.get("metrics") or {}
    medians = {key: (metrics.get(key) or {}).get("processes") or [] for key, _ in SHOWN}
    columns = [(key, title) for key, title in SHOWN if medians[key]]
    rows = []
    for index, entry in enumerate(entries):
        own = [medians[key][index] if index < len(medians[key]) else None for key, _ in columns]
        rows.append(
            {
                "number": index + 1,
                "iterations": count(entry.get("iterations")),
                "load": show(number(entry.get("load_time_s")), "s"),
                "medians": [show(number(value), "s") for value in own],
                "state": _state(entry),
            }
        )
    definitions = [(title, said(DEFINITIONS[f"{key}/1"].formula)) for key, title in columns]
    return {"columns": definitions, "rows": rows}


def _state(entry: Mapping[str, Any]) -> str:
    conditions = entry.get("conditions")
    if not entry.get("complete", True):
        return gettext("ended early")
    if not isinstance(conditions, Mapping):
        return unknown()
    if conditions.get("contended"):
        return gettext("disturbed")
    steady = conditions.get("steady")
    return gettext("quiet") if steady is None else gettext("steady") if steady else gettext("not steady")
