"""The only ways to reach hardware and hosts."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone

#: A worker renews ``seen`` about every 10 s; after this long without it, its host counts as offline.
ONLINE_FOR = timedelta(seconds=45)


class HardwareQuerySet(models.QuerySet):
    def visible_to(self, user) -> HardwareQuerySet:
        """Shared entries, and the user's own private ones."""
        if not user.is_authenticated:
            return self.filter(owner=None)
        return self.filter(Q(owner=None) | Q(owner=user))

    def editable_by(self, user) -> HardwareQuerySet:
        if not user.is_authenticated:
            return self.none()
        return self.all() if user.is_staff else self.filter(owner=user)


class HostQuerySet(models.QuerySet):
    def measurable_by(self, user) -> HostQuerySet:
        """Hosts whose ceilings the user may have measured anew: staff, and whoever was given the permission. Everybody's estimates on
        the host stand on them, and it runs nothing else meanwhile."""
        allowed = user.is_authenticated and (user.is_staff or user.has_perm("hardware.add_ceilingmeasurement"))
        return self.all() if allowed else self.none()

    def online(self) -> HostQuerySet:
        return self.filter(seen__gte=timezone.now() - ONLINE_FOR)
