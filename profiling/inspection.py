"""Facts about a model that need no hardware: size, context, memory by data type."""

from __future__ import annotations

from typing import Any

from profiling.build import Built, cached_build
from profiling.passes import CacheShape, Pass, Trace, cached_cache_shape, cached_trace
from profiling.spec import DTYPE_BYTES, WORKLOAD_DTYPES, ModelSpec, SpecError


def active_parameters(built: Built, trace: Trace) -> int:
    """Parameters that one token uses: all, less the routed experts that it is not sent to.

    The experts are those that grouped matrix products of the trace read; k of E follows from the rows per token.
    """
    idle = 0.0
    for call, times in zip(trace.calls, trace.times, strict=True):
        if call.name != "grouped_mm":
            continue
        experts, k, n = call.inputs[1].shape
        top_k = call.inputs[0].shape[0] / call.facts["tokens"]
        idle += times * experts * k * n * (1 - top_k / experts)
    return built.parameters - round(idle)


def inspect_model(model: ModelSpec) -> dict[str, Any]:
    """Architecture, kind, parameters, layers, context, and bytes of weights and of the cache per token by data type.

    Classes that mix bf16 with fp32 in their own forward and fail are inspected in fp32: ``dtype`` says which it was, ``note`` why (else
    None). Raises :class:`SpecError` when the model cannot be built or run in either.
    """
    cached_build(model, "bf16", "sdpa")  # what cannot be built in one format cannot be in the other either
    try:
        return _inspected(model, "bf16")
    except SpecError as error:
        try:
            found = _inspected(model, "fp32")
        except SpecError:
            raise error from None
        return found | {"note": f"Inspected in fp32, and to be run in it: in bf16 the class itself fails. {error}"}


def _inspected(model: ModelSpec, dtype: str) -> dict[str, Any]:
    built = cached_build(model, dtype, "sdpa")
    stage = "encode" if built.kind in ("encoder", "vision") else "prefill"
    first = cached_trace(model, dtype, "sdpa", Pass(stage, 1, 2, 0, 2))
    per_element = built.weight_bytes / built.parameters
    cache = cached_cache_shape(model, dtype, "sdpa")
    per_token = None
    if cache is not None and cache.bytes_per_token:
        per_token = {name: _cache_bytes(cache, name, dtype) for name in WORKLOAD_DTYPES}
    return {
        "architecture": built.architecture,
        "model_type": built.config.model_type,
        "kind": model.kind,
        "parameters": built.parameters,
        "active_parameters": active_parameters(built, first),
        "layers": built.layers,
        "max_context": built.max_context,
        "dtype": dtype,
        "note": None,
        "weight_bytes": {
            name: round(built.parameters * DTYPE_BYTES[name] * per_element / DTYPE_BYTES[dtype])
            for name in ("fp32", "bf16", "fp16", "fp8", "int8", "int4")
        },
        "kv_cache_bytes_per_token": per_token,
    }


def _cache_bytes(cache: CacheShape, dtype: str, seen: str) -> int:
    """Of one token in ``dtype``, from the shape of a cache in the format ``seen``: what a model in bf16 keeps in fp32 stays as large."""
    return cache.bytes_per_token + round(cache.elements_per_token * (DTYPE_BYTES[dtype] - DTYPE_BYTES[seen]))
