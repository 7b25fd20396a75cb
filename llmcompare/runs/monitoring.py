"""What a cloud's monitoring says of the time of a run: read by the cloud's own app, where there is one. Pages open no connection for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from django.apps import apps

from llmcompare.common.saying import said
from llmcompare.runs.models import Run
from profiling.quantities import number, percent, show

CLOUD = "llmcompare.cloud"


def monitoring_section(run: Run) -> dict[str, Any] | None:
    """``series``, each with its figures, of an endpoint of a cloud; None of every other run. No points are unknown, not zero."""
    reader = _reader()
    if reader is None or not run.of_endpoint or run.endpoint is None or run.endpoint.kind != "vertex":
        return None
    found = reader(run)
    return {"waiting": found is None, "series": [_shown(one) for one in found or []]}


def _reader() -> Any:
    """``series_of(run)`` of the cloud's app: series as ``{title, unit, points: [[time, value], …]}``, None while nothing was read yet."""
    if not apps.is_installed(CLOUD):
        return None
    try:
        return getattr(import_module(f"{CLOUD}.series"), "series_of", None)
    except ImportError:
        return None


def _shown(one: Mapping[str, Any]) -> dict[str, Any]:
    unit = str(one.get("unit") or "")
    values = [value for point in one.get("points") or [] if (value := number(point[1])) is not None]
    return {
        "title": said(str(one.get("title") or "")),
        "points": len(values),
        "least": _text(min(values), unit) if values else "",
        "mean": _text(sum(values) / len(values), unit) if values else "",
        "most": _text(max(values), unit) if values else "",
    }


def _text(value: float, unit: str) -> str:
    return percent(value) if unit == "ratio" else show(value, unit)
