"""Memory of processors under several devices: a form has the estimate's, or there is none."""

from __future__ import annotations

import pytest

from profiling.estimate import estimate
from profiling.forms.store import FormStore
from profiling.spec import ModelSpec, Workload
from profiling.sweep import sweep
from tests.profiling.forms.test_evaluate import HOST, same

#: Latent attention, whose eager kernels hold most of its peak in what they take for themselves.
DEEPSEEK = ModelSpec(
    "Tiny",
    {
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "max_position_embeddings": 128,
    },
)
POINT = {"batch_size": 17, "input_tokens": 60, "output_tokens": 1}


def test_replicas_hold_what_the_kernels_of_a_processor_take(tmp_path):
    same(DEEPSEEK, HOST, {"data_parallel": 2}, [POINT], tmp_path)


@pytest.mark.parametrize("options", [{"tensor_parallel": 2}, {"pipeline_parallel": 2}], ids=str)
def test_shared_models_on_processors_are_traced_at_each_point(options, tmp_path):
    (row,) = sweep(DEEPSEEK, [HOST], [POINT], Workload(**options), store=FormStore(tmp_path)).rows()
    found = estimate(DEEPSEEK, HOST, Workload(**options, **POINT))["memory"]["estimate"]
    assert row["method"] == "trace"
    assert row["activation_peak_bytes"] == found["activation_peak_bytes"]
