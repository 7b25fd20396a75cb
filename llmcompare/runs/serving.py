"""How an estimate serves the model, as the page shows it: in which formats, on which devices, with which guesses and known prompt.

Pure functions of the run document. Each gives ``None`` where the estimate has nothing of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs.division import division_of
from llmcompare.runs.options import DEFAULTS, OPTIONS, chosen
from llmcompare.runs.tables import records
from llmcompare.runs.viewoptions import stages_of
from profiling.precision import scheme
from profiling.quantities import count, number, percent, show, unknown
from profiling.spec import SpecError, Workload
from profiling.speculative import drafting, expected_tokens

Document = Mapping[str, Any]

_COLLECTIVES = {
    "all_reduce": _("all-reduce"),
    "all_gather": _("all-gather"),
    "all_to_all": _("all-to-all"),
    "p2p": _("to the next stage"),
}


# --- formats ---------------------------------------------------------------------------------------------------------


def precision(document: Document) -> dict[str, Any] | None:
    """Formats of weights, activations and cache, what they take, and the rates that products are timed at."""
    workload = document.get("workload") or {}
    values = chosen(workload)
    fallbacks = [
        said(str(w.get("message", "")))
        for w in document.get("warnings") or []
        if isinstance(w, Mapping) and w.get("code") == "dtype_fallback"
    ]
    mine = {o.name for o in OPTIONS if o.group == "precision"} & set(values)
    if not mine and not fallbacks:
        return None
    conventions = document.get("conventions") or {}
    parts = ((gettext("Products"), "compute"), (gettext("Weights"), "weights"), (gettext("Cache"), "kv_cache"))
    return {
        "rows": _format_rows(document),
        "saving": _saving(document),
        "sentences": [(title, _sentence(conventions[key])) for title, key in parts if conventions.get(key)],
        "fallbacks": fallbacks,
        "per_device": division_of(document).devices > 1,
    }


def _sentence(text: Any) -> str:
    """A convention of the document, which begins small, as a sentence; one that begins with the name of a format stays."""
    words = str(text).strip().removesuffix(".")
    first = words.split(" ")[0]
    small = first.isalpha() and first.islower()
    return str(said(f"{words[0].upper() if small else words[0]}{words[1:]}.")) if words else ""


def _format_rows(document: Document) -> list[dict[str, str]]:
    workload, memory = document.get("workload") or {}, (document.get("memory") or {}).get("estimate") or {}
    dtype = str(workload.get("dtype") or unknown())
    stored, cache = workload.get("weights_dtype") or dtype, workload.get("kv_dtype") or dtype
    quantised = memory.get("quantised_weights_bytes")
    lines = (
        (gettext("Weights of linear layers and experts"), stored, _bits(stored), quantised),
        (
            gettext("All other weights") if quantised else gettext("Weights"),
            dtype,
            _bits(dtype),
            memory.get("other_weights_bytes"),
        ),
        (gettext("Keys and values"), cache, "", memory.get("kv_cache_bytes")),
        (gettext("Largest copy widened to %(dtype)s") % {"dtype": dtype}, dtype, "", memory.get("widened_bytes")),
    )
    return [
        {"title": title, "format": str(name), "bits": bits, "size": show(size, "B")}
        for title, name, bits, size in lines
        if size != 0
    ]


def _bits(name: Any) -> str:
    try:
        return f"{scheme(name).bits_per_weight():.4g}"
    except SpecError:  # a format of another version
        return ""


def _saving(document: Document) -> str:
    """ "All weights take 9.94 GB instead of 35.3 GB in bf16 (28.2 %)."; "" when nothing is known or nothing is saved."""
    memory = (document.get("memory") or {}).get("estimate") or {}
    now, before = number(memory.get("weights_bytes")), number(memory.get("logical_weights_bytes"))
    if not now or not before or now == before:
        return ""
    dtype = (document.get("workload") or {}).get("dtype")
    return gettext("All weights take %(now)s instead of %(before)s in %(dtype)s: %(share)s of it.") % {
        "now": show(now, "B"),
        "before": show(before, "B"),
        "dtype": dtype,
        "share": percent(now / before),
    }


# --- devices ---------------------------------------------------------------------------------------------------------


def devices(document: Document) -> dict[str, Any] | None:
    """The deployment: its degrees, what one device of each pipeline stage holds and does, and what devices send to each other."""
    section = document.get("parallelism")
    if not isinstance(section, Mapping):
        return None
    stages = stages_of(document)
    held = [stage for stage in section.get("stages") or [] if isinstance(stage, Mapping)]
    degrees = [
        (str(option.title), option.says(section[option.name]))
        for option in OPTIONS
        if option.group == "devices" and section.get(option.name) not in (None, option.default)
    ]
    inside = section.get("tensor_parallel_inside_expert")
    if inside not in (None, 1):
        degrees.append(
            (gettext("Inside an expert"), gettext("%(inside)s devices share each expert") % {"inside": inside})
        )
    rate = section.get("interconnect_bytes_per_s")
    sent = [row for row in (_sent(row) for row in records(section.get("communication"))) if row]
    return {
        "count": division_of(document).devices,
        "degrees": degrees,
        "interconnect": show(rate, "B/s") if rate is not None else unknown() if sent else gettext("not needed"),
        "stage_names": stages,
        "held": [_held(stage, stages) for stage in held],
        "has_state": any(stage.get("state_bytes") for stage in held),
        "pipeline": len(held) > 1,
        "has_widened": any(stage.get("widened_bytes") for stage in held),
        "sent": sent,
        "sent_by_stage": [_share_of_stage(document, section, name) for name in stages] if sent else [],
        "note": str((document.get("conventions") or {}).get("parallelism") or ""),
    }


def _held(stage: Mapping[str, Any], stages: list[str]) -> dict[str, Any]:
    layers = stage.get("layers") or [unknown(), unknown()]
    flops, moved = stage.get("flops") or {}, stage.get("bytes") or {}
    return {
        "layers": f"{layers[0]} – {layers[-1]}",
        "weights": show(stage.get("weights_bytes"), "B"),
        "cache": show(stage.get("kv_cache_bytes"), "B"),
        "state": show(stage.get("state_bytes"), "B"),
        "activations": show(stage.get("activation_peak_bytes"), "B"),
        "widened": show(stage.get("widened_bytes"), "B"),
        "total": show(stage.get("total_bytes"), "B"),
        "work": [(show(flops.get(name), "FLOP"), show(moved.get(name), "B")) for name in stages],
    }


def _sent(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stage": str(row.get("stage") or ""),
        "collective": str(_COLLECTIVES.get(str(row.get("collective")), row.get("collective"))),
        "group": count(row.get("group")),
        "calls": count(row.get("calls")),
        "steps": count(row.get("steps")),
        "payload": show(row.get("payload_bytes"), "B"),
        "sent": show(row.get("sent_bytes"), "B"),
        "time": show(row.get("time_s"), "s"),
    }


def _share_of_stage(document: Document, section: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Everything that a device sends in one pass of the stage, and how much of the stage's time that is."""
    rows = [row for row in records(section.get("communication")) if row.get("stage") == name]
    times = [number(row.get("time_s")) for row in rows]
    total = None if None in times else sum(t for t in times if t is not None)
    latency = number(((document.get("stages") or {}).get(name) or {}).get("latency_s"))
    sizes = [number(row.get("sent_bytes")) for row in rows]
    return {
        "stage": name,
        "sent": show(None if None in sizes else sum(s for s in sizes if s is not None), "B"),
        "time": show(total, "s"),
        "share": percent(total / latency) if total is not None and latency else unknown(),
        "share_known": total is not None and bool(latency),
    }


