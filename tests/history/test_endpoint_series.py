"""History of endpoints: which runs are one series, what tells series apart, and what stands on tokens that were counted here."""

from __future__ import annotations

import copy
import csv
import importlib
import io
import re
import threading

import pytest
from django.apps import apps

from llmcompare.endpoints import services as endpoints
from llmcompare.endpoints.models import Endpoint
from llmcompare.history.reading import load_series
from llmcompare.runs.executor import execute
from llmcompare.runs.models import Run
from llmcompare.runs.series import endpoint_series_key
from tests import factories
from tests.runs.test_endpoint_figures import document, finished, launch, swept

pytestmark = pytest.mark.django_db
HERE, THERE = "https://api.example.com/v1", "https://other.example.com/v1"


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)


@pytest.fixture
def endpoint(owner, monkeypatch):
    monkeypatch.setattr(
        "llmcompare.endpoints.services.check_address",
        lambda url, private: importlib.import_module("profiling.remote.addresses").server(url),
    )
    return factories.make_endpoint(owner, name="My server", url=HERE, model="tiny", api="chat")


def changed(endpoint, **values):
    """As its form does it."""
    kept = {"name": endpoint.name, "url": endpoint.url, "model": endpoint.model, "api": endpoint.api}
    endpoints.update(endpoint=endpoint, by=endpoint.owner, draft=endpoints.Draft(**kept | values))
    return endpoint


def titles(client, kind="endpoint"):
    shown = client.get(f"/history/?kind={kind}").content.decode()
    return re.findall(r'<a class="run-name" href="[^"]+">([^<]+)</a>', shown)


# --- which runs are one series ---


def test_an_endpoint_at_another_address_is_another_series_and_says_so(owner, owner_client, endpoint):
    first = finished(launch(owner, endpoint=endpoint), document())
    again = finished(launch(owner, endpoint=changed(endpoint, name="Renamed")), document())
    assert again.series == first.series
    moved = finished(launch(owner, endpoint=changed(endpoint, url=THERE)), document())
    assert moved.series != first.series
    assert len(load_series(owner, first.series).runs) == 2
    assert len(set(titles(owner_client))) == 2
    assert "address 2" in titles(owner_client)[0]
    assert "address 2" in owner_client.get(f"/history/{moved.series}/").content.decode()
    back = finished(launch(owner, endpoint=changed(endpoint, url=HERE)), document())
    assert back.series == first.series
    for run in (first, moved, back):
        assert "example.com" not in str(run.spec)


def test_another_model_of_the_server_is_another_series(owner, owner_client, endpoint):
    first = launch(owner, endpoint=endpoint)
    other = launch(owner, endpoint=changed(endpoint, model="large"))
    assert other.series != first.series
    finished(first, document())
    finished(other, document())
    assert len(set(titles(owner_client))) == 2


def test_runs_from_before_addresses_were_told_apart_go_on_at_the_address_of_now(owner, endpoint):
    run = launch(owner, endpoint=endpoint)
    before = copy.deepcopy(run.spec)
    del before["endpoint"]["place"]
    assert endpoint_series_key(before) == run.series
    Endpoint.objects.update(places=[])
    importlib.import_module("llmcompare.endpoints.migrations.0003_fill_places").fill(apps, None)
    endpoint.refresh_from_db()
    assert launch(owner, endpoint=changed(endpoint, url=THERE)).series != run.series


def test_a_run_does_not_go_to_another_address_than_it_was_asked_of(owner, endpoint):
    run = launch(owner, endpoint=endpoint)
    changed(endpoint, url=THERE)
    execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert (run.state, run.error_phase) == ("failed", "connect")
    assert "another address since" in run.error


# --- what tells them apart ---

LOADS = [
    {"load_mode": "closed", "load_concurrency": 2},
    {"load_mode": "closed", "load_concurrency": 8},
    {"load_mode": "closed", "load_concurrency": 8, "load_requests": 80},
    {"load_mode": "closed", "load_concurrency": 8, "load_output_lengths": "uniform(3, 5)"},
    {"load_mode": "closed", "load_concurrency": 8, "load_ttft_s": 0.5},
    {"load_mode": "closed", "load_concurrency": 8, "load_seconds": 30.0},
    {"load_mode": "poisson", "load_rate": 3.0},
    {"load_mode": "poisson", "load_rate": 4.0},
    {"load_mode": "constant", "load_rate": 3.0},
    {"load_mode": "sweep", "load_levels": "1, 2, 8"},
    {"load_mode": "sweep", "load_levels": "1..8"},
    {"load_mode": "sweep", "load_levels": "1..8", "load_gain": 0.2},
    None,
]


