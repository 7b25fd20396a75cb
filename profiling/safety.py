"""Is a model configuration safe and sane to build? Standard library only: runs where neither torch nor transformers is.

A ``config.json`` from a stranger is hostile until shown otherwise. Keys that make transformers run code from elsewhere
are refused; private keys (a leading underscore, CVE-2026-4372), choices of kernels and paths are dropped; so is every key
that no transformers configuration has. Sizes are bounded before anything is built, because building is what they would
exhaust. Values inside a nested configuration obey the same rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from profiling.config_schema import known
from profiling.spec import SpecError

MAX_DEPTH = 8
MAX_VALUES = 100_000
MAX_TEXT = 20_000
MAX_KEY = 200
#: Integers beyond this are not exact in JSON readers.
MAX_INTEGER = 2**53

#: How transformers writes what JSON cannot: Mamba 2's ``time_step_limit`` is ``[0.0, {"__float__": "Infinity"}]``.
INFINITE_TAG = "__float__"
INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}

#: Running someone else's code is never needed to know the size of a model.
REFUSED = frozenset({"auto_map", "trust_remote_code", "custom_pipelines", "code_revision"})

#: Known to transformers, but decided by the workload or able to load something.
DROPPED = frozenset(
    [
        "attn_implementation",
        "experts_implementation",
        "attention_implementation",
        "kernel_config",
        "use_kernels",
        "torch_dtype",
        "dtype",
        "name_or_path",
        "transformers_version",
        "backbone",
        "use_timm_backbone",
        "use_pretrained_backbone",
        "backbone_kwargs",
        "quantization_config",
        "compression_config",
        "torchscript",
        "generation_config",
        "index_path",
        "passages_path",
        "extra_files",
        "extra_config_files",
    ]
)

#: (pattern of the key, least, most, what it is). The first match counts. A list or an object under the key is not a size.
LIMITS: tuple[tuple[re.Pattern[str], int, int, str], ...] = tuple(
    (re.compile(pattern), low, high, what)
    for pattern, low, high, what in (
        # What runs or is made once for each of these, in a loop: modules inside of a block, code books, repeated steps.
        (
            r"_per_block$|^num_blocks$|inner_group_num|num_feedforward_networks|codebooks|quantizers",
            0,
            256,
            "repetitions",
        ),
        (r"^ngram$|num_hash(es|_functions)$|iters$|iterations$|num_rounds$", 0, 100, "repetitions"),
        (r"^num_(hidden_|decoder_|encoder_)?layers$|^n_layers?$|^(en|de)coder_layers$", 1, 2_000, "layers"),
        (r"layers$|^n_blocks$|depth$|^num_.*blocks$", -1, 2_000, "layers"),
        (r"^vocab_size$|^n_vocab$|^vocab$", 1, 10_000_000, "entries in the vocabulary"),
        (
            r"vocab_size",
            0,
            100_000_000,
            "entries in the vocabulary",
        ),  # DeBERTa has no token types, Qwen 4 tables of n-grams
        (r"per_tok|topk|top_k|n_group", 0, 10_000, "experts per token"),
        (r"experts$", 0, 100_000, "experts"),
        (r"^hidden_size$|^d_model$|^n_embd$|^dim$", 1, 200_000, "as hidden size"),
        (r"^num_attention_heads$|^n_heads?$|^num_heads$", 1, 10_000, "heads"),
        (r"heads$|^n_head", 0, 10_000, "heads"),
        (r"intermediate|ffn|d_ff$|n_inner|feed_forward", 0, 2_000_000, "as feed-forward size"),
        (r"hidden_(size|dim)|embed_dim|hidden_sizes", 0, 200_000, "as hidden size"),
        (r"position|n_ctx|seq_len|sequence_length", -1, 1_000_000_000, "positions"),
        (r"(_dim|_size|_rank|channels|_width|^expand|kernel)", -1, 2_000_000, "as size"),
        # Last, whatever else is counted: transformers makes dictionaries and lists of such a length while it reads the configuration.
        (r"labels$|classes$", 0, 100_000, "classes"),
        (r"^num_|^n_|_num_|buckets$", -1, 1_000_000, "as count"),
    )
)

#: Bounds on products: what building takes time for, and what no model comes near.
MAX_EXPERTS = 2_000_000
MAX_PARAMETERS = 10**14


def check_config(config: Mapping[str, Any], architecture: str | None = None) -> dict[str, Any]:
    """A clean copy of ``config``: plain values, known keys, bounded sizes.

    Raises :class:`SpecError` with field ``config`` (``architecture`` for a bad class name) and one sentence that says
    what is wrong. No other exception comes out, whatever goes in.
    """
    if not isinstance(config, Mapping):
        raise _refused("A configuration is one JSON object.")
    _check_name(architecture)
    budget = [MAX_VALUES]
    clean = _clean_object(config, 1, budget, top=True)
    model_types, _ = known()
    model_type = clean.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise _refused('The configuration has no "model_type", so its architecture is unknown.')
    if model_type not in model_types:
        raise _refused(f"The model type {_quoted(model_type)} is not one that this version of transformers knows.")
    names = clean.get("architectures")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise _refused('"architectures" must be a list of class names.')
        for name in names:
            _check_name(name)
    _check_products(clean)
    return clean


def parse_constant(text: str) -> dict[str, str]:
    """For :func:`json.loads`: a literal infinity, which transformers reads, as it writes it itself. NaN has no use in a configuration.

    Raises :class:`ValueError` for NaN.
    """
    if text not in INFINITE:
        raise ValueError(f"{text} is not a number; replace it by a number or null")
    return {INFINITE_TAG: text}


def decoded(value: Any) -> Any:
    """A deep copy of what :func:`check_config` returned, with infinite numbers as such."""
    if isinstance(value, dict):
        if INFINITE_TAG in value:
            return INFINITE[value[INFINITE_TAG]]
        return {key: decoded(item) for key, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value


def _refused(message: str) -> SpecError:
    return SpecError("config", message)


def _quoted(text: Any) -> str:
    return ascii(str(text)[:60])


def _check_name(name: Any) -> None:
    if name is None:
        return
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", name):
        raise SpecError("architecture", "The architecture must be the plain name of a transformers class.")


# --- values ---------------------------------------------------------------------------------------------------------


def _clean_object(value: Mapping[Any, Any], depth: int, budget: list[int], *, top: bool = False) -> dict[str, Any]:
    """A checked copy of an object; ``top`` and nested configurations keep known keys only, other objects all plain ones."""
    if depth > MAX_DEPTH:
        raise _refused(f"The configuration is nested more than {MAX_DEPTH} levels deep.")
    configuration = top or "model_type" in value
    _, known_keys = known()
    clean: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str) or len(key) > MAX_KEY:
            raise _refused("The configuration has a key that is not a short text.")
        if key in REFUSED or "remote_code" in key:
            raise _refused(
                f"The configuration asks to run code of its own ({_quoted(key)}); this is never done. Remove that key."
            )
        if key.startswith("_") or key in DROPPED:
            continue
        if configuration and key not in known_keys:
            continue
        checked = _clean_value(item, depth, budget)
        if configuration and key.endswith("_config") and not isinstance(checked, dict | None):
            raise _refused(f"{_quoted(key)} must be an object.")
        _check_size(key, checked)
        clean[key] = checked
    return clean


def _clean_value(value: Any, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise _refused(f"The configuration has more than {MAX_VALUES:,} values.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise _refused("The configuration has a whole number that is too large.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused("The configuration has a number that is not finite.")
        return float(value)
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise _refused(f"The configuration has a text of more than {MAX_TEXT:,} characters.")
        return str(value)
    if isinstance(value, Mapping):
        if len(value) == 1 and value.get(INFINITE_TAG) in INFINITE:
            return dict(value)
        return _clean_object(value, depth + 1, budget)
    if isinstance(value, (list, tuple)):
        if depth + 1 > MAX_DEPTH:
            raise _refused(f"The configuration is nested more than {MAX_DEPTH} levels deep.")
        return [_clean_value(item, depth + 1, budget) for item in value]
    raise _refused("The configuration has a value that JSON does not have.")


# --- sizes ----------------------------------------------------------------------------------------------------------


def _check_size(key: str, value: Any) -> None:
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        for pattern, low, high, what in LIMITS:
            if pattern.search(key):
                if not low <= number <= high:
                    raise _refused(f"{_quoted(key)} is {number:,}: from {low:,} to {high:,} {what} are possible here.")
                break


def _check_products(config: Mapping[str, Any]) -> None:
    """Bounds on what the sizes mean together, for this object and every nested configuration."""
    layers = _largest(config, r"layers$|^n_layer|depth$")
    experts = _largest(config, r"experts$")
    if layers * experts > MAX_EXPERTS:
        raise _refused(
            f"{layers:,} layers of {experts:,} experts are more than can be built here (at most {MAX_EXPERTS:,} together)."
        )
    heads, shared = (_largest(config, rf"^num_{name}_heads$") for name in ("attention", "key_value"))
    if heads and shared and heads % shared:
        raise _refused(
            f'"num_key_value_heads" must divide "num_attention_heads", which is {heads:,}: {shared:,} does not.'
        )
    hidden = _largest(config, r"^hidden_size$|^d_model$|^n_embd$|^dim$")
    inner = max(_largest(config, r"intermediate_size$|ffn_dim$|d_ff$|n_inner"), hidden)
    vocabulary = _largest(config, r"vocab_size$")
    parameters = vocabulary * hidden + max(layers, 1) * (4 * hidden * hidden + 3 * hidden * inner * max(experts, 1))
    if parameters > MAX_PARAMETERS:
        raise _refused("The sizes together make a model of more than 100 trillion parameters.")
    for value in config.values():
        if isinstance(value, Mapping):
            _check_products(value)


def _largest(config: Mapping[str, Any], pattern: str) -> int:
    found = [0]
    for key, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool) and re.search(pattern, key):
            found.append(value)
    return max(found)
