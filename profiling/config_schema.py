"""Which model types and configuration keys the pinned transformers knows, kept as a file so that checking a configuration
needs the standard library only. After an upgrade: ``python -m profiling.config_schema`` writes the file anew. What plug-ins
add (:mod:`profiling.plugins`) is added when they are imported, or read from a file where they are not.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Iterable
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
    return {"transformers": transformers.__version__, "model_types": sorted(model_types), "keys": sorted(keys)}


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
