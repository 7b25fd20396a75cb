"""Two portals with one copied database, against one project: each undeploys what is the other's, until the copy has a label of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from llmcompare.cloud import deployments, leases
from llmcompare.cloud.copies import take_own_label
from llmcompare.cloud.models import Deployment, Guard, Operation
from llmcompare.endpoints.models import Endpoint


def as_orphan(hand, monkeypatch) -> None:
    """What the stand-in has is older than the time in which a row may still be on its way."""
    monkeypatch.setattr("llmcompare.cloud.reading.GRACE", timedelta(seconds=-60))


def forgotten(deployment: Deployment) -> str:
    """As in a copy made before it was deployed: no row knows of it. Returns the label that both databases have."""
    Operation.objects.all().delete()
    Deployment.objects.filter(pk=deployment.pk).delete()
    return Guard.get().instance


def test_a_copy_with_its_own_label_leaves_what_the_first_portal_deployed_later(hand, connection, monkeypatch):
    deployment = hand.deploy(connection)
    as_orphan(hand, monkeypatch)
    old = forgotten(deployment)
    done = take_own_label()
    assert done.label == Guard.get().instance != old
    hand.read(connection)
    assert not Operation.objects.exists()
    assert hand.there() == ["first"]
    assert [one["ours"] for one in connection.endpoints_found] == [False]
    # The portal that has the label still looks after it.
    Guard.objects.update(instance=old)
    hand.read(connection)
    hand.work()
    assert hand.there() == []


def test_a_copy_does_not_end_the_leases_of_the_first_portal(hand, connection):
    """The row is in both databases, and its lease ends in both."""
    deployment = hand.deploy(connection)
    deployments.begin_clearing(deployment=hand.ask(connection, name="second"))
    done = take_own_label()
    assert (done.deployments, done.operations) == (2, 2)
    Deployment.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    assert leases.stop_due() == 0
    hand.read(connection)
    assert not Operation.objects.active().exists()
    assert hand.there() == ["first"]
    deployment.refresh_from_db()
    assert deployment.state == "failed"
    assert "belongs to the portal that it was copied from" in deployment.error
    assert Endpoint.objects.get(kind="vertex").deleted_at is not None
    # What the copy deploys itself is its own, also under the same name.
    own = hand.deploy(connection, name="third")
    hand.read(connection)
    assert sorted(one["title"] for one in connection.endpoints_found if one["ours"]) == ["third"]
    deployments.stop(deployment=own, reason="user")
    hand.work()
    assert hand.there() == ["first"]


@pytest.mark.django_db
def test_the_command_asks_for_the_present_label(capsys, monkeypatch):
    old = Guard.get().instance
    with pytest.raises(CommandError, match="nothing was changed"):
        call_command("new_cloud_label", label="another")
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    with pytest.raises(CommandError):
        call_command("new_cloud_label")
    assert Guard.get().instance == old
    monkeypatch.setattr("builtins.input", lambda prompt: f" {old} ")
    call_command("new_cloud_label")
    assert Guard.get().instance != old
    assert Guard.get().instance in capsys.readouterr().out
