"""What a run will need, before it is launched: a quick estimate by the web process's warm engine child.

The web process itself imports no torch. Answers are kept by the digest of the frozen inputs, so the same question is answered at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext

from hardware.models import Hardware, Host
from hardware.services import detected_memory
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import WHOLE_FORM, FieldErrors
from llmcompare.common.saying import enumerated, said
from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS, chosen
from llmcompare.runs.prompttokens import counted
from llmcompare.runs.suitability import shares_machine
from llmcompare.runs.validation import Inputs, check_inputs, stored_bytes
from profiling.client import EngineError, warm_child
from profiling.load import Load
from profiling.lru import Lru
from profiling.protocol import Protocol
from profiling.quantities import say
from profiling.spec import RunSpec, Workload

logger = logging.getLogger(__name__)

TIMEOUT_S = 20.0
CACHE_SIZE = 256

#: Fields of the engine that have another name on the form.
FORM_FIELDS = {"config": "model", "weights_path": "model", "architecture": "model"}
#: Groups of options whose limits are the model's own.
ASKS_THE_ENGINE = ("devices", "media")
TIMES = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2e_latency", "encode_s": "encode_time"}


#: The latest answers by digest of the spec.
answers: Lru[dict[str, Any]] = Lru(CACHE_SIZE)


def preview(
    *,
    model: LanguageModel,
    hardware: Hardware | None,
    workload: Mapping[str, Any],
    kind: str = Run.Kind.ESTIMATE,
    host: Host | None = None,
    protocol: Mapping[str, Any] | None = None,
    against: Run | None = None,
    load: Mapping[str, Any] | None = None,
    artifacts: Sequence[str] = (),
    replay: bool = False,
) -> dict[str, Any]:
    """Memory and time of the run that these inputs would make. Raises :class:`FieldErrors` as ``launch_run`` would.

    Keys: ``weights_bytes, kv_cache_bytes, state_bytes, activation_peak_bytes, total_bytes, capacity_bytes, fits, shortfall_bytes``
    (bytes; ``fits`` null when the capacity is unknown), ``suggestions``, ``ttft_s, tpot_s, e2e_s, encode_s`` (seconds or null),
    ``devices`` (of the whole deployment; memory is that of one), ``processes`` (that stand for devices on one processor; else null), ``ceilings`` (what the times stand on), ``expected_wall_s``
    (measurements: all timed and warm-up iterations of all processes and the load of requests, without loading; null when unknown), ``notes``
    and ``warnings`` (sentences), ``prompts`` (what the model's tokenizer makes of the prompts; null where there are none).
    """
    inputs = check_inputs(
        kind=kind,
        model=model,
        hardware=hardware,
        host=host,
        workload=workload,
        protocol=protocol,
        against=against,
        load=load,
        artifacts=artifacts,
        replay=replay,
    )
    inputs, prompts = counted(inputs)
    try:
        estimate = _estimate(inputs)
    except EngineError as error:
        raise FieldErrors(
            {FORM_FIELDS.get(error.field or "", error.field or WHOLE_FORM): said(error.message)}
        ) from error
    if kind == Run.Kind.MEASURE:
        _refuse_too_large(inputs, estimate["total_bytes"], estimate)
    estimate = estimate | {"processes": None}
    if host is not None and kind == Run.Kind.MEASURE and shares_machine(host, inputs.workload):
        # Of so many machines like this one; the processes will share one.
        estimate = estimate | dict.fromkeys(TIMES) | {"processes": inputs.workload.tensor_parallel, "devices": 1}
    more = {"expected_wall_s": _expected_wall_s(inputs, estimate), "notes": inputs.notes, "prompts": prompts}
    return estimate | more


def check_memory(inputs: Inputs) -> None:
    """Refuse a measurement whose prompts are too long for its model, or that cannot fit into its host, with the numbers. Raises
    :class:`FieldErrors`.

    Weights and cache are known without the engine; activations need its estimate. When the engine does not answer here (it is not
    installed, or busy), the worker's engine refuses by itself before it loads anything.
    """
    inputs, _ = counted(inputs)
    stored = stored_bytes(inputs.model, inputs.workload)
    if stored is not None and (inputs.host is None or not inputs.host.details.get("accelerators")):
        _refuse_too_large(inputs, stored, None)
    elif stored is not None:  # of each device
        _refuse_too_large(inputs, stored // inputs.workload.tensor_parallel, None)
    try:
        estimate = _estimate(inputs)
    except EngineError as error:
        if error.field is not None:
            raise FieldErrors({FORM_FIELDS.get(error.field, error.field): said(error.message)}) from error
        logger.warning("No estimate of the memory before launch: %s", error)
    else:
        _refuse_too_large(inputs, estimate["total_bytes"], estimate)


def check_with_engine(inputs: Inputs) -> None:
    """Refuse options of an estimate that this model does not have, at their field. Raises :class:`FieldErrors`.

    How many heads, experts and layers there are to divide, and what an image becomes, only the engine knows. When it does not answer
    here, the worker's says it.
    """
    workload = inputs.workload.to_json()
    asked = [option.name for option in OPTIONS if option.group in ASKS_THE_ENGINE]
    if not set(asked) & set(chosen(workload)):
        return
    try:
        _estimate(inputs)
    except EngineError as error:
        if error.field in asked:
            raise FieldErrors({error.field: said(error.message)}) from error
        logger.warning("No estimate of the options before launch: %s", error)


def _estimate(inputs: Inputs) -> dict[str, Any]:
    """The estimate of the inputs in short, from the cache or from the engine; raises :class:`EngineError`."""
    # Iterations and the like do not change an estimate; leaving them out of the key makes editing them free.
    quick = replace(inputs.workload, iterations=1, warmup=0, seed=0, time_limit_s=TIMEOUT_S, prompt=None, prompts=None)
    spec: RunSpec = replace(inputs, kind=Run.Kind.ESTIMATE.value, workload=quick, replay=False).freeze()
    digest = spec.digest()
    answer = answers.get(digest)
    if answer is None:
        document = warm_child().request("estimate", {"spec": spec.to_json()}, timeout_s=TIMEOUT_S)
        answer = answers.put(digest, _in_short(document))
    return answer


def _in_short(document: Mapping[str, Any]) -> dict[str, Any]:
    metrics = document["metrics"]
    return {
        **document["memory"]["estimate"],
        **{name: metrics.get(key, {}).get("value") for name, key in TIMES.items()},
        "ceilings": document["conventions"].get("ceilings"),
        "devices": (document.get("parallelism") or {}).get("devices", 1),
        "warnings": [warning["message"] for warning in document["warnings"]],
    }


def _expected_wall_s(inputs: Inputs, estimate: Mapping[str, Any]) -> float | None:
    """Seconds that the iterations of a measurement take; loading and start-up are not known beforehand."""
    once = estimate["e2e_s"] if estimate["e2e_s"] is not None else estimate["encode_s"]
    if inputs.kind != Run.Kind.MEASURE or once is None:
        return None
    repeated = inputs.protocol or Protocol(processes=1)
    passes = inputs.workload.iterations
    if inputs.workload.prompts:  # whole rounds of batches, each taken to be like the largest
        batches = -(-len(inputs.workload.prompts) // inputs.workload.batch_size)
        passes = -(-passes // batches) * batches
    timed = max(passes * once, repeated.min_seconds)
    load = 0.0 if inputs.load is None else _load_wall_s(inputs.load, inputs.workload, once)
    mine = repeated.processes * (timed + inputs.workload.warmup * once + load)
    # The other side is taken to be about as fast: its own time is not known here.
    return mine if inputs.against is None else 2 * mine


def _load_wall_s(load: Load, workload: Workload, once: float) -> float:
    """Seconds that a load of requests takes: static batches one after the other, each as long as an iteration of the workload (its lengths
    stand for those that are drawn), and at least until the last request arrives."""
    together = workload.batch_size if load.open else min(workload.batch_size, load.concurrency)
    due, last = float(load.requests), load.requests / load.rate if load.rate else 0.0
    if load.seconds is not None:
        if not load.open:  # users send no further request
            return min(math.ceil(due / together) * once, load.seconds + once)
        due, last = min(due, (load.rate or 0.0) * load.seconds), min(last, load.seconds)
    return max(math.ceil(due / together) * once, last + once)


def _refuse_too_large(inputs: Inputs, needed: int | None, parts: Mapping[str, Any] | None) -> None:
    if inputs.host is None or needed is None:
        return
    if parts is not None and shares_machine(inputs.host, inputs.workload):
        needed *= inputs.workload.tensor_parallel  # what one device needs, in each of the processes
    capacity = detected_memory(inputs.host)
    if capacity is None or needed <= capacity:
        return
    what = gettext("weights and cache")
    if parts is not None:
        names = {
            "weights_bytes": gettext("weights"),
            "kv_cache_bytes": gettext("cache"),
            "activation_peak_bytes": gettext("activations"),
        }
        known = [f"{label} {say(parts[name], 'B')}" for name, label in names.items() if parts.get(name)]
        what = enumerated(known) or gettext("weights, cache and activations")
    workload = inputs.workload
    raise FieldErrors(
        {
            "model": gettext(
                "%(model)s needs %(needed)s in %(dtype)s with batch %(batch)s (%(what)s); %(host)s has %(capacity)s. "
                "Choose a smaller model, format, batch or context, or an estimate."
            )
            % {
                "model": inputs.model.name,
                "needed": say(needed, "B"),
                "dtype": workload.dtype,
                "batch": workload.batch_size,
                "what": what,
                "host": inputs.host,
                "capacity": say(capacity, "B"),
            }
        }
    )
