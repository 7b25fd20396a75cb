"""The only ways to reach runs."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone


class RunQuerySet(models.QuerySet):
    def kept(self) -> RunQuerySet:
        """Not in the bin."""
        return self.filter(deleted_at=None)

    def visible_to(self, user) -> RunQuerySet:
        """The user's own runs, those of their teams, and public ones; an anonymous visitor sees none."""
        if not user.is_authenticated:
            return self.none()
        # Membership by subquery: a join would repeat a run for every matching member.
        teams = user.teams.values("pk")
        return self.kept().filter(Q(owner=user) | Q(visibility="public") | Q(visibility="team", team__in=teams))

    def editable_by(self, user) -> RunQuerySet:
        """The user's own runs, and team runs where they are an editor. Staff have no special right to private runs."""
        if not user.is_authenticated:
            return self.none()
        teams = user.membership_set.filter(role="editor").values("team")
        return self.kept().filter(Q(owner=user) | Q(visibility="team", team__in=teams))

    def binned_by(self, user) -> RunQuerySet:
        """What the user may take back out of the bin: their own deleted runs, and deleted team runs where they are an editor."""
        if not user.is_authenticated:
            return self.none()
        teams = user.membership_set.filter(role="editor").values("team")
        binned = self.filter(deleted_at__isnull=False)
        return binned.filter(Q(owner=user) | Q(visibility="team", team__in=teams))

    def active(self) -> RunQuerySet:
        return self.filter(state__in=["queued", "running"])

    def waiting(self) -> RunQuerySet:
        """Queued and still wanted."""
        return self.kept().filter(state="queued", cancel_requested=False)

    def unwanted(self) -> RunQuerySet:
        """Queued, cancelled or in the bin: nobody will take them."""
        return self.filter(state="queued").filter(Q(cancel_requested=True) | Q(deleted_at__isnull=False))

    def held(self, run) -> RunQuerySet:
        """The run's row while the claim in ``run`` is the one in the database: every write of a worker goes through this fence."""
        return self.filter(pk=run.pk, state="running", claim=run.claim)

    def taking_machine(self, queue: str) -> RunQuerySet:
        """Under way on the host of this queue, by a worker that shows it: what is in a host's queue is measured there, or has its operators
        timed there, and has the machine for itself."""
        return self.filter(state="running", queue=queue, lease_until__gte=timezone.now())

    def expired(self) -> RunQuerySet:
        """Running on paper, but nobody renewed the lease."""
        return self.filter(state="running", lease_until__lt=timezone.now())