# --- speculation and prefix ------------------------------------------------------------------------------------------


def speculation(document: Document) -> dict[str, Any] | None:
    """Guesses before each step, and what of the prompt is in the cache already."""
    values = chosen(document.get("workload") or {})
    mine = [o for o in OPTIONS if o.group == "serving" and o.name in values]
    if not mine:
        return None
    drafts = [o for o in mine if o.name.startswith("draft_")]
    rows = [(str(option.title), option.says(values[option.name])) for option in drafts]
    if drafts:
        if "draft_cost" not in values:
            rows.append((gettext("Cost of a guess"), gettext("not counted: times of decoding are lower bounds")))
        rows += _expected(values)
    rows += [(str(option.title), option.says(values[option.name])) for option in mine if option not in drafts]
    conventions = document.get("conventions") or {}
    parts = ((gettext("Guesses"), "speculation"), (gettext("Prefix"), "prefix_cache"))
    return {
        "title": _title({option.name for option in mine}),
        "rows": rows,
        "sentences": [(title, _sentence(conventions[key])) for title, key in parts if conventions.get(key)],
    }


def _title(names: set[str]) -> str:
    if {"draft_tokens", "prefix_tokens"} <= names:
        return gettext("Speculation and prefix cache")
    if "draft_tokens" in names:
        return gettext("Speculation")
    return gettext("Prefix cache") if "prefix_tokens" in names else gettext("Decoder")


def _expected(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the engine's own formulas make of the guesses; nothing where the document's values are no numbers."""
    guesses, acceptance, cost = (number(values.get(n)) for n in ("draft_tokens", "draft_acceptance", "draft_cost"))
    if guesses is None or acceptance is None:
        return []
    asked = Workload(draft_tokens=int(guesses), draft_acceptance=acceptance, draft_cost=cost or DEFAULTS.draft_cost)
    tokens, longer = expected_tokens(asked), drafting(asked)
    rows = [
        (
            gettext("Tokens per step"),
            gettext("%(tokens)s on average, of %(most)s that a step runs over")
            % {"tokens": f"{tokens:.3g}", "most": int(guesses) + 1},
        )
    ]
    if cost:
        rows.append(
            (gettext("Step with its guesses"), gettext("%(times)s times the step alone") % {"times": f"{longer:.3g}"})
        )
    return rows
