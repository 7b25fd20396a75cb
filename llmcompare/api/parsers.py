"""JSON as the API takes it: what Python can read but a database or a log cannot hold is refused here, once for every field."""

from __future__ import annotations

import math
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

MAX_DEPTH = 40


class StrictJSONParser(JSONParser):
    def parse(self, stream, media_type=None, parser_context=None) -> Any:
        try:
            data = super().parse(stream, media_type=media_type, parser_context=parser_context)
        except RecursionError:
            raise ParseError(f"The JSON is nested more than {MAX_DEPTH} levels deep.") from None
        if not isinstance(data, dict):
            raise ParseError("Send a JSON object: { … }.")
        check_json(data)
        return data


def check_json(value: Any, depth: int = 0) -> None:
    """Raise ``ParseError`` for text with NUL or half a surrogate pair, numbers beyond a float's range, or deep nesting."""
    if depth > MAX_DEPTH:
        raise ParseError(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ParseError("Texts may not contain NUL characters or incomplete surrogate pairs.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ParseError("A number is too large.")
    elif isinstance(value, dict):
        for name, item in value.items():
            check_json(name, depth + 1)
            check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_json(item, depth + 1)
