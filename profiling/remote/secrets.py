"""Keys and tokens stay out of everything that is kept: a server can repeat them in an answer, a library in an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

#: Shorter ones are no keys, and taking them out would tear words apart.
SHORTEST = 4
#: Servers at home are given keys such as "token" or "model". One that is shorter than this is taken out where it is a word of its own, and
#: never out of names, of which a document is made.
WORDS_BELOW = 8


def secrets_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What must not be shown of these headers: their values, and each without the name of its scheme (``Bearer``). The longest first."""
    found = set()
    for value in headers.values():
        found |= {value.strip(), value.strip().partition(" ")[2].strip()}
    return tuple(sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True))


def without(secrets: Sequence[str], value: Any) -> Any:
    """``value`` (JSON) with every secret in its texts replaced by "…", also where an excerpt ends in the middle of one."""
    if isinstance(value, str):
        for secret in secrets:
            if secret in value:
                value = _without(secret, value)
        return _without_begin(secrets, value)
    if isinstance(value, Mapping):
        long = [secret for secret in secrets if len(secret) >= WORDS_BELOW]
        return {without(long, name): without(secrets, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without(secrets, item) for item in value]
    return value


def _without(secret: str, text: str) -> str:
    if len(secret) >= WORDS_BELOW:
        return text.replace(secret, "…")
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)


def _without_begin(secrets: Sequence[str], text: str) -> str:
    kept = text.removesuffix("…")
    if kept != text:
        for secret in secrets:
            for length in range(min(len(secret), len(kept)), SHORTEST - 1, -1):
                if kept.endswith(secret[:length]):
                    return kept[:-length] + "…"
    return text
