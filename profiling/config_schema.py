"""Which model types and configuration keys the pinned transformers knows, kept as a file so that checking a configuration
needs the standard library only. After an upgrade: ``python -m profiling.config_schema`` writes the file anew. What plug-ins
add (:mod:`profiling.plugins`) is added when they are imported, or read from a file where they are not.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "data" / "config_schema.json"

#: Spellings that transformers still reads although no class declares them.
_LEGACY = ("rope_scaling", "rope_theta", "rotary_emb_base", "rotary_pct", "num_labels", "ffn_hidden_size", "n_head_kv")


#: Names a file with what the plug-ins of this installation add, as ``python -m profiling.plugins`` prints it.
VARIABLE = "LLMCOMPARE_PLUGIN_SCHEMA"

_added: tuple[set[str], set[str]] = (set(), set())


@cache
def known() -> tuple[frozenset[str], frozenset[str]]:
    """(model types, configuration keys) of the pinned transformers and of plug-ins."""
    more = os.environ.get(VARIABLE)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (PATH, *([Path(more)] if more else []))]
    types, keys = (set[str]().union(*(data[name] for data in found)) for name in ("model_types", "keys"))
    return frozenset(types | _added[0]), frozenset({key for key in keys | _added[1] if not key.startswith("_")})


def extend(model_types: Iterable[str], keys: Iterable[str]) -> None:
    """Make more model types and configuration keys known in this process."""
    _added[0].update(model_types)
    _added[1].update(keys)
    known.cache_clear()


def collect() -> dict[str, Any]:
    """What the installed transformers has; imports it."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    keys = set(_LEGACY)
    model_types = set()
    for model_type in CONFIG_MAPPING_NAMES:
        try:
            cls = CONFIG_MAPPING[model_type]
        except (KeyError, AttributeError, ImportError):
            continue  # named, but not importable here
        model_types.add(model_type)
        keys |= keys_of(cls)
    keys = {k for k in keys if not k.startswith("_") and k not in ("self", "kwargs", "args")}
    return {
        "transformers": transformers.__version__,
        "model_types": sorted(model_types),
        "keys": sorted(keys),
        "kinds": dict(sorted(collect_kinds().items())),
    }


def collect_kinds() -> dict[str, str]:
    """Model type → kind of the model that its configuration stands for where it names no class. One that both masks and generates is an
    encoder: it generates only where it is told to."""
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found: dict[str, str] = {}

    def add(mapping: Mapping[str, Any], kind: str) -> None:
        for model_type in mapping:
            found.setdefault(model_type, kind)

    def add_joined(mapping: Mapping[str, Any], kind: str) -> None:
        """Those with an encoder and a decoder; others are language models with a front end."""
        for model_type in mapping:
            try:
                joined = CONFIG_MAPPING[model_type]().is_encoder_decoder
            except Exception:  # made of two others: it has no defaults
                joined = True
            found.setdefault(model_type, kind if joined else "decoder")

    add_joined(auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES, "audio")
    add_joined(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, "encdec")
    add({t: None for t in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if "mamba" in t}, "ssm")
    add(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "encoder")
    add(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "decoder")
    add(auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES, "encoder")
    add(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, "decoder")
    add(auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, "vision")
    return found


def keys_of(cls: type) -> set[str]:
    """Keys that a configuration class of transformers reads."""
    keys = set(inspect.signature(cls).parameters)
    for base in cls.__mro__:
        keys |= set(vars(base).get("__annotations__", {}))
    if dataclasses.is_dataclass(cls):
        keys |= {f.name for f in dataclasses.fields(cls)}
    keys |= set(getattr(cls, "attribute_map", {}) or {}) | set((getattr(cls, "attribute_map", {}) or {}).values())
    keys |= set(getattr(cls, "sub_configs", {}) or {})
    return keys


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(collect(), indent=0) + "\n", encoding="utf-8")
