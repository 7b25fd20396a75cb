"""What the cloud pages and the API show: times left, cost so far, states. Every cost is an estimate and says so; unknown stays unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from llmcompare.cloud.machines import compiled, machines
from llmcompare.cloud.models import Connection, Deployment, Operation
from llmcompare.cloud.prices import prices_in

#: State of a deployment → the state of a run whose badge looks the same.
BADGES = {
    "waiting": "queued",
    "creating": "running",
    "deploying": "running",
    "ready": "done",
    "stopping": "running",
    "ended": "cancelled",
    "failed": "failed",
}


def usd(amount: Decimal | None) -> str:
    """``1.24 USD``, or "unknown". Below a cent four digits: rounded to nothing it would be a wrong number."""
    if amount is None:
        return _("unknown")
    if 0 < amount < Decimal("0.0001"):
        return "< 0.0001 USD"
    digits = 2 if amount == 0 or amount >= Decimal("0.1") else 4
    return f"{amount:.{digits}f} USD"


def span(length: timedelta) -> str:
    """``1 h 20 min``; whole minutes, rounded down."""
    minutes = max(0, int(length.total_seconds() // 60))
    if minutes < 1:
        return _("less than a minute")
    if minutes < 60:
        return ngettext("%(n)s minute", "%(n)s minutes", minutes) % {"n": minutes}
    return _("%(hours)s h %(minutes)s min") % {"hours": minutes // 60, "minutes": minutes % 60}


@dataclass(frozen=True)
class Shown:
    """A deployment as a page shows it."""

    row: Deployment
    operation: Operation | None
    now: datetime

    @property
    def badge(self) -> str:
        return BADGES[self.row.state]

    @property
    def machine(self) -> str:
        """``2 × g2-standard-8 (1 × NVIDIA L4 each), spot``."""
        row = self.row
        known = machines().get(row.machine_type)
        chips = f" ({known.accelerator_count} × {known.accelerator})" if known and known.accelerator else ""
        spot = _(", spot") if row.spot else ""
        return f"{row.replicas} × {row.machine_type}{chips}{spot}"

    @property
    def left(self) -> str:
        """How long the lease lasts; empty once it does not matter any more."""
        if not self.row.is_active or self.row.stop_reason:
            return ""
        return span(self.row.expires_at - self.now)

    @property
    def ends_soon(self) -> bool:
        return bool(self.left) and self.row.expires_at - self.now < timedelta(minutes=10)

    @property
    def idle_left(self) -> str:
        """How long until it is undeployed if nobody uses it; empty without such a limit."""
        row = self.row
        if row.state != "ready" or row.stop_reason or row.idle_minutes is None:
            return ""
        since = max(moment for moment in (row.ready_at, row.used_at, row.created) if moment)
        return span(since + timedelta(minutes=row.idle_minutes) - self.now)

    @property
    def accrued(self) -> str:
        return usd(self.row.accrued(self.now))

    @property
    def per_hour(self) -> str:
        price = self.row.price
        return usd(None if price is None else price * self.row.replicas)

    @property
    def message(self) -> str:
        """What happens, or what is wrong."""
        if self.operation is not None and (self.operation.error or self.operation.message):
            return self.operation.message or self.operation.error
        return self.row.error

    @property
    def took(self) -> str:
        """How long what is under way takes so far."""
        return span(self.now - self.operation.created) if self.operation is not None else ""

    @property
    def version(self) -> str:
        """Changes whenever what the page shows does; a minute at the latest, because time does."""
        row, operation = self.row, self.operation
        parts = [row.state, row.stop_reason, f"{row.expires_at:%d%H%M}", f"{self.now:%H%M}"]
        return "-".join([*parts, operation.stage + operation.message[:40] if operation else ""])


def shown(deployments: list[Deployment]) -> list[Shown]:
    now = timezone.now()
    active = Operation.objects.active().filter(deployment__in=deployments).order_by("pk")
    # The one that undeploys was asked for last, and waits for the one that deploys: the first says what happens.
    under_way: dict[int | None, Operation] = {}
    for operation in active:
        under_way.setdefault(operation.deployment_id, operation)
    return [Shown(row, under_way.get(row.pk), now) for row in deployments]


@dataclass(frozen=True)
class MachineRow:
    name: str
    label: str
    series: str
    is_tpu: bool
    usd_per_hour: Decimal | None
    price_words: str

    def to_json(self) -> dict[str, Any]:
        return {
            "machine_type": self.name,
            "label": self.label,
            "series": self.series,
            "tpu": self.is_tpu,
            "usd_per_hour": None if self.usd_per_hour is None else float(self.usd_per_hour),
            "price_words": self.price_words,
            "compiled": compiled(),
        }


def machine_rows(region: str) -> list[MachineRow]:
    """Every machine with what is known of its price in ``region``."""
    rows, prices = [], prices_in(region)
    for machine in machines().values():
        price = prices[machine.name]
        rows.append(
            MachineRow(machine.name, machine.label, machine.series, machine.is_tpu, price.usd_per_hour, price.words)
        )
    return rows


def connection_json(connection: Connection) -> dict[str, Any]:
    return {
        "id": connection.public_id,
        "name": connection.name,
        "project": connection.project,
        "region": connection.region,
        "credential_kind": connection.credential_kind,
        "allowed": connection.is_allowed,
        "owner": connection.owner.username,
        "team": connection.team.slug if connection.team else None,
        "read_at": connection.read_at,
        "read_error": connection.read_error,
        "reading": connection.is_wanted,
        "models": connection.models_found,
        "endpoints": connection.endpoints_found,
    }


def deployment_json(item: Shown) -> dict[str, Any]:
    row = item.row
    accrued = row.accrued(item.now)
    per_hour = None if row.price is None else float(row.price * row.replicas)
    return {
        "id": row.public_id,
        "connection": row.connection.public_id,
        "owner": row.owner.username,
        "name": row.name,
        "model": row.model_title,
        "source": row.source,
        "machine_type": row.machine_type,
        "replicas": row.replicas,
        "spot": row.spot,
        "dedicated": row.dedicated,
        "state": row.state,
        "stop_reason": row.stop_reason,
        "message": item.message,
        "expires_at": row.expires_at,
        "idle_minutes": row.idle_minutes,
        "used_at": row.used_at,
        "created": row.created,
        "ready_at": row.ready_at,
        "ended_at": row.ended_at,
        "usd_per_hour": per_hour,
        "price_words": row.price_words,
        "accrued_usd_estimated": None if accrued is None else float(round(accrued, 6)),
        "endpoint_in_cloud": row.endpoint_name,
        "endpoint": row.endpoint.public_id if row.endpoint else None,
    }


def operation_json(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.public_id,
        "kind": operation.kind,
        "title": operation.title,
        "state": operation.state,
        "stage": operation.stage,
        "message": operation.message,
        "error": operation.error,
        "created": operation.created,
        "finished": operation.finished,
        "result": operation.result,
    }
