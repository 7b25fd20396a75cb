"""The model catalogue as a file: one entry in, the values of one ``LanguageModel`` row out. No database and no transformers here.

An entry has the arguments with which its transformers configuration is built, so the row's ``config`` is a partial ``config.json``:
what it leaves out are the defaults of its configuration class, which the engine fills in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.utils.text import slugify

from profiling.spec import digest

CONFIGS_PATH = Path(__file__).parent / "data" / "model_configs.json"

#: What the file decides of a catalogue model; the digest of a row covers these and nothing else.
MODEL_FIELDS = (
    "name",
    "hf_id",
    "kind",
    "model_type",
    "architecture",
    "config",
    "config_sha256",
    "parameters",
    "max_context",
)

#: What it decides of a model with weights from a package: the weights folder, once ready, has the last word on the rest.
PACKAGE_FIELDS = ("name", "hf_id", "kind", "licence")


def slug_of(name: str) -> str:
    """An address for a model's name: dots become dashes ("qwen2.5-7b" → "qwen2-5-7b")."""
    return slugify(name.replace(".", "-").replace("/", "-"))


def config_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": entry["model_type"],
        "architectures": [entry["model_class"]],
        **entry["config_kwargs"],
    }


def config_digest(config: Mapping[str, Any], architecture: str) -> str:
    """As ``ModelSpec.config_sha256``: what decides the architecture, not the name."""
    return digest({"config": config, "architecture": architecture})


def fields_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one ``LanguageModel`` row by field name."""
    config = config_of(entry)
    return {
        "slug": slug_of(entry["id"]),
        "name": entry["id"],
        "hf_id": entry["hf_id"],
        "kind": entry["kind"],
        "model_type": entry["model_type"],
        "architecture": entry["model_class"],
        "config": config,
        "config_sha256": config_digest(config, entry["model_class"]),
        "parameters": entry["parameters"],
        "max_context": entry["max_context"],
    }


def read_file(path: Path = CONFIGS_PATH) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def catalogue_rows(path: Path = CONFIGS_PATH) -> list[dict[str, Any]]:
    """The values of every model of the catalogue."""
    return [fields_of(entry) for entry in read_file(path)["models"]]


def package_rows(path: Path = CONFIGS_PATH) -> dict[str, dict[str, Any]]:
    """Slug → values of the models whose weights come from a package, as they are until the weights are ready."""
    return {row["slug"]: row for row in (fields_of(entry) for entry in read_file(path)["packages"])}


def row_digest(values: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    """Digest of what the catalogue decides: equal for a row of the file and for the same row read back from the database."""
    return digest({name: values[name] for name in fields})


def context_of(config: Mapping[str, Any]) -> int | None:
    """How many tokens a text model takes according to its configuration; None where it does not say (or has no limit)."""
    names = ("max_position_embeddings", "n_positions", "max_target_positions")
    limit = next((v for name in names if isinstance(v := config.get(name), int) and not isinstance(v, bool)), None)
    if limit is not None and config.get("model_type") in ROBERTA_TYPES:
        # Their positions start behind the padding index: 514 positions hold 512 tokens.
        padding = config.get("pad_token_id", 1)
        limit -= (padding if isinstance(padding, int) else 1) + 1
    return limit if limit is None or limit > 0 else None


ROBERTA_TYPES = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod", "data2vec-text"}
)
