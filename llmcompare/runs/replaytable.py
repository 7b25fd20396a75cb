"""What replay predicts, as the run page shows it: beside the roofline estimate, with where each part of the time is from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, said
from llmcompare.runs.facts import conditions_badge
from profiling.quantities import number, percent, show, unknown
from profiling.replay.section import END_TO_END, METRICS
from profiling.units import DEFINITIONS

Document = Mapping[str, Any]

#: Metric of a prediction by replay → the roofline estimate of the same.
ROOFLINE = {
    "replay_ttft": "ttft",
    "replay_tpot": "tpot",
    END_TO_END: "e2e_latency",
    "replay_encode_time": "encode_time",
}
SHORT = {"replay_ttft": "TTFT", "replay_tpot": "TPOT", END_TO_END: "E2E"}
#: What comparisons call the origin of these figures.
ORIGIN = "predicted by replay"

#: How far off such predictions were found to be: docs/accuracy.md and docs/gpu.md. A range that a prediction has of its own covers less.
_ACCURACY: dict[bool, Text] = {
    False: _(
        "Compared with measurements on two processors, such predictions were off by 9 and 6 % in the median with every operator timed, and one in "
        "ten by more than 16 and 17 %; with every operator interpolated by 13 and 14 % in the median, and one in ten by more than 21 and 41 %."
    ),
    True: _("Compared with measurements of two models on a GPU, such predictions were 3 to 32 % too short."),
}
_GLUE_FROM: dict[str, Text] = {
    "twin": _("measured on a narrow model of the same structure"),
    "other models": _("as in the passes of other models"),
    "unknown": _("unknown"),
}
_FROM: dict[str, Text] = {"timed": _("timed"), "interpolated": _("interpolated"), "extrapolated": _("extrapolated")}
_SLOWER: dict[str, Text] = {"host": _("the host sets the pace"), "device": _("the device sets the pace")}


def replay_view(document: Document) -> dict[str, Any] | None:
    """Tiles, sentences and rows of the prediction; None of a run without one."""
    section = document.get("replay")
    if not isinstance(section, Mapping):
        return None
    shapes = section.get("shapes") or {}
    stages = section.get("stages") or {}
    on_gpu = section.get("device") != "cpu"
    unknown_names = list(
        dict.fromkeys(name for parts in stages.values() for name in parts.get("unknown_operators") or [])
    )
    return {
        "tiles": [_tile(key, document) for key in METRICS if key in (document.get("metrics") or {})],
        "where": _where(section, on_gpu),
        "torch": section.get("torch"),
        "shapes": _shapes(shapes),
        "measured_at": list(dict.fromkeys(_minute(text) for text in shapes.get("measured_at") or [])),
        "conditions": conditions_badge(section),
        "accuracy": _ACCURACY[on_gpu],
        "too_large": ((document.get("memory") or {}).get("estimate") or {}).get("fits") is False,
        "stages": [_stage(name, parts) for name, parts in stages.items()],
        "largest": [
            _operator(name, row, parts) for name, parts in stages.items() for row in parts.get("largest") or []
        ],
        "unknown_operators": unknown_names,
        "refused": [
            {"operator": str(item.get("operator"))[:120], "reason": str(item.get("reason"))}
            for item in section.get("not_replayed") or []
        ],
        "on_gpu": on_gpu,
    }


def bounds(metric: Mapping[str, Any]) -> tuple[str, ...]:
    """Least and most of a prediction; nothing where it has no range of its own."""
    low, high = number(metric.get("low")), number(metric.get("high"))
    if low is None or high is None or high <= low:
        return ()
    unit = str(metric.get("unit", ""))
    return show(low, unit), show(high, unit)


def _tile(key: str, document: Document) -> dict[str, Any]:
    metric = document["metrics"][key] or {}
    unit, definition = str(metric.get("unit", "")), DEFINITIONS.get(str(metric.get("definition")))
    roofline = (document["metrics"].get(ROOFLINE[key]) or {}).get("value")
    plain = DEFINITIONS[f"{ROOFLINE[key]}/1"]
    range_ = bounds(metric)
    return {
        "key": key,
        "title": said(plain.name),
        "short": SHORT.get(key, ""),
        "value": show(metric.get("value"), unit),
        "raw": metric.get("value"),
        "unknown": number(metric.get("value")) is None,
        "unit": unit,
        "low": range_[0] if range_ else "",
        "high": range_[-1] if range_ else "",
        "roofline": show(roofline, unit) if roofline is not None else "",
        "definition_id": metric.get("definition"),
        "definition": said(definition.formula) if definition else "",
    }


def _where(section: Mapping[str, Any], on_gpu: bool) -> str:
    if on_gpu:
        return str(section.get("device"))
    threads = section.get("threads")
    if threads == 1:
        return gettext("the processor, one thread")
    return gettext("the processor, %(threads)s threads") % {"threads": threads or unknown()}


def _shapes(shapes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How many different operators have their time from where; what there is none of is left out."""
    titles = (
        ("timed_now", gettext("timed for this run")),
        ("from_table", gettext("timed earlier on this host")),
        ("interpolated", gettext("interpolated between timed shapes")),
        ("extrapolated", gettext("beyond the timed shapes")),
        ("unknown", gettext("without a time")),
    )
    return [(title, f"{shapes[name]:,}") for name, title in titles if shapes.get(name)]


def _minute(text: str) -> str:
    """A time of the document (ISO 8601) to the minute, in UTC."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text


def _stage(name: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    known = not parts.get("unknown_operators") and parts.get("glue_from") != "unknown"
    seconds = show(parts.get("known_s"), "s")
    return {
        "stage": name,
        "pass": seconds if known else gettext("unknown, at least %(seconds)s") % {"seconds": seconds},
        "own": show(parts.get("own_s"), "s"),
        "interpolated": show(parts.get("interpolated_s"), "s") if parts.get("interpolated_s") else "–",
        "glue": show(parts.get("glue_s"), "s") if parts.get("glue_from") != "unknown" else unknown(),
        "glue_share": _share(parts) if parts.get("combined") == "sum" and known else "",
        "glue_from": str(_GLUE_FROM.get(str(parts.get("glue_from")), unknown())),
        "bound": str(_SLOWER.get(str(parts.get("bound")), "")),
        "tokens": parts.get("tokens"),
        "context": parts.get("context"),
        "contended": parts.get("contended_operators") or 0,
    }


def _share(parts: Mapping[str, Any]) -> str:
    whole = number(parts.get("known_s"))
    return percent((number(parts.get("glue_s")) or 0.0) / whole) if whole else ""


def _operator(stage: str, row: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    whole, seconds = number(parts.get("known_s")), number(row.get("seconds"))
    return {
        "stage": stage,
        "operator": row.get("operator"),
        "module": row.get("module") or "–",
        "inputs": ", ".join("×".join(str(n) for n in shape) or "1" for shape in row.get("inputs") or []),
        "count": f"{row.get('count', 0):,}",
        "time": show(seconds, "s"),
        "share": percent(seconds / whole) if seconds is not None and whole else unknown(),
        "from": str(_FROM.get(str(row.get("from")), row.get("from"))),
    }
