"""Everything that writes accounts beyond what Django's own forms do: API tokens, the language."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from knox.models import AuthToken

from llmcompare.common.errors import WHOLE_FORM, FieldErrors

MAX_TOKENS_PER_USER = 20


def create_token(*, owner, days: int | None) -> tuple[AuthToken, str]:
    """A new API token of ``owner`` and its text, which is stored nowhere and cannot be shown again. ``days`` None: until revoked."""
    usable = AuthToken.objects.filter(user=owner).filter(Q(expiry=None) | Q(expiry__gt=timezone.now()))
    if usable.count() >= MAX_TOKENS_PER_USER:
        message = _("You have {count} tokens, as many as one user may. Revoke one first.")
        raise FieldErrors({WHOLE_FORM: message.format(count=MAX_TOKENS_PER_USER)})
    return AuthToken.objects.create(user=owner, expiry=None if days is None else timedelta(days=days))


def revoke_token(*, token: AuthToken) -> None:
    """The token stops working at once."""
    token.delete()


def choose_language(*, user, language: str) -> None:
    """Pages and e-mails are in this language from now on, on every device."""
    user.language = language
    user.save(update_fields=["language"])
