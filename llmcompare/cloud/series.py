"""What Cloud Monitoring says of the time of a run: read by a worker, once, after the service has it; pages show what was read.

All of it is sampled every 60 s and visible minutes later: it says something about runs of several minutes, nothing about one request.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from llmcompare.cloud import operations
from llmcompare.cloud.bell import ring
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.models import Deployment, Operation

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud

#: Metric → its title. All of :data:`llmcompare.cloud.google.monitoring.METRICS` that say something about a run.
TITLES = {
    "accelerator_duty_cycle": gettext_noop("Accelerator: share of time in which it worked"),
    "accelerator_memory": gettext_noop("Accelerator memory in use"),
    "cpu_utilization": gettext_noop("CPU utilisation (may pass 1)"),
    "memory": gettext_noop("Memory in use"),
    "replicas": gettext_noop("Replicas"),
    "responses": gettext_noop("Responses per second, mean of a minute"),
    "latency_p50": gettext_noop("Latency, median"),
    "latency_p99": gettext_noop("Latency, 99th percentile"),
}
#: Unit of a metric → the portal's, and how many of it one is.
UNITS = {"share": ("ratio", 1.0), "ms": ("s", 1e-3), "requests": ("request/s", 1 / 60)}
#: Labels that part the series of one metric, as far as a metric has them.
PARTS = ("latency_type", "response_code", "replica_id")
#: The service shows points up to 360 s late.
LATE = timedelta(minutes=7)
#: A run that is shorter falls between two samples.
SHORTEST = timedelta(minutes=1)
#: What one point covers.
SAMPLE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def series_of(run: Any, *, ask: bool = True) -> list[dict[str, Any]] | None:
    """Series of the time of ``run`` as ``{metric, name, parts, title, unit, points: [[time, value], …]}``; None while nothing was read yet.
    ``name``: of the metric; ``parts``: what parts its series (kind of latency, replica); ``title``: both. A point says something of the
    minute that ends at its time. The first call asks for them, unless ``ask`` is off. ``run`` has ``public_id``, ``endpoint``,
    ``started`` and ``finished``."""
    if run.started is None or run.finished is None:
        return None
    if run.finished - run.started < SHORTEST:
        return []
    kind, mark = Operation.Kind.SERIES, f"run/{run.public_id}"
    known = Operation.objects.filter(kind=kind, resource=mark).first()
    if known is not None:
        return None if known.is_active else [_shown(one) for one in known.result or []]
    if not ask:
        return None
    used = Deployment.objects.filter(endpoint=run.endpoint, ready_at__lt=run.finished).order_by("-ready_at").first()
    if used is None:
        return []
    Operation.objects.create(
        connection=used.connection,
        deployment=used,
        kind=kind,
        title=used.name,
        resource=mark,
        payload={"since": run.started.isoformat(), "until": run.finished.isoformat()},
        due_at=run.finished + LATE,
    )
    ring()
    return None


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    """A stored series with its words in the reader's language."""
    title = one["title"]
    metric = next((metric for metric, known in TITLES.items() if known == title), title)
    about = {"metric": metric, "name": _(title), "parts": one["parts"], "title": " · ".join([_(title), *one["parts"]])}
    return about | {"unit": one["unit"], "points": one["points"]}


def read(operation: Operation, cloud: Cloud) -> None:
    """In a worker: every metric of the time. One that this account may not read costs the others nothing."""
    deployment = operation.deployment
    since, until = (parse_datetime(operation.payload[name]) for name in ("since", "until"))
    if deployment is None or since is None or until is None:
        raise CloudError("failed", _("The deployment is gone."))
    found: list[dict[str, Any]] = []
    refused: list[CloudError] = []
    for metric, title in TITLES.items():
        try:
            series = cloud.series(metric, deployment.cloud_id, since, until)
        except CloudError as error:
            refused.append(error)
            continue
        for one in series:
            if one.labels.get("deployed_model_id", deployment.deployed_model_id) != deployment.deployed_model_id:
                continue
            parts = [one.labels[name] for name in PARTS if one.labels.get(name)]
            unit, scale = UNITS.get(one.unit, (one.unit, 1.0))
            points = [[at, value * scale] for at, value in one.points if _within(at, since, until)]
            if points:
                found.append({"title": title, "parts": parts, "unit": unit, "points": points})
    if len(refused) == len(TITLES):
        raise refused[0]
    operations.done(operation, found)


def _within(at: str, since: datetime, until: datetime) -> bool:
    """Whether the whole minute that ends with a point was in the time (to the second, as it is asked for): minutes before and after a run are
    idle, and would falsify its least and its mean."""
    end = parse_datetime(at)
    return end is not None and since + SAMPLE - SECOND <= end <= until + SECOND
