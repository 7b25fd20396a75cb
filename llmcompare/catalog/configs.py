"""Reading a ``config.json`` that somebody sends: strict, bounded, and with an answer for everything that is wrong."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from django.utils.translation import gettext

from llmcompare.common.errors import FieldErrors
from profiling.safety import parse_constant

MAX_DEPTH = 20

# A string that never ends reaches to the end of the text: otherwise every quote would be tried as a start, in quadratic time.
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def parse_config(text: str | bytes, *, limit: int) -> dict[str, Any]:
    """The object that ``text`` holds. Raises ``FieldErrors`` at ``config`` for anything but one plain JSON object of at most ``limit`` bytes.

    Refused beside broken JSON: a name that occurs twice (readers disagree on which one counts), NaN, deep nesting,
    characters that a database cannot keep.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > limit:
        raise _refused(
            gettext("The configuration has %(count)s bytes; at most %(limit)s are taken. Is it a config.json?")
            % {"count": f"{len(data):,}", "limit": f"{limit:,}"}
        )
    try:
        plain = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused(
            gettext("This is not text in UTF-8. Choose the config.json of a model, not its weights.")
        ) from None
    if not plain.strip():
        raise _refused(gettext("The configuration is empty. Choose a config.json or paste its text."))
    _check_depth(plain)
    try:
        value = json.loads(
            plain, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite, parse_int=_bounded
        )
    except json.JSONDecodeError as error:
        message = gettext("This is not JSON: %(msg)s in line %(lineno)s, column %(colno)s.") % {
            "msg": error.msg,
            "lineno": error.lineno,
            "colno": error.colno,
        }
        raise _refused(message) from None
    if not isinstance(value, dict):
        raise _refused(gettext("A config.json is one JSON object: { … }."))
    _check_text(value)
    return value


def _refused(message: str) -> FieldErrors:
    return FieldErrors({"config": message})


def _check_depth(text: str) -> None:
    """Before parsing: the parser itself gives up on deep nesting in ways that depend on the Python version."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise _refused(
                gettext("The configuration is nested more than %(max_depth)s levels deep. No model's is.")
                % {"max_depth": MAX_DEPTH}
            )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        # Counted once: counting each name anew takes minutes for the hundred thousand that fit into an upload.
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _refused(
            gettext("“%(twice)s” occurs twice in one object. Keep the one that is meant.") % {"twice": twice[:60]}
        )
    return value


def _constant(name: str) -> dict[str, str]:
    try:
        return parse_constant(name)
    except ValueError:
        raise _refused(gettext("%(name)s is not a number. Replace it by a number or null.") % {"name": name}) from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _refused(gettext("%(text)s is too large a number.") % {"text": text[:30]})
    return number


def _bounded(text: str) -> int:
    if len(text) > 19:
        raise _refused(gettext("%(text)s… is too large a number.") % {"text": text[:20]})
    return int(text)


def _check_text(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    # A zero character cannot be stored by PostgreSQL, half of a surrogate pair cannot be written at all.
    if "\\u0000" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _refused(
            gettext("The configuration has characters that are not text (a zero character or half a surrogate pair).")
        )
