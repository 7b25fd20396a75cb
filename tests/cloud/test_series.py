"""Monitoring beside a run: only what was sampled while it ran, and one metric that cannot be read costs the others nothing."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from llmcompare.cloud import series
from llmcompare.cloud.models import Deployment, Operation


@pytest.fixture
def run(hand, connection):
    """A run of five minutes at a deployment."""
    deployment = hand.deploy(connection)
    began = timezone.now().replace(microsecond=0) - timedelta(minutes=20)
    Deployment.objects.update(ready_at=began - timedelta(minutes=1))
    deployment.refresh_from_db()
    ended = began + timedelta(minutes=5)
    run = SimpleNamespace(public_id="abc", endpoint=deployment.endpoint, started=began, finished=ended)

    def sample(metric: str, values: list[float]) -> None:
        """One value at the end of each minute, the first at the run's begin."""
        points = [[(began + timedelta(minutes=n)).isoformat(), value] for n, value in enumerate(values)]
        hand.vertex.control("series", metric=metric, endpoint_id=deployment.cloud_id, points=points)

    run.sample = sample
    return run


def test_idle_minutes_before_and_after_a_run_do_not_count(hand, run):
    run.sample("accelerator/duty_cycle", [0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.0])
    assert series.series_of(run) is None
    hand.work()
    [found] = series.series_of(run)
    assert [value for _at, value in found["points"]] == [0.9] * 5


def test_one_metric_that_cannot_be_read_costs_the_others_nothing(hand, run):
    run.sample("memory/bytes_used", [1.0, 2.0, 3.0])
    hand.vertex.fail("ListTimeSeries", 400, "This metric has no such aligner.")
    assert series.series_of(run) is None
    hand.work()
    [found] = series.series_of(run)
    assert (found["unit"], [value for _at, value in found["points"]]) == ("B", [2.0, 3.0])


def test_where_nothing_can_be_read_it_is_said_why(hand, run):
    hand.vertex.fail("ListTimeSeries", 403, "Permission monitoring.timeSeries.list denied.", times=len(series.TITLES))
    series.series_of(run)
    hand.work()
    assert "monitoring.timeSeries.list" in Operation.objects.get(kind="series").error
    assert series.series_of(run) == []


def test_requests_of_a_minute_are_told_as_a_rate(hand, run):
    run.sample("response_count", [0.0, 120.0, 60.0])
    assert series.series_of(run) is None
    hand.work()
    [found] = series.series_of(run)
    assert (found["metric"], found["unit"], [value for _at, value in found["points"]]) == (
        "responses",
        "request/s",
        [2.0, 1.0],
    )
