"""A tokenizer for models that have none, those with random weights: a byte, a token. What they write means nothing with any tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ByteTokens:
    """As far as the engine needs one. ``vocabulary``: how many different tokens the model has."""

    chat_template = None
    eos_token_id = None
    pad_token_id = None

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [byte % self._vocabulary for byte in text.encode()]}

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """One printable character a token."""
        return "".join(chr(ord("!") + number % 94) for number in ids)
