"""From a workload to traces: which passes it is made of. Depends on the model and the shapes, not on hardware.

Chat is one prefill and a decode step for every further token, each with its own context. A prefix that lies in the cache shortens
the prefill; a draft lengthens the decode steps, which then are fewer (:mod:`profiling.speculative`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from profiling import mla
from profiling.build import Built, cached_build
from profiling.decode import DecodeCurve, decode_curve
from profiling.deployment import plan_of
from profiling.joined import encode_passes, joined_tokens, whole_prompt
from profiling.limits import check_context
from profiling.options import operators
from profiling.passes import CacheShape, Pass, Trace, cached_cache_shape, cached_trace
from profiling.spec import ModelSpec, Workload
from profiling.speculative import step_tokens

Progress = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Traced:
    """Everything about a model and a workload's shapes that does not depend on hardware.

    ``stages``: one pass of each, that over the prompt first, those of front ends last; of decode, the step in the middle. ``last``:
    the last decode step. ``curve``: one decode step of the target for every output token but the first, whatever a step brings.
    ``final_cache_bytes``: of the complete model, after the last step. Cache and activations are in the form that ``Workload.mla``
    names; ``latent``: whether there is latent attention at all.
    """

    built: Built
    stages: dict[str, Trace]
    curve: DecodeCurve | None
    cache: CacheShape | None
    final_cache_bytes: int
    latent: bool = False
    last: Trace | None = None

    @property
    def largest(self) -> dict[str, Trace]:
        """The pass of each stage that needs the most memory."""
        return self.stages | ({"decode": self.last} if self.last else {})


def first_pass(kind: str, workload: Workload, batch: int) -> Pass:
    """The pass over the input, of ``batch`` sequences: over all of it, or what of it is not cached."""
    if kind in ("encoder", "vision"):
        return Pass("encode", batch, workload.input_tokens)
    if kind == "encdec":
        return Pass("prefill", batch, workload.decoder_tokens, 0, workload.input_tokens, workload.logits)
    prefix = workload.prefix_tokens
    return Pass("prefill", batch, workload.input_tokens - prefix, prefix, 0, workload.logits)


def decode_pass(first: Pass, workload: Workload, context: int) -> Pass:
    """The decode step that has ``context`` tokens in the cache. Guesses are checked, so each of them gets logits."""
    tokens = step_tokens(workload)
    logits = "last" if tokens == 1 else "all"
    return Pass("decode", first.batch_size, tokens, context, first.source_tokens, logits)


def prefix_note(workload: Workload) -> dict[str, str]:
    """What to say beside the prefill throughput: nothing without a prefix."""
    prefix = workload.prefix_tokens
    if not prefix:
        return {}
    return {"note": f"Counts the {workload.input_tokens - prefix:,} new tokens; {prefix:,} were in the cache."}


def trace_workload(model: ModelSpec, workload: Workload, tell: Progress) -> Traced:
    """Trace every pass of the workload. Remembers traces, so the same shapes on other hardware cost nothing.

    Raises :class:`SpecError` for a workload that the model cannot do.
    """
    dtype, attn = workload.dtype, workload.attn_implementation
    built = cached_build(model, dtype, attn)
    check_context(built.kind, built.max_context, workload)

    def run(spec: Pass) -> Trace:
        return mla.kept(cached_trace(model, dtype, attn, spec), workload.counting)

    batch = plan_of(workload, built).batch(workload.batch_size)
    encoded = {name: run(spec) for name, spec in encode_passes(built, workload, batch).items()}
    if encoded:
        check_context(built.kind, built.max_context, workload, joined_tokens(encoded))
    begin = first_pass(built.kind, whole_prompt(workload, encoded), batch)
    tell("trace", 0.2, f"Tracing {begin.stage}")
    first = run(begin)
    if begin.stage == "encode":
        return Traced(built, {"encode": first}, None, None, 0)
    stages, curve, final = {"prefill": first}, None, None
    steps = max(0, workload.output_tokens - 1)
    if steps:
        tell("trace", 0.4, "Tracing decode")

        def at(context: int) -> Trace:
            return run(decode_pass(begin, workload, context))

        start = begin.context + begin.tokens
        last = start + steps - 1
        stages["decode"] = at(start + steps // 2)
        # A step of several tokens meets a full window as many tokens earlier.
        windows = {w - earlier for w in built.windows for earlier in (0, workload.draft_tokens)}
        curve = decode_curve(at, start, last, lambda trace: operators(trace, built, workload), windows)
        final = at(last)
    cache = cached_cache_shape(model, dtype, attn)
    if cache is not None:
        grown = mla.grown_per_token(first, workload.counting)
        cache = replace(cache, bytes_per_token=cache.bytes_per_token + grown)
    held, latent = (final or first).cache_bytes, bool(mla.latents(first.recording))
    return Traced(built, stages | encoded, curve, cache, held, latent, final)
