"""A series and the list of series as plain values: the JSON of their addresses, the CSV, and what their charts are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.urls import reverse

from llmcompare.history import lookback, steps
from llmcompare.history.models import Mark
from llmcompare.history.reading import LIST_METRICS, MOST_RUNS, Metric, Series, line_metric, version_changes
from llmcompare.runs.endpointtags import told_apart
from llmcompare.runs.models import Run
from llmcompare.runs.options import chosen
from llmcompare.runs.tiles import UNTIMED

SCHEMA = {"schema_version": "1.0"}
#: Columns of the CSV of a series: one row per metric and run.
SERIES_HEADER = (
    "metric",
    "unit",
    "definition",
    "origin",
    "run",
    "time",
    "value",
    "ci95_low",
    "ci95_high",
    "accepted",
    "why_not",
    "band_centre",
    "band_low",
    "band_high",
    "band_runs",
    "change_pct",
    "verdict",
    "step_change_pct",
    "step_p",
    "expected_change",
    "notes",
    "engine",
    "torch",
    "transformers",
    "python",
    "driver",
)
LIST_HEADER = (
    "series",
    "kind",
    "model",
    "hardware",
    "host",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "dtype",
    "options",
    "load",
    "runs",
    "latest",
    "metric",
    "unit",
    "origin",
    "ceilings",
    "newest_run",
    "value",
    "band_centre",
    "band_low",
    "band_high",
    "change_pct",
    "verdict",
    "url",
)


def identity(series: Series, workload: Mapping[str, Any]) -> dict[str, Any]:
    """What a series is of, by its newest run. ``workload``: the frozen one of that run (``asking.asked_of``); its prompt stays out."""
    run = series.newest
    of_endpoint = {
        # Where lengths are drawn, the workload says nothing of them.
        **{name: getattr(run, name) or None for name in ("input_tokens", "output_tokens")},
        **{name: workload.get(name) for name in ("load", "sweep")},
        "unique_prompts": (workload.get("endpoint") or {}).get("unique_prompts"),
        "place": (workload.get("endpoint") or {}).get("place") or 0,
    }
    return {
        "series": series.key,
        "kind": run.kind,
        "model": run.model_name,
        "hardware": run.hardware_name,
        "host": run.host.name if run.host else None,
        **{name: workload.get(name) for name in ("batch_size", "input_tokens", "output_tokens", "dtype")},
        "prompt": bool(workload.get("prompt") or workload.get("prompts")),
        "options": chosen(workload),
        "runs": series.total,
        "ceilings": run.ceilings or None,
        "latest": run.at,  # type: ignore[attr-defined]
        **(of_endpoint if run.of_endpoint else {}),
    }


def series_object(series: Series, workload: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the page of a series shows."""
    return {
        "schema": "llmcompare-series",
        **SCHEMA,
        **identity(series, workload),
        "shown_runs": len(series.runs),
        "most_runs": MOST_RUNS,
        "lookback": series.lookback,
        "band_definition": lookback.DEFINITION.format(lookback=series.lookback),
        "step_definition": steps.DEFINITION,
        "metrics": [metric_object(metric) for metric in series.metrics],
        "versions": [{"run": run.public_id, **run.versions} for run in series.runs],
        "version_changes": version_changes(series.runs),
        "marks": [mark_object(mark, run) for run in series.runs for mark in series.marks.get(run.pk, ())],
    }


def metric_object(metric: Metric) -> dict[str, Any]:
    return {
        "key": metric.key,
        "title": metric.title,
        "unit": metric.unit,
        "definition": metric.definition,
        "better": metric.better,
        "origin": metric.origin,
        "points": [
            {
                "run": j.point.run,
                "time": j.point.at,
                "value": j.point.value,
                "origin": j.point.origin,
                "ci95": None if j.point.low is None else [j.point.low, j.point.high],
                "accepted": j.point.accepted,
                "why_not": j.point.why_not,
                "band": _band(j.band),
                "change_pct": j.change_pct,
                "verdict": j.verdict,
            }
            for j in metric.points
        ],
        "steps": [
            {
                "run": metric.counted[step.at].point.run,
                "before": step.before,
                "after": step.after,
                "change_pct": step.change_pct,
                "p": step.p,
            }
            for step in metric.steps
        ],
    }


