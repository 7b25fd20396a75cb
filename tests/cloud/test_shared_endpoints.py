"""Several models at one endpoint: they come and go one by one, and each is counted as used when the endpoint is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from llmcompare.cloud import deployments, leases
from llmcompare.cloud.models import Deployment
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.services import launch_endpoint_run


def join(hand, connection, first: Deployment, **more) -> Deployment:
    return hand.deploy(connection, model=connection.models_found[0]["id"], name="", at=first, **more)


def test_the_one_with_all_the_requests_hands_them_on_when_it_goes(hand, connection):
    """Google undeploys no model that has a share while others are there."""
    first = hand.deploy(connection)
    second = join(hand, connection, first)
    deployments.stop(deployment=first, reason="user")
    hand.work()
    first.refresh_from_db()
    hand.read(connection)
    assert first.state == "ended"
    [left] = connection.endpoints_found[0]["deployed"]
    assert (left["id"], left["traffic"]) == (second.deployed_model_id, 100)


def test_use_of_an_endpoint_is_use_of_all_that_serve_it(hand, connection):
    first = hand.deploy(connection, idle_minutes=10)
    second = join(hand, connection, first, idle_minutes=10)
    assert hand.stopped_when_unused(second, minutes=10) == 2


def test_runs_are_said_to_be_on_the_hardware_that_is_there(hand, connection):
    call_command("load_catalogue", verbosity=0)
    first = hand.deploy(connection)
    endpoint = Endpoint.objects.get()
    assert endpoint.hardware.slug == "nvidia-l4-24gb"
    join(hand, connection, first, machine_type="a2-highgpu-1g")
    endpoint.refresh_from_db()
    assert endpoint.hardware is None, "which of the two answers is not known"
    deployments.stop(deployment=first, reason="user")
    hand.work()
    endpoint.refresh_from_db()
    assert endpoint.hardware.slug == "nvidia-a100-sxm4-40gb"


@pytest.mark.parametrize("state", ["waiting", "deploying"])
def test_a_model_that_joins_is_confirmed_once(hand, connection, state):
    first = hand.deploy(connection)
    model = connection.models_found[0]["id"]
    wishes = [
        deployments.make_wish(connection=connection, name="", model=model, machine_type="g2-standard-4", at=first)
        for _ in range(2)
    ]
    made = deployments.deploy(user=connection.owner, wish=wishes[0], typed="first")
    Deployment.objects.filter(pk=made.pk).update(state=state)
    with pytest.raises(deployments.FieldErrors, match="already"):
        deployments.deploy(user=connection.owner, wish=wishes[1], typed="first")
    Deployment.objects.filter(pk=made.pk).update(state="ready")
    deployments.deploy(user=connection.owner, wish=wishes[1], typed="first")


def test_an_endpoint_in_the_middle_of_a_run_is_not_idle(hand, connection, owner, monkeypatch):
    """One request may take longer than the limit."""
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)
    deployment = hand.deploy(connection, idle_minutes=5)
    workload = {"output_tokens": 3, "warmup": 0, "time_limit_s": 60.0}
    load = {"load_mode": "closed", "load_concurrency": 1, "load_requests": 1}
    run = launch_endpoint_run(owner=owner, endpoint=deployment.endpoint, workload=workload, load=load, profile=False)
    type(run).objects.update(state="running", claim="c" * 32, lease_until=timezone.now())
    old = timezone.now() - timedelta(minutes=6)
    Deployment.objects.update(ready_at=old, created=old, used_at=old)
    assert leases.stop_due() == 0
    type(run).objects.update(state="done", claim=None, lease_until=None)
    assert leases.stop_due() == 0, "its end was use too"
    Deployment.objects.update(used_at=old)
    assert leases.stop_due() == 1
