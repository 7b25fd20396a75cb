"""The engine's sentences in the reader's language.

The engine imports no Django and writes English: its documents are the same for everybody. ``scripts/messages.py`` finds its sentences in
its source and keeps them as patterns (``At most {limit} are possible.``) in a catalogue of their own, ``engine.po``. A stored sentence
is translated by finding its pattern, and putting the values into the translation. What no pattern fits stays as it is, marked as English.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from gettext import GNUTranslations
from pathlib import Path

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext, to_locale

from llmcompare.common.engine_values import figure, has_words, listed

LOCALE_DIR = Path(__file__).resolve().parent / "locale"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
#: A value does not reach into the next sentence.
_BREAK = re.compile(r"[.!?] [A-Z]|: |[.:;]$")
#: Longer texts are output of programs, not sentences of ours.
_LONGEST = 4000
#: What a pattern must have of its own to be found at the beginning of a longer text.
_LEAST_LITERAL = 8
_DEEPEST = 6
#: A phrase that may have something after it, though it does not begin like a sentence.
_LONG_PHRASE = 24
_NAME = re.compile(r"[^\s,;(]*")
_MARKS = {";": "；", ":": "：", ".": "。"}


@dataclass(frozen=True)
class Pattern:
    """A sentence of the engine: ``parts`` are the literals around its values, ``names`` those of the values between them."""

    parts: tuple[str, ...]
    names: tuple[str, ...]
    text: str

    @property
    def literal(self) -> int:
        return sum(map(len, self.parts))

    def filled(self, values: Mapping[str, str]) -> str:
        """The translation with the values in it; what it has in braces beside them stays."""
        return _PLACEHOLDER.sub(lambda name: values.get(name[1], name[0]), self.text)

    def may_go_on(self, rest: str) -> bool:
        """Whether ``rest`` may come after it in the same text: another sentence or part, not the middle of this one."""
        return self.literal >= _LEAST_LITERAL and (rest[0] in " ;,(" or self.parts[-1].endswith((" ", ":")))

    def match(self, sentence: str, phrases: Container[str] = ()) -> tuple[dict[str, str], str] | None:
        """The values, and what of ``sentence`` comes after; None if it does not begin like this. Takes time linear in the sentence."""
        if not sentence.startswith(self.parts[0]):
            return None
        values: dict[str, str] = {}
        at = len(self.parts[0])
        for index, name in enumerate(self.names):
            before, part = self.parts[index], self.parts[index + 1]
            end = self._end(sentence, at, index, phrases)
            if end < 0:
                return None
            value = sentence[at:end]
            # Only what a sentence announces ("could not be loaded. {error}") may be sentences itself.
            if not before.endswith((". ", ": ")) and value not in phrases and _BREAK.search(value):
                return None
            if values.setdefault(name, value) != value:
                return None
            at = end + len(part)
        return values, sentence[at:]

    def _end(self, sentence: str, at: int, index: int, phrases: Container[str]) -> int:
        """Where the value that begins at ``at`` ends: before the next literal, of the last one at the end of text or sentence."""
        part, last = self.parts[index + 1], index == len(self.names) - 1
        if not part:
            # Two values beside each other: the first is a name.
            name = _NAME.match(sentence, at)
            return len(sentence) if last or name is None else name.end()
        if last:
            end = len(sentence) - len(part)
            value = sentence[at:end]
            if end >= at and sentence.endswith(part) and (value in phrases or not _BREAK.search(value)):
                return end
            end = sentence.find(f"{part} ", at)
            if end >= 0:
                return end
        return sentence.find(part, at)


@cache
def _catalogue(language: str) -> tuple[dict[str, str], tuple[Pattern, ...]]:
    """Whole sentences → translation, and the patterns, those with most words of their own first."""
    path = LOCALE_DIR / to_locale(language) / "LC_MESSAGES" / "engine.mo"
    if not path.exists():
        return {}, ()
    with path.open("rb") as file:
        messages = GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    whole, patterns = {}, []
    for message, text in messages.items():
        if not message:
            continue
        message, text = message.lstrip(), text.lstrip()
        pieces = _PLACEHOLDER.split(message)
        if len(pieces) == 1:
            whole[message] = text
        if len(pieces) > 1 or message[0].isupper() or len(message) >= _LONG_PHRASE:
            patterns.append(Pattern(tuple(pieces[::2]), tuple(pieces[1::2]), text))
    return whole, tuple(sorted(patterns, key=lambda pattern: (-pattern.literal, pattern.parts)))


@lru_cache(maxsize=8192)
def _pieces(sentence: str, language: str, depth: int = 0) -> tuple[tuple[str, bool], ...]:
    """(text, whether it is translated), one after the other. Figures and names count as translated; words of the portal have its own."""
    whole, patterns = _catalogue(language)
    sentence = sentence.lstrip()
    if sentence in whole:
        return ((whole[sentence], True),)
    marked = gettext(sentence) if sentence.strip() else sentence
    if marked != sentence:
        return ((marked, True),)
    if not has_words(sentence):
        return ((sentence, True),)
    if len(sentence) > _LONGEST or depth > _DEEPEST:
        return ((sentence, False),)
    for pattern in patterns:
        found = pattern.match(sentence, whole)
        if found is None:
            continue
        values, rest = found
        if not rest or pattern.may_go_on(rest):
            values = {name: _value(value, language, depth + 1) for name, value in values.items()}
            filled = pattern.filled(values)
            after = _pieces(rest.lstrip(), language, depth + 1) if rest else ()
            return ((filled, True), *after)
    return _parts(sentence, language, depth)


def _parts(sentence: str, language: str, depth: int) -> tuple[tuple[str, bool], ...]:
    """A text that is no sentence of its own: translated part by part, if any of them is known."""
    if sentence[-1] in _MARKS:
        body = _pieces(sentence[:-1], language, depth + 1)
        if all(done for _, done in body):
            return (*body[:-1], (body[-1][0] + _MARKS[sentence[-1]], True))
    for between, most in ((": ", 1), ("; ", -1), (". ", -1)):
        if between in sentence:
            parts = sentence.split(between, most)
            ended = [*(part + between.strip() for part in parts[:-1]), parts[-1]]
            pieces = [_pieces(part, language, depth + 1) for part in ended]
            # A name alone, before a colon, is no reason to cut the rest into pieces.
            if any(done and has_words(part) for part, piece in zip(ended, pieces, strict=True) for _, done in piece):
                return tuple(piece for part in pieces for piece in part)
    return ((sentence, False),)


def _value(value: str, language: str, depth: int) -> str:
    """A value inside a sentence: itself, or translated where it is a phrase of the engine, a share or a count; lists item by item."""
    whole, _ = _catalogue(language)
    if value in whole:
        return whole[value]

    def phrase(text: str) -> str | None:
        pieces = _pieces(text, language, depth)
        return _joined(pieces) if all(done for _, done in pieces) else None

    found = figure(value, phrase) or listed(value, phrase, whole)
    return found or phrase(value) or value


def _joined(pieces: tuple[tuple[str, bool], ...]) -> str:
    """Chinese sentences follow each other without a space."""
    text = ""
    for piece, _ in pieces:
        space = text and not (text[-1] in "。；：，！？、" or piece[:1] in "。；：，、（")
        text += (" " if space else "") + piece
    return text


def stored(sentence: str) -> str:
    """Marks a sentence of the portal that is kept in rows: English there, like the engine's, and translated where it is shown."""
    return sentence


def engine_text(sentence: str | None) -> str:
    """A sentence of the engine in the active language, as plain text; what is unknown stays English."""
    language = get_language() or "en"
    if not sentence or language.startswith("en"):
        return sentence or ""
    return _joined(_pieces(str(sentence), language))


def engine_value(value: str) -> str:
    """What stands inside a sentence, on its own: also a list of shares or names. What is unknown stays English."""
    language = get_language() or "en"
    return value if not value or language.startswith("en") else _value(value, language, 0)


def engine_html(sentence: str | None) -> str | SafeString:
    """The same for a page: what stays English is marked as English, so that it is read and hyphenated as such."""
    language = get_language() or "en"
    if not sentence or language.startswith("en"):
        return sentence or ""
    pieces = _pieces(str(sentence), language)
    if all(done for _, done in pieces):
        return _joined(pieces)
    return format_html_join(
        "", "{}", ((text if done else format_html('<span lang="en">{}</span> ', text),) for text, done in pieces)
    )
