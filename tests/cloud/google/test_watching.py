"""Series of Cloud Monitoring, and lines of logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.monitoring import METRICS

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def minute(number: int) -> str:
    return (NOON + timedelta(minutes=number)).isoformat().replace("+00:00", "Z")


def test_a_series_comes_in_order_with_its_labels_and_unit(alpha, vertex):
    points = [[minute(n), n / 10] for n in range(5)]
    for replica in ("r1", "r2"):
        vertex.control(
            "series", metric="accelerator/duty_cycle", endpoint_id="77", labels={"replica_id": replica}, points=points
        )
    vertex.control("series", metric="accelerator/duty_cycle", endpoint_id="78", points=points)
    found = alpha.series("accelerator_duty_cycle", "77", NOON + timedelta(minutes=1), NOON + timedelta(minutes=3))
    assert [(one.unit, one.labels["replica_id"]) for one in found] == [("share", "r1"), ("share", "r2")]
    assert found[0].points == ((minute(1), 0.1), (minute(2), 0.2), (minute(3), 0.3))


def test_counts_are_whole_numbers_in_strings(alpha, vertex):
    vertex.control("series", metric="prediction_count", endpoint_id="7", value="int64Value", points=[[minute(0), "42"]])
    [one] = alpha.series("predictions", "7", NOON, NOON + timedelta(minutes=1))
    assert one.points == ((minute(0), 42.0),)


def test_no_points_is_unknown_and_not_zero(alpha):
    for metric in METRICS:
        assert alpha.series(metric, "77", NOON, NOON + timedelta(hours=1)) == []


def test_the_right_to_read_is_missing(alpha, vertex):
    vertex.fail("ListTimeSeries", 403, "Permission monitoring.timeSeries.list denied.")
    with pytest.raises(CloudError, match=r"monitoring\.timeSeries\.list") as error:
        alpha.series("replicas", "7", NOON, NOON)
    assert error.value.code == "forbidden"


@pytest.mark.parametrize(("metric", "endpoint"), [("nothing", "7"), ("replicas", '7" OR true'), ("replicas", "")])
def test_nothing_strange_gets_into_a_filter(alpha, vertex, metric, endpoint):
    with pytest.raises(CloudError):
        alpha.series(metric, endpoint, NOON, NOON)
    assert vertex.requests() == []


def test_the_last_lines_of_a_container(alpha, beta, vertex):
    vertex.control("log", endpoint_id="7", lines=[f"line {n}" for n in range(30)] + ["x" * 1000, "\x1b[31mred"])
    lines = alpha.log_lines("7", most=4)
    assert lines[:2] == ["line 28", "line 29"]
    assert len(lines[2]) == 300
    assert lines[3] == "[31mred"
    vertex.fail("ListLogEntries", 403, "no")
    assert alpha.log_lines("7") == []
