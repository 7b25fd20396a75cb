"""Real forward passes on the processor, with random weights, that the tracer's numbers are compared with. No Django here."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from transformers.modeling_outputs import BaseModelOutput

from profiling.build import TORCH_DTYPES, Built, resolve
from profiling.passes import Pass, _arguments, _cache_argument, _encoder_output, forward
from profiling.spec import ModelSpec
from profiling.tensors import cache_layers, distinct_bytes

_DENSE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 4000,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_DENSE, "num_key_value_heads": 2}
_WINDOW = {**_GROUPED, "head_dim": 32, "sliding_window": 256}
_OLD = {"vocab_size": 4000, "n_layer": 4, "n_head": 8, "bos_token_id": 1, "eos_token_id": 2}

#: Model type → (kind, configuration): small, but with the proportions, head layouts and layer patterns of the real ones.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("decoder", {**_OLD, "n_embd": 256, "n_positions": 2048}),
    "llama": ("decoder", _GROUPED),
    "qwen2": ("decoder", _GROUPED),
    "qwen3": ("decoder", {**_GROUPED, "head_dim": 64}),
    "gemma2": ("decoder", _WINDOW),
    "gemma3_text": ("decoder", {**_WINDOW, "num_hidden_layers": 7}),
    "mistral": ("decoder", {**_GROUPED, "sliding_window": 256}),
    "phi": ("decoder", _DENSE),
    "opt": ("decoder", {**_DENSE, "ffn_dim": 1024, "word_embed_proj_dim": 256}),
    "bloom": ("decoder", {**_OLD, "hidden_size": 256}),
    "falcon": ("decoder", {**_DENSE, "multi_query": True}),
    "gpt_neox": ("decoder", _DENSE),
    "mixtral": ("decoder", {**_GROUPED, "num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen3_moe": (
        "decoder",
        {**_GROUPED, "head_dim": 32, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 192},
    ),
    "olmoe": ("decoder", {**_DENSE, "num_key_value_heads": 8, "num_experts": 16, "num_experts_per_tok": 4}),
    "deepseek_v3": (
        "decoder",
        {
            **_DENSE,
            "num_key_value_heads": 8,
            "q_lora_rank": 96,
            "kv_lora_rank": 64,
            "qk_rope_head_dim": 16,
            "qk_nope_head_dim": 32,
            "v_head_dim": 32,
            "n_routed_experts": 16,
            "num_experts_per_tok": 4,
            "n_group": 4,
            "topk_group": 2,
            "moe_intermediate_size": 128,
            "first_k_dense_replace": 1,
            "n_shared_experts": 1,
        },
    ),
    "mamba": ("ssm", {**_DENSE, "intermediate_size": 512, "state_size": 16, "time_step_rank": 16}),
    "mamba2": ("ssm", {**_DENSE, "state_size": 64, "num_heads": 8, "head_dim": 64, "n_groups": 1, "chunk_size": 128}),
    "jamba": (
        "decoder",
        {
            **_GROUPED,
            "num_hidden_layers": 8,
            "mamba_d_state": 16,
            "mamba_dt_rank": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "bert": ("encoder", _DENSE),
    "t5": ("encdec", {"d_model": 256, "d_kv": 32, "d_ff": 1024, "num_layers": 4, "num_heads": 8, "vocab_size": 4000}),
}


def spec_of(model_type: str, **changes: Any) -> ModelSpec:
    kind, config = SMALL[model_type]
    return ModelSpec(name=model_type, config={"model_type": model_type, **config, **changes}, kind=kind)


def real_model(model: ModelSpec, dtype: str = "fp32", **implementations: str) -> torch.nn.Module:
    """The model as transformers builds it, weights drawn at random. What it refuses of ``implementations`` is left to it."""
    config, cls = resolve(model)
    torch.manual_seed(0)
    try:
        module = cls._from_config(copy.deepcopy(config), dtype=TORCH_DTYPES[dtype], **implementations)
    except ValueError:
        implementations["attn_implementation"] = "eager"
        module = cls._from_config(copy.deepcopy(config), dtype=TORCH_DTYPES[dtype], **implementations)
    return module.eval().requires_grad_(False)


@dataclass(frozen=True)
class Prepared:
    """A pass of a real model, ready to run: ``twin`` is the traced model with the real one in its place."""

    twin: Built
    arguments: dict[str, Any]

    def run(self) -> tuple[Any, Any]:
        return forward(self.twin, self.arguments)


def prepared(built: Built, module: Any, spec: Pass) -> Prepared:
    """Real inputs, and a real cache that the model itself filled with ``spec.context`` tokens."""
    twin = replace(built, module=module, config=module.config)
    cache = encoded = None
    if spec.context:
        before = Pass("prefill", spec.batch_size, spec.context, 0, spec.source_tokens)
        cache = forward(twin, _real(twin, _arguments(twin, before, None, None)))[1]
    if spec.stage == "decode" and twin.kind == "encdec":
        encoded = _encoder_output(twin, spec)
    arguments = _real(twin, _arguments(twin, spec, None, encoded))
    name = _cache_argument(twin)
    if cache is not None and name is not None:
        arguments[name] = cache
    return Prepared(twin, arguments)


def _real(twin: Built, arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: _values(value, twin.config.vocab_size) for name, value in arguments.items()}


def _values(value: Any, vocabulary: int) -> Any:
    if isinstance(value, BaseModelOutput):
        return BaseModelOutput(last_hidden_state=_values(value.last_hidden_state, vocabulary))
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_floating_point():
        return torch.randn(value.shape, dtype=value.dtype)
    return torch.randint(3, vocabulary, value.shape)


# --- torch's allocator, followed -----------------------------------------------------------------------------------------

_FOLLOWED = "followed"


def allocations(recorded: profile) -> Iterator[tuple[int, int]]:
    """(address, +bytes or −bytes) of everything that the CPU allocator gave and took back inside the followed part, in order."""
    waiting = list(recorded.profiler.kineto_results.experimental_event_tree())
    found = []
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag.name == "Allocation" and _inside(event):
            found.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    for _, address, nbytes in sorted(found, key=lambda item: item[0]):
        yield address, nbytes


def _inside(event: Any) -> bool:
    while event is not None:
        if event.name == _FOLLOWED:
            return True
        event = event.parent
    return False


def real_activation_peak(built: Built, module: Any, spec: Pass) -> int:
    """Most bytes that the CPU allocator had handed out at one moment of the pass, beyond weights, inputs and cache.

    The profiler starts before the cache is made, so that the memory of an old cache which the pass gives back is known as what
    it is; what the new cache holds of a storage is no activation, what else that keeps alive is.
    """
    gc.collect()
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        ready = prepared(built, module, spec)
        with record_function(_FOLLOWED):
            kept = ready.run()
    held = {
        t.untyped_storage().data_ptr(): distinct_bytes(t) for ts in cache_layers(kept[1], counters=True) for t in ts
    }
    return peak_of(list(allocations(recorded)), held)


def peak_of(events: list[tuple[int, int]], held: dict[int, int]) -> int:
    """Most bytes alive, less ``held[address]`` of the last storage at each of those addresses."""
    last = {address: number for number, (address, nbytes) in enumerate(events) if nbytes > 0}
    alive: dict[int, int] = {}
    now = peak = 0
    for number, (address, nbytes) in enumerate(events):
        if nbytes > 0:
            alive[address] = nbytes - (held.get(address, 0) if last[address] == number else 0)
            now += alive[address]
            peak = max(peak, now)
        else:
            now -= alive.pop(address, 0)  # what lived before the pass was never counted
    return peak
