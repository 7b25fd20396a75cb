"""What is lost between here and Google, or in the middle of a step, leaves nothing that costs unseen and nothing that never ends."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.cloud import deployments, operations
from llmcompare.cloud.google.connection import Connection as Cloud
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.models import Operation
from llmcompare.endpoints.models import Endpoint

QWEN = "publishers/qwen/models/qwen3@qwen3-0.6b"


@pytest.fixture
def lost(monkeypatch):
    """After ``lost(method, error)`` Google does what it is asked for next by ``method``, and ``error`` is all that is seen of it here."""

    def lose(method: str, error: BaseException) -> None:
        real = getattr(Cloud, method)

        def call(self, *arguments, **options):
            monkeypatch.setattr(Cloud, method, real)
            real(self, *arguments, **options)
            raise error

        monkeypatch.setattr(Cloud, method, call)

    return lose


def too_late() -> CloudError:
    return CloudError("deadline", "Google did not do this in time.")


def another_worker_comes() -> None:
    Operation.objects.update(claim_until=timezone.now() - timedelta(seconds=1))


def await_that(what) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end


def test_a_deployment_whose_answer_is_lost_is_undeployed_and_its_cost_is_counted(hand, connection, lost):
    model = hand.model(connection)
    with hand.vertex.held("DeployModel"):
        deployment = hand.ask(connection, model=model)
        lost("deploy", too_late())
        hand.work(until=lambda: Operation.objects.filter(kind="clear", troubles__gte=2).exists())
        deployment.refresh_from_db()
        assert (deployment.state, deployment.stop_reason) == ("stopping", "failed")
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, hand.endpoints()) == ("failed", [])
    assert deployment.accrued() > 0, "it ran until it was undeployed"


def test_what_comes_to_be_at_a_used_endpoint_after_its_answer_was_lost_goes(hand, connection, lost):
    first = hand.deploy(connection)
    with hand.vertex.held("DeployModel"):
        second = hand.ask(connection, model=connection.models_found[0]["id"], name="", at=first)
        lost("deploy", too_late())
        hand.work()
        second.refresh_from_db()
        assert second.state == "failed"
    await_that(lambda: len(hand.vertex.state()["endpoints"][0]["deployedModels"]) == 2)
    hand.read(connection)
    hand.work()
    [left] = hand.vertex.state()["endpoints"][0]["deployedModels"]
    assert left["id"] == first.deployed_model_id
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("ready", "failed")
    assert second.accrued() > 0
    hand.read(connection)
    assert not Operation.objects.active().exists(), "once is enough"


def test_a_worker_lost_while_it_asks_for_an_open_model_costs_no_second_one(hand, connection, lost):
    deployment = hand.ask(connection, name="open", source="garden", model=QWEN)
    lost("deploy_open_model", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        hand.work()
    another_worker_comes()
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, deployment.error) == ("ready", "")
    assert deployment.billed_from is not None
    assert len(hand.vertex.requests("Deploy")) == 1
    deployments.stop(deployment=deployment, reason="user")
    hand.work()
    assert hand.endpoints() == []


def test_an_open_model_whose_answer_is_lost_is_undeployed_and_its_cost_is_counted(hand, connection, lost):
    with hand.vertex.held("Deploy"):
        deployment = hand.ask(connection, name="open", source="garden", model=QWEN)
        lost("deploy_open_model", too_late())
        hand.work()
        deployment.refresh_from_db()
        assert deployment.state == "failed"
    await_that(lambda: hand.there() == ["open"])
    hand.read(connection)
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, hand.endpoints()) == ("failed", [])
    assert deployment.accrued() > 0


@pytest.mark.parametrize("moment", ["undeployed", "refused"])
def test_a_worker_lost_between_two_writes_leaves_nothing_half_ended(hand, connection, monkeypatch, moment):
    if moment == "undeployed":
        deployment, name = hand.deploy(connection), "done"
        deployments.stop(deployment=deployment, reason="user")
    else:
        model, name = hand.model(connection), "fail"
        hand.vertex.fail("CreateEndpoint", 403, "Permission denied", times=5)
        deployment = hand.ask(connection, model=model)
    real = getattr(operations, name)

    def die(operation, *arguments):
        real(operation, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(operations, name, die)
    with pytest.raises(KeyboardInterrupt):
        hand.work()
    monkeypatch.setattr(operations, name, real)
    another_worker_comes()
    hand.work()
    deployment.refresh_from_db()
    assert deployment.state == {"undeployed": "ended", "refused": "failed"}[moment]
    assert hand.endpoints() == []
    assert not Endpoint.objects.filter(deleted_at=None).exists()


def test_undeploying_does_not_wait_for_a_day_because_google_says_so(hand, connection):
    deployment = hand.deploy(connection)
    hand.vertex.fail("UndeployModel", 503, "later", retry_after=80_000)
    deployments.stop(deployment=deployment, reason="user")
    hand.step()
    clear = Operation.objects.get(kind="clear")
    assert "tried again" in clear.message
    assert clear.due_at < timezone.now() + timedelta(minutes=10)


def test_nothing_is_deployed_once_the_lease_has_run_out(hand, connection):
    deployment = hand.ask(connection)
    type(deployment).objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    hand.work()
    assert hand.vertex.requests("CreateEndpoint", "DeployModel") == []
