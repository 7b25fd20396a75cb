"""The models of which predictions are compared with measurements: 15 to 170 million parameters, random weights, six families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profiling.spec import ModelSpec

OUTPUT_TOKENS = 17
ITERATIONS = 3


@dataclass(frozen=True)
class Case:
    """A model and the (batch, input tokens) that it is run at."""

    name: str
    family: str
    kind: str
    config: dict[str, Any]
    shapes: tuple[tuple[int, int], ...]

    def model(self) -> ModelSpec:
        return ModelSpec(name=self.name, config=self.config, kind=self.kind)


def _gpt2(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": 50257,
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        "n_positions": 1024,
    }


def _llama(width: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    }


def _moe(width: int, inner: int, experts: int, chosen: int, layers: int) -> dict[str, Any]:
    return {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "vocab_size": 32000,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "moe_intermediate_size": inner,
        "num_experts": experts,
        "num_experts_per_tok": chosen,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "num_key_value_heads": width // 128,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    }


def _mamba(width: int, layers: int) -> dict[str, Any]:
    return {
        "model_type": "mamba",
        "architectures": ["MambaForCausalLM"],
        "vocab_size": 50280,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "state_size": 16,
        "intermediate_size": 2 * width,
        "time_step_rank": width // 16,
    }


def _opt(width: int, layers: int) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "architectures": ["OPTForCausalLM"],
        "vocab_size": 50272,
        "hidden_size": width,
        "word_embed_proj_dim": width,
        "ffn_dim": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "max_position_embeddings": 2048,
    }


def _bert(width: int, layers: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": 30522,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "max_position_embeddings": 512,
    }


#: Two of a family each, so that leaving one out leaves operators of its kind.
CASES = (
    Case("gpt2-124m", "gpt2", "decoder", _gpt2(768, 12, 12), ((1, 64), (1, 256))),
    Case("llama-134m", "llama", "decoder", _llama(576, 1536, 30, 9, 3, 49152), ((1, 64), (1, 256))),
    Case("moe-110m", "qwen3_moe", "decoder", _moe(512, 384, 16, 4, 8), ((1, 64),)),
    Case("mamba-60m", "mamba", "ssm", _mamba(512, 16), ((1, 48),)),
    Case("opt-85m", "opt", "decoder", _opt(640, 10), ((1, 96), (4, 64))),
    Case("bert-110m", "bert", "encoder", _bert(768, 12), ((1, 64), (1, 256))),
    Case("gpt2-51m", "gpt2", "decoder", _gpt2(512, 8, 8), ((1, 128),)),
    Case("llama-110m", "llama", "decoder", _llama(768, 2048, 12, 12, 4, 32000), ((1, 128),)),
    Case("moe-70m", "qwen3_moe", "decoder", _moe(384, 256, 16, 2, 8), ((1, 96),)),
    Case("mamba-35m", "mamba", "ssm", _mamba(384, 10), ((1, 64),)),
    Case("bert-33m", "bert", "encoder", _bert(384, 12), ((1, 128),)),
)
