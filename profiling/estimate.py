"""The estimate: a run document of kind ``estimate`` from model, hardware and workload. Needs neither weights nor device."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
import transformers

import profiling
from profiling import speculative
from profiling.build import Built, attention_of
from profiling.cautions import cautions
from profiling.conventions import conventions
from profiling.deployment import Divided, Needs, parallelism, plan_of, shortest
from profiling.execution import seconds_at_peak
from profiling.footprint import Footprint
from profiling.graph import graph
from profiling.inspection import active_parameters
from profiling.joined import front_end_note, in_order, whole_prompt
from profiling.memory import memory_estimate
from profiling.options import operators
from profiling.parallel import link
from profiling.quantities import say
from profiling.roofline import Ceilings, ceilings
from profiling.roofs import roofs
from profiling.scratch import scratch_warnings
from profiling.small_products import small_products
from profiling.spec import HardwareSpec, ModelSpec, Workload
from profiling.stages import Progress, Traced, prefix_note, trace_workload
from profiling.steps import Parts
from profiling.tables import (
    MODULE_COLUMNS,
    OPERATOR_COLUMNS,
    Evaluated,
    evaluate,
    module_rows,
    operator_rows,
    ratio,
    roofline_points,
    stage_summary,
)
from profiling.units import metric
from profiling.workspace import kernel_threads


def estimate(
    model: ModelSpec,
    hardware: HardwareSpec,
    workload: Workload,
    progress: Progress | None = None,
    level: str | None = None,
) -> dict[str, Any]:
    """Estimate ``model`` doing ``workload`` on ``hardware``; returns a run document (docs/run-document.md).

    ``level``: ``datasheet`` or ``measured`` ceilings; by default measured ones where the hardware has them.
    Raises :class:`SpecError` for a model or workload that cannot be estimated. Inputs are not changed; several threads
    may call it at once.
    """
    started = time.perf_counter()
    tell = progress or (lambda stage, fraction, message: None)
    workload.check()
    tell("build", 0.05, f"Building {model.name} without weights")
    traced = trace_workload(model, workload, tell)
    tell("evaluate", 0.85, f"Computing times on {hardware.name}")
    document = evaluate_workload(model, hardware, workload, traced, level)
    document["duration_s"] = time.perf_counter() - started
    tell("done", 1.0, "Estimate ready")
    return document


# --- evaluation: counts × hardware --------------------------------------------------------------------------------------


def evaluate_workload(
    model: ModelSpec, hardware: HardwareSpec, workload: Workload, traced: Traced, level: str | None
) -> dict[str, Any]:
    """The run document (without ``duration_s``) of traced passes on a device."""
    footprint = Footprint(traced.built, traced.largest, workload)
    precision = footprint.precision
    traced = replace(traced, built=footprint.stored)
    built = traced.built
    limits, warnings = ceilings(hardware, workload.dtype, level, workload.threads, precision.product_dtype)
    plan = plan_of(workload, built)
    divided = Divided(built, traced.largest, workload.mla, {} if plan.single else shortest(built))
    interconnect, unlinked = link(hardware, plan)
    warnings += divided.check(plan) + unlinked
    limits = replace(limits, interconnect=interconnect, linked=plan.communicates)
    items = {
        stage: evaluate(trace, operators(trace, built, workload), limits)
        for stage, trace in in_order(traced.stages).items()
    }
    threads = kernel_threads(hardware.kind, workload.threads)
    needs = _needs(workload, traced, footprint, threads)
    memory = _memory(hardware, workload, traced, divided, needs, footprint, threads)
    steps = None if traced.curve is None else traced.curve.parts(limits)
    unknown = sorted({name for trace in traced.stages.values() for name in trace.recording.unknown})
    return {
        "schema": "llmcompare-run",
        "schema_version": "1.0",
        "kind": "estimate",
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "duration_s": None,
        "producer": producer(),
        "model": model_facts(model, traced),
        "hardware": {**hardware.to_json(), "digest": hardware.digest()},
        "workload": workload.to_json(),
        "conventions": conventions(
            logits=workload.logits,
            counting=workload.counting,
            limits=limits,
            attention=built.config._attn_implementation or "eager",
            plan=plan,
            precision=precision,
            latent=traced.latent,
            prefix_tokens=workload.prefix_tokens,
            front_ends=front_end_note(workload, traced.stages),
            speculation=speculative.notes(workload).get("tpot", {}).get("note"),
        ),
        "metrics": _metrics(workload, traced, items, limits, steps, memory, needs, divided),
        "stages": _stages(workload, items, steps),
        "operators": {"columns": OPERATOR_COLUMNS, "rows": operator_rows(built, items)},
        "modules": {"columns": MODULE_COLUMNS, "rows": module_rows(built, items, threads)},
        "graph": {stage: graph(built, item) for stage, item in items.items()},
        "memory": memory,
        **({} if plan.single else {"parallelism": parallelism(plan, divided, needs, items, interconnect)}),
        "roofline": {
            "roofs": roofs(hardware, limits, workload.threads),
            "points": roofline_points(built, items),
        },
        "unknown_operators": unknown,
        "warnings": warnings
        + scratch_warnings(hardware, workload)
        + small_products(items, limits)
        + _warnings(model, workload, built, memory["estimate"], unknown),
    }


def producer() -> dict[str, str]:
    return {
        "name": "llmcompare",
        "version": profiling.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def model_facts(model: ModelSpec, traced: Traced) -> dict[str, Any]:
    """The ``model`` object: identity and size."""
    built = traced.built
    return {
        "name": model.name,
        "source": model.source,
        "architecture": built.architecture,
        "model_type": built.config.model_type,
        "kind": model.kind,
        "config_sha256": model.config_sha256(),
        "parameters": built.parameters,
        "active_parameters": active_parameters(built, next(iter(traced.stages.values()))),
        "weight_bytes": built.weight_bytes,
        "weights": "none",
        "weights_note": model.weights_note,
        "max_context": built.max_context,
        "layers": built.layers,
    }


def _needs(workload: Workload, traced: Traced, footprint: Footprint, threads: int | None) -> Needs:
    """What a whole replica needs in memory."""
    batch = plan_of(workload, traced.built).batch(workload.batch_size)
    state = traced.cache.state_bytes * batch if traced.cache else 0
    return Needs(
        weights=traced.built.weight_bytes,
        kv_cache=round(max(0, traced.final_cache_bytes - state) * footprint.cache_ratio(footprint.precision.cache)),
        state=state,
        activations=max(t.recording.peak(threads) for t in traced.largest.values()),
        widened=max(footprint.widened(stage, footprint.precision) for stage in traced.stages),
    )


def _memory(
    hardware: HardwareSpec,
    workload: Workload,
    traced: Traced,
    divided: Divided,
    needs: Needs,
    footprint: Footprint,
    threads: int | None,
) -> dict[str, Any]:
    """Of the device that needs the most; a replica of several is as large as its largest pipeline stage."""
    cache, plan = traced.cache, plan_of(workload, traced.built)
    largest = max(divided.stages(plan, needs), key=lambda stage: stage.total)
    share = largest.activations / needs.activations if needs.activations else 1.0
    stages = {
        name: {
            # Front ends run whole on every device.
            "activation_peak_bytes": math.ceil(trace.recording.peak(threads) * (1 if trace.spec.front_end else share)),
            "peak_module": trace.recording.peak_module(threads),
        }
        for name, trace in traced.largest.items()
    }
    per_token = cache.bytes_per_token * footprint.cache_ratio(footprint.precision.cache) if cache else 0
    return {
        "kv_cache_bytes_per_token": round(per_token) or None,
        "estimate": memory_estimate(
            dtype=workload.dtype,
            batch_size=plan.batch(workload.batch_size),
            replicas=plan.data,
            weights_bytes=largest.weights,
            kv_cache_bytes=largest.kv_cache,
            state_bytes=largest.state,
            activation_peak_bytes=largest.activations,
            widened_bytes=largest.widened,
            cache_in_dtype=footprint.precision.cache is None,
            quantised_share=footprint.quantised_share(),
            logical_weights_bytes=round(largest.weights * footprint.built.weight_bytes / (needs.weights or 1)),
            smaller=lambda: footprint.alternatives(largest.weights, largest.kv_cache),
            capacity_bytes=hardware.memory_bytes,
            more_devices=lambda capacity: divided.suggestion(plan, needs, capacity),
        )
        | {"stages": stages},
    }


def _stages(workload: Workload, items: dict[str, Evaluated], steps: Parts | None) -> dict[str, Any]:
    """Each stage as one pass; of decode also all ``steps`` together, the guesses of a draft included."""
    found = {stage: stage_summary(item) for stage, item in items.items()}
    if steps is not None:
        often = speculative.steps_per_token(workload)
        by_bound = {name: often * value for name, value in steps._asdict().items() if value}
        found["decode"]["all_steps"] = {
            "latency_s": often * sum(steps),
            "time_by_bound": dict(sorted(by_bound.items())),
        }
    return found


def _metrics(
    workload: Workload,
    traced: Traced,
    items: dict[str, Evaluated],
    limits: Ceilings,
    decoding: Parts | None,
    memory: dict[str, Any],
    needs: Needs,
    divided: Divided,
) -> dict[str, Any]:
    """Of the whole deployment: all replicas serve the batch at once. Utilisations are those of each of its devices, on average."""
    values: dict[str, float | None] = {"peak_memory": memory["estimate"]["total_bytes"]}
    batch, plan = workload.batch_size, plan_of(workload, traced.built)
    prompt = whole_prompt(workload, traced.stages)

    def per_second(count: float, seconds: float | None) -> float | None:
        return count / seconds if seconds else None

    if "prefill" not in items:
        seconds = items["encode"].time_s()
        values |= {
            "encode_time": seconds,
            "encode_throughput": per_second(batch * _encoded_tokens(traced, workload), seconds),
        }
        return {key: metric(key, value, "estimated") for key, value in values.items()}
    prefill, notes = items["prefill"].time_s(), {"prefill_throughput": prefix_note(prompt)}
    first = prefill
    if encoded := [item.time_s() for item in items.values() if item.trace.spec.front_end]:
        known = [t for t in encoded if t is not None]
        encoding = sum(known) if len(known) == len(encoded) else None
        first = None if prefill is None or encoding is None else encoding + prefill
        values["encode_time"] = encoding
        notes["ttft"] = {"note": "Encoding of images and audio clips, then the prefill."}
    values |= {
        "prefill_time": prefill,
        "prefill_throughput": per_second(batch * (prompt.input_tokens - workload.prefix_tokens), prefill),
        "mfu_prefill": ratio(seconds_at_peak(items["prefill"].works, limits), plan.pipeline * prefill)
        if prefill
        else None,
    }
    if workload.output_tokens:
        values["ttft"] = first
        decode = 0.0 if prefill is not None else None
        if traced.curve is not None:
            steps = workload.output_tokens - 1
            step = items["decode"].time_s()
            decode = None if decoding is None else sum(decoding) * speculative.steps_per_token(workload)
            kept = (needs.kv_cache + needs.state) / (traced.final_cache_bytes or 1)  # in the formats of the cache
            needed = _weights_and_cache_read(items["decode"], kept * divided.cache_share(plan)) / plan.pipeline
            values |= {
                "tpot": decode / steps if decode is not None else None,
                "decode_time_per_step": None if step is None else step * speculative.drafting(workload),
                "decode_throughput": per_second(batch * steps, decode),
                "mbu_decode": ratio(needed, step * limits.bandwidth) if step and limits.bandwidth else None,
            }
        total = first + decode if first is not None and decode is not None else None
        values |= {"e2e_latency": total, "output_throughput": per_second(batch * workload.output_tokens, total)}
    if traced.curve is not None:
        notes |= speculative.notes(workload)
    return {key: metric(key, value, "estimated", **notes.get(key, {})) for key, value in values.items()}


def _weights_and_cache_read(item: Evaluated, cache_share: float) -> float:
    """Bytes of weights that a decode step reads, and of the cache after it, each once; ``cache_share``: part that a device has."""
    return sum(w.times * w.weight_bytes for w in item.works) + item.trace.cache_bytes * cache_share


def _encoded_tokens(traced: Traced, workload: Workload) -> int:
    return traced.stages["encode"].sequence_length or workload.input_tokens


def _warnings(
    model: ModelSpec, workload: Workload, built: Built, memory: dict[str, Any], unknown: list[str]
) -> list[dict[str, str]]:
    found = cautions(model, workload, built.architecture, built.kind, attention_of(built), unknown)
    if memory["fits"] is False:
        found.append(
            {
                "code": "does_not_fit",
                "message": f"It needs {say(memory['total_bytes'], 'B')}, {say(memory['shortfall_bytes'], 'B')} more than the "
                "memory of one device: the times assume that it fitted.",
            }
        )
    if memory["fits"] is None:
        found.append(
            {
                "code": "capacity_unknown",
                "message": "The memory size of this hardware is unknown: fit cannot be judged.",
            }
        )
    return found
