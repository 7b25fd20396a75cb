"""The narrow twin: the same model with widths so small that its kernels cost next to nothing. What its passes take beside its
operators is what Python, modules, views and the dispatcher take in the model itself (the glue). On a GPU, which works while the host
goes on, its passes as a whole are what the host takes for one: Python, dispatcher and launches."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from profiling import host
from profiling.build import build, cached_build
from profiling.classes import resolve
from profiling.failures import EngineError
from profiling.generation import Runner
from profiling.issued import kept
from profiling.loading import load, prepare_inputs
from profiling.passes import Pass, Trace, trace
from profiling.replay.shapes import Caches
from profiling.spec import ModelSpec, SpecError, Workload

#: Tokens in and out of a twin's passes: few, as its glue is that of any number.
INPUT_TOKENS = 8
OUTPUT_TOKENS = 9
PASSES = 5

_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "n_embed", "embedding_size", "word_embed_proj_dim")
_INNER = (
    "intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "moe_intermediate_size", "d_inner",
    "shared_expert_intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim",
)  # fmt: skip
_HEADS = ("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads", "decoder_attention_heads", "n_heads")
_HEAD_SIZE = ("head_dim", "d_kv", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim")
_RANKS = ("q_lora_rank", "kv_lora_rank", "time_step_rank", "dt_rank")
_SMALL_VOCABULARY = 128


@dataclass(frozen=True)
class Twin:
    """A narrow model and its traces by stage (``prefill``, ``decode`` or ``encode``), of the shapes that it is timed at."""

    model: ModelSpec
    workload: Workload
    traces: dict[str, Trace]


def narrow_twin(model: ModelSpec, workload: Workload, passes: dict[str, Trace]) -> Twin | None:
    """The twin of ``model``: one whose passes call the same operators in the same order as those in ``passes``; None if none was found."""
    config, cls = resolve(model)
    for narrowed in _narrowed(_complete(config)):
        twin = replace(
            model, name=f"{model.name} (narrow)", config=narrowed, architecture=cls.__name__, weights="random"
        )
        small = replace(
            workload,
            input_tokens=min(workload.input_tokens, INPUT_TOKENS),
            output_tokens=min(workload.output_tokens, OUTPUT_TOKENS),
            prompt=None,
            iterations=PASSES,
            warmup=2,
        )
        try:
            traces = traced(twin, small, list(passes))
        except (SpecError, RuntimeError, ValueError, TypeError, AttributeError):
            continue
        if all(names(traces[stage]) == names(passes[stage]) for stage in passes):
            return Twin(twin, small, traces)
    return None


def as_offered(model: ModelSpec, workload: Workload) -> Workload:
    """The workload with the attention that the model has, where it does not offer the one that was asked for."""
    built = cached_build(model, workload.dtype, workload.attn_implementation)
    return replace(workload, attn_implementation=getattr(built.config, "_attn_implementation", None) or "eager")


def names(found: Trace) -> list[tuple[str, int]]:
    """The operators of a pass in their order, and how often each stands for one of the complete model."""
    return [(call.name, times) for call, times in zip(found.calls, found.times, strict=True)]


def traced(model: ModelSpec, workload: Workload, stages: list[str]) -> dict[str, Trace]:
    """Traces of the passes of ``workload`` that keep how operators are called; decode at the context in the middle of the output."""
    from profiling.stages import decode_pass, first_pass

    built = build(model, workload.dtype, workload.attn_implementation)
    first = first_pass(model.kind, workload, workload.batch_size)
    found: dict[str, Trace] = {}
    with kept():
        for stage in stages:
            found[stage] = trace(built, _pass(first, stage, workload, decode_pass))
    return found


def _pass(first: Pass, stage: str, workload: Workload, decode_pass: Any) -> Pass:
    if stage != "decode":
        return first
    steps = workload.output_tokens - 1
    return decode_pass(first, workload, first.context + first.tokens + steps // 2)


def _complete(config: Any) -> dict[str, Any]:
    """Every setting of a configuration, the defaults of its class included, as a ``config.json`` would hold them."""
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    # Names of classes: no language model has more than its size in them.
    return {name: value for name, value in found.items() if name not in ("id2label", "label2id")}


def _narrowed(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Configurations to try, the narrowest first; the last keeps the number of heads."""
    for heads, size in ((2, 8), (4, 16), (0, 8), (0, 16)):
        yield _narrow(config, heads, size)


