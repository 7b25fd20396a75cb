"""Configurations for the coverage sweep: what each text architecture of transformers is built from.

Every type starts from the defaults of its own configuration class with :data:`LAYERS` layers: on the meta device width
costs nothing, depth does. What the defaults lack, or where they contradict each other, is filled in here, in one place.
"""

from __future__ import annotations

from typing import Any

#: Deep enough to show the pattern of most hybrid models, shallow enough to check hundreds of them unfolded.
LAYERS = 8

QWEN4 = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 4,
}

COHERE_COMPASS = {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}}

#: Classes that mix bf16 and fp32 in their own forward and fail, with weights too.
FP32_ONLY = ("deberta", "fnet", "xlnet", "reformer")

#: Type (or kind:type) → keys that its default configuration lacks or needs changed, and why.
FILLED: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "zamba2": {"num_hidden_layers": ...},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "reformer": {"attn_layers": ["local", "local", "lsh", "local", "local", "local", "lsh", "local"]},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 16, "moe_topk": 2},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "qwen4_exp_text": QWEN4,
    "qwen4_exp": {"text_config": QWEN4},
    "bamba": {"attn_layer_indices": [3]},
    "granitemoehybrid": {"layer_types": ["mamba", "mamba", "attention", "mamba"] * 2},
    "gemma3n_text": {"num_hidden_layers": 35},
    "gemma3n": {"text_config": {"num_hidden_layers": 35}},
    "dots3_note": {"text_config": ..., "audio_config": ..., "vision_config": ...},
    "cohere_compass_text": COHERE_COMPASS,
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8}},
    "moshi": {"audio_vocab_size": 2048},
    "encoder:t5gemma": {"is_encoder_decoder": False},
    # Front ends whose defaults do not fit together: a grid of patches that pooling does not divide, sizes of two parts.
    "gemma3": {"vision_config": {"image_size": 896, "patch_size": 14}},
    "shieldgemma2": {"vision_config": {"image_size": 896, "patch_size": 14}},
    "idefics3": {"vision_config": {"image_size": 448}},
    "smolvlm": {"vision_config": {"image_size": 448}},
    "aya_vision": {"vision_config": {"num_attention_heads": 16, "image_size": 448}},
    "aria": {"vision_config": {"image_size": 490, "patch_size": 14}},
    "mllama": {"vision_config": {"num_hidden_layers": 32}},
    "cohere_compass": {"text_config": COHERE_COMPASS},
    "deepseek_ocr2": {
        "text_config": {"mlp_layer_types": ["dense", *["sparse"] * (LAYERS - 1)], "num_experts_per_tok": 6}
    },
    "granite4_vision": {
        "vision_config": {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14},
        "deepstack_layer_map": [[-2, 0], [-4, 2]],
        "downsample_rate": "4/8",
    },
    "hunyuan_vl": {"text_config": {"head_dim": 128}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [-3, -6]}},
    "muse_spark": {"audio_config": {"num_hidden_layers": 4}},
    "llama4": {"vision_config": {"hidden_size": 1408}},
    "granite_speech": {"projector_config": {"encoder_hidden_size": 1024}},
    "granite_speech_plus": {"projector_config": {"encoder_hidden_size": 1024}},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 2},
}

#: Encoders that are causal language models only when they are told so: then they mask, and keep a cache.
TOLD_TO_DECODE = [
    "bert",
    "bert-generation",
    "big_bird",
    "camembert",
    "data2vec-text",
    "electra",
    "ernie",
    "megatron-bert",
    "reformer",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
]

_CODES = "Its images become tokens of its vocabulary: which ones depends on the weights of a code book."
_TIMM = "Its vision tower is a model of timm, which is not among the dependencies here."

