"""The endpoint of this portal that stands for a deployment: runs send their requests to it like to any other. Nothing else couples the two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from hardware.models import Hardware
from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.deployments import note_use
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.machines import HARDWARE, machines
from llmcompare.cloud.models import Deployment
from llmcompare.endpoints.models import Endpoint
from llmcompare.endpoints.targets import Target, Unavailable
from profiling.failures import describe
from profiling.remote.protocol import APIS

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud
    from llmcompare.cloud.google.resources import Endpoint as CloudEndpoint

KIND = "vertex"


@transaction.atomic
def offer(deployment: Deployment) -> Endpoint:
    """Make it, or bring it up to date, once the deployment is ready. Deployments at one endpoint in the cloud share one here."""
    connection = deployment.connection
    shared = Deployment.objects.filter(connection=connection, endpoint_name=deployment.endpoint_name)
    kept = Endpoint.objects.filter(cloud_deployments__in=shared, deleted_at=None).first()
    is_new = kept is None
    if kept is None:
        kept = Endpoint.objects.create(
            owner=deployment.owner,
            team=connection.team,
            visibility="team" if connection.team_id else "private",
            name=deployment.name,
            kind=KIND,
            model=deployment.model_title[:200],
            api="chat",
            hardware=_hardware([deployment]),
        )
    Deployment.objects.filter(pk=deployment.pk).update(endpoint=kept)
    if not is_new:
        _name_hardware(kept)
    return kept


def _hardware(deployments: Iterable[Deployment]) -> Hardware | None:
    """What requests run on; None where that is several devices, or unknown."""
    known = [machines().get(one.machine_type) for one in deployments]
    slugs = {machine.hardware_slug if machine else "" for machine in known}
    return Hardware.objects.filter(slug=slugs.pop(), owner=None).first() if len(slugs) == 1 else None


def _name_hardware(endpoint: Endpoint) -> None:
    """A model came or went: runs from now on are said to be on what is there now, unless somebody chose other hardware."""
    there = Deployment.objects.filter(endpoint=endpoint, state=Deployment.State.READY)
    ours = Q(hardware=None) | Q(hardware__owner=None, hardware__slug__in=HARDWARE.values())
    Endpoint.objects.filter(ours, pk=endpoint.pk).update(hardware=_hardware(there))


def retire(deployment: Deployment) -> None:
    """Into the bin, once nothing is deployed there any more; its runs stay."""
    deployment.refresh_from_db()
    if deployment.endpoint is None:
        return
    others = Deployment.objects.filter(endpoint=deployment.endpoint, state=Deployment.State.READY)
    if others.exclude(pk=deployment.pk).exists():
        _name_hardware(deployment.endpoint)
    else:
        Endpoint.objects.filter(pk=deployment.endpoint.pk, deleted_at=None).update(deleted_at=timezone.now())


def _address(cloud: Cloud, deployment: Deployment, found: CloudEndpoint, api: str) -> str:
    """A container is reached by its predict route, or, where the model was uploaded with all routes open, by the route of the protocol."""
    if deployment.source == Deployment.Source.MODEL:
        try:
            if cloud.model(deployment.model_name).invoke:
                return cloud.invoke_url(found, f"/v1{APIS[api]}")
        except CloudError as error:
            if error.code != "not_found":  # taken out of the registry, what is deployed goes on
                raise Unavailable(error.sentence) from None
    return cloud.raw_url(found, stream=True)


def resolve(endpoint: Endpoint) -> Target:
    """Where requests of a deployment's endpoint go, with a fresh token for each. Workers only: it asks Google. Raises :class:`Unavailable`."""
    ready = Deployment.objects.filter(endpoint=endpoint, state=Deployment.State.READY).select_related("connection")
    deployment = ready.first()
    if deployment is None:
        raise Unavailable(_("It is not deployed any more. Deploy the model again under Cloud."))
    try:
        cloud = open_cloud(deployment.connection)
        found = cloud.endpoint(deployment.endpoint_name)
    except CloudError as error:
        raise Unavailable(error.sentence) from None
    if not found.dedicated:
        raise Unavailable(_("Streams need a dedicated endpoint. Deploy the model on one."))
    tokens: list[str] = []

    def headers() -> dict[str, str]:
        note_use(deployment_id=deployment.pk)
        try:
            token = cloud.bearer()
        except CloudError as error:
            raise Unavailable(error.sentence) from None
        except Exception as error:
            raise Unavailable(_("No token could be fetched. %s") % describe(error)) from None
        tokens[:] = [token]
        return {"Authorization": f"Bearer {token}"}

    def hide(text: str) -> str:
        for token in tokens:
            text = text.replace(token, "…")
        return text

    api = endpoint.api or "chat"
    address = _address(cloud, deployment, found, api)
    return Target(
        url_base=address,
        exact_url=address,
        model=endpoint.model,
        api=api,
        # Only a stand-in of the tests is on this machine (the address of Google's is a setting of the operator's).
        allowed=("127.0.0.1/32",) if cloud.elsewhere else (),
        headers=headers,
        hide=hide,
    )
