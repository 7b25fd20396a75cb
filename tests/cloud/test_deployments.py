"""The life of a deployment against the stand-in: what begins, what it costs, and that it always ends."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.utils import timezone

from llmcompare.cloud import carrying, deployments, leases, operations, reading, series, uploads
from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.models import Deployment, Operation
from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints.models import Endpoint
from llmcompare.endpoints.targets import Unavailable, resolve


def test_a_connection_is_checked_by_a_worker_and_shows_what_is_there(hand, owner):
    connection = hand.connect(owner)
    assert reading.due() == [connection.pk]
    hand.read(connection)
    assert (connection.read_error, connection.models_found, connection.is_wanted) == ("", [], False)
    assert connection.read_at is not None
    assert reading.due() == []


@pytest.mark.parametrize(("status", "words"), [(401, "credentials"), (403, "role"), (429, "limit"), (503, "Try again")])
def test_a_reading_that_fails_says_why_and_keeps_what_was_read(hand, connection, status, words):
    hand.model(connection)
    hand.vertex.fail("*", status, "requests_per_minute: no", times=20)
    hand.read(connection)
    assert words in connection.read_error
    assert len(connection.models_found) == 1


def test_a_wrong_token_and_a_foreign_project_are_refused(hand, owner):
    assert "credentials" in hand.read(hand.connect(owner, credential="token-nobody")).read_error
    assert "may not" in hand.read(hand.connect(owner, credential="token-beta", name="foreign")).read_error


def test_deployed_offered_asked_undeployed(hand, connection):
    deployment = hand.deploy(connection)
    assert hand.there() == ["first"]
    endpoint = Endpoint.objects.get(kind="vertex")
    assert (endpoint.name, endpoint.owner, endpoint.deleted_at) == ("first", connection.owner, None)
    target = resolve(endpoint)
    assert target.exact_url.startswith(hand.vertex.base)
    assert target.exact_url.endswith(":streamRawPredict")
    assert target.headers() == {"Authorization": "Bearer token-alpha"}
    assert "token-alpha" not in target.hide("said token-alpha")
    with open_cloud(connection) as cloud:
        answer = cloud.raw(cloud.endpoint(deployment.endpoint_name), {"instances": [{"prompt": "hi"}]})
    assert answer["predictions"][0]["text"] == "one two three"
    deployment.refresh_from_db()
    assert deployment.used_at is not None

    assert deployments.stop(deployment=deployment, reason="user")
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, hand.endpoints()) == ("ended", [])
    endpoint.refresh_from_db()
    assert endpoint.deleted_at is not None
    with pytest.raises(Unavailable):
        resolve(endpoint)


def test_cost_is_time_by_replicas_by_price_and_stops_with_undeploying(hand, connection):
    deployment = hand.deploy(connection, replicas=2)
    assert deployment.price == Decimal("0.706832")
    began = deployment.billed_from
    assert deployment.accrued(began + timedelta(hours=3)) == 6 * deployment.price
    deployments.stop(deployment=deployment, reason="user")
    hand.work()
    deployment.refresh_from_db()
    assert deployment.accrued(timezone.now() + timedelta(days=9)) < Decimal("0.1")
    Deployment.objects.filter(pk=deployment.pk).update(price=None)
    deployment.refresh_from_db()
    assert deployment.accrued() is None


def test_an_expired_lease_undeploys(hand, connection):
    deployment = hand.deploy(connection)
    assert leases.stop_due() == 0
    Deployment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert leases.stop_due() == 1
    assert leases.stop_due() == 0
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, deployment.stop_reason, hand.endpoints()) == ("ended", "expired", [])


def test_a_lease_is_extended_only_to_later_and_not_once_it_ends(hand, connection, settings):
    deployment = hand.ask(connection)
    deployments.extend(deployment=deployment, hours=5)
    assert deployment.expires_at > timezone.now() + timedelta(hours=4, minutes=59)
    for hours in (1, 0, settings.CLOUD_MAX_LEASE_HOURS + 1):
        with pytest.raises(FieldErrors):
            deployments.extend(deployment=deployment, hours=hours)
    deployments.stop(deployment=deployment, reason="user")
    with pytest.raises(FieldErrors, match="already"):
        deployments.extend(deployment=deployment, hours=9)


def test_one_that_nobody_uses_is_undeployed(hand, connection):
    deployment = hand.deploy(connection, idle_minutes=10)
    assert hand.stopped_when_unused(deployment, minutes=10) == 1
    deployment.refresh_from_db()
    assert deployment.stop_reason == "idle"


def test_cancelling_while_google_deploys_undeploys_as_soon_as_that_ends(hand, connection):
    model = hand.model(connection)
    with hand.vertex.held("DeployModel"):
        deployment = hand.ask(connection, model=model)
        hand.work(until=lambda: Operation.objects.filter(stage="deploy").exists())
        deployments.stop(deployment=deployment, reason="user")
        for _ in range(3):
            hand.step()
        clear = Operation.objects.get(kind="clear")
        assert "until Google has ended" in clear.message
        assert Endpoint.objects.count() == 0
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, hand.endpoints(), Endpoint.objects.count()) == ("ended", [], 0)


def test_cancelling_before_a_worker_came_asks_google_for_nothing(hand, connection):
    deployment = hand.ask(connection)
    deployments.stop(deployment=deployment, reason="user")
    hand.work()
    deployment.refresh_from_db()
    assert deployment.state == "ended"
    assert deployment.accrued() == 0
    assert hand.vertex.requests("CreateEndpoint", "DeployModel") == []


QUOTA = "The following quotas are exceeded: CustomModelServingL4GPUsPerProjectPerRegion"


@pytest.mark.parametrize(
    ("switch", "words"),
    [
        (lambda v: v.fail_operation("DeployModel", 8, QUOTA), "CustomModelServingL4GPUsPerProjectPerRegion"),
        (lambda v: v.fail("DeployModel", 429, QUOTA), "CustomModelServingL4GPUsPerProjectPerRegion"),
        (lambda v: v.fail("DeployModel", 403, "Permission denied"), "role"),
        (lambda v: v.fail("DeployModel", 401, "no"), "credentials"),
        (lambda v: v.fail("CreateEndpoint", 503, "later"), "Try again"),
    ],
    ids=["quota in operation", "quota at once", "403", "401", "503"],
)
def test_what_cannot_be_deployed_says_why_and_leaves_nothing(hand, connection, switch, words):
    model = hand.model(connection)
    switch(hand.vertex)
    deployment = hand.ask(connection, model=model)
    hand.work()
    deployment.refresh_from_db()
    assert deployment.state == "failed"
    assert words in deployment.error
    assert hand.endpoints() == []
    assert deployment.accrued() == 0
    assert Endpoint.objects.count() == 0


@pytest.mark.parametrize(("method", "status"), [("UndeployModel", 503), ("DeleteEndpoint", 401), ("GetEndpoint", 503)])
def test_undeploying_never_gives_up(hand, connection, method, status):
    deployment = hand.deploy(connection)
    hand.vertex.fail(method, status, "not now", times=12)
    deployments.stop(deployment=deployment, reason="user")
    for _ in range(6):
        hand.step()
    clear = Operation.objects.get(kind="clear")
    assert clear.is_active
    assert "tried again" in clear.message
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, hand.endpoints()) == ("ended", [])


def test_what_lost_our_label_is_not_touched_and_said(hand, connection):
    deployment = hand.deploy(connection)
    from llmcompare.cloud.models import Guard

    Guard.objects.update(instance="0123456789abcdef")  # as if another installation had made it
    deployments.stop(deployment=deployment, reason="user")
    hand.work()
    deployment.refresh_from_db()
    assert deployment.state == "failed"
    assert "label" in deployment.error
    assert hand.there() == ["first"]


@pytest.mark.parametrize("moment", ["endpoint", "deploy"])
def test_a_worker_lost_between_request_and_name_costs_no_second_deployment(hand, connection, moment, monkeypatch):
    """As kill -9 leaves it: the note that something was asked is stored, the name under which it runs is not."""
    deployment = hand.ask(connection)
    real = operations.begin

    def die(operation, stage, call):
        if stage != moment:
            return real(operation, stage, call)
        operations.write(operation, stage=stage, begun=timezone.now(), lro="")
        call()
        raise KeyboardInterrupt

    monkeypatch.setattr(operations, "begin", die)
    with pytest.raises(KeyboardInterrupt):
        hand.work()
    monkeypatch.setattr(operations, "begin", real)
    assert not carrying.carry_out(operation_id=Operation.objects.active().get().pk, worker="early:1")
    Operation.objects.update(claim_until=timezone.now() - timedelta(seconds=1))
    hand.work()
    deployment.refresh_from_db()
    assert deployment.state == "ready"
    assert hand.endpoints() == ["first"]
    assert len(hand.vertex.requests("DeployModel")) == 1


def test_a_worker_whose_claim_ran_out_writes_nothing(hand, connection):
    hand.ask(connection)
    operation = operations.claim(operation_id=Operation.objects.active().get().pk, worker="slow:1")
    Operation.objects.update(claim_until=timezone.now() - timedelta(seconds=1))
    assert operations.claim(operation_id=operation.pk, worker="quick:1") is not None
    with pytest.raises(operations.Lost):
        operations.done(operation)


def test_orphans_go_and_nothing_else(hand, connection, monkeypatch):
    """An endpoint of ours that no row knows is undeployed; those of others, and all after a failed listing, stay."""
    deployment = hand.deploy(connection)
    with open_cloud(connection) as cloud:
        cloud.operation(cloud.create_endpoint("left-over"))
        foreign = type(cloud)(cloud.project, cloud.region, cloud._credentials, cloud.base, instance="somebody-else")
        foreign.create_endpoint("foreign")
        foreign.close()
    hand.read(connection)
    assert not Operation.objects.filter(kind="clear").exists(), "younger than the time of grace"
    monkeypatch.setattr(reading, "GRACE", timedelta(0))
    hand.vertex.fail("ListEndpoints", 503, "half a list is no list", times=5)
    hand.read(connection)
    assert connection.read_error
    assert not Operation.objects.filter(kind="clear").exists()
    for _ in range(6):  # the switch is used up
        hand.read(connection)
    hand.work()
    assert hand.endpoints() == ["first", "foreign"]
    deployment.refresh_from_db()
    assert deployment.state == "ready"


def test_what_was_left_by_an_ended_deployment_goes_at_once(hand, connection):
    deployment = hand.deploy(connection)
    Operation.objects.all().delete()
    Deployment.objects.filter(pk=deployment.pk).update(state="ended", ended_at=timezone.now())
    hand.read(connection)
    hand.work()
    assert hand.endpoints() == []


def test_one_that_was_undeployed_elsewhere_ends_here(hand, connection):
    deployment = hand.deploy(connection)
    with open_cloud(connection) as cloud:
        cloud.undeploy(deployment.endpoint_name, deployment.deployed_model_id)
        hand.work()
    hand.read(connection)
    deployment.refresh_from_db()
    assert (deployment.state, deployment.stop_reason) == ("ended", "gone")
    assert Endpoint.objects.get().deleted_at is not None


def test_two_models_at_one_endpoint_divide_the_requests_and_end_one_by_one(hand, connection):
    first = hand.deploy(connection)
    model = connection.models_found[0]["id"]
    second = hand.deploy(connection, model=model, name="", at=first)
    assert second.endpoint_name == first.endpoint_name
    assert second.endpoint == Endpoint.objects.get()
    hand.read(connection)
    shares = {d["id"]: d["traffic"] for d in connection.endpoints_found[0]["deployed"]}
    assert shares == {first.deployed_model_id: 100, second.deployed_model_id: 0}
    for split in ({first.deployed_model_id: 100}, {first.deployed_model_id: 70, second.deployed_model_id: 20}):
        with pytest.raises(FieldErrors):
            deployments.divide(deployment=first, split=split, by=first.owner)
    split = {first.deployed_model_id: 70, second.deployed_model_id: 30}
    deployments.divide(deployment=first, split=split, by=first.owner)
    hand.work()
    hand.read(connection)
    assert {d["id"]: d["traffic"] for d in connection.endpoints_found[0]["deployed"]} == split
    deployments.stop(deployment=first, reason="user")
    hand.work()
    second.refresh_from_db()
    assert (second.state, hand.there()) == ("ready", ["first"])
    assert Endpoint.objects.get().deleted_at is None
    deployments.stop(deployment=second, reason="user")
    hand.work()
    assert hand.endpoints() == []
    assert Endpoint.objects.get().deleted_at is not None


def test_models_are_uploaded_with_our_label_and_only_those_deleted(hand, connection):
    model = hand.model(connection, name="mine")
    row = connection.models_found[0]
    assert (row["title"], row["image"], row["ours"]) == ("mine", "tests/echo", True)
    deployment = hand.ask(connection, model=model)
    with pytest.raises(FieldErrors, match="deployed"):
        uploads.delete_model(connection=connection, by=connection.owner, model_id=model)
    deployments.stop(deployment=deployment, reason="user")
    hand.work()
    uploads.delete_model(connection=connection, by=connection.owner, model_id=model)
    hand.work()
    assert hand.read(connection).models_found == []


def test_open_models_are_listed_and_deployed_with_our_mark(hand, connection):
    deployments.ask(connection=connection, kind="garden", title="", by=connection.owner)
    hand.work()
    listed = Operation.objects.get(kind="garden").result
    assert listed
    deployment = hand.deploy(connection, name="open", source="garden", model=listed[0]["name"])
    hand.read(connection)
    assert [e["ours"] for e in connection.endpoints_found] == [True]
    deployments.stop(deployment=deployment, reason="user")
    hand.work()
    deployment.refresh_from_db()
    assert (deployment.state, hand.there()) == ("ended", [])


def test_two_tenants_work_side_by_side(hand, owner, stranger):
    mine, theirs = hand.read(hand.connect(owner)), hand.read(hand.connect(stranger, tenant="beta"))
    first, second = hand.ask(mine, name="mine"), hand.ask(theirs, name="theirs")
    hand.work()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("ready", "ready")
    projects = {row[2] for row in hand.vertex.requests("DeployModel")}
    assert projects == {"project-alpha", "project-beta"}
    hand.read(mine)
    assert [endpoint["title"] for endpoint in mine.endpoints_found] == ["mine"]
    with pytest.raises(FieldErrors):
        deployments.make_wish(
            connection=mine, name="x1", model=theirs.models_found[0]["id"] + "9", machine_type="g2-standard-4"
        )


def test_the_switch_that_stops_everything(hand, connection, staff):
    ready = hand.deploy(connection)
    waiting = hand.ask(connection, model=connection.models_found[0]["id"], name="second")
    assert leases.stop_everything(by=staff, reason="Budget.") == 2
    hand.work()
    for row in (ready, waiting):
        row.refresh_from_db()
        assert (row.state, row.stop_reason) == ("ended", "kill")
    assert hand.endpoints() == []
    with pytest.raises(FieldErrors, match="Budget"):
        hand.ask(connection, model=connection.models_found[0]["id"], name="third")
    leases.open_again()
    hand.ask(connection, model=connection.models_found[0]["id"], name="third")


def test_a_connection_that_is_not_allowed_is_never_used(hand, owner, staff):
    connection = hand.connect(
        owner, credential_kind="impersonate", credential="robot@project-alpha.iam.gserviceaccount.com"
    )
    assert not connection.is_allowed
    assert reading.due() == []
    assert not reading.read(connection_id=connection.pk)
    with pytest.raises(FieldErrors, match="administrator"):
        uploads.upload(connection=connection, by=owner, name="m", image="a/b", artifact_uri="")


def test_monitoring_of_a_runs_time_is_read_once_by_a_worker(hand, connection):
    deployment = hand.deploy(connection)
    began = timezone.now() - timedelta(minutes=20)
    Deployment.objects.update(ready_at=began)
    deployment.refresh_from_db()
    points = [[(began + timedelta(minutes=n)).isoformat(), 0.25 * n] for n in (1, 2, 3)]
    own, other = ({"deployed_model_id": of} for of in (deployment.deployed_model_id, "999"))
    for labels in (own, other):
        hand.vertex.control(
            "series", metric="accelerator/duty_cycle", endpoint_id=deployment.cloud_id, labels=labels, points=points
        )
    run = SimpleNamespace(
        public_id="abc", endpoint=deployment.endpoint, started=began, finished=began + timedelta(minutes=5)
    )
    assert series.series_of(run) is None
    assert series.series_of(run) is None
    assert Operation.objects.filter(kind="series").count() == 1
    hand.work()
    [found] = series.series_of(run)
    assert found["unit"] == "ratio"
    assert [value for _at, value in found["points"]] == [0.25, 0.5, 0.75]
    short = SimpleNamespace(public_id="b", endpoint=run.endpoint, started=began, finished=began + timedelta(seconds=9))
    assert series.series_of(short) == []
