"""A tiny model with weights and a tokenizer, in a folder. Imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from profiling.build import resolve
from profiling.spec import ModelSpec
from tests.profiling.tiny import LLAMA

WORDS = [*"abcdefgh", "what", "is", "the", "capital", "of", "france", "name", "three", "colours"]


def make_tokenised(folder: Path, config: dict[str, Any] | None = None, **changes: Any) -> ModelSpec:
    """One word, one token (unknown ones too). Weights are random, the same every time; token 1 ends a sequence."""
    config = config or LLAMA | {"eos_token_id": 1}
    vocabulary = {word: number for number, word in enumerate(["[unk]", "[end]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[unk]", eos_token="[end]")
    spec = ModelSpec(name="Tiny", config=config, weights="local", weights_path=str(folder), **changes)
    built, model_class = resolve(spec)
    torch.manual_seed(1)
    model = model_class(built)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return spec
