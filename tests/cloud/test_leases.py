"""Stopping what is due while somebody extends or uses it in the same moment: what they were told holds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.cloud import deployments, leases
from llmcompare.cloud.models import Connection, Deployment, Operation
from llmcompare.common.errors import FieldErrors

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployment(owner) -> Deployment:
    """One that is ready and whose lease ran out a second ago."""
    connection = Connection.objects.create(
        owner=owner,
        name="here",
        project="project-alpha",
        region="us-central1",
        credential_kind="adc",
        allowed_at=timezone.now(),
    )
    return Deployment.objects.create(
        connection=connection,
        owner=owner,
        name="first",
        model_name="m",
        model_title="m",
        machine_type="g2-standard-4",
        state="ready",
        ready_at=timezone.now(),
        expires_at=timezone.now() - timedelta(seconds=1),
    )


def sweep_while(monkeypatch, happens) -> int:
    """A sweep that has seen what is due when ``happens`` is called, and stops it after that."""

    def late(**what):
        happens()
        return deployments.stop(**what)

    with monkeypatch.context() as patched:
        patched.setattr(leases, "stop", late)
        return leases.stop_due()


def test_a_lease_that_is_extended_during_the_sweep_goes_on(deployment, monkeypatch):
    assert sweep_while(monkeypatch, lambda: deployments.extend(deployment=deployment, hours=2)) == 0
    row = Deployment.objects.get()
    assert (row.state, row.stop_reason) == ("ready", "")
    assert row.expires_at > timezone.now() + timedelta(hours=1, minutes=59)
    assert not Operation.objects.exists(), "nothing undeploys it"
    Deployment.objects.update(expires_at=timezone.now())
    assert leases.stop_due() == 1, "until that lease ends too"


def test_who_extends_after_the_sweep_is_told_that_it_is_too_late(deployment):
    """With the row as their page had read it before."""
    ended = deployment.expires_at
    assert leases.stop_due() == 1
    with pytest.raises(FieldErrors, match="being undeployed already"):
        deployments.extend(deployment=deployment, hours=2)
    row = Deployment.objects.get()
    assert (row.state, row.stop_reason, row.expires_at) == ("stopping", "expired", ended)


def test_of_two_extensions_at_once_the_later_end_stays(deployment):
    """Both had read the row before either wrote."""
    other = Deployment.objects.get()
    deployments.extend(deployment=deployment, hours=5)
    with pytest.raises(FieldErrors, match="lasts longer than that already"):
        deployments.extend(deployment=other, hours=1)
    assert Deployment.objects.get().expires_at == deployment.expires_at


def test_one_that_is_used_during_the_sweep_is_not_idle(deployment, monkeypatch):
    old = timezone.now() - timedelta(minutes=11)
    later = timezone.now() + timedelta(hours=1)
    Deployment.objects.update(idle_minutes=10, ready_at=old, created=old, expires_at=later)
    assert sweep_while(monkeypatch, lambda: deployments.note_use(deployment_id=deployment.pk)) == 0
    assert Deployment.objects.get().stop_reason == ""
    Deployment.objects.update(used_at=old)
    assert leases.stop_due() == 1
    assert Deployment.objects.get().stop_reason == "idle"


def test_the_kill_switch_stops_what_is_extended_meanwhile_too(deployment, monkeypatch, staff):
    Deployment.objects.update(expires_at=timezone.now() + timedelta(hours=1))

    def late(**what):
        deployments.extend(deployment=deployment, hours=2)
        return deployments.stop(**what)

    monkeypatch.setattr(leases, "stop", late)
    assert leases.stop_everything(by=staff) == 1
    assert Deployment.objects.get().stop_reason == "kill"