def _band(band: lookback.Band | None) -> dict[str, Any] | None:
    if band is None:
        return None
    names = ("centre", "low", "high", "runs", "mad_pct", "half_pct")
    return {name: getattr(band, name) for name in names}


def mark_object(mark: Mark, run: Run) -> dict[str, Any]:
    who = mark.by.username if mark.by else None
    return {"run": run.public_id, "kind": mark.kind, "text": mark.text, "by": who, "created": mark.created}


def series_rows(exported: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Rows of :data:`SERIES_HEADER` from :func:`series_object`."""
    versions = {entry["run"]: entry for entry in exported["versions"]}
    expected = {mark["run"] for mark in exported["marks"] if mark["kind"] == Mark.Kind.EXPECTED}
    texts: dict[str, list[str]] = {}
    for mark in exported["marks"]:
        texts.setdefault(mark["run"], []).append(mark["text"])
    for metric in exported["metrics"]:
        found = {step["run"]: step for step in metric["steps"]}
        for point in metric["points"]:
            run, band, interval = point["run"], point["band"] or {}, point["ci95"] or (None, None)
            step, made = found.get(run) or {}, versions.get(run) or {}
            yield (
                *(metric[name] for name in ("key", "unit", "definition")),
                point["origin"] or metric["origin"],
                run,
                point["time"],
                point["value"],
                *interval,
                point["accepted"],
                point["why_not"],
                *(band.get(name) for name in ("centre", "low", "high", "runs")),
                point["change_pct"],
                point["verdict"],
                step.get("change_pct"),
                step.get("p"),
                run in expected,
                " | ".join(texts.get(run, ())),
                *(made.get(name) for name in ("engine", "torch", "transformers", "python", "driver")),
            )


def line_object(series: Series, metric: str, workload: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the list: what the series is of, and its newest accepted figure against the band before it."""
    shown = line_metric(series, metric)
    newest = shown.newest
    band = newest.band if newest else None
    return identity(series, workload) | {
        "metric": shown.key,
        "unit": shown.unit,
        "origin": shown.origin,
        "optimistic": series.newest.is_optimistic and shown.key not in UNTIMED,
        "newest_run": newest.point.run if newest else None,
        "value": newest.point.value if newest else None,
        "band": _band(band),
        "change_pct": newest.change_pct if newest else None,
        "verdict": newest.verdict if newest else "",
        "values": [
            {"run": j.point.run, "value": j.point.value, "accepted": j.point.accepted}
            for j in shown.points
            if j.point.value is not None
        ],
        "url": settings.PUBLIC_URL + reverse("history:series", args=[series.key]),
    }


def list_object(lines: Iterable[Mapping[str, Any]], metric: str, total: int) -> dict[str, Any]:
    return {
        "schema": "llmcompare-history",
        **SCHEMA,
        "metric": metric,
        "metrics": list(LIST_METRICS[metric]),
        "total": total,
        "band_definition": lookback.DEFINITION.format(lookback=lookback.DEFAULT_LOOKBACK),
        "series": list(lines),
    }


def list_rows(lines: Iterable[Mapping[str, Any]]) -> Iterator[Sequence[Any]]:
    for line in lines:
        band = line["band"] or {}
        words = "; ".join(told_apart(line)) if line["kind"] == "endpoint" else ""
        flat = {**line, "load": words, **{f"band_{name}": band.get(name) for name in ("centre", "low", "high")}}
        yield [flat[name] for name in LIST_HEADER]
