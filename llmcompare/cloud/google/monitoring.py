"""Series of Cloud Monitoring for an endpoint, by its REST interface. All are sampled every 60 s: they say something about minutes, nothing
about one request. Metric names and units: Google's list of metrics, resource type ``aiplatform.googleapis.com/Endpoint``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext as _

from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Series

ADDRESS = "https://monitoring.googleapis.com"
PREFIX = "aiplatform.googleapis.com/prediction/online/"
PERIOD_S = 60
MAX_PAGES = 20
#: (method, url, keyword arguments of ``requests``) → JSON.
Fetch = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Metric:
    """``aligner``: what one point says of its minute. ``late_s``: points may be missing for so long (documented; None: not documented)."""

    type: str
    aligner: str
    unit: str
    late_s: int | None = None


METRICS = {
    "accelerator_duty_cycle": Metric("accelerator/duty_cycle", "ALIGN_MEAN", "share", 360),
    "accelerator_memory": Metric("accelerator/memory/bytes_used", "ALIGN_MEAN", "B", 360),
    "cpu_utilization": Metric("cpu/utilization", "ALIGN_MEAN", "share", 360),
    "memory": Metric("memory/bytes_used", "ALIGN_MEAN", "B", 360),
    "received": Metric("network/received_bytes_count", "ALIGN_DELTA", "B", 360),
    "sent": Metric("network/sent_bytes_count", "ALIGN_DELTA", "B", 360),
    "replicas": Metric("replicas", "ALIGN_MEAN", "replicas", 120),
    "target_replicas": Metric("target_replicas", "ALIGN_MEAN", "replicas", 120),
    "predictions": Metric("prediction_count", "ALIGN_DELTA", "requests"),
    "errors": Metric("error_count", "ALIGN_DELTA", "requests"),
    "responses": Metric("response_count", "ALIGN_DELTA", "requests"),
    # Distributions in ms. The label latency_type parts them: total, model, overhead.
    "latency_p50": Metric("prediction_latencies", "ALIGN_PERCENTILE_50", "ms"),
    "latency_p99": Metric("prediction_latencies", "ALIGN_PERCENTILE_99", "ms"),
}


def read(fetch: Fetch, url: str, metric: str, endpoint_id: str, since: datetime, until: datetime) -> list[Series]:
    """Every series of ``metric`` in the time. Raises :class:`CloudError`; no points is an empty list."""
    known = METRICS.get(metric)
    if known is None:
        raise CloudError("invalid", _("There is no metric named {name}.").format(name=metric))
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", endpoint_id):
        raise CloudError("invalid", _("This is not the id of an endpoint."))
    asked = {
        "filter": f'metric.type = "{PREFIX}{known.type}" AND resource.labels.endpoint_id = "{endpoint_id}"',
        "interval.startTime": _time(since),
        "interval.endTime": _time(until),
        "aggregation.alignmentPeriod": f"{PERIOD_S}s",
        "aggregation.perSeriesAligner": known.aligner,
        "pageSize": "1000",
    }
    found: list[Series] = []
    for _page in range(MAX_PAGES):
        answer = fetch("GET", url, params=asked)
        found += [_series(metric, known, one) for one in answer.get("timeSeries") or ()]
        token = answer.get("nextPageToken")
        if not token:
            break
        asked["pageToken"] = str(token)
    return [one for one in found if one.points]


def _series(metric: str, known: Metric, found: dict[str, Any]) -> Series:
    points = []
    for point in found.get("points") or ():
        value = point.get("value") or {}
        number = value.get("doubleValue", value.get("int64Value"))
        at = (point.get("interval") or {}).get("endTime")
        if number is not None and isinstance(at, str):
            points.append((at, float(number)))
    labels = dict((found.get("metric") or {}).get("labels") or {}) | {
        key: value
        for key, value in ((found.get("resource") or {}).get("labels") or {}).items()
        if key in ("deployed_model_id", "endpoint_id")
    }
    return Series(metric, known.unit, labels, tuple(sorted(points)))  # the service gives the newest first


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
