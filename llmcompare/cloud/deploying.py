"""Deploying: an endpoint with our labels is made, then the model is deployed there; or Model Garden does both at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from llmcompare.cloud import operations, portal_endpoints
from llmcompare.cloud.clearing import endpoint_of
from llmcompare.cloud.connections import ask_to_read
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Machine
from llmcompare.cloud.models import Deployment, Guard, Operation
from llmcompare.cloud.polling import StillRunning, pause_of, poll

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud
    from llmcompare.cloud.google.resources import Deployed, Endpoint

State = Deployment.State

#: The label that says which deployment an endpoint was made for, so that it is found again whatever was lost in between.
LABEL = "llmcompare-deployment"
#: How long a deployment may come to be whose request was sent by a worker that was lost before it knew the name.
LOST_FOR = timedelta(minutes=45)
#: How long the endpoint of an open model may not be there yet after such a request.
APPEARS_IN = timedelta(minutes=5)
#: Longest request to a dedicated endpoint: what the service allows. A shared one ends requests after 60 s.
TIMEOUT_S = 3600


def deploy(operation: Operation, cloud: Cloud) -> None:
    """The next step of a deployment that was confirmed."""
    deployment = operation.deployment
    if deployment is None:
        raise CloudError("failed", _("The deployment is gone."))
    if not operation.in_flight:
        _check_wanted(deployment)
        if deployment.source == Deployment.Source.GARDEN:
            # Where it will be is known before it is asked for: so it is found again whatever is lost in between.
            name = cloud.open_endpoint(deployment.public_id)
            _set(deployment, state=State.DEPLOYING, endpoint_name=name)
            operations.begin(operation, "garden", lambda: _from_garden(cloud, deployment))
        elif deployment.endpoint_name:
            _begin_deploying(operation, cloud, deployment)
        else:
            _set(deployment, state=State.CREATING)
            operations.begin(operation, "endpoint", lambda: _make_endpoint(cloud, deployment))
    if operation.stage == "endpoint":
        _set(deployment, endpoint_name=_endpoint_made(operation, cloud, deployment))
        operations.write(operation, begun=None, lro="")
        _check_wanted(deployment)
        _begin_deploying(operation, cloud, deployment)
    _await_deployed(operation, cloud, deployment)
    if operation.stage == "garden":
        cloud.adopt(deployment.endpoint_name)
    _is_ready(operation, cloud, deployment)


def _check_wanted(deployment: Deployment) -> None:
    """Asked before each request that costs: somebody may have stopped it meanwhile, or everything."""
    deployment.refresh_from_db()
    if deployment.stop_reason or deployment.expires_at <= timezone.now():
        raise CloudError("failed", _("It was stopped before it was deployed."))
    if Guard.get().stopped_at is not None:
        raise CloudError("failed", _("An administrator stopped all deployments here."))


def _set(deployment: Deployment, **columns: Any) -> None:
    """Write to the deployment; its state stays *being undeployed* once it is."""
    rows = Deployment.objects.filter(pk=deployment.pk)
    state = columns.pop("state", None)
    if columns:
        rows.update(**columns)
    if state is not None:
        rows.filter(stop_reason="").update(state=state)
    deployment.refresh_from_db()


def _make_endpoint(cloud: Cloud, deployment: Deployment) -> str:
    return cloud.create_endpoint(
        deployment.name,
        dedicated=deployment.dedicated,
        timeout_s=TIMEOUT_S if deployment.dedicated else None,
        extra={LABEL: deployment.public_id},
    )


def _endpoint_made(operation: Operation, cloud: Cloud, deployment: Deployment) -> str:
    """The name of the new endpoint. Where a worker was lost while it asked, the endpoint is sought by its label, else made."""
    if not operation.lro:
        found = next((e for e in cloud.list_endpoints() if e.labels.get(LABEL) == deployment.public_id), None)
        if found is not None:
            return found.name
        operations.begin(operation, "endpoint", lambda: _make_endpoint(cloud, deployment))
    return str(poll(operation, cloud, _("Google makes the endpoint."))["name"])


def _begin_deploying(operation: Operation, cloud: Cloud, deployment: Deployment) -> None:
    _set(deployment, state=State.DEPLOYING)
    there = cloud.endpoint(deployment.endpoint_name).deployed
    # A model that joins others gets no requests until somebody divides them anew.
    traffic = {"0": 0} | {model.id: model.traffic for model in there} if there else {"0": 100}
    operations.begin(
        operation,
        "deploy",
        lambda: cloud.deploy(
            deployment.endpoint_name,
            deployment.model_name,
            _machine(deployment),
            display_name=deployment.mark,
            traffic=traffic,
        ),
    )


def _machine(deployment: Deployment) -> Machine:
    return Machine(
        machine_type=deployment.machine_type,
        accelerator=deployment.accelerator_type or None,
        accelerators=deployment.accelerator_count if deployment.accelerator_type else 0,
        tpu_topology=deployment.tpu_topology or None,
        min_replicas=deployment.replicas,
        spot=deployment.spot,
    )


def _from_garden(cloud: Cloud, deployment: Deployment) -> str:
    operation, _endpoint = cloud.deploy_open_model(
        deployment.model_name,
        deployment.name,
        machine=_machine(deployment),
        accept_eula=True,
        dedicated=deployment.dedicated,
        mark=deployment.public_id,
    )
    return operation


def _await_deployed(operation: Operation, cloud: Cloud, deployment: Deployment) -> None:
    """Returns once the model is deployed. Where a worker was lost while it asked, the endpoint shows whether it comes to be;
    it is not asked for again, or two might run."""
    if operation.lro:
        poll(operation, cloud, _("Google starts machines and the container. This takes minutes."))
        return
    found = endpoint_of(cloud, deployment.endpoint_name)
    if found is not None and _own(found, deployment):
        return
    # Model Garden makes the endpoint too, a moment after it was asked; any other one was there before.
    patience = LOST_FOR if found is not None else APPEARS_IN if operation.stage == "garden" else timedelta(0)
    if timezone.now() - (operation.begun or operation.created) >= patience:
        raise CloudError(
            "failed", _("The worker was lost in the moment in which it asked Google to deploy, and nothing came of it.")
        )
    raise StillRunning(
        max(5.0, pause_of(operation)),
        _(
            "A worker was lost in the moment in which it asked Google to deploy. Looking whether the deployment comes to be."
        ),
    )


def _own(found: Endpoint, deployment: Deployment) -> Deployed | None:
    """The deployment's model at an endpoint."""
    if deployment.source == Deployment.Source.GARDEN:
        return next(iter(found.deployed), None)
    return next((model for model in found.deployed if model.display_name == deployment.mark), None)


def _is_ready(operation: Operation, cloud: Cloud, deployment: Deployment) -> None:
    found = endpoint_of(cloud, deployment.endpoint_name)
    own = None if found is None else _own(found, deployment)
    if found is None or own is None:
        raise CloudError("failed", _("Google says that it is deployed, but its endpoint does not show it."))
    now = timezone.now()
    _set(deployment, deployed_model_id=own.id, billed_from=moment(own.created) or operation.begun or now, ready_at=now)
    with transaction.atomic():  # nobody meets a deployment that is ready and has no endpoint
        _set(deployment, state=State.READY)
        if deployment.state == State.READY:
            portal_endpoints.offer(deployment)
    operations.done(operation)
    ask_to_read(connection=deployment.connection)


def moment(text: str | None) -> datetime | None:
    """A time that Google gave; None where it gave none."""
    return parse_datetime(text) if text else None
