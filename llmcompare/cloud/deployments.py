"""Everything that people do to deployments: ask for one, extend its lease, stop it. What workers do is in ``carrying.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from llmcompare.accounts.models import User
from llmcompare.cloud import caps
from llmcompare.cloud.bell import ring
from llmcompare.cloud.machines import Machine, machines
from llmcompare.cloud.models import Connection, Deployment, Operation
from llmcompare.cloud.prices import Price, price_of
from llmcompare.cloud.querysets import DeploymentQuerySet
from llmcompare.common.errors import WHOLE_FORM, FieldErrors

State, Stop, Source = Deployment.State, Deployment.Stop, Deployment.Source

NAME = re.compile(r"[a-z][a-z0-9-]{0,58}[a-z0-9]")
OPEN_MODEL = re.compile(r"publishers/[A-Za-z0-9_.-]{1,80}/models/[A-Za-z0-9_.-]{1,100}(@[A-Za-z0-9_.-]{1,80})?")
MAX_REPLICAS = 8
DEFAULT_LEASE_HOURS = 1


@dataclass(frozen=True)
class Wish:
    """What somebody wants to deploy, checked: everything that its confirmation names."""

    connection: Connection
    name: str
    source: str
    model_name: str
    model_title: str
    machine: Machine
    replicas: int
    spot: bool
    dedicated: bool
    lease_hours: int
    idle_minutes: int | None
    price: Price
    at: Deployment | None = None

    @property
    def usd_per_hour(self):
        """Of all replicas together; None: unknown."""
        return self.price.times(self.replicas)

    @property
    def expires_at(self):
        return timezone.now() + timedelta(hours=self.lease_hours)


def make_wish(
    *,
    connection: Connection,
    name: str,
    model: str,
    machine_type: str,
    source: str = Source.MODEL,
    replicas: int = 1,
    spot: bool = False,
    dedicated: bool = True,
    lease_hours: int = DEFAULT_LEASE_HOURS,
    idle_minutes: int | None = None,
    at: Deployment | None = None,
) -> Wish:
    """Check what is wanted against what is known. ``model``: id of a model of the connection as last read, or an open model's id; ``at``: a
    deployment whose endpoint the model joins, instead of a new one. Raises :class:`FieldErrors`."""
    errors: dict[str, str] = {}
    if at is not None:
        name, dedicated = at.name, at.dedicated
        if at.connection_id != connection.pk or at.state != State.READY or source == Source.GARDEN:
            errors["at"] = _(
                "Choose a deployment of this connection that is ready; open models get endpoints of their own."
            )
    elif not NAME.fullmatch(name):
        errors["name"] = _("Enter 2 to 60 lower-case letters, digits and hyphens, beginning with a letter.")
    elif Deployment.objects.active().filter(connection=connection, name=name).exists():
        errors["name"] = _("Something of this name is deployed through this connection already.")
    machine = machines().get(machine_type)
    if machine is None:
        errors["machine_type"] = _("Choose one of the machines that are listed.")
    if not 1 <= replicas <= MAX_REPLICAS:
        errors["replicas"] = _("Enter a whole number from 1 to %d.") % MAX_REPLICAS
    if not 1 <= lease_hours <= settings.CLOUD_MAX_LEASE_HOURS:
        errors["lease_hours"] = _("Enter a whole number of hours from 1 to %d.") % settings.CLOUD_MAX_LEASE_HOURS
    if idle_minutes is not None and not 5 <= idle_minutes <= 24 * 60:
        errors["idle_minutes"] = _("Enter 5 to 1440 minutes, or leave it empty for no limit.")
    model_name, title = _model(connection, source, model, errors)
    if machine is None or errors:
        raise FieldErrors(errors)
    return Wish(
        connection=connection,
        name=name,
        source=source,
        model_name=model_name,
        model_title=title,
        machine=machine,
        replicas=replicas,
        spot=spot,
        dedicated=dedicated,
        lease_hours=lease_hours,
        idle_minutes=idle_minutes,
        price=price_of(machine, connection.region, spot=spot),
        at=at,
    )


def _model(connection: Connection, source: str, model: str, errors: dict[str, str]) -> tuple[str, str]:
    """The resource name and title. Only what the connection itself listed can be named: never a resource name from a form."""
    if source == Source.GARDEN:
        if not OPEN_MODEL.fullmatch(model):
            errors["model"] = _("Enter an open model as Model Garden names it: publishers/NAME/models/NAME.")
        return model, model.removeprefix("publishers/").replace("/models/", "/")[:200]
    found = next((m for m in connection.models_found if m["id"] == model), None)
    if found is None:
        errors["model"] = _("Choose a model that the connection listed. Read the cloud anew if it is not there yet.")
        return "", ""
    return found["name"], found["title"][:200]


def deploy(*, user: User, wish: Wish, typed: str) -> Deployment:
    """Store the deployment and ring for a worker. ``typed``: the endpoint's name, typed by whoever confirms what it may cost.

    Raises :class:`FieldErrors`, and :class:`QuotaExceeded` where a cap stands against it.
    """
    if not wish.connection.is_allowed:
        raise FieldErrors({"name": _("An administrator has to allow this connection first.")})
    if typed.strip() != wish.name:
        raise FieldErrors({"typed": _("Type the endpoint's name exactly: %s") % wish.name})
    with transaction.atomic():
        _check_not_under_way(wish)
        caps.check(user=user, team=wish.connection.team, price=wish.usd_per_hour)
        made = Deployment.objects.create(
            connection=wish.connection,
            owner=user,
            name=wish.name,
            source=wish.source,
            model_name=wish.model_name,
            model_title=wish.model_title,
            machine_type=wish.machine.name,
            accelerator_type=wish.machine.accelerator_type,
            accelerator_count=wish.machine.accelerator_count,
            tpu_topology=wish.machine.tpu_topology,
            replicas=wish.replicas,
            spot=wish.spot,
            dedicated=wish.dedicated,
            price=wish.price.usd_per_hour,
            price_words=wish.price.words[:300],
            expires_at=wish.expires_at,
            idle_minutes=wish.idle_minutes,
            endpoint_name=wish.at.endpoint_name if wish.at else "",
        )
        ask(connection=wish.connection, kind=Operation.Kind.DEPLOY, title=wish.name, deployment=made, by=user)
    return made


def _check_not_under_way(wish: Wish) -> None:
    """A confirmation that was sent twice deploys once, and none through a connection that was deleted meanwhile. Locks the connection until the
    transaction ends, so that two cannot pass together."""
    if not Connection.objects.kept().select_for_update(no_key=True).filter(pk=wish.connection.pk).exists():
        raise FieldErrors(
            {WHOLE_FORM: _("The connection was deleted meanwhile. Put it back first, or choose another.")}
        )
    same = Deployment.objects.active().filter(connection=wish.connection, name=wish.name)
    if wish.at is not None:  # others at that endpoint have the same name
        same = same.filter(model_name=wish.model_name, state__in=[State.WAITING, State.DEPLOYING])
    if same.exists():
        raise FieldErrors({"name": _("Something of this name is deployed through this connection already.")})


def ask(*, connection: Connection, kind: str, title: str, by: User | None = None, **columns: Any) -> Operation:
    """Store an operation and ring for a worker."""
    made = Operation.objects.create(connection=connection, kind=kind, title=title[:200], asked_by=by, **columns)
    ring()
    return made


def extend(*, deployment: Deployment, hours: int) -> None:
    """The lease ends so many hours from now, where that is later than it ends anyway. Raises :class:`FieldErrors`.

    One UPDATE decides: whoever stopped it first has stopped it, and of two extensions the later end stays.
    """
    if not 1 <= hours <= settings.CLOUD_MAX_LEASE_HOURS:
        raise FieldErrors({"hours": _("Enter a whole number of hours from 1 to %d.") % settings.CLOUD_MAX_LEASE_HOURS})
    until = timezone.now() + timedelta(hours=hours)
    kept = _not_stopped(deployment)
    if kept.filter(expires_at__lt=until).update(expires_at=until):
        deployment.refresh_from_db()
    elif kept.exists():
        raise FieldErrors({"hours": _("The lease lasts longer than that already. Enter more hours.")})
    else:
        raise FieldErrors({"hours": _("It is being undeployed already.")})


def _not_stopped(deployment: Deployment) -> DeploymentQuerySet:
    return Deployment.objects.filter(pk=deployment.pk, stop_reason="").exclude(state__in=Deployment.ENDED)


def stop(
    *, deployment: Deployment, reason: str, error: str = "", by: User | None = None, still: Q | None = None
) -> bool:
    """Have it undeployed, its endpoint deleted; false when that is under way already. What is being deployed is undeployed once it can be.

    ``still``: what made it due, which must hold in the row at the moment of stopping, too; false where it does not any more.
    """
    with transaction.atomic():
        rows = _not_stopped(deployment).filter(still or Q())
        if not rows.update(stop_reason=reason, error=error, state=State.STOPPING):
            return False
        deployment.refresh_from_db()
        begin_clearing(deployment=deployment, by=by)
    return True


def begin_clearing(*, deployment: Deployment, by: User | None = None) -> None:
    """Ask for what undeploys it, unless that is asked for."""
    if Operation.objects.active().filter(deployment=deployment, kind=Operation.Kind.CLEAR).exists():
        return
    try:
        with transaction.atomic():
            ask(
                connection=deployment.connection,
                kind=Operation.Kind.CLEAR,
                title=deployment.name,
                deployment=deployment,
                by=by,
            )
    except IntegrityError:
        pass  # somebody else was quicker


def divide(*, deployment: Deployment, split: Mapping[str, int], by: User) -> Operation:
    """Divide the requests of its endpoint among the models there: percent by id of what is deployed, 100 in all. Raises :class:`FieldErrors`."""
    errors = {key: _("Enter a whole number from 0 to 100.") for key, share in split.items() if not 0 <= share <= 100}
    known = set(models_at(deployment))
    if set(split) != known or not known:
        errors[WHOLE_FORM] = _("The models at this endpoint have changed. Look again and give each of them its share.")
    elif not errors and sum(split.values()) != 100:
        errors[WHOLE_FORM] = _("The shares must add up to 100 %%, not %(sum)d.") % {"sum": sum(split.values())}
    if errors:
        raise FieldErrors(errors)
    return ask(
        connection=deployment.connection,
        kind=Operation.Kind.TRAFFIC,
        title=deployment.name,
        deployment=deployment,
        resource=deployment.endpoint_name,
        payload={"split": dict(split)},
        by=by,
    )


def models_at(deployment: Deployment) -> dict[str, Deployment]:
    """What is ready at the deployment's endpoint, by its id there."""
    if not deployment.endpoint_name:
        return {}
    here = Deployment.objects.filter(endpoint_name=deployment.endpoint_name, connection=deployment.connection)
    return {one.deployed_model_id: one for one in here.filter(state=State.READY).order_by("pk")}


def note_use(*, deployment_id: int) -> None:
    """A request goes there, or to another one at the same endpoint (Google chooses by the shares): none of them is idle. Written at most once a
    minute."""
    now = timezone.now()
    endpoint = Deployment.objects.filter(pk=deployment_id).values("endpoint")
    rows = Deployment.objects.filter(Q(pk=deployment_id) | Q(endpoint__in=endpoint), state=State.READY)
    rows.exclude(used_at__gte=now - timedelta(minutes=1)).update(used_at=now)
