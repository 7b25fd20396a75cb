"""Which kind of model a configuration describes, where nobody says it. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from profiling.config_schema import PATH


@cache
def _of_types() -> dict[str, str]:
    """Model type → kind that its configuration alone stands for, of the pinned transformers (``profiling.config_schema``)."""
    return dict(json.loads(PATH.read_text(encoding="utf-8"))["kinds"])


def kind_of(config: Mapping[str, Any], architecture: str | None = None) -> str:
    """One of :data:`profiling.spec.MODEL_KINDS`, by the class that the model is of (``architecture``, or what ``config`` names) and by its
    type. ``config`` may hold anything."""
    names = config.get("architectures")
    name = architecture or (names[0] if isinstance(names, list) and names else None)
    model_type = config.get("model_type")
    usual = _of_types().get(model_type, "decoder") if isinstance(model_type, str) else "decoder"
    if not isinstance(name, str):
        return usual
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return usual if usual == "ssm" else "decoder"
    if name.endswith("EncoderModel"):
        return "encoder"
    if name.endswith("ForImageClassification"):
        return "vision"
    if name.endswith("ForConditionalGeneration") and usual not in ("encdec", "audio"):
        return "encdec" if config.get("is_encoder_decoder") is True else "decoder"  # text beside images and sound
    return usual
