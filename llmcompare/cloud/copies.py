"""A copy of this portal's database: who it is in the cloud. The label of an installation is in its database, so a copy has the same one and takes
what the other portal deploys for something left over of its own."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from llmcompare.cloud import clearing
from llmcompare.cloud.models import Connection, Deployment, Guard, Operation, new_public_id
from llmcompare.cloud.operations import FREE


@dataclass(frozen=True)
class Relabelled:
    """``label``: the new one. ``deployments``, ``operations``: how many were left to the portal with the old one."""

    label: str
    deployments: int
    operations: int


def take_own_label() -> Relabelled:
    """Give this database a label that no other one has. Nothing is asked of the cloud: deployments and operations that are under way belong to
    the portal that the database was copied from, so they end here and go on there."""
    with transaction.atomic():
        Guard.get()
        guard = Guard.objects.select_for_update().get(pk=1)
        guard.instance = new_public_id()
        guard.save(update_fields=["instance"])
        sentence = _("This database was copied: what is deployed belongs to the portal that it was copied from.")
        under_way = Operation.objects.active()
        operations = under_way.update(
            state=Operation.State.FAILED, error=sentence, message="", begun=None, finished=timezone.now(), **FREE
        )
        theirs = list(Deployment.objects.active())
        for deployment in theirs:
            clearing.give_up(deployment, sentence)
        # What pages show of the cloud says "ours" of what carries the old label, until it is read anew.
        Connection.objects.kept().allowed().update(wanted_at=timezone.now())
    return Relabelled(guard.instance, len(theirs), operations)