#: Type (or kind:type) → why it does not work, for those that have been looked into.
REASONS: dict[str, str] = {
    "blt": "Cuts bytes into patches where a small model finds them hard to guess: how many patches there are depends on weights "
    "and text.",
    "gemma4_assistant": "A draft model: it reads the hidden states and the cache of the model that it drafts for, and has no pass "
    "of its own.",
    "gemma4_unified_assistant": "A draft model: it reads the hidden states and the cache of the model that it drafts for, and has "
    "no pass of its own.",
    "recurrent_gemma": "Keeps the state of its recurrent layers in attributes of its modules and hands no cache back, so there is "
    "nothing to start a decode step from.",
    "mra": "Its attention is a CUDA kernel only; without it the class returns zeros, so the operator (mra2_attention) is reported "
    "as unknown.",
    "nllb-moe": "The installed class makes a one-hot mask of a one-hot mask, so its first expert gets every row that the router "
    "did not send there: what it executes is not the model's work.",
    "front_end:gemma3n": _TIMM,
    "front_end:fast_vlm": _TIMM,
    "front_end:perception_lm": _TIMM,
    "front_end:chameleon": _CODES,
    "front_end:emu3": _CODES,
    "front_end:musicflamingo": "Where its sounds lie in the text decides what its front end computes: it takes the text as well.",
    "front_end:instructblip": "Its image features depend on a text of their own (the prompt of the Q-former).",
    "encdec:voxtral_realtime": "Adds the vector of 80 ms of sound to each token of text, so its text has no pass without sound.",
}

#: Causal language models whose class in the auto mapping cannot be used for text alone.
CLASSES: dict[str, str] = {"gemma3n": "Gemma3nForCausalLM"}


def types() -> dict[str, dict[str, str]]:
    """Family → model type → class name, from the installed transformers' auto mappings.

    ``encoder``: masked language models and text encoders that are no encoder-decoders.
    """
    from transformers.models.auto import modeling_auto as auto

    causal = _names(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) | CLASSES
    both = _names(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    encoders = _names(auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES) | _names(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    return {
        "decoder": causal,
        "encoder": {t: c for t, c in sorted(encoders.items()) if t not in both or c.endswith("EncoderModel")},
        "encdec": both,
        "front_end": _with_front_ends(auto),
    }


def _with_front_ends(auto: Any) -> dict[str, str]:
    """Types of models that answer in text and take images or sound as well."""
    found = _names(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) | _names(auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)
    found |= {t: c for t, c in _names(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES).items() if _has_part(t)}
    return {t: c for t, c in sorted(found.items()) if _has_part(t)}


def _has_part(model_type: str) -> bool:
    """Whether the configuration has a part for images or sound."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    parts = getattr(CONFIG_MAPPING[model_type], "sub_configs", None) or {}
    return any(word in part for part in parts for word in ("vision", "audio", "vq_config"))


def _names(mapping: Any) -> dict[str, str]:
    return {t: c if isinstance(c, str) else c[0] for t, c in mapping.items()}


def config_of(model_type: str, kind: str) -> dict[str, Any]:
    """The configuration of one type, as a ``config.json`` would have it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    base = {"model_type": model_type, **_depth(CONFIG_MAPPING[model_type])}
    if kind == "decoder" and model_type in TOLD_TO_DECODE:
        base["is_decoder"] = True
    return _merged(base, FILLED.get(f"{kind}:{model_type}") or FILLED.get(model_type, {}))


def _depth(cls: type) -> dict[str, Any]:
    """Keys of a configuration class that say how deep the model is, set to :data:`LAYERS`; in its parts as well."""
    names = {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"}
    names |= {"num_decoder_layers", "num_encoder_layers"}
    import inspect

    fields = set(inspect.signature(cls.__init__).parameters)
    for base in cls.__mro__:
        fields |= set(vars(base).get("__annotations__", {}))
    found: dict[str, Any] = dict.fromkeys(sorted(names & fields), LAYERS)
    for part, part_cls in (getattr(cls, "sub_configs", None) or {}).items():
        if isinstance(part_cls, type) and hasattr(part_cls, "model_type") and part_cls.__name__ != "AutoConfig":
            found[part] = _depth(part_cls) | {"model_type": part_cls.model_type}
    return found


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        part = out.get(key)
        out[key] = _merged(part if isinstance(part, dict) else {}, value) if isinstance(value, dict) else value
    return {k: v for k, v in out.items() if v is not ...}
