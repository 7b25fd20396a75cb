"""Values inside the engine's sentences, in the reader's language: shares, counts, sizes, and lists of these and of its phrases.

A sentence is found by its pattern (:mod:`engine_texts`); what stands in it may be several things that no catalogue has as a whole:
``12.3 % of prefill and 4.5 % of decode``, ``2 images and 1 audio clip``. A list is said where every item of it is known, a name or a
figure, and stays English as it is otherwise: half of a list in either language would be worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from django.utils.translation import gettext, ngettext, pgettext
from django.utils.translation import gettext_lazy as _

_WORD = re.compile(r"[A-Za-z]{2,}")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
#: ``A, B and C``: what stands between two items; the word is a group, None for a comma alone.
_BETWEEN = re.compile(r",? (and|or) |, ")
#: A longer list is a program's output, not a sentence of ours.
_MOST_ITEMS = 20
_SHARE = re.compile(r"((?:< ?)?[\d.,]+ ?%) of (.+)")
_COUNT = re.compile(r"([\d,]+) (image|audio clip)s?")
_SIZE = re.compile(r"([\d,]+(?: × [\d,]+)*) (pixels|frames)(?: in ([\d,]+) tiles)?")
_PLACE = re.compile(r"(batch|tokens|context|source|chunks) ([\d,]+)")
#: Variables of closed forms with a value.
_PLACES = {
    "batch": _("batch %(count)s"),
    "tokens": _("tokens %(count)s"),
    "context": _("context %(count)s"),
    "source": _("source %(count)s"),
    "chunks": _("chunks %(count)s"),
}
#: Single words that are phrases of the engine wherever they stand.
NOUNS = {"image": _("image"), "images": _("images")}


def has_words(text: str) -> bool:
    """Whether it is more than a name or a figure."""
    return " " in text.strip() and len(_WORD.findall(text)) > 1


def figure(value: str, phrase: Callable[[str], str | None]) -> str | None:
    """A share of something, a count, a size or a place as it is said; None if it is none of them. ``phrase`` says what the share is of."""
    if found := _SHARE.fullmatch(value):
        whole = phrase(found[2])
        return None if whole is None else gettext("%(share)s of %(whole)s") % {"share": found[1], "whole": whole}
    if found := _COUNT.fullmatch(value):
        number = int(found[1].replace(",", ""))
        text = (
            ngettext("%(count)s image", "%(count)s images", number)
            if found[2] == "image"
            else ngettext("%(count)s audio clip", "%(count)s audio clips", number)
        )
        return text % {"count": found[1]}
    if found := _SIZE.fullmatch(value):
        text = gettext("%(size)s pixels") if found[2] == "pixels" else gettext("%(size)s frames")
        text = gettext("%(size)s pixels in %(count)s tiles") if found[3] else text
        return text % {"size": found[1], "count": found[3]}
    if found := _PLACE.fullmatch(value):
        return str(_PLACES[found[1]]) % {"count": found[2]}
    return None


def listed(value: str, phrase: Callable[[str], str | None], whole: Mapping[str, str]) -> str | None:
    """A list as it is said; None if it is none, has an item that is not known, or nothing in it is to be translated.

    ``whole``: phrases with their translation; ``phrase`` translates longer ones, None for what it does not know.
    """
    parts = _BETWEEN.split(value)
    items, between = parts[::2], parts[1::2]
    if not between or len(items) > _MOST_ITEMS or any(item.count("(") != item.count(")") for item in items):
        return None
    said: list[str] = []
    for item in items:
        text = _item(item, phrase, whole)
        if text is None:
            return None
        said.append(text)
    if said == items:
        return None
    words = {
        None: pgettext("between items", ", "),
        "and": pgettext("between items", " and "),
        "or": pgettext("between items", " or "),
    }
    made = said[0]
    for at, text in enumerate(said[1:]):
        # "A and B and C" is written with one "and".
        word = None if between[at] == between[-1] and at < len(between) - 1 else between[at]
        made = _beside(_beside(made, words[word]), text)
    return made


def _item(item: str, phrase: Callable[[str], str | None], whole: Mapping[str, str]) -> str | None:
    found = figure(item, phrase)
    if found is None:
        found = whole.get(item) or (str(NOUNS[item]) if item in NOUNS else None)
    return found if found is not None else phrase(item) if has_words(item) else item


def _beside(left: str, right: str) -> str:
    """Chinese words stand close to each other; Latin letters and figures keep a space between themselves and them."""
    a, b = left[-1:], right[:1]
    apart = (a.isascii() and _CHINESE.match(b)) or (_CHINESE.match(a) and b.isascii())
    return f"{left} {right}" if apart else left + right
