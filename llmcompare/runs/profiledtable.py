"""What torch's profiler saw in one pass of a measured run: operators under the modules that ran them, for the run page."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from llmcompare.runs.tables import records
from profiling.quantities import count, number, percent, show

#: Rows shown of a stage, those with most time; the JSON export has all that were kept.
SHOWN = 60


def profiled_table(document: Mapping[str, Any], stage: str) -> dict[str, Any] | None:
    """Rows of ``stage``, the same module of every block as one; None where nothing was profiled in it."""
    section = document.get("profiled")
    if not isinstance(section, Mapping):
        return None
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    has_device = False
    for row in records(section):
        if row.get("stage") != stage:
            continue
        group = re.sub(r"\b\d+\b", "*", str(row.get("path") or "")) or "(model)"
        own = sums[group, str(row.get("operator"))]
        device = number(row.get("self_device_s"))
        has_device = has_device or device is not None
        own[0] += number(row.get("calls")) or 0.0
        own[1] += number(row.get("self_cpu_s")) or 0.0
        own[2] += device or 0.0
    if not sums:
        return None
    used = 2 if has_device else 1
    whole = sum(own[used] for own in sums.values())
    ordered = sorted(sums.items(), key=lambda item: -item[1][used])
    rows = [
        {
            "path": path,
            "operator": operator,
            "calls": count(calls) if calls else "–",
            "cpu": show(cpu, "s"),
            "device": show(device, "s") if has_device else "",
            "share": percent((device if has_device else cpu) / whole) if whole else "",
        }
        for (path, operator), (calls, cpu, device) in ordered[:SHOWN]
    ]
    copies = [
        {
            "direction": str(copy.get("direction")),
            "calls": count(copy.get("calls")),
            "time": show(copy.get("time_s"), "s"),
        }
        for copy in section.get("copies") or ()
        if isinstance(copy, Mapping)
    ]
    return {
        "stage": stage,
        "passes": count((section.get("passes") or {}).get(stage)),
        "has_device": has_device,
        "rows": rows,
        "more": max(0, len(ordered) - SHOWN),
        "copies": copies,
    }
