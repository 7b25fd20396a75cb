"""The only ways to reach endpoints."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


def _owned_by(user) -> Q:
    """Their own. One that uses a team's cloud connection is theirs only while they are in the team: the credentials are the team's."""
    teams = user.teams.values("pk")
    return Q(owner=user) & (Q(kind="openai") | ~Q(visibility="team") | Q(team__in=teams))


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
        return self.kept().filter(_owned_by(user) | Q(visibility="public") | Q(visibility="team", team__in=teams))

    def editable_by(self, user) -> EndpointQuerySet:
        """The user's own endpoints, and those of teams where they are an editor. Staff have no special right to private ones."""
        if not user.is_authenticated:
            return self.none()
        teams = user.membership_set.filter(role="editor").values("team")
        return self.kept().filter(_owned_by(user) | Q(visibility="team", team__in=teams))

    def binned_by(self, user) -> EndpointQuerySet:
        """What the user may take back out of the bin."""
        if not user.is_authenticated:
            return self.none()
        teams = user.membership_set.filter(role="editor").values("team")
        binned = self.filter(deleted_at__isnull=False)
        return binned.filter(_owned_by(user) | Q(visibility="team", team__in=teams))
