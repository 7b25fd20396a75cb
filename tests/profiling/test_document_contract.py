"""docs/run-document.md and the documents say the same: no key that is not described, no description of what does not exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from profiling.replay.section import beside
from profiling.spec import HardwareSpec, ModelSpec, Workload
from tests.profiling import tiny
from tests.profiling.test_joined import OMNI

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted((ROOT / "tests" / "data" / "documents").glob("*.json"))

#: Objects whose keys are data (names of packages, formats, …), not part of the contract.
OPEN = {
    "packages",
    "env_vars",
    "caches",
    "peak_flops",
    "confidence",
    "detail",
    "errors",
    "weight_bytes",
    "time_by_bound",
}

#: Described, but in none of the documents here: classes of operators, endings and values that these models do not have.
NOT_HERE = {
    *("backend", "shared_machine", "measured_on"),  # of measurements on several devices
    *("convolution", "scan", "other", "length", "random", "reported", "weight", "ok"),
    *(
        "spec",
        "spec_digest",
        "weights_path",
        "anonymous_delta_bytes",
        "package_energy_per_token",
        "gpu_energy_per_token",
    ),
    *("columns", "rows", "low", "high", "json", "null", "error_pct"),
    *("protocol", "processes", "process", "min_iterations", "min_seconds", "max_iterations", "complete", "load_time_s"),
    *("verdicts", "base", "order", "verdict", "effect_pct", "ci95_pct", "minimum_pct", "spread_pct"),
    *("module_times", "paths", "call_cost_s", "inner", "constant", "device_used_bytes", "one_pass"),
    *(
        "batches",
        "prompts",
        "prompt_tokens",
        "sequences",
        "padding_tokens",
        "padding_side",
        "same_shape",
        "instrumented",
    ),
    *("weights_digest", "weights_digest_covers", "weights_root"),
    *("profiled", "dropped", "copies", "direction", "count", "operator", "self_cpu_s", "self_device_s", "passes"),
    *("self_memory_bytes", "input_shapes", "memory_delta_bytes", "own_s", "total_s", "overhead"),
    *("FILE", "ID", "_snapshot", "activations", "api", "cuda", "v1"),
    *(
        "artifacts",
        "file",
        "content_type",
        "stored_bytes",
        "sha256",
        "events",
        "cut",
        "artifact_missing",
        "trace",
        "t_ns",
    ),
    *(
        "held_bytes",
        "snapshot",
        "activation",
        "before",
        "part",
        "measured_bytes",
        "estimated_bytes",
        "note",
    ),
    *(
        "resources",
        "interval_s",
        "timeline",
        "t_s",
        "seconds",
        "process_cores",
        "other_cores",
        "process_rss_bytes",
        "available_bytes",
    ),
    *("gpu_utilisation_pct", "gpu_memory_bytes", "package_power_w", "what", "reason", "unavailable", "units"),
    *("energy", "source", "of", "joules", "cost", "samples", "cpu_s", "cores", "sampled_by"),
    *(
        "load",
        "mode",
        "closed",
        "poisson",
        "concurrency",
        "rate",
        "seconds",
        "input_lengths",
        "output_lengths",
        "objectives",
    ),
    *("ttft_s", "tpot_s", "e2e_s", "scheduling", "due", "served", "queue_grows", "request", "requests", "scheduled_ns"),
    *(
        "started_ns",
        "first_token_ns",
        "end_ns",
        "batch_requests",
        "within_objectives",
        "goodput_share",
        "request_goodput",
    ),
    *("request_ttft", "request_tpot", "request_e2e_latency", "request_queue_time", "request_throughput"),
    "request_output_throughput",
    *("throttled", "cpu_mhz", "cpu_max_mhz", "cpu_temperature_c", "thermal_events"),
    *(
        "gpu_clock_mhz",
        "gpu_max_clock_mhz",
        "gpu_temperature_c",
        "gpu_power_w",
        "gpu_throttle",
        "gpu_foreign_processes",
    ),
    *("HardwareSpec", "Workload", "profiling", "units", "DEFINITIONS"),
}


def described() -> set[str]:
    """Every name in code marks in the part about documents; of endpoints it is looked at in ``tests/profiling/remote/test_document.py``."""
    text = (ROOT / "docs" / "run-document.md").read_text()
    text = text[: text.index("## Runs of an endpoint")].replace(
        ", `measure` or `endpoint` ([below](#runs-of-an-endpoint))", " or `measure`"
    )
    return {name for span in re.findall(r"`([^`]+)`", text) for name in re.findall(r"[A-Za-z_]\w*", span)}


def described_of_replay() -> set[str]:
    """The same of the part about replay."""
    text = (ROOT / "docs" / "run-document.md").read_text()
    text = text[text.index("## Operator replay") :]
    return {name for span in re.findall(r"`([^`]+)`", text) for name in re.findall(r"[A-Za-z_]\w*", span)}


def keys_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, key) of all objects and (path, column) of all tables below ``value``."""
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item, f"{path}[]")
    elif isinstance(value, dict) and set(value) == {"columns", "rows"}:
        yield from ((path, column) for column in value["columns"])
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield path, key
            if key not in OPEN:
                yield from keys_of(inner, f"{path}.{key}")


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_of(inner)


