"""The only ways to reach endpoints."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class EndpointQuerySet(models.QuerySet):
    def kept(self) -> EndpointQuerySet:
        """Not in the bin."""
        return self.filter(deleted_at=None)

    def visible_to(self, user) -> EndpointQuerySet:
        """The user's own endpoints, those of their teams, and public ones. Whoever sees one may send requests to it."""
        if not user.is_authenticated:
            return self.none()
        # Membership by subquery: a join would repeat an endpoint for every matching member.
        teams = user.teams.values("pk")
        return self.kept().filter(Q(owner=user) | Q(visibility="public") | Q(visibility="team", team__in=teams))

    def editable_by(self, user) -> EndpointQuerySet:
        """The user's own endpoints, and those of teams where they are an editor. Staff have no special right to private ones."""
        if not user.is_authenticated:
            return self.none()
        teams = user.membership_set.filter(role="editor").values("team")
        return self.kept().filter(Q(owner=user) | Q(visibility="team", team__in=teams))

    def binned_by(self, user) -> EndpointQuerySet:
        """What the user may take back out of the bin."""
        if not user.is_authenticated:
            return self.none()
        teams = user.membership_set.filter(role="editor").values("team")
        binned = self.filter(deleted_at__isnull=False)
        return binned.filter(Q(owner=user) | Q(visibility="team", team__in=teams))
