"""What a visitor without an account may see of a run: an allow-list, so that a new field stays hidden until it is named here.

Never part of it: who made the run, the names of hosts and workers, paths of files, environment variables, notes, logs.
Prompts and generated text only when the maker of the link ticked them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from llmcompare.runs import lifecycle
from llmcompare.runs.compare import Column, columns_of
from llmcompare.runs.exports import COMPARED_FACTS, document_of
from llmcompare.runs.models import Run
from llmcompare.runs.options import NAMES as OPTION_NAMES
from llmcompare.runs.options import chosen

RUN_FIELDS = (
    "title",
    "kind",
    "state",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "dtype",
    "created",
    "finished",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "output_tokens_per_s",
    "memory_bytes",
    "fits",
    "bound",
    "ceilings",
    "spec_digest",
)

#: Key of the document → the fields of that object which are shown; None: all of it, for figures that the engine makes itself.
DOCUMENT_FIELDS: dict[str, frozenset[str] | None] = {
    "schema": None,
    "schema_version": None,
    "kind": None,
    "created": None,
    "duration_s": None,
    "producer": frozenset({"name", "version", "python", "torch", "transformers"}),
    "model": frozenset(
        {
            "name",
            "source",
            "architecture",
            "model_type",
            "kind",
            "config_sha256",
            "parameters",
            "active_parameters",
            "weight_bytes",
            "weights",
            "weights_note",
            "weights_digest",
            "weights_digest_covers",
            "max_context",
            "layers",
        }
    ),
    "hardware": frozenset(
        {
            "name",
            "slug",
            "vendor",
            "kind",
            "memory_bytes",
            "memory_bandwidth",
            "peak_flops",
            "cache_bytes",
            "interconnect_bandwidth",
            "tdp_w",
            "confidence",
            "ceilings",
            "digest",
        }
    ),
    "workload": frozenset(
        {
            "batch_size",
            "input_tokens",
            "output_tokens",
            "dtype",
            "iterations",
            "warmup",
            "seed",
            "threads",
            "time_limit_s",
            *OPTION_NAMES,
        }
    ),
    "conventions": None,
    "metrics": None,
    "stages": None,
    "operators": None,
    "modules": None,
    "graph": None,
    "memory": None,
    "parallelism": None,
    "parallel": frozenset({"tensor_parallel", "by", "backend", "shared_machine", "devices", "measured_on"}),
    "roofline": None,
    "estimates": None,
    "errors": None,
    "samples": None,
    "batches": None,
    "instrumentation": None,
    "module_times": None,
    "profiled": None,
    "output": frozenset(
        {"input_tokens", "output_tokens", "requested_output_tokens", "finish", "ignore_eos", "chat_template"}
    ),
    "environment": frozenset(
        {
            "os",
            "kernel",
            "python",
            "packages",
            "cpu",
            "cores_physical",
            "cores_logical",
            "ram_bytes",
            "accelerators",
            "threads",
            "virtualised",
            "device",
        }
    ),
    "conditions": None,
    "resources": None,
    "protocol": None,
    "load": None,
    "requests": None,
    "in_turns": frozenset({"order", "verdicts"}),
    "endpoint": frozenset({"model", "api", "unique_prompts", "kind", "said"}),
    "replay": frozenset(
        {
            "method",
            "torch",
            "threads",
            "device",
            "stages",
            "shapes",
            "not_replayed",
            "conditions",
            "cap_bytes",
            "duration_s",
            "table",
        }
    ),
    "sweep": None,
    "tokens": None,
    "client": None,
    "clocks": None,
    "processes": None,
    "unknown_operators": None,
    "warnings": None,
}
TEXT_FIELDS = {"workload": {"prompt", "prompts"}, "output": {"prompt", "prompts", "texts", "reasoning"}}
#: Warnings that quote a server: its words may name it.
QUOTING = frozenset({"no_profile"})

# An absolute path on Linux, macOS or Windows. Units (FLOP/s) and definition ids (ttft/1) have no slash at a word's start.
_PATH = re.compile(r"(?<![\w/:.])(?:~|[A-Za-z]:)?[/\\]{1,2}(?:[^\s/\\'\",;()<>]+[/\\])+[^\s/\\'\",;()<>]*")


def without_paths(value: Any) -> Any:
    """The same value with every absolute file path in its texts replaced by ``[path]``."""
    if isinstance(value, str):
        return _PATH.sub("[path]", value)
    if isinstance(value, Mapping):
        return {name: without_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def shared_document(run: Run, *, include_text: bool) -> dict[str, Any]:
    """The run document, cut to the allow-list and without file paths; empty while there is none."""
    return allowed_of(document_of(run), include_text=include_text)


def allowed_of(document: Mapping[str, Any], *, include_text: bool = False) -> dict[str, Any]:
    """The parts of a document, or of its extract, that a visitor may see."""
    shown = _cut(document, include_text)
    return shown | _of_endpoint(document) if document.get("kind") == "endpoint" else shown


def _cut(document: Mapping[str, Any], include_text: bool) -> dict[str, Any]:
    shown = {}
    for key, value in document.items():
        if key not in DOCUMENT_FIELDS:
            continue
        allowed = DOCUMENT_FIELDS[key]
        texts: set[str] = TEXT_FIELDS.get(key, set()) if include_text else set()
        if allowed is not None and isinstance(value, Mapping):
            # The prompt and the answer are the user's own words: a path in them was meant to be shown.
            cut = {name: without_paths(item) for name, item in value.items() if name in allowed}
            shown[key] = cut | {name: item for name, item in value.items() if name in texts}
        else:
            shown[key] = without_paths(value)
    return shown


def _of_endpoint(document: Mapping[str, Any]) -> dict[str, Any]:
    """Failures by kind alone, since sentences quote servers and name addresses; and the profile that the server gave, cut the same way."""
    found: dict[str, Any] = {
        "failures": [
            {name: row.get(name) for name in ("kind", "requests", "retry_after_s")} | {"message": row.get("kind")}
            for row in document.get("failures") or []
        ],
        "warnings": [w for w in without_paths(document.get("warnings") or []) if w.get("code") not in QUOTING],
    }
    if table := document.get("requests"):
        at = table["columns"].index("failure") if "failure" in table["columns"] else None
        rows = [[("failed" if i == at and item else item) for i, item in enumerate(row)] for row in table["rows"]]
        found["requests"] = {"columns": table["columns"], "rows": rows}
    if isinstance(served := document.get("served"), Mapping):
        found["served"] = _cut(served, False)
    return found


def shared_facts(run: Run) -> dict[str, Any]:
    """The run's own columns that a visitor may see; model and hardware by the names that were frozen with it."""
    facts, place = {name: getattr(run, name) for name in RUN_FIELDS}, _place(run)
    return facts | {
        "id": run.public_id,
        "name": run.title or f"{run.model_name} on {place}",
        "model": run.model_name,
        "hardware": place,
        # What nobody knows of an endpoint: empty columns of the row.
        "batch_size": run.batch_size or None,
        "input_tokens": run.input_tokens or None,
        "dtype": run.dtype or None,
        "duration_s": run.duration_s,
        "error": _error_of_endpoint(run) if run.of_endpoint else _without_hosts(without_paths(run.error), run),
        "bound": run.bound or None,
        "options": chosen(run.spec.get("workload") or {}),
    }


