"""What a cloud's monitoring says of the time of a run: read by the cloud's own app, where there is one. Pages open no connection for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from django.apps import apps

from llmcompare.common.saying import said
from llmcompare.runs.charts.monitoring import MINUTE_S, monitoring_figures
from llmcompare.runs.models import Run
from profiling.quantities import number, percent, show

CLOUD = "llmcompare.cloud"
#: Who says it.
SOURCE = "Google Cloud Monitoring"


def monitoring_section(run: Run) -> dict[str, Any] | None:
    """``series``, each with its figures, and ``figures`` over the time of the run, of an endpoint of a cloud; None of every other run. No
    points are unknown, not zero."""
    reader = _reader(run)
    if reader is None:
        return None
    found = reader(run)
    series = found or []
    return {
        "waiting": found is None,
        "source": SOURCE,
        "series": [_shown(one) for one in series],
        "figures": monitoring_figures(series, run.started, run.duration_s) if run.started and run.duration_s else [],
    }


def monitoring_json(run: Run) -> dict[str, Any] | None:
    """What the figures of :func:`monitoring_section` are drawn from, for exports: values as they were read, in the units that stand beside
    them; ``series`` is null while nothing was read. Asks the cloud for nothing."""
    reader = _reader(run)
    if reader is None or run.is_active:
        return None
    found = reader(run, ask=False)
    names = ("metric", "title", "parts", "unit", "points")
    return {
        "origin": "reported",
        "source": SOURCE,
        "each_point_covers_s": MINUTE_S,
        "series": None if found is None else [{name: one[name] for name in names} for one in found],
    }


def _reader(run: Run) -> Any:
    """``series_of(run)`` of the cloud's app (:mod:`llmcompare.cloud.series`) for a run of an endpoint of it; None for every other run."""
    if not run.of_endpoint or run.endpoint is None or run.endpoint.kind != "vertex" or not apps.is_installed(CLOUD):
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
