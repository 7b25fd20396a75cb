"""The exported values of history as texts for its pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext, ngettext

from llmcompare.common.saying import said
from llmcompare.history.charts import sparkline
from llmcompare.history.reading import Series
from llmcompare.runs.endpointtags import told_apart
from llmcompare.runs.options import tags
from profiling.quantities import show, signed_percent, unknown

#: Points of a sparkline.
SPARK = 40
TONES = {"better": "better", "worse": "worse"}


def workload_words(about: Mapping[str, Any]) -> str:
    """ "batch 1 · 128 tokens in · 32 out · bf16 · weights int4". What is not known of a server (batch, data type) is left out."""
    parts = []
    if about["batch_size"]:
        parts.append(gettext("batch %(batch)s") % {"batch": about["batch_size"]})
    if about["input_tokens"]:
        parts.append(gettext("%(count)s tokens in") % {"count": about["input_tokens"]})
    if about["output_tokens"]:
        parts.append(gettext("%(count)s out") % {"count": about["output_tokens"]})
    if about["dtype"]:
        parts.append(str(about["dtype"]))
    if about["prompt"]:
        parts.append(gettext("with a prompt"))
    # Of an endpoint the rest is in its name.
    return " · ".join(parts if about["kind"] == "endpoint" else [*parts, *tags(about["options"])])


def series_name(about: Mapping[str, Any]) -> str:
    """ "Model on place"; of an endpoint also what tells it from its other series: "tiny on My server: 8 users, 50 requests"."""
    name = gettext("%(model)s on %(place)s") % {"model": about["model"], "place": about["host"] or about["hardware"]}
    if about["kind"] != "endpoint":
        return name
    return gettext("%(name)s: %(load)s") % {"name": name, "load": ", ".join(told_apart(about))}


def verdict_words(verdict: str, change_pct: float | None, better: str) -> str:
    """What a point says against its band: "12.3 % more, outside the band"."""
    if change_pct is None:
        return gettext("too few runs before it")
    size = signed_percent(change_pct)
    if verdict == "inside":
        return gettext("%(change)s, as usual") % {"change": size}
    if verdict in ("better", "worse"):
        lower = (better == "lower") == (verdict == "better")
        text = (
            gettext("%(change)s, below the band: %(verdict)s")
            if lower
            else gettext("%(change)s, above the band: %(verdict)s")
        )
        return text % {"change": size, "verdict": said(verdict)}
    text = gettext("%(change)s, outside the band") if verdict else gettext("%(change)s, not used")
    return text % {"change": size}


def _range(low: float, high: float, unit: str) -> str:
    return gettext("%(low)s to %(high)s") % {"low": show(low, unit), "high": show(high, unit)}


def line_row(line: Mapping[str, Any]) -> dict[str, Any]:
    values = line["values"][-SPARK:]
    unit = line["unit"]
    return {
        **line,
        "name": series_name(line),
        "workload": workload_words(line),
        "shown": show(line["value"], unit) if line["value"] is not None else "",
        "spark": sparkline(values, line["band"]),
        "change": signed_percent(line["change_pct"]) if line["change_pct"] is not None else "",
        "tone": TONES.get(line["verdict"], ""),
        "verdict_title": gettext("as usual") if line["verdict"] == "inside" else said(line["verdict"]),
        "usual": _range(line["band"]["low"], line["band"]["high"], unit) if line["band"] else "",
        "spark_text": ngettext(
            "%(count)s run, from %(first)s to %(last)s", "%(count)s runs, from %(first)s to %(last)s", len(values)
        )
        % {
            "count": len(values),
            "first": show(values[0]["value"], unit),
            "last": show(values[-1]["value"], unit),
        }
        if values
        else "",
    }


def tiles(exported: Mapping[str, Any], chosen: str, params: Any) -> list[dict[str, Any]]:
    """One tile for each metric, with its newest accepted figure; each is a link that shows the metric in the chart."""
    found = []
    for metric in exported["metrics"]:
        usable = [point for point in metric["points"] if point["value"] is not None]
        newest = next((point for point in reversed(usable) if point["accepted"]), None)
        query = params.copy()
        query["metric"] = metric["key"]
        found.append(
            {
                "key": metric["key"],
                "title": said(metric["title"]),
                "url": f"?{query.urlencode()}#chart-title",
                "current": metric["key"] == chosen,
                "counted": exported["kind"] == "endpoint" and metric["origin"] == "estimated",
                "value": show(newest["value"], metric["unit"]) if newest else unknown(),
                "words": verdict_words(newest["verdict"], newest["change_pct"], metric["better"])
                if newest
                else gettext("no accepted run"),
                "tone": TONES.get(newest["verdict"], "") if newest else "",
                "spark": sparkline(
                    [{"value": point["value"], "accepted": point["accepted"]} for point in usable[-SPARK:]],
                    newest["band"] if newest else None,
                ),
                "steps": len(metric["steps"]),
            }
        )
    return found


def run_rows(series: Series, metric: Mapping[str, Any] | None, editable: set[str]) -> list[dict[str, Any]]:
    """The table twin of the chart, newest run first: figure, band, versions, marks."""
    points = {point["run"]: point for point in (metric["points"] if metric else ())}
    found_steps = {step["run"]: step for step in (metric["steps"] if metric else ())}
    unit, better = (metric["unit"], metric["better"]) if metric else ("", "")
    rows: list[dict[str, Any]] = []
    before: dict[str, str] = {}
    for run in series.runs:
        point = points.get(run.public_id)
        band = point["band"] if point else None
        step = found_steps.get(run.public_id)
        changed = {name: (before[name], now) for name, now in run.versions.items() if before.get(name, now) != now}
        before |= run.versions
        rows.append(
            {
                "run": run,
                "value": show(point["value"], unit) if point else "",
                "interval": _range(point["ci95"][0], point["ci95"][1], unit) if point and point["ci95"] else "",
                "band": _range(band["low"], band["high"], unit) if band else "",
                "verdict": verdict_words(point["verdict"], point["change_pct"], better) if point else "",
                "tone": TONES.get(point["verdict"], "") if point else "",
                "why_not": said(point["why_not"]) if point else "",
                "counted": run.of_endpoint and point is not None and point["origin"] == "estimated",
                "step": gettext("step %(change)s") % {"change": signed_percent(step["change_pct"])} if step else "",
                "step_p": f"p = {step['p']:.3f}" if step else "",
                "changed": changed,
                "marks": series.marks.get(run.pk, ()),
                "editable": run.public_id in editable,
            }
        )
    return rows[::-1]
