"""Keeps the tokens of shared links out of logs: whoever reads a log must not be able to open what it mentions.

Imports no models: the logging set-up names this module before Django's apps are loaded.
"""

from __future__ import annotations

import logging
import re

_SHARED = re.compile(r"(/s/)[^/?#\s\"'<>]+")


def hide_tokens(text: str) -> str:
    return _SHARED.sub(r"\1[hidden]", text)


class HideTokens(logging.Filter):
    """Replaces the token in the message and in its arguments; drops nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = hide_tokens(record.msg)
        if isinstance(record.args, dict):
            record.args = {name: _hidden(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(_hidden(value) for value in record.args)
        return True


def _hidden(value):
    """Numbers stay what they are, or ``%d`` would fail; anything else that mentions a shared address becomes its text."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value)
    return hide_tokens(text) if "/s/" in text else value
