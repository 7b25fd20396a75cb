"""Which forward passes make up a workload, and their traces. Traces depend on the model and the shapes, not on hardware.

Kinds of models: ``decoder`` and ``ssm`` run prefill and decode; ``encdec`` runs its encoder and the first decoder step as
prefill; ``audio`` encodes one window of audio with the prefill; ``encoder`` and ``vision`` only encode. Models that read text
and have a front end for images or audio encode those in a pass of its own (:mod:`profiling.front_ends`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

import profiling
from profiling.build import Built, block_index, cached_build
from profiling.cache_size import cache_bytes, own_elements
from profiling.explanations import explain
from profiling.front_ends import front_ends, in_words, layouts, run_front_end, tokens_of
from profiling.lru import Lru
from profiling.recording import Call, ModuleOutput, Recording
from profiling.spec import ModelSpec, SpecError
from profiling.trace import TraceTooLong, install_hooks, record, run_unrecorded


@dataclass(frozen=True)
class Pass:
    """One forward pass. ``tokens`` are processed per sequence while ``context`` lie in the cache.

    ``source_tokens``: length of the encoder's input in an encoder-decoder model (then ``tokens`` are the decoder's).
    ``front_end``: ``image`` or ``audio`` in the stage ``encode`` of a model that reads text; then ``tokens`` are the images or
    audio clips per sequence.
    """

    stage: str
    batch_size: int
    tokens: int
    context: int = 0
    source_tokens: int = 0
    logits: str = "last"
    front_end: str = ""


@dataclass(frozen=True)
class Trace:
    """A traced pass with what is needed to evaluate it: ``times`` aligned with ``recording.calls``.

    ``cache_bytes``: of the whole model after the pass. ``sequence_length``: of what the first block works on; of a front end,
    the tokens that one image or audio clip becomes in the language model (its part of the prompt). ``takes``: how large that one
    is, in words. ``blocks``: numbers of repeated blocks, by index of the calls in them. ``leaving``: storages that a repeated block writes for what
    runs after it.
    """

    spec: Pass
    recording: Recording
    times: tuple[int, ...]
    cache_bytes: int
    sequence_length: int | None
    takes: str = ""
    blocks: Mapping[int, int] = field(default_factory=dict)
    leaving: frozenset[int] = frozenset()

    @property
    def calls(self) -> tuple[Call, ...]:
        return self.recording.calls

    def outputs(self) -> dict[str, ModuleOutput]:
        return self.recording.outputs


#: Types that are given the whole sequence at every step, and drop what the cache knows in their own forward.
_TAKES_ALL_TOKENS = ("cpmant",)


def trace(built: Built, spec: Pass) -> Trace:
    """Trace one pass of a built model. Raises :class:`SpecError` when its forward cannot be followed."""
    with _followed(built):
        return _trace(built, spec)


@contextmanager
def _followed(built: Built) -> Iterator[None]:
    """Hold the model's lock and leave the model as it was; what its forward raises becomes one sentence for whoever wrote the
    configuration.

    Not in the caller's inference mode, if any: in it, operators are told from views of each other differently.
    """
    with built.lock, torch.inference_mode(False):
        install_hooks(built.module)
        before = _state(built.module)
        try:
            yield
        except (SpecError, MemoryError):
            raise
        except TraceTooLong as error:
            raise SpecError("input_tokens", f"{built.architecture}: {error}") from error
        except Exception as error:
            raise SpecError("config", f"The forward pass of {built.architecture} {_why_not(error)}") from error
        finally:
            for holder, held in before:
                for name in holder.keys() - held.keys():
                    del holder[name]
                for name, value in held.items():
                    if name not in holder or holder[name] is not value:
                        holder[name] = value


def _state(module: torch.nn.Module) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    """(where it is kept, what is there) of all that modules have. Some change themselves while they run (BigBird turns dense for a
    short input, and stays so), and a pass must not depend on those before it. Hooks are part of it: transformers adds those that
    collect hidden states in the first pass and remembers that on the model, so both stay or go together."""
    holders: list[dict[Any, Any]] = [
        holder  # type: ignore[misc]
        for item in module.modules()
        for holder in (vars(item), item._modules, item._buffers, item._parameters, item._forward_hooks)
    ]
    return [(holder, dict(holder)) for holder in holders]


def _why_not(error: Exception) -> str:
    """The end of a sentence: why a forward pass could not be followed."""
    text = str(error).strip()
    asked = re.search(r"register_meta function for (torch\.\w+)\(\)|(Tensor\.item)\(\)|(no data)", text)
    if asked:
        by = asked[1] or asked[2] or "a copy"
        return f"depends on the values of its tensors ({by}), which a model without weights does not have."
    return explain(error, "cannot be followed without weights")


def prepare(built: Built, spec: Pass) -> tuple[dict[str, Any], Any]:
    """The arguments of the forward pass, and the cache among them (None before the first token)."""
    cache, encoded = None, None
    if spec.context:
        cache = fill_cache(built, spec)
        if cache is None:
            if _cache_argument(built) is not None:
                raise SpecError("config", f"{built.architecture} keeps its state where the trace cannot follow it.")
            # A model that keeps nothing runs over the whole sequence at every step.
            spec = replace(spec, tokens=spec.context + spec.tokens, context=0)
        elif built.config.model_type in _TAKES_ALL_TOKENS:
            spec = replace(spec, tokens=spec.context + spec.tokens)
    if spec.stage == "decode" and built.kind in ("encdec", "audio"):
        encoded = _encoder_output(built, spec)
    return _arguments(built, spec, cache, encoded), cache


def _trace(built: Built, spec: Pass) -> Trace:
    if spec.front_end:
        return _trace_front_end(built, spec)
    before = _formats(built)
    arguments, cache = prepare(built, spec)
    recording, cache = record(
        built, lambda: forward(built, arguments), cache_before=cache, inputs=list(_tensors(arguments))
    )
    if _formats(built) != before:  # converted once, for all passes: what is counted is a pass that finds it done
        arguments, cache = prepare(built, spec)
        recording, cache = record(
            built, lambda: forward(built, arguments), cache_before=cache, inputs=list(_tensors(arguments))
        )
    blocks, leaving = _borders(built, recording.calls)
    return Trace(
        spec=spec,
        recording=recording,
        times=tuple(built.times(call.path) for call in recording.calls),
        cache_bytes=cache_bytes(built, cache),
        sequence_length=_sequence_length(built, recording),
        blocks=blocks,
        leaving=leaving,
    )


def _formats(built: Built) -> list[torch.dtype]:
    return [tensor.dtype for group in (built.module.parameters(), built.module.buffers()) for tensor in group]


def _trace_front_end(built: Built, spec: Pass) -> Trace:
    """Trace the features of images or audio clips. A layout that the front end does not take is followed by the next."""
    if spec.front_end not in front_ends(built.module):
        raise SpecError("model", f"{built.architecture} has no front end for {spec.front_end} input.")
    count = spec.batch_size * spec.tokens
    error: Exception | None = None
    for arguments in layouts(built.module, spec.front_end, count, built.dtype):
        made: list[Any] = []

        def run(given: dict[str, Any] = arguments, made: list[Any] = made) -> tuple[Any, None]:
            made.append(run_front_end(built.module, spec.front_end, given))
            return made[0], None

        try:
            recording, _ = record(built, run, cache_before=None, inputs=list(_tensors(arguments)))
        except Exception as failure:
            error = error or failure
            continue
        times = tuple(built.times(call.path) for call in recording.calls)
        takes = in_words(built.config, arguments)
        return Trace(spec, recording, times, 0, tokens_of(made[0]) // count, takes, *_borders(built, recording.calls))
    if error is not None:
        raise error
    raise SpecError("model", f"{built.architecture} takes {spec.front_end} input in a layout that is not known here.")


def _borders(built: Built, calls: Sequence[Call]) -> tuple[dict[int, int], frozenset[int]]:
    """Numbers of repeated blocks by index of the calls in them, and storages that are written in one and read outside of it."""
    numbers: dict[tuple[str, int], int] = {}
    found: dict[str, int | None] = {}
    writer: dict[int, int | None] = {}
    blocks: dict[int, int] = {}
    leaving: set[int] = set()
    for call in calls:
        if call.path not in found:
            places = ((fold.path, block_index(fold, call.path)) for fold in built.folds)
            place = next(((path, i) for path, i in places if i is not None), None)
            found[call.path] = None if place is None else numbers.setdefault(place, len(numbers))
        here = found[call.path]
        if here is not None:
            blocks[call.index] = here
        leaving.update(uid for uid, nbytes, _ in call.reads if nbytes and writer.get(uid) not in (None, here))
        writer.update((uid, here) for uid, _ in call.writes)
    return blocks, frozenset(leaving)


def _sequence_length(built: Built, recording: Recording) -> int | None:
    """Length of the sequence that the first block works on: what an encoder of images makes of one image."""
    output = recording.outputs.get(f"{built.folds[0].path}.0") if built.folds else None
    return output.shape[1] if output and output.shape and len(output.shape) == 3 else None


def fill_cache(built: Built, spec: Pass) -> Any:
    """The cache that a forward pass over ``spec.context`` tokens leaves behind, made by the model itself."""
    before = Pass("prefill", spec.batch_size, spec.context, 0, spec.source_tokens)
    arguments = _arguments(built, before, None, None)
    return run_unrecorded(lambda: forward(built, arguments))


def _tensors(arguments: dict[str, Any]):
    for value in arguments.values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, BaseModelOutput):
            yield value.last_hidden_state


def _accepts(built: Built, name: str) -> bool:
    return name in inspect.signature(built.module.forward).parameters


def _ids(batch: int, tokens: int) -> torch.Tensor:
    return torch.zeros(batch, tokens, dtype=torch.long, device="meta")


def _arguments(built: Built, spec: Pass, cache: Any, encoded: Any) -> dict[str, Any]:
    """The keyword arguments of the forward pass."""
    config, kind = built.config, built.kind
    if kind == "vision":
        return {"pixel_values": _pixels(built, spec.batch_size)}
    if kind == "encoder":
        return {"input_ids": _ids(spec.batch_size, spec.tokens)}
    # Not asked for where it is the default anyway: some models hand the question on to their encoder, which refuses.
    arguments: dict[str, Any] = {} if kind == "encdec" and getattr(config, "use_cache", False) else {"use_cache": True}
    if kind in ("encdec", "audio"):
        arguments["decoder_input_ids"] = _ids(spec.batch_size, spec.tokens)
        if encoded is not None:
            arguments["encoder_outputs"] = encoded
        elif kind == "audio":
            frames = 2 * config.max_source_positions
            arguments["input_features"] = torch.empty(
                spec.batch_size, config.num_mel_bins, frames, dtype=built.dtype, device="meta"
            )
        else:
            arguments["input_ids"] = _ids(spec.batch_size, spec.source_tokens)
    else:
        # Models of several code books (audio) take one sequence of each per example.
        arguments["input_ids"] = _ids(spec.batch_size * (getattr(config, "num_codebooks", None) or 1), spec.tokens)
        if spec.logits == "last" and _accepts(built, "logits_to_keep"):
            arguments["logits_to_keep"] = 1
    name = _cache_argument(built)
    if cache is not None and name is not None:
        arguments[name] = cache
    return arguments


def _cache_argument(built: Built) -> str | None:
    """Name under which the model takes what it remembers, or None when it remembers nothing."""
    names = ("past_key_values", "cache_params", "state", "mems")
    return next((name for name in names if _accepts(built, name)), None)


def _pixels(built: Built, batch: int) -> torch.Tensor:
    size = built.config.image_size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return torch.empty(batch, built.config.num_channels, height, width, dtype=built.dtype, device="meta")


@dataclass
class _Encoded(BaseModelOutput):
    """What an encoder hands to its decoder; one with experts hands on how it routed as well."""

    router_logits: Any = None


def _encoder_output(built: Built, spec: Pass) -> BaseModelOutput:
    config = built.config
    length = config.max_source_positions if built.kind == "audio" else spec.source_tokens
    width = _encoder_width(config)
    return _Encoded(last_hidden_state=torch.empty(spec.batch_size, length, width, dtype=built.dtype, device="meta"))


def _encoder_width(config: Any) -> int:
    """Size of the vectors that the decoder attends to."""
    width = getattr(config, "d_model", None) or getattr(config, "hidden_size", None)
    if width:
        return width
    encoder = config.encoder
    return getattr(encoder, "hidden_size", None) or encoder.text_config.hidden_size


def forward(built: Built, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """Run the model: (what it returned, the cache in it)."""
    output = (
        built.module(**arguments, return_dict=True) if _accepts(built, "return_dict") else built.module(**arguments)
    )
    name = _cache_argument(built)
    return output, getattr(output, name, None) if name else None


# --- cache ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheShape:
    """Of one sequence: bytes per cached token (all layers, before any window), constant state, bytes per source token.

    ``elements_per_token``: how many elements of a cached token are in the model's own dtype, so change with it.
    """

    bytes_per_token: int
    state_bytes: int
    bytes_per_source_token: int
    elements_per_token: int


def cache_shape(built: Built) -> CacheShape | None:
    """How the cache grows, from the caches that the model itself makes for 1, 2 and (source) 1, 2 tokens."""
    if built.kind in ("encoder", "vision"):
        return None
    with _followed(built):
        caches = [fill_cache(built, Pass("decode", 1, 1, context, 1)) for context in (1, 2)]
        one, two = (cache_bytes(built, cache) for cache in caches)
        elements = own_elements(built, caches[1]) - own_elements(built, caches[0])
        source = 0
        if built.kind == "encdec":
            source = cache_bytes(built, fill_cache(built, Pass("decode", 1, 1, 1, 2))) - one
    per_token = two - one
    return CacheShape(per_token, one - per_token - source, source, elements)


# --- remembered traces ----------------------------------------------------------------------------------------------

_TRACES: Lru[Trace] = Lru(64)
_SHAPES: Lru[tuple[CacheShape | None]] = Lru(64)


def model_key(model: ModelSpec, dtype: str, attn: str) -> tuple:
    return (model.config_sha256(), model.kind, dtype, attn, profiling.__version__)


def cached_trace(model: ModelSpec, dtype: str, attn: str, spec: Pass) -> Trace:
    """:func:`trace`, remembered by model, dtype, shape and engine version."""
    key = (*model_key(model, dtype, attn), spec)
    return _TRACES.get(key) or _TRACES.put(key, traced_safely(model, dtype, attn, spec))


def traced_safely(model: ModelSpec, dtype: str, attn: str, spec: Pass) -> Trace:
    return trace(cached_build(model, dtype, attn), spec)


def cached_cache_shape(model: ModelSpec, dtype: str, attn: str) -> CacheShape | None:
    """:func:`cache_shape`, remembered likewise."""
    key = model_key(model, dtype, attn)
    found = _SHAPES.get(key)
    if found is None:
        found = _SHAPES.put(key, (cache_shape(cached_build(model, dtype, attn)),))
    return found[0]
