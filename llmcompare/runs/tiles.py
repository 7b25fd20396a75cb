"""The numbers at the top of a run page: value, unit, where it comes from, what it means, and the estimate beside a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs.division import division_of
from profiling.quantities import number, percent, show, signed_percent, unknown
from profiling.replay.section import METRICS as OF_REPLAY
from profiling.units import DEFINITIONS

Document = Mapping[str, Any]

#: Order of the tiles; a metric that is not listed comes after these.
ORDER = (
    "ttft",
    "tpot",
    "e2e_latency",
    "encode_time",
    "output_throughput",
    "encode_throughput",
    "peak_memory",
    "prefill_throughput",
    "decode_throughput",
    "mfu_prefill",
    "mbu_decode",
    "prefill_time",
    "decode_time_per_step",
    "itl",
    "load_time",
)
#: Of a run of an endpoint, as seen from here; throughput is of all requests together.
OF_ENDPOINT = (
    "endpoint_ttft",
    "endpoint_tpot",
    "endpoint_e2e_latency",
    "request_output_throughput",
    "request_goodput",
    "goodput_share",
    "request_throughput",
    "endpoint_first_event",
    "inter_chunk_latency",
)
#: These stand in the load's own table, beside what they were measured with.
OF_LOAD = {"request_ttft", "request_tpot", "request_e2e_latency", "request_queue_time", "request_output_throughput"}
#: The first ones are drawn large.
MAIN = {"ttft", "tpot", "e2e_latency", "output_throughput", "encode_time", "encode_throughput", "peak_memory"}
MAIN |= {"endpoint_ttft", "endpoint_tpot", "endpoint_e2e_latency", "request_output_throughput"}
OF_ONE_DEVICE = {"peak_memory"}
OF_ALL_DEVICES = {"output_throughput", "encode_throughput", "prefill_throughput", "decode_throughput"}
SHORT = {"endpoint_ttft": "TTFT", "endpoint_tpot": "TPOT", "endpoint_e2e_latency": "E2E"}
SHORT |= {"ttft": "TTFT", "tpot": "TPOT", "e2e_latency": "E2E", "mfu_prefill": "MFU", "mbu_decode": "MBU"}
#: Figures that neither ceilings nor a busy machine change.
UNTIMED = frozenset({"peak_memory"})
BOUND_WORDS = {
    "compute": _("compute-bound"),
    "memory": _("memory-bound"),
    "overhead": _("overhead-bound"),
    "network": _("network-bound"),
}


def metric_tiles(document: Document) -> list[dict[str, Any]]:
    """One tile per metric of the document, main ones first. An absent metric has no tile, an unknown one says so."""
    metrics = document.get("metrics") or {}
    if document.get("kind") == "endpoint":
        keys = [k for k in OF_ENDPOINT if k in metrics] + [k for k in metrics if k not in OF_ENDPOINT]
    else:
        keys = [k for k in ORDER if k in metrics] + [k for k in metrics if k not in (*ORDER, *OF_LOAD, *OF_REPLAY)]
    return [_tile(key, metrics[key] or {}, document) for key in keys]


def _tile(key: str, metric: Mapping[str, Any], document: Document) -> dict[str, Any]:
    unit = str(metric.get("unit", ""))
    definition = DEFINITIONS.get(str(metric.get("definition")))
    origin = str(metric.get("origin", ""))
    tile: dict[str, Any] = {
        "key": key,
        "title": said(definition.name if definition else key.replace("_", " ").capitalize()),
        "short": SHORT.get(key, ""),
        "main": key in MAIN,
        "value": show(metric.get("value"), unit),
        "raw": metric.get("value"),
        "unknown": number(metric.get("value")) is None,
        "unit": unit,
        "origin": origin,
        "origin_note": _origin_note(origin, document),
        "timed": key not in UNTIMED,
        "definition_id": metric.get("definition"),
        "definition": said(definition.formula)
        if definition
        else gettext("This version has no definition of this metric."),
        "better": definition.better if definition else "",
        "spread": _spread(metric, unit),
        "brief": " · ".join(filter(None, (_brief(metric, unit), _of_what(key, metric, document)))),
        "estimates": _estimates(key, unit, document),
    }
    if key == "peak_memory":
        tile["memory"] = memory_fit(document, number(metric.get("value")))
    return tile


def _origin_note(origin: str, document: Document) -> str:
    if origin != "estimated" or document.get("kind") == "endpoint":
        return ""
    return ceilings_note(document)


def ceilings_note(document: Document) -> str:
    """Which level of ceilings the estimate stands on, in the document's own words."""
    return str((document.get("conventions") or {}).get("ceilings") or gettext_noop("ceilings not stated"))


def ceilings_level(document: Document) -> str:
    """``datasheet`` or ``measured`` as one word for badges; "" when the document does not say."""
    note = str((document.get("conventions") or {}).get("ceilings") or "").lower()
    return next((level for level in ("datasheet", "measured") if note.startswith(level)), "")


