"""Undeploying: whatever of ours is at an endpoint goes, then the endpoint, until the cloud itself shows that nothing is left.

Each step begins with a look at the cloud, so it does not matter what an earlier one, or a lost worker, had asked for already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from llmcompare.cloud import operations, portal_endpoints
from llmcompare.cloud.connections import ask_to_read
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.models import Deployment, Operation
from llmcompare.cloud.polling import OperationFailed, StillRunning, poll

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud
    from llmcompare.cloud.google.resources import Deployed, Endpoint

State, Stop = Deployment.State, Deployment.Stop
WAIT_FOR_DEPLOY_S = 3.0


def endpoint_of(cloud: Cloud, name: str) -> Endpoint | None:
    """The endpoint of that name as it is now; None when there is none any more."""
    if not name:
        return None
    try:
        return cloud.endpoint(name)
    except CloudError as error:
        if error.code == "not_found":
            return None
        raise


def check_ours(ours: bool, name: str) -> None:
    """Raise :class:`CloudError` (``not_ours``) for what does not carry the labels of this installation."""
    if not ours:
        text = _(
            "%s does not carry the label of this portal (any more), so it is not touched. Look after it in Google's console."
        )
        raise CloudError("not_ours", text % name.rpartition("/")[2])


def clear(operation: Operation, cloud: Cloud) -> None:
    """One step of undeploying a deployment, or an orphan (an operation without a deployment: all of the endpoint)."""
    deployment = operation.deployment
    if deployment is not None and _still_deploying(deployment):
        raise StillRunning(
            WAIT_FOR_DEPLOY_S, _("Waits until Google has ended deploying it: it cannot be undeployed before.")
        )
    if operation.lro:
        _await_end(operation, cloud)
    found = _sought(cloud, operation)
    if found is None:
        _ended(operation)
        return
    check_ours(found.ours, found.name)
    left = [model for model in found.deployed if _is_its(model, deployment)]
    if left:
        for model in left:
            _note_billing(deployment, model)
        operations.begin(operation, "undeploy", lambda: cloud.undeploy(found.name, left[0].id))
        raise StillRunning(1.0, _("Google undeploys the model."))
    _cost_ends(deployment)
    if found.deployed or _shared(deployment):
        _ended(operation)
        return
    operations.begin(operation, "delete", lambda: cloud.delete_endpoint(found.name))
    raise StillRunning(1.0, _("Google deletes the endpoint."))


def _await_end(operation: Operation, cloud: Cloud) -> None:
    """Wait for what was asked last; an error of it is reported once, and the next step looks anew."""
    try:
        poll(operation, cloud, operation.message)
    except CloudError as error:
        if not isinstance(error, OperationFailed) and error.code != "not_found":
            raise
        operations.write(operation, lro="", begun=None)
        if error.code != "not_found":
            raise
    operations.write(operation, lro="", begun=None)


def _still_deploying(deployment: Deployment) -> bool:
    return Operation.objects.active().filter(deployment=deployment, kind=Operation.Kind.DEPLOY).exists()


def _sought(cloud: Cloud, operation: Operation) -> Endpoint | None:
    """The endpoint; that of a deployment whose name never became known is found by its label."""
    from llmcompare.cloud.deploying import LABEL

    deployment = operation.deployment
    if deployment is None:
        return endpoint_of(cloud, operation.resource)
    if deployment.endpoint_name:
        return endpoint_of(cloud, deployment.endpoint_name)
    return next((e for e in cloud.list_endpoints() if e.labels.get(LABEL) == deployment.public_id), None)


def _is_its(model: Deployed, deployment: Deployment | None) -> bool:
    """Whether a model at the endpoint is to go: all of an orphan's; of a deployment its own, others there have deployments of their own."""
    if deployment is None or not _shared(deployment):
        return True
    return _is_own(model, deployment)


def _shared(deployment: Deployment | None) -> bool:
    """Whether another deployment that is not ended has the same endpoint."""
    if deployment is None or not deployment.endpoint_name:
        return False
    others = Deployment.objects.active().filter(endpoint_name=deployment.endpoint_name).exclude(pk=deployment.pk)
    return others.exists()


def _note_billing(deployment: Deployment | None, model: Deployed) -> None:
    """Its own model is there, so it costs: since when, where no worker had seen it ready; an end that was noted before it came to be is none."""
    if deployment is None or not _is_own(model, deployment):
        return
    rows = Deployment.objects.filter(pk=deployment.pk)
    rows.update(ended_at=None)
    if (created := parse_datetime(model.created or "")) is not None:
        rows.filter(billed_from=None).update(billed_from=created)


def _is_own(model: Deployed, deployment: Deployment) -> bool:
    """Whether a model at the deployment's endpoint is the one that was deployed for it. Model Garden names it as it likes, and puts it where
    nothing else is."""
    if model.display_name == deployment.mark or model.id == deployment.deployed_model_id:
        return True
    return deployment.source == Deployment.Source.GARDEN and not deployment.deployed_model_id


def _cost_ends(deployment: Deployment | None) -> None:
    if deployment is not None:
        Deployment.objects.filter(pk=deployment.pk, ended_at=None).update(ended_at=timezone.now())


def _ended(operation: Operation) -> None:
    deployment = operation.deployment
    with transaction.atomic():  # a worker lost in between would leave a deployment that never ends
        _cost_ends(deployment)
        operations.done(operation)
        if deployment is not None:
            state = State.FAILED if deployment.stop_reason == Stop.FAILED else State.ENDED
            Deployment.objects.filter(pk=deployment.pk).exclude(state__in=Deployment.ENDED).update(state=state)
            portal_endpoints.retire(deployment)
    ask_to_read(connection=operation.connection)


def give_up(deployment: Deployment, sentence: str) -> None:
    """It is not ours to touch any more: said on its page, and it counts as ended here."""
    rows = Deployment.objects.filter(pk=deployment.pk).exclude(state__in=Deployment.ENDED)
    rows.update(state=State.FAILED, error=sentence, ended_at=timezone.now())
    portal_endpoints.retire(deployment)
