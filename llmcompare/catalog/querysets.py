"""The only way to reach models."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class LanguageModelQuerySet(models.QuerySet):
    def visible_to(self, user) -> LanguageModelQuerySet:
        """Shared models (of folders: while they are active), and the user's own uploads."""
        found = self.filter(Q(folder=None) | Q(folder__active=True)).select_related("folder")
        if not user.is_authenticated:
            return found.filter(owner=None)
        return found.filter(Q(owner=None) | Q(owner=user))

    def editable_by(self, user) -> LanguageModelQuerySet:
        if not user.is_authenticated:
            return self.none()
        return self.all() if user.is_staff else self.filter(owner=user)
