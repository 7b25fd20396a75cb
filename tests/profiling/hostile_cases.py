"""Configurations that once took too long, ended in an unreadable message or broke the engine: found by fuzzing, kept small.

Each: (base, what is changed, a part of the sentence that has to come out). ``None`` as the part: a document comes out.
"""

from __future__ import annotations

from typing import Any

#: Base → (class, kind, configuration). Small where size does not matter.
BASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "decoder", {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}),
    "gpt2": ("GPT2LMHeadModel", "decoder", {"n_layer": 2}),
    "mixtral": ("MixtralForCausalLM", "decoder", {"num_hidden_layers": 2}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "decoder", {"num_hidden_layers": 2, "num_experts": 8, "num_experts_per_tok": 2}),
    "gemma3_text": ("Gemma3ForCausalLM", "decoder", {"num_hidden_layers": 6}),
    "gemma3n_text": ("Gemma3nForCausalLM", "decoder", {"num_hidden_layers": 35}),
    "deepseek_v2": ("DeepseekV2ForCausalLM", "decoder", {"num_hidden_layers": 2, "num_experts_per_tok": 6}),
    "mamba": ("MambaForCausalLM", "ssm", {"num_hidden_layers": 2}),
    "mamba2": ("Mamba2ForCausalLM", "ssm", {"num_hidden_layers": 2}),
    "bert": ("BertModel", "encoder", {"num_hidden_layers": 2}),
    "deberta": ("DebertaModel", "encoder", {"num_hidden_layers": 2}),
    "distilbert": ("DistilBertModel", "encoder", {"n_layers": 2}),
    "mobilebert": ("MobileBertModel", "encoder", {"num_hidden_layers": 2}),
    "albert": ("AlbertModel", "encoder", {"num_hidden_layers": 2}),
    "perceiver": ("PerceiverForMaskedLM", "encoder", {}),
    "xlm": ("XLMWithLMHeadModel", "encoder", {"n_layers": 2}),
    "t5": ("T5ForConditionalGeneration", "encdec", {"num_layers": 2}),
    "bart": ("BartForConditionalGeneration", "encdec", {"encoder_layers": 2, "decoder_layers": 2}),
    "marian": ("MarianMTModel", "encdec", {"encoder_layers": 2, "decoder_layers": 2}),
    "switch_transformers": ("SwitchTransformersForConditionalGeneration", "encdec", {"num_layers": 2, "num_decoder_layers": 2}),
    "prophetnet": ("ProphetNetForConditionalGeneration", "encdec", {"num_encoder_layers": 2, "num_decoder_layers": 2}),
    "xlstm": ("xLSTMForCausalLM", "ssm", {"num_blocks": 2}),
    "vit": ("ViTForImageClassification", "vision", {"num_hidden_layers": 2}),
    "whisper": ("WhisperForConditionalGeneration", "audio", {"encoder_layers": 2, "decoder_layers": 2}),
}  # fmt: skip

_DEEP: dict[str, Any] = {}
for _ in range(50):
    _DEEP = {"rope_parameters": _DEEP}

