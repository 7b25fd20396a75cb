"""Passes on their own: what a model changes in itself while it runs, and what its cache is made of."""

from __future__ import annotations

import pytest

from profiling.build import build
from profiling.execution import works
from profiling.passes import Pass, cache_shape, trace
from profiling.spec import ModelSpec
from tests.profiling.test_trace import totals

SMALL = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
BIG_BIRD = {"model_type": "big_bird", "architectures": ["BigBirdForMaskedLM"], "intermediate_size": 64, **SMALL}
CTRL = {"model_type": "ctrl", "architectures": ["CTRLLMHeadModel"], "n_embd": 32, "dff": 64, "n_layer": 2, "n_head": 4}
SWITCH = {"model_type": "switch_transformers", "architectures": ["SwitchTransformersForConditionalGeneration"]}
SWITCH |= {"vocab_size": 128, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "num_experts": 4}
MINIMAX = {
    "model_type": "minimax",
    "architectures": ["MiniMaxForCausalLM"],
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "num_local_experts": 2,
    **SMALL,
    "num_hidden_layers": 5,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention", "full_attention"],
}
BLOOM = {"model_type": "bloom", "architectures": ["BloomForCausalLM"], "n_layer": 2, "n_head": 4, **SMALL}


@pytest.mark.parametrize(
    ("config", "kind", "long", "short"),
    [
        # Turns its attention from sparse to dense for a short input, for good.
        (BIG_BIRD, "encoder", Pass("encode", 2, 1024), Pass("encode", 1, 16)),
        # Converts its table of positions in its first pass.
        (CTRL, "decoder", Pass("prefill", 2, 100), Pass("prefill", 1, 7)),
        # Its routers convert themselves in theirs.
        (SWITCH, "encdec", Pass("prefill", 2, 1, 0, 40), Pass("prefill", 1, 1, 0, 8)),
    ],
    ids=["big_bird", "ctrl", "switch_transformers"],
)
def test_a_pass_does_not_depend_on_those_before_it(config, kind, long, short):
    model = ModelSpec("Tiny", config | {"intermediate_size": 64}, kind=kind)
    fresh = build(model, "bf16")
    first = trace(fresh, long)
    used = build(model, "bf16")
    trace(used, short)
    for again in (trace(used, long), trace(fresh, long)):
        assert totals(again) == totals(first)
        assert again.recording.alive == first.recording.alive
        assert [c.name for c in again.calls] == [c.name for c in first.calls]


def test_keys_and_values_have_the_size_that_is_cached_however_products_turn_them():
    """BLOOM multiplies with transposed keys, whose last dimension is the tokens: scales of a quantised cache go by the head's."""
    item = trace(build(ModelSpec("Tiny", BLOOM), "bf16"), Pass("decode", 2, 1, 99))
    assert {work.cache_vector for work in works(item, "eager") if work.cache_read or work.cache_written} == {8}


@pytest.mark.parametrize("fold", [True, False])
def test_states_that_a_cache_keeps_beside_its_layers_are_counted(fold):
    """MiniMax: three layers of linear attention, each with a state of 4 heads of 8 × 8 in bf16; keys and values of the other two."""
    built = build(ModelSpec("Tiny", MINIMAX), "bf16", fold=fold)
    shape = cache_shape(built)
    assert shape.state_bytes == 3 * 4 * 8 * 8 * 2
    assert shape.bytes_per_token == 2 * 2 * 2 * 8 * 2
    item = trace(built, Pass("decode", 3, 1, 20))
    assert item.cache_bytes == 3 * (shape.state_bytes + 21 * shape.bytes_per_token)
