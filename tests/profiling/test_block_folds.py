"""Which blocks of a real model count as one: those that are alike in everything, and no others."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from profiling.block_folds import folded_paths
from profiling.spec import ModelSpec
from tests.profiling import tiny
from tests.profiling.real_runs import real_model, spec_of


def firsts(model, name: str) -> list[str]:
    found = folded_paths(model)
    return [first for path, first in found.items() if path.startswith("model.layers.") and path.endswith(name)]


def test_identical_blocks_are_the_first_one():
    found = folded_paths(real_model(ModelSpec("Tiny", tiny.LLAMA)))
    assert found["model.layers.1.mlp.down_proj"] == "model.layers.0.mlp.down_proj"
    assert found["model.norm"] == "model.norm"


def test_blocks_of_other_parts_stay_apart():
    """The first layer of this model has no experts, the others do; experts of a layer are alike."""
    model = real_model(spec_of("deepseek_v3"))
    layers = len(model.model.layers)
    assert layers > 2
    assert firsts(model, ".mlp") == ["model.layers.0.mlp"] + ["model.layers.1.mlp"] * (layers - 1)


def test_blocks_of_other_settings_stay_apart():
    """Layers with a sliding window and with full attention have the same weights and do other work."""
    config = tiny.LLAMA | {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "num_hidden_layers": 4}
    model = real_model(ModelSpec("Windows", config | {"head_dim": 8, "sliding_window": 16}))
    one, other, third, fourth = firsts(model, ".self_attn")
    assert one == third
    assert other == fourth
    assert one != other
