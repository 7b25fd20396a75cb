"""Measured memory by part and by phase as the run page shows it, beside the estimate; and the timeline as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcompare.runs.charts import measured_part
from llmcompare.runs.tables import records
from profiling.quantities import number, show, signed_percent


def memory_by_part(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a phase with its parts; empty for documents without a breakdown (estimates, and measurements of earlier versions)."""
    phases: dict[str, list[dict[str, Any]]] = {}
    for row in records((document.get("memory") or {}).get("breakdown")):
        error = number(row.get("error_pct"))
        title, tone = measured_part(document, str(row.get("part")))
        phases.setdefault(str(row.get("phase")), []).append(
            {
                "part": title,
                "tone": tone,
                "measured": show(number(row.get("measured_bytes")), "B"),
                "estimated": show(number(row.get("estimated_bytes")), "B")
                if row.get("estimated_bytes") is not None
                else "–",
                "error": "–" if error is None else signed_percent(error),
                "note": str(row.get("note") or ""),
            }
        )
    return [{"phase": phase, "parts": parts} for phase, parts in phases.items()]


def timeline_rows(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The timeline in a few rows: per phase and kind, from when to when, and the least and the most of it."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in records((document.get("memory") or {}).get("timeline")):
        at, size = number(row.get("t_ns")), number(row.get("bytes"))
        if at is not None and size is not None:
            found.setdefault((str(row.get("phase")), str(row.get("kind"))), []).append((at / 1e9, size))
    start = min((points[0][0] for points in found.values()), default=0.0)
    return [
        {
            "phase": phase,
            "kind": kind,
            "begin": show(points[0][0] - start, "s"),
            "end": show(points[-1][0] - start, "s"),
            "least": show(min(size for _, size in points), "B"),
            "most": show(max(size for _, size in points), "B"),
        }
        for (phase, kind), points in found.items()
    ]