def _spread(metric: Mapping[str, Any], unit: str) -> list[tuple[str, str]]:
    """How sure a measured value is: samples, interval, range."""
    rows: list[tuple[str, str]] = []
    if "n" in metric:
        rows.append(("n", f"{metric['n']:,}" if isinstance(metric["n"], int) else unknown()))
    medians = [m for m in metric.get("processes") or () if number(m) is not None]
    if medians:
        words = gettext("%(count)s, medians %(low)s – %(high)s")
        values = {"count": len(medians), "low": show(min(medians), unit), "high": show(max(medians), unit)}
        rows.append((gettext("processes"), words % values))
    if "ci95" in metric:
        interval = metric["ci95"]
        if interval:
            rows.append((gettext("95 % interval"), _interval(interval, unit)))
        else:
            few = gettext("one process") if len(medians) == 1 else gettext("too few samples")
            rows.append((gettext("95 % interval"), few))
    if number(metric.get("min")) is not None and number(metric.get("max")) is not None:
        rows.append((gettext("range"), f"{show(metric['min'], unit)} – {show(metric['max'], unit)}"))
    if number(metric.get("cv")) is not None:
        rows.append((gettext("variation"), percent(metric["cv"])))
    if metric.get("note"):
        rows.append((gettext("note"), said(str(metric["note"]))))
    return rows


def _interval(interval: Sequence[Any], unit: str) -> str:
    return f"{show(interval[0], unit)} – {show(interval[1], unit)}"


def _brief(metric: Mapping[str, Any], unit: str) -> str:
    """The spread in a few words below the value: "n = 5 · 95 % interval 53 ms – 64 ms"."""
    words = []
    if "n" in metric:
        count = dict(_spread(metric, unit))["n"]
        processes = len(metric.get("processes") or ())
        words.append(
            gettext("n = %(count)s in %(processes)s processes") % {"count": count, "processes": processes}
            if processes > 1
            else f"n = {count}"
        )
    if metric.get("ci95"):
        words.append(gettext("95 %% interval %(interval)s") % {"interval": _interval(metric["ci95"], unit)})
    elif "ci95" in metric and metric.get("n") != 1:
        words.append(
            gettext("one process, no interval")
            if len(metric.get("processes") or ()) == 1
            else gettext("too few for an interval")
        )
    return " · ".join(words)


def _of_what(key: str, metric: Mapping[str, Any], document: Document) -> str:
    """What a reader must know of a figure before comparing it: of how many devices it is, whether it is expected."""
    words = []
    division = division_of(document)
    if division.parts > 1 and key in OF_ALL_DEVICES:
        words.append(division.of_all())
    elif division.parts > 1 and key in OF_ONE_DEVICE:
        words.append(division.of_one())
    if str(metric.get("note") or "").startswith("Expected value"):
        words.append(gettext("expected value"))
    return " · ".join(words)


def _estimates(key: str, unit: str, document: Document) -> list[dict[str, Any]]:
    """The estimates of the same workload beside a measured value, each with its error; one where ceilings change nothing."""
    rows: list[dict[str, Any]] = []
    for entry in (document.get("errors") or {}).get(key) or []:
        if rows and key in UNTIMED:
            break
        error = number(entry.get("error_pct"))
        rows.append(
            {
                "level": entry.get("level"),
                "value": show(entry.get("estimated"), unit),
                "error": signed_percent(error),
                "grade": "unknown"
                if error is None
                else "good"
                if abs(error) <= 15
                else "fair"
                if abs(error) <= 40
                else "poor",
            }
        )
    return rows


def memory_fit(document: Document, used: float | None = None) -> dict[str, Any]:
    """Need against capacity: words, and the fraction for the bar (``None`` when one of them is unknown)."""
    estimate = (document.get("memory") or {}).get("estimate") or {}
    need = used if used is not None else number(estimate.get("total_bytes"))
    capacity = number(estimate.get("capacity_bytes"))
    if capacity is None:
        capacity = number((document.get("hardware") or {}).get("memory_bytes"))
    fits = estimate.get("fits")
    words = gettext("fits") if fits is True else gettext("does not fit") if fits is False else gettext("fit unknown")
    shortfall = number(estimate.get("shortfall_bytes"))
    if fits is False and shortfall:
        words = gettext("does not fit: %(shortfall)s short") % {"shortfall": show(shortfall, "B")}
    return {
        "fits": fits,
        "words": words,
        "capacity": show(capacity, "B"),
        "percent": min(round(100 * need / capacity, 1), 100.0) if need is not None and capacity else None,
        "share": percent(need / capacity) if need is not None and capacity else unknown(),
        "icon": "✓" if fits is True else "✕" if fits is False else "?",
    }


def stage_tiles(document: Document, stages: list[str]) -> list[dict[str, Any]]:
    """What limits each stage: the bound, how its time divides among the bounds, and its counts."""
    tiles = []
    for name in stages:
        stage = (document.get("stages") or {}).get(name) or {}
        parts = {b: t for b, t in (stage.get("time_by_bound") or {}).items() if (number(t) or 0) > 0}
        total = sum(parts.values())
        split, at = [], 0.0
        for bound, seconds in sorted(parts.items(), key=lambda item: -item[1]):
            width = 100 * seconds / total
            split.append(
                {
                    "bound": bound if bound in BOUND_WORDS else "other",
                    "title": said(bound),
                    "share": percent(seconds / total),
                    "time": show(seconds, "s"),
                    "x": f"{at:.2f}",
                    "width": f"{width:.2f}",
                }
            )
            at += width
        bound = str(stage.get("bound") or "")
        tiles.append(
            {
                "stage": name,
                "bound": bound if bound in BOUND_WORDS else "other",
                "words": str(BOUND_WORDS.get(bound, unknown())),
                "split": split,
                "latency": show(stage.get("latency_s"), "s"),
                "flops": show(stage.get("flops"), "FLOP"),
                "elementwise": show(stage.get("elementwise_flops"), "FLOP"),
                "bytes": show(stage.get("bytes"), "B"),
                "intensity": show(stage.get("arithmetic_intensity"), "FLOP/B"),
                "tokens": stage.get("tokens"),
                "context": stage.get("context"),
                "batch": stage.get("batch_size"),
            }
        )
    return tiles
