"""The only ways to reach connections and deployments: a name of Google's that came from a form never leads anywhere by itself."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q


def _seen_by(user, prefix: str = "") -> Q:
    """What the user may see: their own, that of their teams, and what is public here."""
    return (
        Q(**{f"{prefix}owner": user})
        | Q(**{f"{prefix}visibility": "public"})
        | Q(**{f"{prefix}visibility": "team", f"{prefix}team__in": user.teams.values("pk")})
    )


def _used_by(user, prefix: str = "") -> Q:
    """What the user may use to spend money: their own, and that of teams where they are an editor. Seeing is not using."""
    teams = user.membership_set.filter(role="editor").values("team")
    return Q(**{f"{prefix}owner": user}) | Q(**{f"{prefix}visibility": "team", f"{prefix}team__in": teams})


class ConnectionQuerySet(models.QuerySet):
    def kept(self) -> ConnectionQuerySet:
        """Not in the bin."""
        return self.filter(deleted_at=None)

    def visible_to(self, user) -> ConnectionQuerySet:
        return self.kept().filter(_seen_by(user)) if user.is_authenticated else self.none()

    def usable_by(self, user) -> ConnectionQuerySet:
        """Where the user may read anew, upload, deploy and undeploy."""
        return self.kept().filter(_used_by(user)) if user.is_authenticated else self.none()

    def binned_by(self, user) -> ConnectionQuerySet:
        """What the user may take back out of the bin."""
        return self.filter(deleted_at__isnull=False, owner=user) if user.is_authenticated else self.none()

    def allowed(self) -> ConnectionQuerySet:
        """Whose credentials workers may use."""
        return self.filter(allowed_at__isnull=False)

    def free(self, now: datetime) -> ConnectionQuerySet:
        """Nobody reads them at this moment."""
        return self.filter(Q(claim=None) | Q(claim_until__lt=now))


class DeploymentQuerySet(models.QuerySet):
    def visible_to(self, user) -> DeploymentQuerySet:
        """Deployments of connections that the user sees; staff see all: they answer for what is spent."""
        if not user.is_authenticated:
            return self.none()
        return self.all() if user.is_staff else self.filter(_seen_by(user, "connection__") | Q(owner=user))

    def usable_by(self, user) -> DeploymentQuerySet:
        """What the user may undeploy; staff may undeploy all."""
        if not user.is_authenticated:
            return self.none()
        return self.all() if user.is_staff else self.filter(_used_by(user, "connection__") | Q(owner=user))

    def extendable_by(self, user) -> DeploymentQuerySet:
        """Where the user may spend more: who left the team can still undeploy what they deployed, and not let it go on."""
        if not user.is_authenticated:
            return self.none()
        return self.all() if user.is_staff else self.filter(_used_by(user, "connection__"))

    def active(self) -> DeploymentQuerySet:
        """What may cost money: everything that has not ended."""
        return self.exclude(state__in=["ended", "failed"])


class OperationQuerySet(models.QuerySet):
    def visible_to(self, user) -> OperationQuerySet:
        if not user.is_authenticated:
            return self.none()
        return self.all() if user.is_staff else self.filter(_seen_by(user, "connection__"))

    def active(self) -> OperationQuerySet:
        return self.filter(state__in=["queued", "running"])

    def due(self, now: datetime) -> OperationQuerySet:
        """What a worker may take now."""
        return self.active().filter(due_at__lte=now).filter(Q(claim=None) | Q(claim_until__lt=now))

    def held(self, operation) -> OperationQuerySet:
        """The row while the claim in ``operation`` is the one in the database: every write of a worker goes through this fence."""
        return self.active().filter(pk=operation.pk, claim=operation.claim)
