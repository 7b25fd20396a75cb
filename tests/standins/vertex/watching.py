"""Cloud Monitoring and Cloud Logging by REST: the two calls that the portal makes."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from tests.standins.vertex.refusal import Refusal
from tests.standins.vertex.world import World

PREFIX = "aiplatform.googleapis.com/prediction/online/"


def time_series(world: World, query: dict[str, str]) -> dict[str, Any]:
    """Points of ``control/series`` within the interval, newest first, one series a page."""
    for name in ("filter", "interval.startTime", "interval.endTime", "aggregation.perSeriesAligner"):
        if not query.get(name):
            raise Refusal(400, f"Field {name} is required.")
    metric = re.search(r'metric\.type ?= ?"([^"]+)"', query["filter"])
    endpoint = re.search(r'resource\.labels\.endpoint_id ?= ?"([^"]+)"', query["filter"])
    if metric is None or endpoint is None:
        raise Refusal(400, "The filter names no metric type, or no endpoint.")
    begin, end = (_time(query[f"interval.{name}Time"]) for name in ("start", "end"))
    found = []
    for one in world.series:
        if PREFIX + one["metric"] != metric[1] or one["endpoint_id"] != endpoint[1]:
            continue
        inside = [(at, value) for at, value in one["points"] if begin <= _time(at) <= end]
        points = [
            {"interval": {"startTime": at, "endTime": at}, "value": {one.get("value", "doubleValue"): value}}
            for at, value in reversed(inside)
        ]
        found.append(
            {
                "metric": {"type": metric[1], "labels": one.get("labels", {})},
                "resource": {"type": "aiplatform.googleapis.com/Endpoint", "labels": {"endpoint_id": endpoint[1]}},
                "points": points,
            }
        )
    place = int(query.get("pageToken") or 0)
    answer: dict[str, Any] = {"timeSeries": found[place : place + 1]}
    if place + 1 < len(found):
        answer["nextPageToken"] = str(place + 1)
    return answer


def log_entries(world: World, project: str, body: dict[str, Any]) -> dict[str, Any]:
    if body.get("resourceNames") != [f"projects/{project}"]:
        raise Refusal(403, "The caller does not have permission: logging.logEntries.list.")
    endpoint = re.search(r'resource\.labels\.endpoint_id ?= ?"([^"]+)"', body.get("filter", ""))
    if endpoint is None or body.get("orderBy") != "timestamp desc":
        raise Refusal(400, "Only the newest lines of one endpoint are here.")
    lines = world.log(endpoint[1])[::-1][: int(body.get("pageSize") or 50)]
    return {"entries": [{"textPayload": line, "severity": "ERROR"} for line in lines]}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
