"""How configurations are spoilt: one mutation after the other, each as a careless or hostile hand would make it.

Every choice goes through ``pick``, so that hypothesis can shrink it and a seeded generator can repeat it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

Pick = Callable[[Sequence[Any]], Any]
Config = dict[str, Any]

WRONG_NUMBERS = (-1, 0, 1, 2, 3, 7, 63, 1_999, 9_999, 65_537, 999_999, 2**31, 2**40, 2**53, -(2**53), 2**63, 10**30)
WRONG_FRACTIONS = (0.5, -0.0, 1e-300, 1e300, 12.0, 64.5, float("nan"), float("inf"), float("-inf"))
WRONG_TEXTS = ("", "default", "12", "silu", "no_such_thing", "llama", "🦙" * 8, "\x00", "x" * 300, "{}", "cuda:0")
WRONG_LISTS: tuple[Any, ...] = (
    [],
    [1],
    [None],
    [0] * 3,
    ["full_attention"],
    ["no_such_layer"] * 8,
    [[]],
    [1.5] * 64,
    [{}] * 8,
)
WRONG_OBJECTS: tuple[Any, ...] = (
    {},
    {"rope_type": "default"},
    {"rope_type": "no_such_rope", "factor": -1},
    {"type": "yarn", "factor": 1e308, "original_max_position_embeddings": 0},
    {"rope_type": "longrope", "short_factor": [1], "long_factor": "x", "factor": None},
    {"rope_type": "llama3", "rope_theta": 0},
    {"rope_theta": float("nan"), "rope_type": "linear", "factor": 0},
    {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": None},
    {"model_type": "llama"},
    {"model_type": "no_such_model", "auto_map": {}},
    {"": {"": {"": {"": {}}}}},
    {"0": "a", "-1": None, "ключ": []},
)
WRONG_VALUES = (None, True, False, *WRONG_NUMBERS, *WRONG_FRACTIONS, *WRONG_TEXTS, *WRONG_LISTS, *WRONG_OBJECTS)

#: Keys that decide what is built: added where a configuration lacks them.
TELLING_KEYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size", "max_position_embeddings", "num_local_experts", "num_experts", "num_experts_per_tok", "n_routed_experts",
    "layer_types", "rope_parameters", "rope_scaling", "rope_theta", "sliding_window", "hidden_act", "activation_function",
    "pad_token_id", "tie_word_embeddings", "is_decoder", "is_encoder_decoder", "use_cache", "conv_kernel", "state_size",
    "expand", "chunk_size", "num_labels", "id2label", "text_config", "vision_config", "encoder", "decoder", "attention_bias",
    "partial_rotary_factor", "layer_norm_eps", "chunk_size_feed_forward", "pruned_heads", "position_embedding_type",
    "quantization_config", "dtype", "torch_dtype", "num_mel_bins", "image_size", "patch_size", "kv_lora_rank", "q_lora_rank",
    "architectures", "model_type", "return_dict", "output_attentions", "output_hidden_states", "problem_type",
)  # fmt: skip


def places(config: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every value in a configuration, those of nested objects too (not those inside of lists)."""
    found: list[tuple[Any, ...]] = []
    for key, value in config.items():
        found.append((*path, key))
        if isinstance(value, dict) and len(path) < 4:
            found += places(value, (*path, key))
    return found


def _holder(config: Config, path: tuple[Any, ...]) -> Config:
    for key in path[:-1]:
        config = config[key]
    return config


def _numbers(config: Config) -> list[tuple[Any, ...]]:
    return [p for p in places(config) if type(_holder(config, p)[p[-1]]) is int] or places(config)


def remove(config: Config, pick: Pick) -> None:
    path = pick(places(config))
    del _holder(config, path)[path[-1]]


def replace(config: Config, pick: Pick) -> None:
    path = pick(places(config))
    _holder(config, path)[path[-1]] = copy.deepcopy(pick(WRONG_VALUES))


def add(config: Config, pick: Pick) -> None:
    config[pick(TELLING_KEYS)] = copy.deepcopy(pick(WRONG_VALUES))


def scale(config: Config, pick: Pick) -> None:
    """A size that is somewhat or much too large or small, or just not divisible any more."""
    path = pick(_numbers(config))
    holder, value = _holder(config, path), _holder(config, path)[path[-1]]
    if isinstance(value, int):
        holder[path[-1]] = pick(
            (value + 1, value - 1, value * 2, value * 7, value * 100, value * 10_000, -value, value // 2)
        )


def swap(config: Config, pick: Pick) -> None:
    """Two values change places: key-value heads above heads, experts per token above experts."""
    one, other = pick(_numbers(config)), pick(_numbers(config))
    a, b = _holder(config, one), _holder(config, other)
    a[one[-1]], b[other[-1]] = b[other[-1]], a[one[-1]]


def resize(config: Config, pick: Pick) -> None:
    """A list of another length, or a number in place of a list."""
    paths = [p for p in places(config) if isinstance(_holder(config, p)[p[-1]], list)]
    if not paths:
        return add(config, pick)
    path = pick(paths)
    values = _holder(config, path)[path[-1]]
    _holder(config, path)[path[-1]] = pick(
        (values[:-1], values * 2, values[:1], [], [*values, None], len(values), values * 500)
    )
    return None


def nest(config: Config, pick: Pick) -> None:
    """A value one or many levels deeper than where it belongs."""
    path = pick(places(config))
    value = _holder(config, path)[path[-1]]
    for _ in range(pick((1, 2, 6, 7, 50))):
        value = {path[-1]: value} if pick((True, False)) else [value]
    _holder(config, path)[path[-1]] = value


def retype(config: Config, pick: Pick) -> None:
    """The same value as another JSON type: "64" for 64, 64.0, [64], true."""
    path = pick(_numbers(config))
    value = _holder(config, path)[path[-1]]
    make = pick((str, lambda v: [v], lambda v: {"value": v}, bool, lambda v: float(v) if isinstance(v, int) else v))
    _holder(config, path)[path[-1]] = make(value)


MUTATIONS = (remove, replace, replace, replace, add, add, scale, scale, swap, resize, nest, retype)


def spoil(config: Config, pick: Pick, times: int) -> Config:
    """A copy of ``config`` after ``times`` mutations."""
    config = copy.deepcopy(config)
    for _ in range(times):
        if not config:
            break
        pick(MUTATIONS)(config, pick)
    return config
