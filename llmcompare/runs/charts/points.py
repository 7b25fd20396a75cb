"""The points of a run's roofline: one per operator group, module or stage, each with the figures of the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext

from llmcompare.runs.charts.base import Document
from llmcompare.runs.charts.roofline import points_of, roofs_of
from llmcompare.runs.layertable import ModuleRow
from profiling.quantities import number

#: As ``profiling.merge.ROOF_MARGIN`` has it (a test compares them): measured ceilings have their own noise.
ROOF_MARGIN = 1.05
#: The measured time of one pass of a stage.
_STAGE_TIMES = {"prefill": "prefill_time", "decode": "decode_time_per_step", "encode": "encode_time"}

Folds = Mapping[str, Mapping[str, ModuleRow]]


def points_per(document: Document, per: str, folds: Folds) -> list[dict[str, Any]]:
    """Points as ``roofline.points`` of the document, with ``at``: what a click on one selects. ``folds``: stage → folded modules."""
    if per == "operator":
        return [dict(point, at=str(point.get("label"))) for point in points_of(document)]
    made = _stage_points(document) if per == "stage" else _module_points(document, folds)
    return [point for point in made if point["intensity"] > 0 and point["flops_per_s"] > 0]


def limit_at(document: Document, intensity: float) -> float | None:
    """The highest FLOP/s that a roof allows which this document's times stand on; ``None`` when none is known."""
    roofs = roofs_of(document)
    used = [roof for roof in roofs if roof.get("used", True)]
    return max((min(r["peak_flops"], intensity * r["bandwidth"]) for r in used), default=None)


def _point(document: Document, **known: Any) -> dict[str, Any] | None:
    flops, moved, time = known["flops"], known["bytes"], known["time_s"]
    if not flops or not moved or not time or min(flops, moved, time) <= 0:
        return None
    intensity, rate = flops / moved, flops / time
    limit = limit_at(document, intensity)
    above = limit is not None and rate > ROOF_MARGIN * limit
    return known | {"intensity": intensity, "flops_per_s": rate, "above_roof": above}


def _stage_points(document: Document) -> Iterator[dict[str, Any]]:
    for name, stage in (document.get("stages") or {}).items():
        known = {
            "label": name,
            "stage": name,
            "at": None,
            "flops": number(stage.get("flops")),
            "bytes": number(stage.get("bytes")),
            "share": 1.0,
            "bound": stage.get("bound"),
        }
        times = [("estimated", number(stage.get("latency_s")))]
        measured = (document.get("metrics") or {}).get(_STAGE_TIMES.get(name, "")) or {}
        if measured.get("origin") == "measured":
            times.append(("measured", number(measured.get("value"))))
        for origin, time in times:
            if point := _point(document, **known, origin=origin, time_s=time):
                yield point


def _module_points(document: Document, folds: Folds) -> Iterator[dict[str, Any]]:
    """Every module with FLOPs of its own: without those inside, so that each FLOP is in one point."""
    for stage, rows in folds.items():
        whole = {
            "estimated": sum(_value(row, "estimate_s") or 0 for row in rows.values() if row.parent is None),
            "measured": sum(_value(row, "exclusive_s") or 0 for row in rows.values()),
        }
        for path, row in rows.items():
            flops, moved, estimate = (_own(row, rows, key) for key in ("flops", "bytes", "estimate_s"))
            if not flops or not moved or flops <= 1e-9 * (_value(row, "flops") or 0):
                continue
            for origin, time in (("estimated", estimate), ("measured", _value(row, "exclusive_s"))):
                point = _point(
                    document,
                    label=_label(path, row),
                    stage=stage,
                    at=path,
                    origin=origin,
                    flops=flops,
                    bytes=moved,
                    time_s=time,
                    share=time / whole[origin] if time is not None and whole[origin] else None,
                    bound=_bound(document, row, flops / moved),
                )
                if point:
                    yield point


def _label(path: str, row: ModuleRow) -> str:
    name = path or gettext("whole model")
    return gettext("%(name)s (own work)") % {"name": name} if row.children else name


def _value(row: ModuleRow, key: str) -> float | None:
    return number(row.sums.get(key))


def _own(row: ModuleRow, rows: Mapping[str, ModuleRow], key: str) -> float | None:
    value = _value(row, key)
    return None if value is None else value - sum(_value(rows[child], key) or 0 for child in row.children)


def _bound(document: Document, row: ModuleRow, intensity: float) -> str | None:
    """What the document says of a module without parts; of work beside its parts, the side of the ridge."""
    if not row.children:
        return row.raw.get("bound")
    roof = next((r for r in roofs_of(document) if r.get("used", True)), None)
    if roof is None:
        return None
    return "compute" if intensity >= roof["peak_flops"] / roof["bandwidth"] else "memory"
