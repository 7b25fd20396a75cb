"""A document of an exploration as the page shows it: tiles, tables, shapes. The same for a live answer and for a saved sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.html import conditional_escape, escape
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import enumerated, said
from llmcompare.explore.answers import METRICS
from llmcompare.explore.asked import ALONG
from llmcompare.explore.charts import curve_figure, frontier_figure, label_of
from llmcompare.explore.heatmap import heat_map
from profiling.quantities import percent, show, unknown
from profiling.units import DEFINITIONS, UNITS

Document = Mapping[str, Any]

SHORT = {"ttft": "TTFT", "tpot": "TPOT", "e2e_latency": "E2E"}
LEVELS = {
    "datasheet": _("datasheet: optimistic bound"),
    "measured": _("measured ceilings"),
}
LEVEL_HELP = {
    "datasheet": _(
        "Nothing runs faster than its datasheet. Such latencies came out at 0.43 to 0.84 of published measurements."
    ),
    "measured": _("Times stand on rates that plain kernels reached on that host."),
}
MEMORY_PARTS = (
    ("weights_bytes", _("Weights"), "part-0"),
    ("cache_bytes", _("Cache and state"), "part-1"),
    ("activation_peak_bytes", _("Activations at their peak"), "part-3"),
    ("widened_bytes", _("Largest widened copy"), "part-4"),
)
BOUNDS = ("compute", "memory", "overhead", "network")


def context_of(document: Document, focus: int = 0) -> dict[str, Any]:
    """Everything that ``explore/_answer.html`` shows; ``focus``: the series whose details are open."""
    document = translated(document)
    series = document["series"]
    ready = [item for item in series if item["metrics"]]
    shown = next((item for item in ready if item["index"] == focus), ready[0] if ready else None)
    heat = document["heat_map"]
    curve, frontier = curve_figure(document), frontier_figure(document)
    return {
        "answer": document,
        "table": _table(document, ready) if ready else None,
        "shown": _details(shown) | {"most": _largest_batch(document, shown["index"])} if shown else None,
        "heat": {**heat, **heat_map(heat), "level_words": str(LEVELS.get(heat["level"], ""))} if heat else None,
        "heat_rows": _heat_rows(heat) if heat else [],
        "heat_reasons": _reasons(heat) if heat else [],
        "curve": curve,
        "curve_rows": _curve_rows(document) if curve else [],
        "curve_title": gettext("%(metric)s along %(along)s")
        % {"metric": document["curves"]["title"], "along": ALONG[document["curves"]["along"]].lower()}
        if curve
        else "",
        "curve_along": str(ALONG[document["curves"]["along"]]) if curve else "",
        "curve_heads": [label_of(document, line["series"]) for line in document["curves"]["lines"]] if curve else [],
        "frontier": frontier,
        "frontier_rows": _frontier_rows(document) if frontier else [],
        "problems": [item for item in series if not item["metrics"]],
        "notes": _notes(ready),
    }


def translated(document: Document) -> Document:
    """The document, which is in English, with its words in the language of the page."""
    if (get_language() or "en").startswith("en"):
        return document
    heat, curves = document["heat_map"], document["curves"]
    return {
        **document,
        "series": [_said_series(item) for item in document["series"]],
        "curves": curves and {**curves, "title": said(curves["title"])},
        "heat_map": heat
        and {
            **heat,
            "title": said(heat["title"]),
            "label": _said_label(document["series"][heat["series"]]),
            "notes": [[said(note) for note in row] for row in heat["notes"]],
        },
        "warnings": [said(text) for text in document["warnings"]],
    }


def _said_series(item: Document) -> Document:
    return {
        **item,
        "label": _said_label(item),
        "problem": said(item["problem"]),
        "notes": [said(text) for text in item["notes"]],
        "suspicious": [said(text) for text in item["suspicious"]],
    }


def _said_label(item: Document) -> str:
    model = item["model_name"]
    return gettext("%(model)s on %(place)s") % {
        "model": model,
        "place": item["label"].removeprefix(f"{model} on "),
    }


def exact(value: Any) -> SafeString:
    """All digits of a number, with a point whatever the language; "" where it is unknown. Words are escaped by whoever writes them."""
    if isinstance(value, str):
        return conditional_escape(value)
    return SafeString("" if value is None else repr(value))


def cell(raw: Any, text: str, *, no_fit: bool = False, note: str = "") -> SafeString:
    """A cell of a table. Written here: templates take four times as long for the thousand of them that a page has."""
    title = f' title="{escape(note)}"' if note else ""
    mark = f' <span class="fit-no" title="{gettext("does not fit")}">✕</span>' if no_fit else ""
    return SafeString(f'<td class="num"{title}><data value="{exact(raw)}">{escape(text)}</data>{mark}</td>')


def joined(cells: Iterable[SafeString]) -> SafeString:
    return SafeString("".join(cells))


def _title(key: str) -> str:
    return SHORT.get(key) or said(DEFINITIONS[f"{key}/1"].name)


def _figure(item: Document, key: str) -> SafeString:
    found = item["metrics"].get(key)
    if found is None:
        return cell(None, "–")
    return cell(found["value"], show(found["value"], "" if found["unit"] == "money" else found["unit"]))


def _table(document: Document, ready: list[Document]) -> dict[str, Any]:
    """A row for every series; figures of different levels stand side by side, each with its level, and are not ranked."""
    keys = [
        key for key in METRICS.values() if any((i["metrics"].get(key) or {}).get("value") is not None for i in ready)
    ]
    reading = [key for key in ("encode_time", "encode_throughput") if any(key in item["metrics"] for item in ready)]
    keys = [*reading, *keys]
    heads = [
        {
            "title": _title(key),
            "help": f"{said(DEFINITIONS[f'{key}/1'].name)}. {said(DEFINITIONS[f'{key}/1'].formula)}",
            "key": key,
        }
        for key in keys
    ]
    rows = []
    for item in ready:
        rows.append(
            {
                "item": item,
                "level": str(LEVELS.get(item["level"], item["level"])),
                "cells": joined(_figure(item, key) for key in keys),
                "fit": fit_words(item["memory"]),
                "fits": item["memory"]["fits"],
                "bound": item["bound"],
                "tone": item["index"] % 8,
            }
        )
    return {"heads": heads, "rows": rows}


def fit_words(memory: Mapping[str, Any]) -> str:
    if memory["fits"] is None:
        return gettext("fit unknown")
    if memory["fits"]:
        return gettext("fits")
    return gettext("%(shortfall)s short") % {"shortfall": show(memory["shortfall_bytes"], "B")}


def _details(item: Document) -> dict[str, Any]:
    tiles = []
    for key, entry in item["metrics"].items():
        definition = DEFINITIONS[entry["definition"]]
        unit = "" if entry["unit"] == "money" else entry["unit"]
        tiles.append(
            {
                "key": key,
                "title": said(definition.name),
                "short": SHORT.get(key, ""),
                "value": show(entry["value"], unit),
                "raw": exact(entry["value"]),
                "unit_words": said(UNITS.get(entry["unit"], entry["unit"])),
                "help": said(definition.formula),
                "note": _tile_note(key, item),
                "better": definition.better,
            }
        )
    stages = [_stage(name, stage) for name, stage in item["stages"].items()]
    return {
        "item": item,
        "level": str(LEVELS.get(item["level"], item["level"])),
        "level_help": str(LEVEL_HELP.get(item["level"], "")),
        "tiles": tiles,
        "memory": _memory(item["memory"]),
        "stages": stages,
    }


def _largest_batch(document: Document, index: int) -> str:
    """Up to which batch of those asked it fits, in a sentence; "" where that is unknown or there is nothing to tell."""
    lines = (document["frontier"] or {"lines": []})["lines"]
    points: list[Any] = next((line["points"] for line in lines if line["series"] == index), [])
    known = [p for p in points if p["fits"] is not None]
    if not known or len(points) < 2:
        return ""
    fitting = [p["batch_size"] for p in known if p["fits"]]
    if not fitting:
        return gettext("At these lengths not even a batch of %(batch_size)s fits.") % {
            "batch_size": f"{known[0]['batch_size']:,}"
        }
    if len(fitting) == len(known):
        return gettext("At these lengths every batch of the charts fits, up to %(fitting)s.") % {
            "fitting": f"{fitting[-1]:,}"
        }
    return gettext("At these lengths a batch of %(fitting)s fits, of those in the charts.") % {
        "fitting": f"{max(fitting):,}"
    }


def _tile_note(key: str, item: Document) -> str:
    entered = {"cost_per_million_tokens": "price_per_device_hour", "energy_per_million_tokens": "power_w"}
    if key in entered and item[entered[key]] is None:
        return gettext("no price was entered") if key.startswith("cost") else gettext("no power was entered")
    if item["devices"] == 1:
        return ""
    if key == "peak_memory":
        return gettext("of one of %(devices)s devices") % {"devices": item["devices"]}
    return (
        gettext("of all %(devices)s devices") % {"devices": item["devices"]}
        if key.endswith("_throughput") and key != "device_throughput"
        else ""
    )


def _memory(memory: Mapping[str, Any]) -> dict[str, Any]:
    total, capacity = memory["total_bytes"], memory["capacity_bytes"]
    scale = max(total or 0, capacity or 0) or 1
    parts, at = [], 0.0
    for name, title, tone in MEMORY_PARTS:
        value = memory[name]
        if value:
            width = 100 * value / scale
            parts.append(
                {
                    "title": str(title),
                    "size": show(value, "B"),
                    "raw": exact(value),
                    "x": f"{at:.2f}",
                    "width": f"{width:.2f}",
                    "tone": tone,
                }
            )
            at += width
    return {
        "parts": parts,
        "total": show(total, "B"),
        "capacity": show(capacity, "B") if capacity is not None else unknown(),
        "capacity_at": f"{100 * capacity / scale:.2f}" if capacity else "",
        "fits": memory["fits"],
        "words": fit_words(memory)
        if memory["fits"] is not False
        else gettext("does not fit: %(shortfall)s") % {"shortfall": fit_words(memory)},
        "left": show(capacity - total, "B") if memory["fits"] and capacity and total is not None else "",
    }


def _bars(parts: Mapping[str, float | None], whole: float = 1.0) -> list[dict[str, Any]]:
    found, at = [], 0.0
    for name in BOUNDS:
        value = parts.get(name)
        if not value or not whole:
            continue
        width = 100 * value / whole
        found.append(
            {
                "bound": name,
                "share": percent(value / whole),
                "x": f"{at:.2f}",
                "width": f"{width:.2f}",
            }
        )
        at += width
    return found


def _stage(name: str, stage: Mapping[str, Any]) -> dict[str, Any]:
    bars = _bars(stage["parts_s"], stage["time_s"] or 0)
    for bar in bars:
        bar["time"] = show(stage["parts_s"][bar["bound"]], "s")
    return {
        "name": said(name),
        "time": show(stage["time_s"], "s"),
        "raw": exact(stage["time_s"]),
        "bound": stage["bound"],
        "bars": bars,
    }


def _heat_rows(heat: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for n, batch in enumerate(heat["batch_size"]):
        cells = []
        for value, fits, note in zip(heat["values"][n], heat["fits"][n], heat["notes"][n], strict=True):
            text = (show(value, heat["unit"]) if heat["unit"] else said(value)) if value is not None else "–"
            cells.append(cell(value, text, no_fit=fits is False, note=note or ""))
        rows.append({"batch": exact(batch), "cells": joined(cells)})
    return rows


def _reasons(heat: Mapping[str, Any]) -> list[str]:
    """Why cells have no number, each reason once, the first few."""
    return list(dict.fromkeys(note for row in heat["notes"] for note in row if note))[:4]


def _curve_rows(document: Document) -> list[dict[str, Any]]:
    curves = document["curves"]

    def shown(line: Mapping[str, Any], n: int) -> SafeString:
        value = line["y"][n]
        text = show(value, curves["unit"]) if value is not None else "–"
        return cell(value, text, no_fit=line["fits"][n] is False)

    steps = curves["lines"][0]["x"]
    return [{"x": exact(x), "cells": joined(shown(line, n) for line in curves["lines"])} for n, x in enumerate(steps)]


def _frontier_rows(document: Document) -> list[SafeString]:
    return [
        _frontier_row(label_of(document, line["series"]), point)
        for line in document["frontier"]["lines"]
        for point in line["points"]
        if point["interactivity"] is not None and point["device_throughput"] is not None
    ]


def _frontier_row(label: str, point: Mapping[str, Any]) -> SafeString:
    fits = {True: gettext("fits"), False: gettext("does not fit")}.get(point["fits"], unknown())
    return joined(
        [
            SafeString(f'<th scope="row">{escape(label)}</th><td class="num">{exact(point["batch_size"])}</td>'),
            cell(point["interactivity"], show(point["interactivity"], "token/s")),
            cell(point["device_throughput"], show(point["device_throughput"], "token/s")),
            *(
                SafeString(f'<td class="num">{escape(show(value, unit)) if value is not None else "–"}</td>')
                for value, unit in ((point["cost"], ""), (point["energy"], "kWh"))
            ),
            SafeString(f"<td>{fits}</td><td>{gettext('yes') if point['on_frontier'] else ''}</td>"),
        ]
    )


def _notes(ready: list[Document]) -> list[dict[str, Any]]:
    """What to keep in mind, each once, with the series that it is about where there are several."""
    about: dict[str, list[str]] = {}
    for item in ready:
        for text in [*item["suspicious"], *item["notes"]]:
            about.setdefault(text, []).append(item["label"])
    suspicious = {text for item in ready for text in item["suspicious"]}
    return [
        {
            "text": text,
            "about": "" if len(labels) == len(ready) else enumerated(labels),
            "suspicious": text in suspicious,
        }
        for text, labels in about.items()
    ]
