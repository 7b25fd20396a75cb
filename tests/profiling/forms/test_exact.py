"""Closed forms against direct traces of the complete, unfolded model: every number the same, at the ends of every piece and between."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest

from profiling.build import Built, build
from profiling.execution import works
from profiling.forms.make import make_form
from profiling.forms.store import FormStore
from profiling.forms.terms import NoForm
from profiling.roofline import Ceilings, ceilings, timing
from profiling.spec import ModelSpec, Workload
from profiling.sweep import sweep
from tests.profiling.documents import catalogue_model, device
from tests.profiling.forms.direct import check_form, differences, direct

H100 = device("H100 SXM5 80GB")
#: One of each kind: dense, grouped queries, window, window in some layers, experts, latent attention, state space, encoder,
#: encoder-decoders, sound, images.
MODELS = {
    "gpt2": {},
    "llama-3.2-1b": {},
    "mistral-7b-v0.1": {},
    "gemma-3-1b": {},
    "gpt-oss-20b": {},
    "mixtral-8x7b": {},
    "deepseek-v2-lite": {},
    "mamba-130m": {},
    "bert-base-uncased": {"output_tokens": 0},
    "t5-base": {},
    "bart-large": {},
    "whisper-base": {},
    "vit-base-patch16-224": {"output_tokens": 0},
}
CONVENTIONS = {
    "eager": {},
    "fused": {"execution": "fused"},
    "eager attention": {"attn_implementation": "eager", "logits": "all"},
    "halved": {"causal": "halved", "window": "windowed"},
}
#: What says something to some models only.
SPECIAL = [
    ("mixtral-8x7b", {"experts": "all"}),
    ("mixtral-8x7b", {"experts": "topk", "execution": "fused"}),
    ("deepseek-v2-lite", {"mla": "absorbed"}),
    ("deepseek-v2-lite", {"mla": "expanded", "execution": "fused"}),
    ("mistral-7b-v0.1", {"prefix_tokens": 4000, "window": "windowed"}),
    ("mistral-7b-v0.1", {"draft_tokens": 3}),
    ("gemma-3-1b", {"prefix_tokens": 300, "draft_tokens": 2, "execution": "fused"}),
    ("t5-base", {"decoder_tokens": 5}),
    ("gpt2", {"prefix_tokens": 900, "draft_tokens": 60}),
    ("mamba-130m", {"draft_tokens": 2}),
    ("mamba-130m", {"prefix_tokens": 7}),
]


@cache
def complete(model_id: str, dtype: str = "bf16", attention: str = "sdpa") -> Built:
    return build(catalogue_model(model_id), dtype, attention, fold=False)


def exact(model_id: str, options: dict, count: int) -> None:
    workload = Workload(**MODELS.get(model_id, {}) | options)
    form = make_form(catalogue_model(model_id), workload)
    built = complete(model_id, workload.dtype, workload.attn_implementation)
    assert check_form(form, built, workload, random.Random(f"{model_id} {options}"), count) == []


@pytest.mark.parametrize(
    ("model_id", "convention"), [("gpt2", "eager"), ("mistral-7b-v0.1", "fused"), ("bert-base-uncased", "halved")]
)
def test_every_number_of_a_form_is_that_of_a_trace(model_id, convention):
    exact(model_id, CONVENTIONS[convention], 2)


@pytest.mark.slow
@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_number_of_every_family_is_that_of_a_trace(model_id, convention):
    exact(model_id, CONVENTIONS[convention], 8)


@pytest.mark.slow
@pytest.mark.parametrize(("model_id", "options"), SPECIAL)
def test_options_of_some_models_keep_forms_exact(model_id, options):
    exact(model_id, options, 8)


TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def tiny(model_type: str, architecture: str, **config) -> dict:
    return {"model_type": model_type, "architectures": [architecture], **TINY, **config}


#: What makes lengths break in its own way.
SHAPES = {
    # Few positions: every piece is short.
    "24 positions": tiny("llama", "LlamaForCausalLM", max_position_embeddings=24),
    "3 positions": tiny("llama", "LlamaForCausalLM", max_position_embeddings=3),
    "window": tiny("mistral", "MistralForCausalLM", sliding_window=8),
    # Multiplies with transposed keys.
    "bloom": tiny("bloom", "BloomForCausalLM", n_layer=2, n_head=4),
    # Every step runs over all tokens again.
    "no cache": tiny("openai-gpt", "OpenAIGPTLMHeadModel", n_positions=64),
}
SLOW_SHAPES = {
    "chunked scan": tiny("mamba2", "Mamba2ForCausalLM", num_heads=8),
    # A loop over chunks of 64 tokens, which only a function names, after a convolution over 4.
    "delta rule": tiny(
        "qwen3_next", "Qwen3NextForCausalLM", max_position_embeddings=900, num_experts=4, num_experts_per_tok=2
    )
    | {"num_hidden_layers": 4},
    # A loop over blocks of 256 tokens in several equal layers.
    "lightning": tiny("minimax", "MiniMaxForCausalLM", max_position_embeddings=1500, num_local_experts=2)
    | {"num_hidden_layers": 4},
}


@pytest.mark.parametrize(
    "config",
    [*SHAPES.values(), *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW_SHAPES.values())],
    ids=[*SHAPES, *SLOW_SHAPES],
)
def test_small_models_of_every_shape_have_exact_forms(config):
    model = ModelSpec("Tiny", config)
    form, full = make_form(model, Workload()), build(model, "bf16", fold=False)
    assert check_form(form, full, Workload(), random.Random(1), 4) == []


def test_batches_of_one_two_and_the_most_are_exact():
    workload, built = Workload(), complete("gpt2")
    form = make_form(catalogue_model("gpt2"), workload)
    for batch in (1, 2, 3, 65536):
        for stage, point in (("prefill", {"tokens": 700}), ("decode", {"context": 700})):
            assert differences(form.stages[stage], built, workload, {"batch": batch, "source": 0, **point}) == []


def test_a_form_says_where_it_ends():
    form = make_form(catalogue_model("gpt2"), Workload())
    with pytest.raises(NoForm, match="tokens 1,025"):
        form.stages["prefill"].piece({"batch": 1, "tokens": 1025, "context": 0, "source": 0})


# --- points of sweeps -----------------------------------------------------------------------------------------------------


def seconds(
    built: Built, workload: Workload, limits: Ceilings, stage: str, point: dict[str, int]
) -> tuple[float, int, int]:
    """(seconds, bytes of the cache, activation peak) of one pass of the complete model, operator by operator."""
    item = direct(built, workload, stage, point)
    counted = works(item, workload.counting)
    return (
        sum(w.times * timing(w.load(), limits).time_s for w in counted),
        item.cache_bytes,
        item.recording.activation_peak,
    )


def traced(built: Built, workload: Workload, limits: Ceilings) -> dict[str, float | None]:
    """What a sweep says, from a trace of every single pass."""
    batch, source = workload.batch_size, workload.input_tokens if built.kind == "encdec" else 0
    first = {"batch": batch, "tokens": 1 if source else workload.input_tokens, "context": 0, "source": source}
    encodes = built.kind in ("encoder", "vision")
    begin, held, peak = seconds(built, workload, limits, "encode" if encodes else "prefill", first)
    if encodes:
        return {"ttft_s": None, "tpot_s": None, "e2e_s": begin, "activation_peak_bytes": peak}
    later = 0.0
    for step in range(workload.output_tokens - 1):
        at = {"batch": batch, "tokens": 1, "context": first["tokens"] + step, "source": source}
        time_s, held, alive = seconds(built, workload, limits, "decode", at)
        later, peak = later + time_s, max(peak, alive)
    return {
        "ttft_s": begin,
        "tpot_s": later / (workload.output_tokens - 1) if workload.output_tokens > 1 else None,
        "e2e_s": begin + later,
        "cache_bytes": held,
        "activation_peak_bytes": peak,
        "weights_bytes": built.weight_bytes,
    }


def drawn(model_id: str, chance: random.Random, longest: int) -> dict[str, int]:
    outputs = 0 if MODELS[model_id] else chance.choice((1, 2, 4))
    lengths = (chance.randint(1, 40), chance.randint(1, longest - 8), chance.randint(longest // 2, longest - 8))
    return {
        "batch_size": chance.choice((1, 1, 2, 3, 8, 100)),
        "input_tokens": chance.choice(lengths),
        "output_tokens": outputs,
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model_id", MODELS)
def test_points_of_sweeps_are_direct_traces_of_the_full_model(model_id, tmp_path):
    """16 points for each of 13 models, drawn at random: 208 in all. The traces see every block of the model and every step."""
    chance, model = random.Random(model_id), catalogue_model(model_id)
    built = complete(model_id)
    longest = min(built.max_context or 9000, 9000)  # past every window
    base = Workload(**MODELS[model_id], execution=chance.choice(("eager", "fused")))
    points = [drawn(model_id, chance, longest) for _ in range(16)]
    table = sweep(model, [H100], points, base, store=FormStore(tmp_path))
    limits, _ = ceilings(H100, base.dtype)
    for row, point in zip(table.rows(), points, strict=True):
        assert (row["error"], row["method"]) == (None, "closed form"), point
        for name, value in traced(built, replace(base, **point), limits).items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-9)), (name, point)
