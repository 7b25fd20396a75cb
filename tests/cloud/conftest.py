"""The portal's side of Vertex AI against the stand-in: real client library, real steps, without worker processes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone, translation

from llmcompare.cloud import carrying, connections, deployments, leases, reading, uploads
from llmcompare.cloud.models import Connection, Deployment, Operation
from tests.standins.vertex.fixture import REGION, vertex, vertex_process  # noqa: F401

MACHINE = "g2-standard-4"


class Hand:
    """What a user and the workers do, one after the other."""

    def __init__(self, stand_in) -> None:
        self.vertex = stand_in

    def connect(self, user, *, tenant: str = "alpha", name: str = "", **more) -> Connection:
        values = {"name": name or tenant, "project": f"project-{tenant}", "region": REGION} | more
        values = {"credential_kind": "token", "credential": f"token-{tenant}"} | values
        return connections.create(owner=user, **values)

    def read(self, connection: Connection) -> Connection:
        assert reading.read(connection_id=connection.pk)
        connection.refresh_from_db()
        return connection

    def step(self) -> int:
        """One step of everything that is under way, whether it is due or not."""
        Operation.objects.active().update(due_at=timezone.now() - timedelta(seconds=1))
        ids = list(Operation.objects.active().order_by("pk").values_list("pk", flat=True))
        return sum(carrying.carry_out(operation_id=pk, worker="test:1") for pk in ids)

    def work(self, *, until=lambda: not Operation.objects.active().exists(), steps: int = 600) -> None:
        for _ in range(steps):
            if until():
                return
            self.step()
        raise AssertionError([(str(op), op.stage, op.message, op.error) for op in Operation.objects.active()])

    def model(self, connection: Connection, *, name: str = "echo", image: str = "tests/echo") -> str:
        """The id of a model that was uploaded and listed."""
        uploads.upload(connection=connection, by=connection.owner, name=name, image=image, artifact_uri="")
        self.work()
        self.read(connection)
        return next(model["id"] for model in connection.models_found if model["title"] == name)

    def ask(self, connection: Connection, *, name: str = "first", **more) -> Deployment:
        values = {"model": more.pop("model", None) or self.model(connection), "machine_type": MACHINE} | more
        wish = deployments.make_wish(connection=connection, name=name, **values)
        return deployments.deploy(user=connection.owner, wish=wish, typed=wish.name)

    def deploy(self, connection: Connection, **more) -> Deployment:
        made = self.ask(connection, **more)
        self.work()
        made.refresh_from_db()
        assert made.state == "ready", made.error
        return made

    def stopped_when_unused(self, deployment: Deployment, *, minutes: int) -> int:
        """How many are stopped once ``deployment``, used a moment ago, has been idle for more than ``minutes``; until then none is."""
        old = timezone.now() - timedelta(minutes=minutes + 1)
        Deployment.objects.update(ready_at=old, created=old)
        deployments.note_use(deployment_id=deployment.pk)
        assert leases.stop_due() == 0
        Deployment.objects.update(used_at=old)
        return leases.stop_due()

    def there(self) -> list[str]:
        """Names of the endpoints in the cloud that have something deployed."""
        return sorted(e["displayName"] for e in self.vertex.state()["endpoints"] if e.get("deployedModels"))

    def endpoints(self) -> list[str]:
        return sorted(endpoint["displayName"] for endpoint in self.vertex.state()["endpoints"])


@pytest.fixture(autouse=True)
def _english():
    """Whatever page a test before this one opened in another language."""
    with translation.override("en"):
        yield


@pytest.fixture
def hand(vertex, settings, db) -> Hand:  # noqa: F811
    settings.CLOUD_TEST_TOKENS = True
    settings.VERTEX_BASE = vertex.base
    settings.CLOUD_MAX_DEPLOYMENTS = 3
    return Hand(vertex)


@pytest.fixture
def connection(hand, owner) -> Connection:
    return hand.read(hand.connect(owner))