def test_no_two_loads_have_the_same_title(owner, owner_client, endpoint):
    runs = [finished(launch(owner, load, endpoint), document()) for load in LOADS]
    assert len({run.series for run in runs}) == len(LOADS)
    found = titles(owner_client)
    assert len(set(found)) == len(LOADS), found
    assert all(title.startswith("tiny on My server: ") for title in found)
    sheet = owner_client.get("/history.csv?kind=endpoint")
    text = b"".join(sheet.streaming_content) if sheet.streaming else sheet.content
    lines = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"))))
    assert len({line["load"] for line in lines}) == len(LOADS)
    page = owner_client.get(f"/history/{runs[1].series}/").content.decode()
    assert "8 users" in re.search(r"<title>(.*?)</title>", page, re.S)[1]
    assert "8 users" in re.search(r"<h1.*?</h1>", page, re.S)[0]


# --- tokens that were counted here ---

NOTE = "output tokens counted here with the tokenizer of {}: the server gives no count"


def counted(value=0.1, tokenizer="tiny", **changes):
    found = document(**changes)
    found["tokens"] |= {"output_from": "counted", "tokenizer": tokenizer}
    for key in ("endpoint_tpot", "request_output_throughput"):
        found["metrics"][key] |= {"origin": "estimated", "note": NOTE.format(tokenizer)}
    found["metrics"]["endpoint_tpot"]["value"] = value
    return found


def test_a_time_per_token_on_counted_tokens_is_in_history_with_its_origin(owner, owner_client, endpoint):
    runs = [finished(launch(owner, endpoint=endpoint), counted(value)) for value in (0.1, 0.1, 0.1, 0.2)]
    exported = owner_client.get(f"/history/{runs[0].series}.json").json()
    metrics = {metric["key"]: metric for metric in exported["metrics"]}
    assert metrics["endpoint_tpot"]["origin"] == metrics["request_output_throughput"]["origin"] == "estimated"
    assert metrics["endpoint_ttft"]["origin"] == "measured"
    points = metrics["endpoint_tpot"]["points"]
    assert [(point["value"], point["origin"], point["accepted"]) for point in points] == [
        (value, "estimated", True) for value in (0.1, 0.1, 0.1, 0.2)
    ]
    assert points[-1]["verdict"] == "worse"
    page = owner_client.get(f"/history/{runs[0].series}/?metric=endpoint_tpot").content.decode()
    assert "counted here with the tokenizer" in page
    assert page.count("estimated: tokens counted here") == 4
    line = owner_client.get("/history.json?kind=endpoint&metric=tpot").json()["series"][0]
    assert (line["value"], line["origin"]) == (0.2, "estimated")


def test_counts_of_the_server_and_of_the_tokenizer_are_not_one_line(owner, endpoint):
    """A server that begins to count is no faster or slower for it."""
    found = [counted(), counted(tokenizer="other"), document(), document()]
    runs = [finished(launch(owner, endpoint=endpoint), one) for one in found]
    series = load_series(owner, runs[0].series)
    points = [judged.point for judged in series.metric("endpoint_tpot").points]
    assert [point.accepted for point in points] == [False, False, True, True]
    assert "counted in another way" in points[0].why_not
    assert all(judged.point.accepted for judged in series.metric("endpoint_ttft").points)
    finished(launch(owner, endpoint=endpoint), counted(tokenizer="other"))
    points = [judged.point for judged in load_series(owner, runs[0].series).metric("endpoint_tpot").points]
    assert [point.accepted for point in points] == [False, True, False, False, True]


def test_levels_are_told_apart_although_tokens_were_counted(owner, endpoint):
    asked = {"load_mode": "sweep", "load_levels": "1..8"}

    def one(best):
        found = swept(best)
        entry = found["metrics"]["endpoint_tpot"]
        entry |= {"origin": "estimated", "note": f"{entry['note']}; {NOTE.format('tiny')}"}
        return found

    runs = [finished(launch(owner, asked, endpoint), one(best)) for best in (8, 4, 4)]
    points = [judged.point for judged in load_series(owner, runs[0].series).metric("endpoint_tpot").points]
    assert [point.accepted for point in points] == [False, True, True]
    assert "number of users" in points[0].why_not


def test_where_there_is_no_time_per_token_the_page_says_why(owner, owner_client, endpoint):
    found = document()
    del found["metrics"]["endpoint_tpot"]
    run = finished(launch(owner, endpoint=endpoint), found)
    address = f"/history/{run.series}/"
    assert "There is no time per output token" in owner_client.get(address).content.decode()
    finished(launch(owner, endpoint=endpoint), document())
    assert "There is no time per output token" not in owner_client.get(address).content.decode()


def test_figures_of_an_older_definition_are_shown_and_not_used(owner, endpoint):
    newer = document()
    newer["metrics"]["endpoint_tpot"]["definition"] = "endpoint_tpot/2"
    runs = [finished(launch(owner, endpoint=endpoint), one) for one in (document(), newer)]
    points = [judged.point for judged in load_series(owner, runs[0].series).metric("endpoint_tpot").points]
    assert [point.accepted for point in points] == [False, True]
    assert "another definition" in points[0].why_not
    assert Run.objects.count() == 2
