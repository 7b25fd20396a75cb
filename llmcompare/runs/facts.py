"""Everything a run was made from and under, as label and text: model, hardware, workload, conventions, producer, environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import said
from llmcompare.runs.options import NAMES, OPTIONS, chosen
from profiling.quantities import UNKNOWN, count, number, show, unknown

Document = Mapping[str, Any]
Rows = list[tuple[str, str]]

#: Keys whose values are sizes, rates or times, with their unit; the rest is shown as it is.
_UNITS = {
    "weight_bytes": "B",
    "memory_bytes": "B",
    "cache_bytes": "B",
    "ram_bytes": "B",
    "memory_bandwidth": "B/s",
    "interconnect_bandwidth": "B/s",
    "tdp_w": "W",
    "gpu_power_w": "W",
    "time_limit_s": "s",
    "ttft_s": "s",
    "tpot_s": "s",
    "e2e_s": "s",
}
_TITLES = {
    "config_sha256": _("Config digest"),
    "by": _("Divided by"),
    "shared_machine": _("Processes that share one machine"),
    "measured_on": _("Measured on"),
    "tdp_w": _("Power limit (TDP)"),
    "os": _("Operating system"),
    "ram_bytes": _("Main memory"),
    "cpu": "CPU",
    "mla": "MLA",
    "flop": "FLOP",
    "attn_implementation": _("Attention implementation"),
    "active_parameters": _("Active parameters per token"),
    "time_limit_s": _("Time limit"),
    "memory_bytes": _("Memory"),
    "cache_bytes": _("On-chip cache"),
    "weight_bytes": _("Size of weights"),
    "load_avg": _("Load average (1, 5, 15 min)"),
    "wall_over_cpu": _("Wall time over CPU time"),
    "steal_pct": _("Stolen CPU time (%)"),
    "foreign_cores": _("Cores busy with other work"),
    "cpu_mhz": _("Processor clock after the last iteration"),
    "cpu_max_mhz": _("Highest processor clock"),
    "cpu_temperature_c": _("Processor temperature (°C)"),
    "thermal_events": _("Slow-downs by heat meanwhile"),
    "throttled": _("Clocks held down"),
    "gpu_clock_mhz": _("Accelerator clock after the last iteration"),
    "gpu_max_clock_mhz": _("Highest accelerator clock"),
    "gpu_temperature_c": _("Accelerator temperature (°C)"),
    "gpu_power_w": _("Accelerator power"),
    "gpu_throttle": _("Limits on the accelerator's clock"),
    "gpu_foreign_processes": _("Other processes on the accelerator"),
    "dtype": _("Data type"),
    "warmup": _("Warm-up iterations"),
    "env_vars": _("Environment variables"),
}
_COUNTS = {"parameters", "active_parameters"}
_WEIGHTS = {"none": _("none (an estimate needs no weights)"), "random": _("random"), "local": _("real")}
_NOTES = {"weights_note", "note"}
#: What a shared page leaves out: it may name paths, people or machines.
_PRIVATE = {"env_vars", "fingerprint", "prompt", "prompts", "source"}


def title_of(key: str) -> str:
    return str(_TITLES.get(key) or said(key.replace("_", " ").capitalize()))


def text_of(key: str, value: Any) -> str:
    """One value as text. ``None`` is "unknown"; lists and mappings are written out in one line."""
    if value is None:
        return unknown()
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if key == "weights" and isinstance(value, str):
        return str(_WEIGHTS.get(value) or said(value))
    if key in _COUNTS:
        return f"{value:,} ({count(value)})" if isinstance(value, int) else unknown()
    if key in _UNITS:
        return show(value, _UNITS[key])
    if key.endswith("_mhz"):
        return f"{value:,.0f} MHz" if isinstance(value, (int, float)) else unknown()
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {text_of('', v)}" for k, v in value.items()) or gettext("none")
    if isinstance(value, (list, tuple)):
        joint = " " if key == "reasons" else ", "
        return joint.join(text_of("", v) for v in value) or gettext("none")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return show(value, "")
    return str(said(str(value)))


def rows_of(section: Any, *, skip: set[str] = frozenset(), shared: bool = False) -> Rows:  # type: ignore[assignment]
    if not isinstance(section, Mapping):
        return []
    hidden = skip | (_PRIVATE if shared else set())
    return [
        (title_of(str(k)), text_of(str(k), v)) for k, v in section.items() if k not in hidden and not _empty(str(k), v)
    ]


def _empty(key: str, value: Any) -> bool:
    """A note that there is none of: not an unknown figure, just nothing to say."""
    return value is None and key in _NOTES


def fact_sections(document: Document, *, shared: bool = False) -> list[dict[str, Any]]:
    """Sections of the "Facts" part in reading order; an absent one is left out."""
    hardware = document.get("hardware") or {}
    peaks = [
        (gettext("Peak %(dtype)s") % {"dtype": dtype}, show(value, "FLOP/s"))
        for dtype, value in (hardware.get("peak_flops") or {}).items()
    ]
    skip = {"peak_flops", "confidence", "ceilings", "slug"}
    unsure = [k for k, v in (hardware.get("confidence") or {}).items() if v == "unconfirmed"]
    hardware_rows = rows_of(hardware, skip=skip, shared=shared) + peaks
    if unsure:
        hardware_rows.append((gettext("Unconfirmed figures"), ", ".join(title_of(k) for k in sorted(unsure))))
    environment = document.get("environment")
    sections = [
        ("model", gettext("Model"), rows_of(document.get("model"), shared=shared)),
        ("workload", gettext("Workload"), _workload_rows(document, shared)),
        ("hardware", gettext("Hardware"), hardware_rows),
        ("conventions", gettext("Conventions"), rows_of(document.get("conventions"))),
        ("parallel", gettext("Several devices"), rows_of(document.get("parallel"))),
        ("environment", gettext("Environment"), rows_of(environment, shared=shared)),
        ("conditions", gettext("Conditions"), rows_of(document.get("conditions"))),
        ("producer", gettext("Made by"), rows_of(document.get("producer")) + _made(document)),
    ]
    return [{"key": key, "title": title, "rows": rows} for key, title, rows in sections if rows]


def _workload_rows(document: Document, shared: bool) -> Rows:
    workload = dict(document.get("workload") or {})
    prompt, prompts = workload.pop("prompt", None), workload.pop("prompts", None)
    threads = workload.pop("threads", "absent")
    # Options that are as they are by themselves are not listed: there are many, and most say nothing to most models.
    rows = rows_of(workload, skip=set(NAMES), shared=shared)
    changed = chosen(workload)
    rows += [(str(option.title), option.says(changed[option.name])) for option in OPTIONS if option.name in changed]
    if threads != "absent":
        rows.append(
            (gettext("Threads"), gettext("as the machine gives") if threads is None else text_of("threads", threads))
        )
    if prompt and not shared:
        rows.append(
            (gettext("Prompt"), gettext("given (see the output)") if document.get("output") else gettext("given"))
        )
    if prompts:
        rows.append((gettext("Prompts"), gettext("%(count)s given, each a request") % {"count": f"{len(prompts):,}"}))
    if any(name in workload for name in NAMES):
        rows.append((gettext("Other options") if changed else gettext("Options"), gettext("at their defaults")))
    return rows


def _made(document: Document) -> Rows:
    rows: Rows = []
    if document.get("created"):
        rows.append((pgettext("when", "Created"), str(document["created"])))
    if "duration_s" in document:
        rows.append((gettext("Took"), show(document["duration_s"], "s")))
    rows.append(
        (gettext("Document"), f"{document.get('schema', UNKNOWN)} {document.get('schema_version', '')}".strip())
    )
    return rows


def conditions_badge(document: Document) -> dict[str, Any] | None:
    """Was the machine quiet? ``None`` for estimates; with the reasons when it was not."""
    conditions = document.get("conditions")
    if not isinstance(conditions, Mapping):
        return None
    contended, steady = conditions.get("contended"), conditions.get("steady")
    if contended:
        level, words = "warning", gettext("contended machine")
    elif conditions.get("throttled"):
        level, words = "warning", gettext("throttled machine")
    elif steady is False:
        level, words = "warning", gettext("not steady")
    elif contended is None:
        level, words = "secondary", gettext("conditions unknown")
    else:
        level, words = "success", gettext("quiet machine")
    return {
        "level": level,
        "words": words,
        "reasons": [str(r) for r in conditions.get("reasons") or []],
        "wall_over_cpu": number(conditions.get("wall_over_cpu")),
    }


def phase_rows(document: Document) -> list[dict[str, str]]:
    """Measured memory by phase."""
    rows = []
    for entry in (document.get("memory") or {}).get("phases") or []:
        rows.append(
            {
                "phase": str(entry.get("phase")),
                **{
                    key: show(entry.get(key), "B")
                    for key in (
                        "rss_bytes",
                        "rss_peak_bytes",
                        "rss_delta_bytes",
                        "device_allocated_peak_bytes",
                        "device_reserved_peak_bytes",
                        "device_used_bytes",
                    )
                },
            }
        )
    return rows