def _place(run: Run) -> str:
    """What it ran on; of an endpoint what its owner says stands behind it, since its own name may be that of a machine."""
    if not run.of_endpoint:
        return run.hardware_name
    return str((run.spec.get("hardware") or {}).get("name") or gettext("an endpoint"))


def _error_of_endpoint(run: Run) -> str:
    """Why a run of an endpoint failed, by the kinds of its failures or its phase: sentences quote servers and name addresses."""
    kinds = [str(row.get("kind") or "") for row in document_of(run).get("failures") or []]
    return (", ".join(dict.fromkeys(filter(None, kinds))) or run.error_phase) if run.error else ""


def _without_hosts(text: str, run: Run) -> str:
    """The text without the names of the machines that the run was on."""
    names = {lifecycle.host_of(run.worker), run.host.slug if run.host else "", run.host.name if run.host else ""} - {""}
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "[host]", text)
    return text


def shared_object(run: Run, *, include_text: bool) -> dict[str, Any]:
    """What ``exports.run_object`` is for a signed-in user, for a visitor."""
    return {**shared_document(run, include_text=include_text), "run": shared_facts(run)}


@dataclass(frozen=True)
class SharedColumn(Column):
    """A run of a shared comparison, called as visitors know it."""

    name: str = ""

    @property
    def label(self) -> str:
        return self.name


def shared_columns(runs: list[Run], within: float | None = None) -> list[Column]:
    """What ``compare.columns_of`` is for a signed-in user, for a visitor."""
    return [
        SharedColumn(c.run, _shared_extract(c.document), str(shared_facts(c.run)["name"]))
        for c in columns_of(runs, within)
    ]


def _shared_extract(extract: Mapping[str, Any]) -> dict[str, Any]:
    """The extract cut as its document is; ``roles`` are figures by the names of modules, which the document's own tables have as well."""
    return allowed_of(extract) | ({"roles": without_paths(extract["roles"])} if "roles" in extract else {})


def graph_document(run: Run) -> dict[str, Any]:
    """What ``compare_graphs.stored`` is for a signed-in user, for a visitor."""
    return shared_document(run, include_text=False)


def shared_lines(runs: list[Run]) -> list[tuple[dict, list]]:
    """What ``exports.comparison_lines`` is for a signed-in user, for a visitor."""
    return [
        ({name: shared_facts(run)[name] for name in ("id", "options", *COMPARED_FACTS)}, list(run.metrics.all()))
        for run in runs
    ]
