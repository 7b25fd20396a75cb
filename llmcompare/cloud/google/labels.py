"""What is ours in somebody's project. Nothing without this mark is ever changed.

Endpoints and models carry two labels: who manages them, and which installation. Model Garden makes endpoints without labels, but takes an
id: until such an endpoint is labelled, its id says whose it is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import datetime

MANAGED, BY = "managed-by", "llmcompare"
INSTANCE = "llmcompare-instance"
MAX_INSTANCE = 20
#: Of an endpoint that belongs to no row here and is no orphan either: seconds since 1970 until which whoever made it looks after it.
UNTIL = "llmcompare-until"


def check_instance(instance: str) -> str:
    """``instance``, which names one installation of the portal. Raises :class:`ValueError` for what cannot be part of a label or an id."""
    if not re.fullmatch(rf"[a-z0-9]([a-z0-9-]{{0,{MAX_INSTANCE - 2}}}[a-z0-9])?", instance):
        raise ValueError(
            f"An instance is up to {MAX_INSTANCE} lower-case letters, digits and hyphens, not {instance!r}."
        )
    return instance


def labels(instance: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Labels of what this installation makes. ``extra`` cannot take ours away."""
    return {**(extra or {}), MANAGED: BY, INSTANCE: check_instance(instance)}


def resource_id(instance: str, mark: str = "") -> str:
    """An id for what cannot be labelled when it is made: Google allows 63 of ``[a-z0-9-]``. ``mark``: 16 hexadecimal digits that tell it from
    others; fresh ones without."""
    mark = mark or secrets.token_hex(8)
    if not re.fullmatch("[0-9a-f]{16}", mark):
        raise ValueError(f"A mark is 16 hexadecimal digits, not {mark!r}.")
    return f"{BY}-{check_instance(instance)}-{mark}"


def looked_after(found: Mapping[str, str], now: datetime) -> bool:
    """Whether whoever made what has these labels looks after it themselves at ``now`` (:data:`UNTIL`)."""
    until = found.get(UNTIL, "")
    return re.fullmatch("[0-9]{1,12}", until) is not None and now.timestamp() < int(until)


def ours(found: Mapping[str, str], instance: str, name: str = "") -> bool:
    """Whether ``found``, the labels of a resource, or its ``name`` say that this installation made it. Another one's is not ours."""
    if found.get(MANAGED) == BY and INSTANCE in found:
        return found[INSTANCE] == instance
    return re.fullmatch(rf"{BY}-{re.escape(instance)}-[0-9a-f]{{16}}", name.rsplit("/", 1)[-1]) is not None
