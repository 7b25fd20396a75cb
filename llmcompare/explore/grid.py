"""The values along an axis, from what was typed: ``1,2,4``, ``1..64*2`` (multiplies), ``128..1024+128`` (adds)."""

from __future__ import annotations

import re

from django.utils.translation import gettext

from profiling.spec import SpecError

#: Values along one axis, and cells of a heat map.
MOST_VALUES, MOST_CELLS = 64, 1024
MOST_CHARACTERS = 400

_RANGE = re.compile(r"(\d{1,9})\s*\.\.\s*(\d{1,9})(?:\s*([*+])\s*(\d{1,9}))?")
_NUMBER = re.compile(r"\d{1,9}")


def axis(name: str, text: str) -> list[int]:
    """The values in rising order, each once. Raises :class:`SpecError` on ``name`` with what can be typed."""
    if len(text) > MOST_CHARACTERS:
        raise SpecError(
            name,
            gettext("At most %(most_characters)s characters: give a range such as 1..256*2.")
            % {"most_characters": MOST_CHARACTERS},
        )
    found: set[int] = set()
    for part in filter(None, (p.strip() for p in text.split(","))):
        if match := _RANGE.fullmatch(part):
            found |= set(_range(name, int(match[1]), int(match[2]), match[3] or "+", int(match[4] or 1)))
        elif _NUMBER.fullmatch(part):
            found.add(int(part))
        else:
            raise SpecError(
                name,
                gettext("“%(part)s” is no value. Type numbers (1,2,4) or a range (1..256*2, 128..1024+128).")
                % {"part": part[:40]},
            )
    if not found:
        raise SpecError(name, gettext("Type at least one value, such as 1..256*2."))
    if len(found) > MOST_VALUES:
        raise SpecError(
            name,
            gettext("%(count)s values are more than an axis shows: at most %(most_values)s.")
            % {"count": len(found), "most_values": MOST_VALUES},
        )
    return sorted(found)


def _range(name: str, first: int, last: int, sign: str, step: int) -> list[int]:
    if last < first or step < 1 or (sign == "*" and (step < 2 or first < 1)):
        raise SpecError(
            name,
            gettext("%(first)s..%(last)s%(sign)s%(step)s is no range: it must grow from the first number to the last.")
            % {"first": first, "last": last, "sign": sign, "step": step},
        )
    if sign == "+" and (last - first) // step >= MOST_VALUES:
        raise SpecError(
            name,
            gettext("%(first)s..%(last)s+%(step)s has more than the %(most_values)s values that an axis shows.")
            % {"first": first, "last": last, "step": step, "most_values": MOST_VALUES},
        )
    values = []
    while first <= last:
        values.append(first)
        first = first * step if sign == "*" else first + step
    return values


def check_cells(batches: list[int], lengths: list[int]) -> None:
    """Raises :class:`SpecError` for a heat map with too many cells."""
    cells = len(batches) * len(lengths)
    if cells > MOST_CELLS:
        raise SpecError(
            "lengths",
            gettext("%(count)s batches × %(count2)s lengths are %(cells)s cells: at most %(most_cells)s are drawn.")
            % {"count": len(batches), "count2": len(lengths), "cells": f"{cells:,}", "most_cells": f"{MOST_CELLS:,}"},
        )
