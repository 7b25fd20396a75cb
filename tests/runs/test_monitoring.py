"""What the cloud's monitoring says of a run's time: figures, table and exports have the same numbers, and what is missing stays missing."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from llmcompare.cloud.models import Operation
from llmcompare.runs.charts.monitoring import monitoring_figures
from llmcompare.runs.models import Run
from tests import factories
from tests.run_page.test_numbers import Page
from tests.runs.test_endpoint_figures import document, finished, launch

pytestmark = pytest.mark.django_db
MINUTES = 6


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)


def points(began: datetime, values: dict[int, float]) -> list[list]:
    """``values``: the end of a minute of the run → what was read of it."""
    return [[(began + timedelta(minutes=at)).isoformat(), value] for at, value in values.items()]


@pytest.fixture
def run(owner):
    """Six minutes at a deployment, of whose fourth minute the cloud has no latency."""
    run = finished(launch(owner), document())
    began = timezone.now().replace(microsecond=0) - timedelta(minutes=30)
    Run.objects.filter(pk=run.pk).update(started=began, finished=began + timedelta(minutes=MINUTES))
    type(run.endpoint).objects.filter(pk=run.endpoint_id).update(kind="vertex")
    deployment = factories.make_deployment(factories.make_connection(owner), endpoint=run.endpoint)
    gap = {1: 0.2, 2: 0.3, 3: 0.25, 5: 0.4, 6: 0.5}
    found = [
        {"title": "Latency, median", "parts": ["total"], "unit": "s", "points": points(began, gap)},
        {"title": "Latency, median", "parts": ["model"], "unit": "s", "points": points(began, {2: 0.1})},
        {"title": "Replicas", "parts": [], "unit": "replicas", "points": points(began, dict.fromkeys(range(1, 7), 2.0))},
        {"title": "Accelerator: share of time in which it worked", "parts": ["r1"], "unit": "ratio", "points": points(began, {1: 0.9})},
    ]  # fmt: skip
    Operation.objects.create(
        connection=deployment.connection, deployment=deployment, kind="series", state="done",
        resource=f"run/{run.public_id}", result=found,
    )  # fmt: skip
    return Run.objects.get(pk=run.pk)


def figures_of(client, run) -> tuple[Page, dict]:
    page = Page(client.get(f"/runs/{run.public_id}/").content.decode())
    return page, {name: data for name, data in page.data.items() if name.startswith("monitoring-")}


def test_every_figure_has_the_points_of_the_json_over_their_minutes(owner_client, run):
    page, drawn = figures_of(owner_client, run)
    told = owner_client.get(f"/runs/{run.public_id}.json").json()["monitoring"]
    assert (told["origin"], told["source"], told["each_point_covers_s"]) == ("reported", "Google Cloud Monitoring", 60)
    assert {f"monitoring-{one['metric'].replace('_', '-')}" for one in told["series"]} == set(drawn)
    assert {element["data-chart"] for element in page.having("data-chart")} >= set(drawn)
    for name, figure in drawn.items():
        series = [one for one in told["series"] if f"monitoring-{one['metric'].replace('_', '-')}" == name]
        for trace, one in zip(figure["data"], series, strict=True):
            ends = [(datetime.fromisoformat(at) - run.started).total_seconds() for at, _ in one["points"]]
            known = [(x, y) for x, y in zip(trace["x"], trace["y"], strict=True) if y is not None]
            assert known == [
                pair
                for end, (_, value) in zip(ends, one["points"], strict=True)
                for pair in ((end - 60, value), (end, value))
            ]
        assert figure["layout"]["xaxis"]["range"] == [0, MINUTES * 60], "the axis of every figure is that of the run"


def test_a_minute_without_a_point_is_a_gap_and_no_line(owner_client, run):
    _, drawn = figures_of(owner_client, run)
    total = drawn["monitoring-latency-p50"]["data"][0]
    gaps = [at for at, value in enumerate(total["y"]) if value is None]
    assert [(total["x"][at - 1], total["x"][at + 1]) for at in gaps] == [(180, 240)]
    assert total["connectgaps"] is False


def test_parts_of_one_metric_are_lines_of_one_figure_with_its_unit(owner_client, run):
    _, drawn = figures_of(owner_client, run)
    latency, busy = drawn["monitoring-latency-p50"], drawn["monitoring-accelerator-duty-cycle"]
    assert [trace["name"] for trace in latency["data"]] == ["total", "model"]
    assert latency["layout"]["yaxis"]["title"]["text"] == "Seconds"
    assert busy["layout"]["yaxis"]["tickformat"] == ".0%"


def test_the_page_says_who_reported_it_and_keeps_the_table(owner_client, run):
    shown = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    assert "reported by Google Cloud Monitoring" in shown
    assert "Latency, median · total" in shown
    assert "plotly-basic" in shown


def test_the_csv_has_each_point(owner_client, run):
    text = b"".join(owner_client.get(f"/runs/{run.public_id}.csv").streaming_content).decode("utf-8-sig")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["section"] == "monitoring"]
    assert len(rows) == 5 + 1 + 6 + 1
    assert {row["origin"] for row in rows} == {"reported"}
    first = rows[0]
    assert (first["metric"], float(first["value"]), first["unit"]) == ("latency_p50", 0.2, "s")


def test_an_export_asks_the_cloud_for_nothing(owner_client, run):
    Operation.objects.all().delete()
    assert owner_client.get(f"/runs/{run.public_id}.json").json()["monitoring"]["series"] is None
    assert not Operation.objects.exists()


def test_other_runs_have_no_such_part(owner, owner_client):
    run = finished(launch(owner), document())
    assert "monitoring" not in owner_client.get(f"/runs/{run.public_id}.json").json()


def test_points_that_cannot_be_read_are_left_out(run):
    broken = {"metric": "replicas", "name": "Replicas", "parts": [], "unit": "replicas", "points": [["yesterday", 1.0]]}
    empty = broken | {"metric": "memory", "points": [["2026-01-01T00:00:00+00:00", None]]}
    (figure,) = monitoring_figures([broken, empty], run.started, 60.0)
    assert figure["figure"]["data"][0]["y"] == []
