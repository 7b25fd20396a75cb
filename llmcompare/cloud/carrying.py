"""One step of an operation, in a worker: ask Google for something, or look how far it is. Between two steps nothing of ours runs.

An operation that deploys ends with its first error, and what came of it is cleared away. One that undeploys never gives up: until the cloud
itself shows that nothing is left, it is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from llmcompare.cloud import clearing, deploying, operations, series
from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.connections import ask_to_read
from llmcompare.cloud.deployments import stop
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Container
from llmcompare.cloud.models import Connection, Deployment, Operation
from llmcompare.cloud.polling import OperationFailed, StillRunning, poll
from profiling.failures import describe

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud

logger = logging.getLogger(__name__)

Kind = Operation.Kind
Open = Callable[[Connection], "Cloud"]

#: Looks in a row at something that Google runs which said nothing, until it is given up: about an hour.
MOST_TROUBLES = 64
LONGEST_PAUSE_S = 60.0
#: The longest pause that is made because Google asked for it: undeploying waits too, and costs meanwhile.
LONGEST_WANTED_S = 300.0


def carry_out(*, operation_id: int, worker: str, open_cloud: Open = open_cloud) -> bool:
    """Make one step if the operation is to be had; false when it is not. Returns when its row says how it stands."""
    operation = operations.claim(operation_id=operation_id, worker=worker)
    if operation is None:
        return False
    try:
        _step(operation, open_cloud)
    except operations.Lost as error:
        logger.warning("%s", error)
    return True


def _step(operation: Operation, open_cloud: Open) -> None:
    try:
        if not operation.connection.is_allowed:
            raise CloudError("forbidden", _("An administrator has to allow this connection first."))
        with open_cloud(operation.connection) as cloud:
            STEPS[Kind(operation.kind)](operation, cloud)
    except StillRunning as still:
        operations.wait(operation, still.pause_s, still.message, troubles=0)
    except operations.Lost:
        raise
    except CloudError as error:
        _trouble(operation, error)
    except Exception as error:
        logger.exception("%s", operation)
        _trouble(operation, CloudError("failed", _("The worker failed by a fault of its own. %s") % describe(error)))


def _trouble(operation: Operation, error: CloudError) -> None:
    """Google said no, or nothing. What undeploys goes on for ever, what looks at something begun for a while."""
    troubles = operation.troubles + 1
    own_pause = min(LONGEST_PAUSE_S, settings.RUN_SWEEP_S * 2.0 ** min(troubles, 6) / 2)
    pause = min(error.retry_after_s or own_pause, LONGEST_WANTED_S)
    if operation.kind == Kind.CLEAR and error.code != "not_ours":
        text = _("Not undeployed yet, and tried again: %s") % error.sentence
        operations.wait(operation, pause, text, troubles=troubles, error=error.sentence)
        return
    unknown = not isinstance(error, OperationFailed) and error.code not in ("not_found", "invalid", "not_ours")
    if operation.lro and unknown and troubles < MOST_TROUBLES:
        text = _("Google did not answer, and is asked again: %s") % error.sentence
        operations.wait(operation, pause, text, troubles=troubles)
        return
    # Together: a worker lost between the two would leave a deployment that nobody undeploys, or one that never ends.
    with transaction.atomic():
        operations.fail(operation, error.sentence)
        if operation.deployment is None:
            return
        if operation.kind == Kind.DEPLOY:
            stop(deployment=operation.deployment, reason=Deployment.Stop.FAILED, error=error.sentence)
        elif operation.kind == Kind.CLEAR:
            clearing.give_up(operation.deployment, error.sentence)


def upload(operation: Operation, cloud: Cloud) -> None:
    """Register a model: its artifacts and the container that serves them."""
    if not operation.in_flight:
        asked = operation.payload
        container = Container(**asked["container"])
        operations.begin(
            operation, "upload", lambda: cloud.upload_model(asked["name"], container, asked["artifact_uri"])
        )
    answer = poll(operation, cloud, _("Google copies the model's files."))
    operations.done(operation, answer)
    ask_to_read(connection=operation.connection)


def delete_model(operation: Operation, cloud: Cloud) -> None:
    """Delete a model that carries our label; never another one."""
    if not operation.in_flight:
        found = next((m for m in cloud.list_models() if m.name == operation.resource), None)
        if found is not None:
            clearing.check_ours(found.ours, operation.resource)
            operations.begin(operation, "delete", lambda: cloud.delete_model(operation.resource))
    if operation.in_flight:
        poll(operation, cloud, _("Google deletes the model."))
    operations.done(operation)
    ask_to_read(connection=operation.connection)


def traffic(operation: Operation, cloud: Cloud) -> None:
    """Divide the requests of an endpoint of ours among its models."""
    found = clearing.endpoint_of(cloud, operation.resource)
    if found is None:
        raise CloudError("not_found", _("The endpoint is not there any more."))
    clearing.check_ours(found.ours, operation.resource)
    cloud.set_traffic(operation.resource, {key: int(share) for key, share in operation.payload["split"].items()})
    operations.done(operation)
    ask_to_read(connection=operation.connection)


def garden(operation: Operation, cloud: Cloud) -> None:
    """What Model Garden offers here."""
    operations.done(operation, [model.to_json() for model in cloud.open_models()])


STEPS: dict[Kind, Callable[[Operation, Any], None]] = {
    Kind.DEPLOY: deploying.deploy,
    Kind.CLEAR: clearing.clear,
    Kind.UPLOAD: upload,
    Kind.DELETE_MODEL: delete_model,
    Kind.TRAFFIC: traffic,
    Kind.GARDEN: garden,
    Kind.SERIES: series.read,
}


def forget_old(days: int = 30) -> int:
    """Delete operations that ended long ago and belong to no deployment: they say nothing to anybody. The newest list of open models of each
    connection stays, since its page shows it. Returns how many rows went."""
    old = timezone.now() - timedelta(days=days)
    lists = Operation.objects.filter(kind=Kind.GARDEN, state=Operation.State.DONE).order_by()
    shown = lists.values("connection").annotate(newest=Max("pk")).values_list("newest", flat=True)
    gone = Operation.objects.filter(deployment=None, finished__lt=old).exclude(pk__in=list(shown))
    return gone.delete()[0]