def specified() -> set[str]:
    """What the document takes over from the specs as it is."""
    return {field.name for spec in (HardwareSpec, Workload) for field in fields(spec)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_key_and_column_is_described(path):
    known = described() | specified()
    unknown = {f"{where}.{key}" for where, key in keys_of(json.loads(path.read_text())) if key not in known}
    assert sorted(unknown) == []


@pytest.fixture(scope="module")
def fresh() -> list[dict[str, Any]]:
    """Estimates of a decoder and of an encoder, both with replay, of images and sound, of two devices and with every option; the stored documents may be older."""
    from profiling.estimate import estimate

    models = (ModelSpec(name="Tiny", config=tiny.LLAMA), ModelSpec(name="Tiny", config=tiny.BERT, kind="encoder"))
    two = replace(tiny.WORKLOAD, tensor_parallel=2)
    linked = replace(tiny.HOST, interconnect_bandwidth=1e6)
    options = replace(
        tiny.WORKLOAD,
        execution="fused",
        causal="halved",
        window="windowed",
        mla="absorbed",
        experts="topk",
        weights_dtype="int4",
        kv_dtype="int8",
        prefix_tokens=4,
        draft_tokens=2,
        draft_acceptance=0.5,
    )
    beside = ModelSpec(name="Omni", config=OMNI)
    made = [estimate(beside, tiny.HOST, replace(tiny.WORKLOAD, images=1, audios=1))]
    made += [_replayed(model, estimate(model, tiny.HOST, tiny.WORKLOAD)) for model in models]
    return [*made, estimate(models[0], linked, two), estimate(models[0], tiny.HOST, options)]


def _replayed(model: ModelSpec, document: dict[str, Any]) -> dict[str, Any]:
    from profiling.replay.run import replay
    from profiling.replay.table import Table

    (prediction,) = replay(model, [tiny.WORKLOAD], Table("this-host", "this-torch", 1), glue=False, budget_s=0.001)
    warnings = [
        {"code": code, "message": ""} for code in ("replay_contended", "replay_table_damaged", "replay_not_kept")
    ]
    return beside(document, prediction, {"operators": 0, "kept": True}) | {"warnings": warnings}


def test_the_engine_writes_nothing_that_is_not_described(fresh):
    known, of_replay = described() | specified(), described_of_replay()
    found = {(where, key) for where, key in keys_of(fresh) if key not in known}
    assert sorted(f"{where}.{key}" for where, key in found if ".replay" not in where or key not in of_replay) == []


def test_everything_that_is_described_exists(fresh):
    documents = [*fresh, *(json.loads(path.read_text()) for path in DOCUMENTS)]
    keys = {key for _, key in keys_of(documents)}
    words = {word for text in texts_of(documents) for word in re.findall(r"[A-Za-z_]\w*", text)}
    assert sorted(described() - keys - words - NOT_HERE) == []
    assert sorted(NOT_HERE - described()) == []