CASES: tuple[tuple[str, dict[str, Any], str | None], ...] = (
    # sizes of the wrong type: transformers says "Validation error for field …:" and breaks the line there
    ("llama", {"hidden_size": None}, '"hidden_size" must be a whole number'),
    ("llama", {"hidden_size": "64"}, '"hidden_size" must be a whole number, not a text'),
    ("llama", {"hidden_size": 64.5}, '"hidden_size" must be a whole number, not a fraction'),
    ("llama", {"hidden_size": [64]}, "not a list"),
    ("llama", {"hidden_size": {"value": 64}}, "not an object"),
    ("llama", {"num_attention_heads": True}, "not true or false"),
    ("llama", {"num_key_value_heads": ["full_attention"]}, "a whole number or null, not a list"),
    ("llama", {"tie_word_embeddings": 3}, '"tie_word_embeddings" must be true or false'),
    ("llama", {"layer_types": ["full_attention", None]}, '"layer_types" entries must be in'),
    ("llama", {"layer_types": ["no_such_layer"] * 2}, "layer_types"),
    ("llama", {"layer_types": ["full_attention"] * 3}, "must be equal to the number of"),
    ("bart", {"rope_parameters": 65_537}, '"rope_parameters"'),
    ("llama", {"rope_parameters": 65_537}, '"rope_parameters" must be an object'),
    ("llama", {"num_labels": {"a": 1}}, "num_labels"),
    ("llama", {"id2label": [1]}, "id2label"),
    ("llama", {"dtype": "no_such_dtype", "torch_dtype": 3}, None),
    ("llama", {"text_config": 3}, '\'text_config\' must be an object'),
    ("llama", {"eos_token_id": "</s>"}, '"eos_token_id" must be'),
    # sizes that contradict each other
    ("llama", {"hidden_size": 65}, "not a multiple of the number of attention heads"),
    ("llama", {"num_key_value_heads": 0}, "divided by a value that is 0"),
    ("llama", {"num_key_value_heads": 3}, 'must divide "num_attention_heads"'),
    ("llama", {"num_key_value_heads": 64}, 'must divide "num_attention_heads"'),
    ("llama", {"head_dim": 0}, ""),
    ("llama", {"head_dim": 63}, "even"),
    ("gpt2", {"n_head": 7}, "divisible by num_heads"),
    ("qwen3_moe", {"num_experts_per_tok": 9}, "more is chosen from a list"),
    ("mixtral", {"num_experts_per_tok": 9}, "more is chosen from a list"),
    ("mixtral", {"num_local_experts": 0}, ""),
    ("deepseek_v2", {"qk_rope_head_dim": 0}, ""),
    ("deepseek_v2", {"kv_lora_rank": 0}, None),
    ("deepseek_v2", {"n_group": 7, "topk_group": 3, "topk_method": "group_limited_greedy"}, ""),
    ("bert", {"hidden_size": 63, "num_attention_heads": 4}, "multiple of"),
    ("bert", {"chunk_size_feed_forward": 7}, "chunk"),
    ("bert", {"chunk_size_feed_forward": "x"}, ""),
    ("bert", {"pad_token_id": 10**6}, '"pad_token_id" is not an entry of the vocabulary'),
    ("distilbert", {"n_heads": 13}, "divide"),
    ("t5", {"d_kv": 0}, ""),
    ("vit", {"image_size": 3}, ""),
    ("vit", {"patch_size": 0}, "0"),
    ("whisper", {"num_mel_bins": 0}, ""),
    # rope
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 0}}, None),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": [1]}}, "rope_parameters"),
    ("llama", {"rope_parameters": {"rope_type": "no_such_rope", "rope_theta": 1.0}}, "no_such_rope"),
    ("llama", {"rope_parameters": {"rope_type": ["default"]}}, "rope_parameters"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 1e308, "rope_theta": 1e4}}, None),
    ("llama", {"rope_parameters": _DEEP}, "nested"),
    # unknown names
    ("llama", {"hidden_act": "no_such_function"}, '"no_such_function"'),
    ("gpt2", {"activation_function": "🦙"}, "🦙"),
    ("gpt2", {"activation_function": {}}, ""),
    ("llama", {"model_type": "🦙"}, "is not one that this version of transformers knows"),
    ("llama", {"architectures": ["AutoModel"]}, ""),
    # what overflows in torch
    ("llama", {"intermediate_size": 2**53}, "from 0 to 2,000,000"),
    ("llama", {"head_dim": 2_000_000, "num_attention_heads": 10_000, "num_key_value_heads": 10_000}, "not a multiple"),
    ("mamba", {"expand": 0.5}, '"expand" must be a whole number'),
    ("mamba", {"expand": 1e300}, ""),
    ("mamba", {"conv_kernel": 0}, ""),
    ("mamba", {"state_size": -1}, ""),
    ("mamba2", {"time_step_limit": [0.0, {"__float__": "Infinity"}]}, None),
    # what takes long
    ("gemma3_text", {"num_hidden_layers": 170, "layer_types": ["full_attention"] * 169 + ["sliding_attention"]}, None),
    ("llama", {"num_hidden_layers": 2_000}, None),
    ("gemma3n_text", {"num_hidden_layers": 2_000}, "modules"),
    ("gemma3n_text", {"num_hidden_layers": 245}, "each has to be followed"),
    ("gemma3_text", {"num_hidden_layers": 1_000, "layer_types": ["full_attention"] * 999 + ["sliding_attention"]}, "each has to be followed"),
    ("xlstm", {"num_blocks": 2_000}, "num_blocks"),
    ("perceiver", {"num_blocks": 20}, "520 layers one after the other"),
    ("perceiver", {"num_self_attends_per_block": 10**6}, "num_self_attends_per_block"),
    ("mobilebert", {"num_feedforward_networks": 10**6}, "num_feedforward_networks"),
    ("albert", {"inner_group_num": 10**7}, "inner_group_num"),
    ("prophetnet", {"ngram": 10**7}, "ngram"),
    ("switch_transformers", {"num_layers": 12, "num_experts": 100_000}, "modules"),
    ("marian", {"max_position_embeddings": 10**9}, None),
    ("distilbert", {"sinusoidal_pos_embds": True, "max_position_embeddings": 10**9}, None),
    ("xlm", {"sinusoidal_embeddings": True, "max_position_embeddings": 10**9}, None),
    ("bert", {"num_labels": 10**6, "id2label": None}, "num_labels"),
    ("bert", {"vocab_size": 10**7, "max_position_embeddings": 10**9}, None),
    # what once was refused although models are like this
    ("deberta", {"type_vocab_size": 0}, None),
    ("bert", {"_name_or_path": "x", "no_such_key": [0] * 1_000_000, "ключ": None}, None),
)  # fmt: skip
