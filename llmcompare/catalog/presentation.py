"""What the model pages show of a model: memory by format, rows of exports. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmcompare.catalog.models import LanguageModel
from profiling.spec import DTYPE_BYTES

#: Formats in which the detail page shows the memory of the weights, exact or computed.
MEMORY_DTYPES = ("fp32", "bf16", "int8", "int4")

EXPORT_HEADER = (
    "slug",
    "name",
    "hf_id",
    "kind",
    "model_type",
    "architecture",
    "parameters",
    "max_context",
    "weights",
    "weights_note",
    "source",
    "config_sha256",
)


def memory_rows(model: LanguageModel) -> list[dict[str, Any]]:
    """Format → bytes of the weights and of the cache for one token of context.

    ``{"dtype", "weights", "cache", "counted"}``; ``counted`` says that the engine counted the bytes, otherwise they are parameters times
    bytes for each (all weights in one format). None is unknown.
    """
    facts = model.facts or {}
    counted = facts.get("weight_bytes") or {}
    cache = facts.get("kv_cache_bytes_per_token") or {}
    names = [name for name in DTYPE_BYTES if name in MEMORY_DTYPES or name in counted]
    rows = []
    for dtype in names:
        weights = counted.get(dtype)
        if weights is None and model.parameters is not None:
            weights = int(model.parameters * DTYPE_BYTES[dtype])
        rows.append({"dtype": dtype, "weights": weights, "cache": cache.get(dtype), "counted": dtype in counted})
    return rows


def export_row(model: LanguageModel) -> list[Any]:
    """One row below :data:`EXPORT_HEADER`; unknown is None."""
    return [getattr(model, name) for name in EXPORT_HEADER]


def to_json(model: LanguageModel) -> dict[str, Any]:
    """Everything about one model but where its files lie."""
    values = {name: getattr(model, name) for name in EXPORT_HEADER}
    return values | {"licence": model.licence, "config": model.config, "facts": model.facts}


def export_json(models: Iterable[LanguageModel]) -> dict[str, Any]:
    return {"models": [to_json(model) for model in models]}
