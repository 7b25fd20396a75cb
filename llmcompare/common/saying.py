"""Texts that are kept in English (by the engine, in documents, in rows of the database) in the language of whoever reads them.

Three kinds: single words, which ``llmcompare/runs/words.py`` and its like mark for the catalogues; sentences of the engine, which
:mod:`engine_texts` knows by their patterns; and the portal's own sentences in rows, marked with ``gettext_noop`` where they are written
(or with ``gettext`` in a worker, which speaks English), with ``%(name)s``, ``{name}`` or one ``%s`` where a value stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.utils.translation import get_language, gettext, pgettext
from django.utils.translation.trans_real import translation

from llmcompare.common.engine_texts import Pattern, engine_text, engine_value

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    #: A text, or one that is translated when it is shown.
    Text = str | _StrPromise
else:
    Text = str

_PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]|\{(\w+)(?::[^{}]*)?\}|%[sd]")
#: The same once all of them are written alike.
_NAMED = re.compile(r"\{(\w+)\}")
#: Where another sentence begins; how many such places are looked at for the end of one of ours.
_NEXT = re.compile(r"(?<=[.!?]) (?=[A-Z])")
_MOST_ENDS = 3
#: "eager: each operator …", "datasheet: the vendor's … (bf16 rate). large products: …": a word of the conventions and what it means.
_LEVEL = re.compile(r"(datasheet|measured|eager|fused): (.+?)(?: \((\w+) rate\)(?:\. (.+))?)?$", re.DOTALL)
#: What the engine says of conditions that are not the same: names, each with both values.
_DIFFER = re.compile(r"The conditions differ in (.+\))\.")
_BOTH = re.compile(r"(.+) \((.+) and (.+)\)")
#: Shorter ones fit too much.
_LEAST_LITERAL = 12


def said(text: Any) -> Any:
    """``text`` in the active language. What has no translation, and what is no text, comes back as it is."""
    language = get_language() or "en"
    if not isinstance(text, str) or not text or language.startswith("en"):
        return text
    return _said(text, language)


@lru_cache(maxsize=8192)
def _said(text: str, language: str) -> str:
    if (exact := gettext(text)) != text:
        return exact
    if level := _LEVEL.match(text):
        return _said_level(level)
    if differing := _DIFFER.fullmatch(text):
        return _said_differing(differing[1])
    if (own := _own(text, language)) is not None:
        return own
    for end in islice(_NEXT.finditer(text), _MOST_ENDS):
        if (own := _own(text[: end.start()], language)) is not None:
            space = "" if own[-1:] in "。；：，！？、" else " "
            return f"{own}{space}{said(text[end.end() :])}"
    return engine_text(text)


def _own(text: str, language: str) -> str | None:
    """The translation of a word or sentence of the portal's own; None for all others."""
    if (exact := gettext(text)) != text:
        return exact
    for pattern in _kept(language):
        found = pattern.match(text)
        if found is not None and not found[1]:
            return pattern.filled({name: _said_value(value) for name, value in found[0].items()})
    return None


def _said_value(value: str) -> str:
    text = said(value)
    return str(text) if text != value else engine_value(value)


def _said_level(found: re.Match[str]) -> str:
    word, text, dtype, rest = found.groups()
    text = f"{said(word)}：{said(text)}"
    if dtype:
        text = gettext("%(text)s (%(dtype)s rate)") % {"text": text, "dtype": dtype}
    return f"{text}。{'；'.join(said(part) for part in rest.split('; '))}" if rest else text


def _said_differing(values: str) -> str:
    """Names and values as :mod:`profiling.verdicts` writes them; what is written otherwise stays as it is."""
    parts = [_BOTH.fullmatch(part) for part in re.split(r"(?<=\)), ", values)]
    named = [
        gettext("%(name)s (%(one)s and %(other)s)") % {"name": said(p[1]), "one": p[2], "other": p[3]}
        for p in parts
        if p is not None
    ]
    conditions = enumerated(named) if len(named) == len(parts) else values
    return gettext("The conditions differ in %(conditions)s.") % {"conditions": conditions}


def enumerated(items: Iterable[Any]) -> str:
    """One after the other, as a list is written in the active language."""
    return pgettext("between items", ", ").join(map(str, items))


@cache
def _kept(language: str) -> tuple[Pattern, ...]:
    """The portal's sentences that have values in them, those with most words of their own first."""
    found = []
    for message, text in translation(language)._catalog.items():  # type: ignore[attr-defined]
        pieces = _NAMED.split(_alike(message)) if isinstance(message, str) else []
        if len(pieces) > 1 and isinstance(text, str):
            found.append(Pattern(tuple(pieces[::2]), tuple(pieces[1::2]), _alike(text)))
    kept = [pattern for pattern in found if pattern.literal >= _LEAST_LITERAL]
    return tuple(sorted(kept, key=lambda pattern: (-pattern.literal, pattern.parts)))


def _alike(text: str) -> str:
    """The text with every value as ``{name}``; what has no name is called ``value``."""
    return _PLACEHOLDER.sub(lambda found: f"{{{found[1] or found[2] or 'value'}}}", text).replace("%%", "%")
