"""Models in a project's registry: upload one with the container that serves it, delete one of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.utils.translation import gettext as _

from llmcompare.accounts.models import User
from llmcompare.cloud.deployments import ask
from llmcompare.cloud.models import Connection, Deployment, Operation
from llmcompare.common.errors import WHOLE_FORM, FieldErrors

IMAGE = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._-]+)+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?")
GS = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^\s?#]{0,700})?")
ROUTE = re.compile(r"/[A-Za-z0-9._~/-]{0,200}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
MOST_VARIABLES = 50


def upload(
    *,
    connection: Connection,
    by: User,
    name: str,
    image: str,
    artifact_uri: str,
    invoke: bool = False,
    environment: Mapping[str, str] | None = None,
    port: int = 8080,
    health_route: str = "/health",
    predict_route: str = "/predict",
) -> Operation:
    """Register a model: the files at ``artifact_uri`` (``gs://…``; empty where the image has them) and the image that serves them.

    ``environment``: variables of the container, which everybody who may look at the project can read. Raises :class:`FieldErrors`.
    """
    name, image, artifact_uri = name.strip(), image.strip(), artifact_uri.strip()
    variables = dict(environment or {})
    errors = {}
    if not 1 <= len(name) <= 100:
        errors["name"] = _("Give it a name of 1 to 100 characters.")
    if not IMAGE.fullmatch(image):
        errors["image"] = _(
            "Enter the address of a container image, such as REGION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE:TAG."
        )
    if artifact_uri and not GS.fullmatch(artifact_uri):
        errors["artifact_uri"] = _(
            "Enter a folder of Cloud Storage: gs://BUCKET/FOLDER. Or leave it empty if the image has the files."
        )
    wrong = [key for key, value in variables.items() if not VARIABLE.fullmatch(key) or len(value) > 2000]
    if wrong or len(variables) > MOST_VARIABLES:
        errors["environment"] = _("Enter one NAME=value in each line, at most 50.")
    if not 1 <= port <= 65535:
        errors["port"] = _("Enter a port from 1 to 65535.")
    for field, route in (("health_route", health_route), ("predict_route", predict_route)):
        if not ROUTE.fullmatch(route):
            errors[field] = _("Enter a path that begins with /.")
    if not connection.is_allowed:
        errors[WHOLE_FORM] = _("An administrator has to allow this connection first.")
    if errors:
        raise FieldErrors(errors)
    payload = {
        "name": name,
        "artifact_uri": artifact_uri,
        "container": {
            "image": image,
            "environment": variables,
            "port": port,
            "health_route": health_route,
            "predict_route": predict_route,
            "invoke": invoke,
        },
    }
    return ask(connection=connection, kind=Operation.Kind.UPLOAD, title=name, payload=payload, by=by)


def delete_model(*, connection: Connection, by: User, model_id: str) -> Operation:
    """Delete a model of ours from the project. Raises :class:`FieldErrors`."""
    found = next((m for m in connection.models_found if m["id"] == model_id), None)
    if found is None or not found["ours"]:
        raise FieldErrors({WHOLE_FORM: _("Only models that this portal uploaded can be deleted from here.")})
    if Deployment.objects.active().filter(connection=connection, model_name=found["name"]).exists():
        raise FieldErrors({WHOLE_FORM: _("It is deployed. Undeploy it first.")})
    kind = Operation.Kind.DELETE_MODEL
    return ask(connection=connection, kind=kind, title=found["title"], resource=found["name"], by=by)
