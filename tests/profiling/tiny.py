"""Small inputs that the tests of measuring share. No Django here: some of it runs in processes without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from profiling.spec import HardwareSpec, ModelSpec, RunSpec, Workload

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
T5: dict[str, Any] = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 128,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
MAMBA: dict[str, Any] = {
    "model_type": "mamba",
    "architectures": ["MambaForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 8,
    "intermediate_size": 64,
    "time_step_rank": 4,
}

MODEL = ModelSpec(name="Tiny", config=LLAMA)
HOST = HardwareSpec(name="This host", kind="cpu", peak_flops={"fp32": 1e12, "bf16": 1e12}, memory_bandwidth=5e10)
WORKLOAD = Workload(input_tokens=9, output_tokens=6, dtype="fp32", iterations=3, warmup=1, threads=1)


def request(model: ModelSpec = MODEL, hardware: HardwareSpec = HOST, **workload: Any) -> dict[str, Any]:
    """The payload of a ``measure`` or ``estimate`` request."""
    spec = RunSpec("measure", model.to_json(), hardware.to_json(), replace(WORKLOAD, **workload).to_json())
    return {"spec": spec.to_json()}
