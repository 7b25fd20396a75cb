"""The chaos tests' control process with calls for the cloud: ``python -m tests.cloud.control``."""

from __future__ import annotations

from typing import Any

from tests.chaos import control

# Below the import that sets Django up.
from llmcompare.accounts.models import User  # isort: skip
from llmcompare.cloud import connections, deployments, uploads  # isort: skip
from llmcompare.cloud.models import Connection, Deployment, Operation  # isort: skip


def connect() -> None:
    connections.create(
        owner=User.objects.get(username="chaos"),
        name="c",
        project="project-alpha",
        region="us-central1",
        credential_kind="token",
        credential="token-alpha",
    )


def upload(image: str) -> None:
    connection = Connection.objects.get()
    uploads.upload(connection=connection, by=connection.owner, name="m", image=image, artifact_uri="")


def models() -> list[dict[str, Any]]:
    return Connection.objects.get().models_found


def deploy(endpoint: str) -> int:
    connection = Connection.objects.get()
    model = connection.models_found[0]["id"]
    wish = deployments.make_wish(connection=connection, name=endpoint, model=model, machine_type="g2-standard-4")
    return deployments.deploy(user=connection.owner, wish=wish, typed=endpoint).pk


def deployment(pk: int) -> dict[str, Any]:
    row = Deployment.objects.get(pk=pk)
    operation = Operation.objects.filter(deployment=row).first()
    fields = ("stage", "lro", "worker", "state", "message", "error", "claim")
    return {
        "state": row.state,
        "stop_reason": row.stop_reason,
        "error": row.error,
        "endpoint": row.endpoint_id,
        "operation": {name: getattr(operation, name) for name in fields},
    }


def expire(pk: int) -> None:
    from django.utils import timezone

    Deployment.objects.filter(pk=pk).update(expires_at=timezone.now())


control.CALLS |= {call.__name__: call for call in (connect, upload, models, deploy, deployment, expire)}

if __name__ == "__main__":
    control.main()
