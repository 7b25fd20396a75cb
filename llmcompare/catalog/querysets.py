"""The only way to reach models."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class LanguageModelQuerySet(models.QuerySet):
    def visible_to(self, user) -> LanguageModelQuerySet:
        """Shared models, and the user's own uploads."""
        if not user.is_authenticated:
            return self.filter(owner=None)
        return self.filter(Q(owner=None) | Q(owner=user))

    def editable_by(self, user) -> LanguageModelQuerySet:
        if not user.is_authenticated:
            return self.none()
        return self.all() if user.is_staff else self.filter(owner=user)
