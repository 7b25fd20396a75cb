"""A replay on this host: trace the passes of a workload, time the operators that the table does not have, predict. On the processor, or
on one CUDA GPU.

No tensor larger than the cap is ever allocated, and never a whole model: one operator's inputs at a time.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

from profiling import host
from profiling.conditions import Snapshot, between
from profiling.loading import free_memory
from profiling.passes import Trace
from profiling.replay import twin as twins
from profiling.replay.device import caches_of, choose, device_of, name_of
from profiling.replay.predict import glue_key, glue_row, predict
from profiling.replay.shapes import Operator, operators
from profiling.replay.table import Row, Table
from profiling.replay.timing import Bench, NotReplayed
from profiling.spec import ModelSpec, Workload

#: Of the free memory, how much one operator's tensors may take; and, beside a processor's other work, never more than the second.
CAP_SHARE = 0.25
CAP_BYTES = 4 << 30


def default_cap(device: torch.device) -> int:
    """Bytes that the tensors of one operator may span."""
    free = free_memory(device)
    if free is None:
        return CAP_BYTES
    return int(CAP_SHARE * free) if device.type == "cuda" else min(CAP_BYTES, int(CAP_SHARE * free))


def stages_of(model: ModelSpec, workload: Workload) -> list[str]:
    if model.kind in ("encoder", "vision"):
        return ["encode"]
    return ["prefill"] + (["decode"] if workload.output_tokens > 1 else [])


def replay(
    model: ModelSpec,
    workloads: list[Workload],
    table: Table,
    *,
    cap_bytes: int | None = None,
    timed: bool = True,
    glue: bool = True,
    budget_s: float = 0.04,
    progress: Any = None,
) -> list[dict[str, Any]]:
    """The predictions (:func:`profiling.replay.predict.predict`) of ``model`` for each of ``workloads``; ``table`` grows with what was timed.

    They are of the device that the table is of, which has to be here (:class:`EngineError`).
    ``timed=False`` times nothing: what the table has and what follows from it. ``glue=False`` leaves the twin out. ``cap_bytes``: no
    operator's tensors span more; larger ones are interpolated. Every prediction names in ``not_replayed`` what was not called, with the
    reason, and in ``conditions`` what else ran meanwhile. Raises :class:`SpecError` for a model or workload that cannot be traced.
    """
    report = progress or (lambda stage, fraction, message: None)
    started = time.perf_counter()
    device = device_of(table.device)
    if not table.on_gpu:
        torch.set_num_threads(table.threads)
    caches = caches_of(device)
    for workload in workloads:
        workload.check()
    workloads = [twins.as_offered(model, workload) for workload in workloads]
    bench = Bench(caches, default_cap(device) if cap_bytes is None else cap_bytes, budget_s, device)
    begin = Snapshot.now()
    refused: dict[str, str] = {}
    before = frozenset(table.rows)
    results = []
    for index, workload in enumerate(workloads):
        report("trace", index / len(workloads), f"Tracing {model.name}")
        traces = twins.traced(model, workload, stages_of(model, workload))
        if timed:
            found = [item for trace in traces.values() for item in operators(trace, caches)]
            refused |= time_operators(found, table, model.name, bench, report)
            if glue:
                refused |= _measure_glue(model, workload, traces, table, bench, report)
        results.append(predict(model, workload, traces, table, caches, before))
    end = Snapshot.now()
    conditions = between(begin, end, threads=table.threads or 1, on_cpu=not table.on_gpu, steady=None)
    for document in results:
        document["not_replayed"] = [{"operator": key, "reason": reason} for key, reason in refused.items()]
        document["conditions"] = conditions
        document["cap_bytes"] = bench.cap_bytes
        document["duration_s"] = time.perf_counter() - started
    report("done", 1.0, "Predicted")
    return results


def time_operators(found: list[Operator], table: Table, model: str, bench: Bench, report: Any = None) -> dict[str, str]:
    """Time those of ``found`` that the table does not have; returns those that could not be called, with the reason."""
    refused: dict[str, str] = {}
    for number, item in enumerate(found):
        if report is not None:
            report("replay", number / len(found), f"Operator {number + 1} of {len(found)}: {item.name}")
        known = table.rows.get(item.key)
        if known is not None:
            if model not in known.models:
                table.add(replace(known, models=(model,)))
            continue
        if item.key in refused:
            continue
        try:
            took = bench.time(item)
            if took.quality != "ok":
                again = bench.time(item)
                took = again if again.quality == "ok" or again.seconds < took.seconds else took
        except NotReplayed as error:
            refused[item.key] = str(error)
            continue
        table.add(
            Row(
                key=item.key,
                name=item.name,
                op_class=item.op_class,
                dtype=item.dtype,
                flops=item.flops,
                elementwise_flops=item.elementwise_flops,
                cold_bytes=item.cold_bytes,
                hot_bytes=item.hot_bytes,
                rows=item.rows,
                seconds=took.seconds,
                best=took.best,
                calls=took.calls,
                quality=took.quality,
                models=(model,),
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
    return refused


def _measure_glue(
    model: ModelSpec, workload: Workload, traces: dict[str, Trace], table: Table, bench: Bench, report: Any
) -> dict[str, str]:
    """Put the glue of the model's passes into the table, if it is not there. Returns why it could not be measured."""
    keys = {stage: glue_key(model, stage, workload.dtype, workload.attn_implementation) for stage in traces}
    if all(key in table.glue for key in keys.values()):
        return {}
    report("glue", 0.9, "Narrow twin")
    twin = twins.narrow_twin(model, workload, traces)
    if twin is None:
        return {"(glue)": "no narrow twin has the same operators"}
    try:
        took = twins.pass_seconds(twin, bench.device, traces, bench.caches)
    except twins.FAILURES as error:
        return {"(glue)": f"the narrow twin does not run: {error}"}
    refused: dict[str, str] = {}
    for stage, trace in twin.traces.items():
        found = operators(trace, bench.caches)
        calls = sum(item.count for item in found)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if table.on_gpu:
            # The device works on the twin's kernels while the host goes on: its passes are the host's time.
            table.glue[keys[stage]] = glue_row(keys[stage], stage, model, workload.dtype, took[stage], 0.0, calls, now)
            continue
        missing = time_operators(found, table, model.name, bench)
        if missing:
            refused["(glue)"] = f"operators of the narrow twin cannot be called alone: {', '.join(missing)[:200]}"
            continue
        kernels = sum(item.count * table.rows[item.key].seconds for item in found)
        table.glue[keys[stage]] = glue_row(keys[stage], stage, model, workload.dtype, took[stage], kernels, calls, now)
    return refused


def answer(request: dict[str, Any], report: Any) -> dict[str, Any]:
    """An engine process's answer: ``predictions``, one for each of ``workloads``, and the ``table`` that was grown.

    Request: ``model``, ``workloads``, ``table`` (JSON, or null for an empty one), ``device`` and ``threads`` of an empty one (default: as
    :func:`profiling.replay.device.choose` does; one per physical core), and the options of :func:`replay`.
    """
    model = ModelSpec.from_json(request["model"])
    workloads = [Workload.from_json(item) for item in request["workloads"]]
    given = request.get("table")
    if given is None:
        device = choose(request.get("device"))
        threads = 0 if device.type == "cuda" else request.get("threads") or host.cores()[0]
        table = Table(host.detect()["fingerprint"], torch.__version__, threads, device=name_of(device))
    else:
        table = Table.from_json(given)
    options = {key: request[key] for key in ("cap_bytes", "timed", "glue", "budget_s") if key in request}
    predictions = replay(model, workloads, table, progress=report, **options)
    return {"predictions": predictions, "table": table.to_json()}
