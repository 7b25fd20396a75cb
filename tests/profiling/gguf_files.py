"""Small real GGUF files, made by the ``gguf`` package's writer from a tiny Llama. Imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

from profiling.build import resolve
from profiling.spec import ModelSpec
from tests.profiling.tiny import LLAMA

CONFIG = LLAMA | {"rms_norm_eps": 1e-5, "eos_token_id": 2, "bos_token_id": 1, "rope_theta": 10000.0}
SAID = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
#: A sentencepiece vocabulary: control tokens and characters, so each character is a token.
TOKENS = ["<unk>", "<s>", "</s>", *"▁abcdefghijklmnopqrstuvwxyz"]


def tiny_model(seed: int = 0) -> Any:
    import torch

    config, model_class = resolve(ModelSpec(name="Tiny", config=CONFIG))
    torch.manual_seed(seed)
    return model_class(config).eval()


def write_gguf(path: Path, model: Any, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32) -> None:
    """``kind``: of the matrices; vectors are F32."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONFIG["max_position_embeddings"])
    writer.add_embedding_length(CONFIG["hidden_size"])
    writer.add_block_count(CONFIG["num_hidden_layers"])
    writer.add_feed_forward_length(CONFIG["intermediate_size"])
    writer.add_head_count(CONFIG["num_attention_heads"])
    writer.add_head_count_kv(CONFIG["num_key_value_heads"])
    writer.add_rope_dimension_count(CONFIG["hidden_size"] // CONFIG["num_attention_heads"])
    writer.add_rope_freq_base(CONFIG["rope_theta"])
    writer.add_layer_norm_rms_eps(CONFIG["rms_norm_eps"])
    writer.add_vocab_size(CONFIG["vocab_size"])
    _add_tokenizer(writer)
    for name, value in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            _add(writer, name, value.float().numpy(), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokens = TOKENS + [f"<extra{number}>" for number in range(CONFIG["vocab_size"] - len(TOKENS))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    types = gguf.TokenType
    writer.add_token_types([types.UNKNOWN, types.CONTROL, types.CONTROL] + [types.NORMAL] * (len(tokens) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _add(writer: gguf.GGUFWriter, name: str, value: np.ndarray, kind: gguf.GGMLQuantizationType) -> None:
    said = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(name)
    if said is None:
        _, _, layer, *middle, last = name.split(".")
        said = f"blk.{layer}.{SAID['.'.join(middle)]}.{last}"
    for part, heads in (("attn_q.", "num_attention_heads"), ("attn_k.", "num_key_value_heads")):
        if part in said:  # GGUF has the halves of rotary dimensions interleaved
            count = CONFIG[heads]
            value = value.reshape(count, 2, value.shape[0] // count // 2, -1).swapaxes(1, 2).reshape(value.shape)
    kind = kind if value.ndim > 1 else gguf.GGMLQuantizationType.F32
    writer.add_tensor(said, quantize(np.ascontiguousarray(value), kind), raw_dtype=kind)