def _narrow(config: dict[str, Any], heads: int, size: int) -> dict[str, Any]:
    narrowed = dict(config)
    counts = [config[name] for name in _HEADS if isinstance(config.get(name), int)]
    count = heads or max(counts, default=2)
    hidden = count * size
    for name, value in config.items():
        if isinstance(value, dict) and any(key in value for key in _HIDDEN):
            narrowed[name] = _narrow(value, heads, size)
        elif not isinstance(value, int) or isinstance(value, bool):
            continue
        elif name in _HIDDEN:
            narrowed[name] = hidden
        elif name in _INNER:
            narrowed[name] = 2 * hidden
        elif name in _HEADS:
            narrowed[name] = count
        elif name in _HEAD_SIZE:
            narrowed[name] = size
        elif name in _RANKS:
            narrowed[name] = min(value, size)
        elif name == "num_key_value_heads" and heads:
            narrowed[name] = count if value >= max(counts, default=value) else max(1, count // 2)
        elif name == "vocab_size":
            narrowed[name] = min(value, _SMALL_VOCABULARY)
        elif name.endswith("_token_id") and value >= _SMALL_VOCABULARY:
            narrowed[name] = 0
    return narrowed


def pass_seconds(twin: Twin, device: torch.device, passes: dict[str, Trace], caches: Caches) -> dict[str, float]:
    """Stage → seconds of one pass of the twin, the middle of those measured.

    The model's large operators drive through the caches what they read and write, and with it goes the program and what it works on; in a twin
    nothing does. So passes are also measured with as many other bytes read after the modules in which those operators run, and without (the
    time that it takes is taken out), and what they differ by is added. ``passes``: of the model itself. Not on a GPU, whose ``caches`` are
    not those that the program lies in.
    """
    with torch.inference_mode(False):
        loaded = load(twin.model, twin.workload, device)
    inputs = prepare_inputs(twin.model, loaded, twin.workload, device)
    runner = Runner(loaded, inputs, kind=twin.model.kind, logits=twin.workload.logits, device=device)
    plain = _timed(twin, runner, None)
    if device.type != "cpu":
        return plain
    evictions = _Evictions(caches, {stage: bytes_by_module(trace, caches) for stage, trace in passes.items()})
    evictions.put(loaded)
    if not evictions.handles:
        return plain
    evictions.evict = False
    hot = _timed(twin, runner, evictions)
    evictions.evict = True
    cold = _timed(twin, runner, evictions)
    return {stage: plain[stage] + max(0.0, cold[stage] - hot[stage]) for stage in plain}


def _timed(twin: Twin, runner: Runner, evictions: _Evictions | None) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    encodes = twin.model.kind == "encoder"
    for number in range(twin.workload.warmup + PASSES):
        spent: list[float] = []
        if evictions is not None:
            evictions.begin("encode" if encodes else "prefill")

        def between(_stage: str, spent: list[float] = spent) -> None:
            if evictions is not None:
                spent.append(evictions.seconds)
                evictions.begin("decode")

        done = runner.encode(between) if encodes else runner.generate(twin.workload.output_tokens, between)
        gaps = [(after.wall_ns - before.wall_ns) / 1e9 for before, after in pairwise(done.stamps)]
        if number < twin.workload.warmup:
            continue
        for index, gap in enumerate(gaps):
            stage = "encode" if encodes else "decode" if index else "prefill"
            own = spent[index] if index < len(spent) else 0.0
            found.setdefault(stage, []).append(gap - own)
    return {stage: statistics.median(times) for stage, times in found.items()}


def bytes_by_module(found: Trace, caches: Caches) -> dict[str, int]:
    """Path of a module, numbers replaced by #, → bytes that its own operators drive through the caches in a pass of the model, of those in
    which that is more than a core's own cache holds. Twice the last-level cache is as good as any more."""
    moved: dict[str, int] = {}
    for call in found.calls:
        if call.path:
            moved[call.path] = moved.get(call.path, 0) + call.bytes_read + call.bytes_written
    most: dict[str, int] = {}
    for path, nbytes in moved.items():
        pattern = re.sub(r"\d+", "#", path)
        most[pattern] = max(most.get(pattern, 0), nbytes)
    return {pattern: min(n, 2 * caches.last) for pattern, n in most.items() if 0 < caches.private < n}


class _Evictions:
    """Hooks that drive through the caches what the model's modules drive through them. ``seconds``: what that took since :meth:`begin`.

    ``wanted``: stage → bytes by :func:`bytes_by_module`. What is read next was last read two last-level caches ago, or as long ago as the free
    memory allows.
    """

    def __init__(self, caches: Caches, wanted: dict[str, dict[str, int]]) -> None:
        free = host.available_memory()
        size = 2 * caches.last if free is None else min(2 * caches.last, free // 16)
        self._memory = torch.ones(max(1, size // 4) if any(wanted.values()) else 1)
        self._wanted, self._stage, self._place = wanted, "", 0
        self.handles: list[Any] = []
        self.evict = False
        self.seconds = 0.0

    def begin(self, stage: str) -> None:
        self._stage, self.seconds = stage, 0.0

    def put(self, module: torch.nn.Module) -> None:
        patterns = {pattern for sizes in self._wanted.values() for pattern in sizes}
        for path, item in module.named_modules():
            pattern = re.sub(r"\d+", "#", path)
            if pattern in patterns:
                self.handles.append(item.register_forward_hook(partial(self._hook, pattern)))

    def _hook(self, pattern: str, *_: Any) -> None:
        begin = time.perf_counter()
        nbytes = self._wanted.get(self._stage, {}).get(pattern, 0)
        if self.evict and nbytes:
            count = min(nbytes // 4, self._memory.numel())
            if self._place + count > self._memory.numel():
                self._place = 0
            self._memory[self._place : self._place + count].sum()
            self._place += count
        self.seconds += time.perf_counter() - begin


#: What building, loading or running a twin may raise: then its glue is not measured, and the table's is used.
FAILURES = (EngineError, SpecError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)
