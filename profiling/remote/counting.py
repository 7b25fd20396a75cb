"""Tokens of answers: as the server says, and as the model's own tokenizer counts them, where the user named the model.

A text can be cut into tokens in several ways, and what a server leaves out of the text (marks of the end, a template) is not in it: a count
made here is an estimate, and is never taken where the server gives one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from profiling.remote.load import Sent
from profiling.remote.protocol import Usage
from profiling.spec import ModelSpec

#: Answers whose tokens the server gives are counted too, so many of them: enough to see whether both mean the same.
COMPARED = 200


class Counter(Protocol):
    """Counts the tokens of texts. ``name``: whose tokenizer it is."""

    name: str

    def __call__(self, texts: Sequence[str]) -> list[int]: ...


class TokenizerCounter:
    """The tokenizer of a model of the catalogue that has one. Imports transformers at the first count: after the load, not during it."""

    def __init__(self, model: ModelSpec) -> None:
        self.name = model.name
        self._model = model

    def __call__(self, texts: Sequence[str]) -> list[int]:
        from profiling.loading import check_files, tokenizer_of

        check_files(self._model)
        tokenizer = tokenizer_of(self._model)
        return [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def count_answers(sent: Sequence[Sent], counter: Counter | None) -> dict[str, Any]:
    """``tokens`` of the document. Answers without the server's count get one of ``counter``, and are marked.

    ``output_from``: ``server``, ``counted`` (by ``tokenizer``), ``mixed`` or None, unknown. ``compared``: answers counted by both, with the
    sums of ``server`` and ``counted`` tokens, both of what was sent: reasoning that a server keeps to itself has no text to count here.
    """
    good = [one.answer for one in sent if one.answer.error is None]
    theirs = [answer for answer in good if not answer.counted and answer.usage and answer.usage.output is not None]
    missing = [answer for answer in good if answer.counted or answer.usage is None or answer.usage.output is None]
    compared: dict[str, Any] | None = None
    if counter is not None:
        fresh = [answer for answer in missing if not answer.counted]
        for answer, tokens in zip(fresh, counter([answer.reasoning + answer.text for answer in fresh]), strict=True):
            answer.usage, answer.counted = replace(answer.usage or Usage(), output=tokens, reasoning=None), True
        both = [answer for answer in theirs if answer.text or answer.reasoning][:COMPARED]
        if both:
            counted = sum(counter([answer.reasoning + answer.text for answer in both]))
            told = sum(answer.sent_tokens or 0 for answer in both)
            compared = {
                "answers": len(both),
                "server": told,
                "counted": counted,
                "difference": counted / told - 1 if told else None,
            }
    counted_here = any(answer.counted for answer in missing)
    known = bool(good) and (not missing or counted_here)
    return {
        "output_from": None if not known else "server" if not missing else "mixed" if theirs else "counted",
        "tokenizer": counter.name if counter is not None else None,
        "compared": compared,
        "input": _sum(good, "input"),
        "output": _sum(good, "output"),
        "reasoning": _sum(good, "reasoning", some=True),
        "cached": _sum(good, "cached", some=True),
    }


def _sum(answers: Sequence[Any], name: str, *, some: bool = False) -> int | None:
    """Over all answers; None where one does not say (``some``: where none does)."""
    values = [getattr(answer.usage, name) if answer.usage else None for answer in answers]
    known = [value for value in values if value is not None]
    return sum(known) if known and (some or len(known) == len(values)) else None
