"""The only ways to reach saved sweeps."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class SavedSweepQuerySet(models.QuerySet):
    def visible_to(self, user) -> SavedSweepQuerySet:
        """The user's own sweeps, those of their teams, and public ones; nobody's that is in the bin."""
        if not user.is_authenticated:
            return self.none()
        teams = user.teams.values("pk")
        kept = self.filter(deleted_at=None)
        return kept.filter(Q(owner=user) | Q(visibility="public") | Q(visibility="team", team__in=teams))

    def editable_by(self, user) -> SavedSweepQuerySet:
        """The user's own sweeps."""
        return self.filter(deleted_at=None, owner=user) if user.is_authenticated else self.none()

    def binned_by(self, user) -> SavedSweepQuerySet:
        """What the user may take back out of the bin."""
        return self.filter(deleted_at__isnull=False, owner=user) if user.is_authenticated else self.none()
