"""Reading what a project has, in a worker: for the pages, to check credentials, and to find what of ours nobody looks after any more.

Both lists must be complete before anything is concluded from them; a listing that failed changes nothing but the note that it did. Only
what carries the labels of this installation is ever touched.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from llmcompare.cloud import portal_endpoints
from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.deploying import LABEL, moment
from llmcompare.cloud.deployments import ask, begin_clearing
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.labels import looked_after
from llmcompare.cloud.models import Connection, Deployment, Operation, claim_end
from profiling.failures import describe

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud
    from llmcompare.cloud.google.resources import Endpoint, Model

logger = logging.getLogger(__name__)

#: Models and endpoints that a page can show.
MOST_KEPT = 500
#: What was made so recently may be somebody's whose row is not stored yet.
GRACE = timedelta(minutes=10)


def due() -> list[int]:
    """Connections to read now: those that somebody asked for, then those that were not read for a while."""
    now = timezone.now()
    old = now - timedelta(seconds=settings.CLOUD_SWEEP_S)
    free = Connection.objects.kept().allowed().free(now)
    wanted = free.filter(Q(wanted_at__isnull=False) | Q(tried_at=None) | Q(tried_at__lt=old))
    return list(wanted.order_by("wanted_at", "tried_at").values_list("pk", flat=True))


def read(*, connection_id: int, open_cloud: Callable[[Connection], Cloud] = open_cloud) -> bool:
    """Read the cloud if nobody does; false when somebody does. Returns when the row says what came of it."""
    token, began, clock = secrets.token_hex(16), timezone.now(), time.monotonic()
    rows = Connection.objects.kept().allowed().free(began).filter(pk=connection_id)
    if not rows.update(claim=token, claim_until=claim_end()):
        return False
    connection = Connection.objects.get(pk=connection_id)
    columns: dict[str, Any] = {"tried_at": timezone.now()}
    try:
        with open_cloud(connection) as cloud:
            models, endpoints = cloud.list_models(), cloud.list_endpoints()
        look_after(connection, endpoints, began)
    except CloudError as error:
        columns["read_error"] = error.sentence
    except Exception as error:
        logger.exception("Reading %s", connection)
        columns["read_error"] = _("The worker failed by a fault of its own. %s") % describe(error)
    else:
        columns |= {
            "read_error": "",
            "read_at": began,
            "read_s": time.monotonic() - clock,
            "models_found": [_model(model) for model in models[:MOST_KEPT]],
            "endpoints_found": [_endpoint(endpoint) for endpoint in endpoints[:MOST_KEPT]],
        }
    held = Connection.objects.filter(pk=connection_id, claim=token)
    held.filter(wanted_at__lte=began).update(wanted_at=None)
    held.update(claim=None, claim_until=None, **columns)
    return True


def _model(model: Model) -> dict[str, Any]:
    name = model.name.partition("@")[0]
    return {
        "id": name.rpartition("/")[2],
        "name": name,
        "title": model.display_name or name.rpartition("/")[2],
        "image": model.image or "",
        "artifact_uri": model.artifact_uri or "",
        "ours": model.ours,
        "created": model.created,
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "title": endpoint.display_name or endpoint.id,
        "ours": endpoint.ours,
        "dedicated": endpoint.dedicated,
        "created": endpoint.created,
        "deployed": [
            {
                "id": model.id,
                "title": model.display_name or model.model.rpartition("/")[2],
                "traffic": model.traffic,
                "machine": model.machine.machine_type if model.machine else "",
                "created": model.created,
            }
            for model in endpoint.deployed
        ],
    }


def look_after(connection: Connection, endpoints: Sequence[Endpoint], began: datetime) -> None:
    """Undeploy orphans, and note what is gone. ``endpoints``: all of the project and region, listed after ``began``."""
    for endpoint in endpoints:
        if endpoint.ours and _is_orphan(connection, endpoint, began):
            _clear_orphan(connection, endpoint)
        elif endpoint.ours:
            _clear_left_over(connection, endpoint, began)
    there = {endpoint.id: {model.id for model in endpoint.deployed} for endpoint in endpoints}
    for deployment in connection.deployments.filter(state=Deployment.State.READY, stop_reason="", ready_at__lt=began):
        if deployment.deployed_model_id not in there.get(deployment.cloud_id, ()):
            _note_gone(deployment)


def _is_orphan(connection: Connection, endpoint: Endpoint, began: datetime) -> bool:
    """Whether an endpoint with our labels belongs to nothing that is active. Deployments of other connections to the same project count."""
    here = Q(connection__project=connection.project, connection__region=connection.region)
    active = Deployment.objects.active().filter(here)
    its = Q(endpoint_name__endswith=f"/{endpoint.id}") | Q(public_id=endpoint.labels.get(LABEL) or "")
    if active.filter(its).exists():
        return False
    if looked_after(endpoint.labels, began):
        return False
    made = moment(endpoint.created)
    return (made is not None and began - made > GRACE) or Deployment.objects.filter(here & its).exists()


def _clear_left_over(connection: Connection, endpoint: Endpoint, began: datetime) -> None:
    """Undeploy what came to be at a used endpoint after its deployment was given up: the answer to the request had been lost."""
    ended = connection.deployments.filter(
        endpoint_name__endswith=f"/{endpoint.id}", state__in=Deployment.ENDED, ended_at__lt=began
    )
    there = {model.display_name for model in endpoint.deployed}
    for deployment in ended:
        if deployment.mark in there:
            logger.warning("%s: %s is still at the endpoint %s and is undeployed", connection, deployment, endpoint.id)
            begin_clearing(deployment=deployment)


def _clear_orphan(connection: Connection, endpoint: Endpoint) -> None:
    """Undeploy what is at an endpoint, and delete it. Where it was made for a deployment, what it costs is that one's."""
    logger.warning("%s: the endpoint %s belongs to nothing here any more and is undeployed", connection, endpoint.id)
    made_for = connection.deployments.filter(endpoint_name__endswith=f"/{endpoint.id}").first()
    if made_for is not None:
        begin_clearing(deployment=made_for)
        return
    try:
        with transaction.atomic():
            ask(
                connection=connection,
                kind=Operation.Kind.CLEAR,
                title=_("left over: %s") % (endpoint.display_name or endpoint.id),
                resource=endpoint.name,
            )
    except IntegrityError:
        pass  # under way already


def _note_gone(deployment: Deployment) -> None:
    """It was undeployed outside of here, at a time that is not known: cost is counted until it was noticed."""
    rows = Deployment.objects.filter(pk=deployment.pk, state=Deployment.State.READY, stop_reason="")
    now = timezone.now()
    if rows.update(state=Deployment.State.ENDED, stop_reason=Deployment.Stop.GONE, ended_at=now):
        portal_endpoints.retire(deployment)
