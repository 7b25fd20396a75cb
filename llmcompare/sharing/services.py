"""Making, opening and ending shared links. The token exists only in the link itself; the database knows its digest."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext

from llmcompare.accounts.models import User
from llmcompare.common.errors import FieldErrors
from llmcompare.runs.models import Run
from llmcompare.sharing.models import ShareLink

#: Choices of how long a link works, in days; None is for ever.
EXPIRY_DAYS: dict[str, int | None] = {"1": 1, "7": 7, "30": 30, "90": 90, "never": None}
DEFAULT_EXPIRY = "30"
MAX_RUNS = 20
TOKEN_BYTES = 32

#: ``last_used`` is written at most this often: opening a page should not cost a write each time.
USE_PRECISION = timedelta(hours=1)


@dataclass(frozen=True)
class Opened:
    """What a working token opens: the link and its runs, in the order that its maker gave them; ``texts``: prompts and answers too."""

    link: ShareLink
    runs: list[Run]
    texts: bool


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def create_link(
    *,
    owner: User,
    runs: Sequence[Run],
    expires: str = DEFAULT_EXPIRY,
    label: str = "",
    include_text: bool = False,
) -> tuple[ShareLink, str]:
    """Make a link to one run, or to a comparison of up to :data:`MAX_RUNS`. The returned token is not stored: show it now.

    ``runs`` come from ``visible_to(owner)``; their texts are given away by whoever may change them alone. Raises :class:`FieldErrors`.
    """
    errors = {}
    if expires not in EXPIRY_DAYS:
        errors["expires"] = gettext("Choose one of %(expiry_days)s (days).") % {"expiry_days": ", ".join(EXPIRY_DAYS)}
    if not 1 <= len(runs) <= MAX_RUNS:
        errors["runs"] = gettext("A link shows 1 to %(max_runs)s runs, not %(count)s.") % {
            "max_runs": MAX_RUNS,
            "count": len(runs),
        }
    if len(label.strip()) > 100:
        errors["label"] = gettext("The label has %(count)s characters; 100 fit.") % {"count": len(label.strip())}
    if include_text and not may_show_texts(owner, runs):
        errors["include_text"] = gettext(
            "Only those who may change a run show its prompts and texts to others. Leave this unticked, or ask one of them."
        )
    if errors:
        raise FieldErrors(errors)
    days = EXPIRY_DAYS[expires]
    token = secrets.token_urlsafe(TOKEN_BYTES)
    link = ShareLink.objects.create(
        owner=owner,
        token_digest=token_digest(token),
        token_start=token[:6],
        run_ids=[run.public_id for run in runs],
        label=label.strip(),
        include_text=include_text,
        expires_at=None if days is None else timezone.now() + timedelta(days=days),
    )
    return link, token


def may_show_texts(user: User, runs: Sequence[Run]) -> bool:
    """Whether they are the user's to give away: figures of a teammate's run are for whoever sees it, words are not."""
    ids = {run.pk for run in runs}
    return Run.objects.editable_by(user).filter(pk__in=ids).count() == len(ids)


def revoke_link(*, link: ShareLink) -> None:
    """End a link at once; its past use stays visible in the list."""
    ShareLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=timezone.now())


def open_link(token: str) -> Opened | None:
    """What ``token`` opens, or None: unknown, revoked, expired and out of its maker's reach are one and the same to a visitor."""
    link = ShareLink.objects.usable().select_related("owner").filter(token_digest=token_digest(token)).first()
    if link is None:
        return None
    runs = reachable_runs(link)
    if runs is None:
        return None
    _note_use(link)
    return Opened(link, runs, texts=link.include_text and may_show_texts(link.owner, runs))


def reachable_runs(link: ShareLink) -> list[Run] | None:
    """The link's runs in order, or None unless its maker is still active and can still see every one of them."""
    if not link.owner.is_active:
        return None
    found = Run.objects.visible_to(link.owner).select_related("document", "host").prefetch_related("metrics")
    by_id = {run.public_id: run for run in found.filter(public_id__in=link.run_ids)}
    runs = [by_id[public_id] for public_id in link.run_ids if public_id in by_id]
    return runs if len(runs) == len(link.run_ids) else None


def _note_use(link: ShareLink) -> None:
    now = timezone.now()
    if link.last_used is None or now - link.last_used > USE_PRECISION:
        ShareLink.objects.filter(pk=link.pk).update(last_used=now.replace(minute=0, second=0, microsecond=0))


def state_of(link: ShareLink, visible: Container[str]) -> str:
    """What a visitor meets: ``works``, ``revoked``, ``expired``, or ``unreachable`` when a run is gone from its maker.

    ``visible``: the ids of the link's runs that its maker can see.
    """
    if link.revoked_at is not None:
        return "revoked"
    if link.expires_at is not None and link.expires_at <= timezone.now():
        return "expired"
    return "works" if all(public_id in visible for public_id in link.run_ids) else "unreachable"
