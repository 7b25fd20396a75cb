"""Times from a datasheet are called an optimistic bound wherever they are shown, and those on measured ceilings never are."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from llmcompare.runs import lifecycle
from llmcompare.runs.models import Run
from llmcompare.sharing.services import create_link
from tests import factories

DOCUMENT = json.loads((Path(__file__).parents[1] / "data/documents/estimate_gpt2.json").read_text())
MEASURED = "measured: rates measured on this host by timing kernels (bf16 rate)"


def stored(owner, ceilings: str) -> Run:
    """An estimate that a worker has just ended."""
    held = {"state": "running", "claim": "held", "lease_until": timezone.now() + timedelta(minutes=5)}
    run = factories.make_run(owner, started=timezone.now(), **held)
    document = DOCUMENT | {"conventions": DOCUMENT["conventions"] | {"ceilings": ceilings}}
    assert lifecycle.finish(run=run, document=document)
    run.refresh_from_db()
    return run


@pytest.fixture(params=["datasheet", "measured"])
def level(request):
    return DOCUMENT["conventions"]["ceilings"] if request.param == "datasheet" else MEASURED


@pytest.fixture
def run(owner, level):
    return stored(owner, level)


def test_every_page_says_it(run, level, owner, owner_client, anonymous_client):
    _, token = create_link(owner=owner, runs=[run])
    pages = {
        "dashboard": "/",
        "runs": "/runs/",
        "run": f"/runs/{run.public_id}/",
        "model": f"/models/{run.model.slug}/",
        "hardware": f"/hardware/{run.hardware.slug}/",
        "history": "/history/?kind=estimate",
        "series": f"/history/{run.series}/",
        "comparison": f"/compare/?runs={run.public_id},{stored(owner, level).public_id}",
    }
    said = {name: "optimistic bound" in owner_client.get(path).content.decode() for name, path in pages.items()}
    said["shared"] = "optimistic bound" in anonymous_client.get(f"/s/{token}/").content.decode()
    assert said == dict.fromkeys(said, run.is_optimistic)


def test_what_is_needed_of_memory_is_no_bound(run, owner_client):
    lists = {metric: owner_client.get(f"/history/?kind=estimate&metric={metric}") for metric in ("e2e", "memory")}
    said = {metric: "optimistic bound" in page.content.decode() for metric, page in lists.items()}
    assert said == {"e2e": run.is_optimistic, "memory": False}


def test_lists_of_numbers_say_what_they_stand_on(run, owner_client):
    level = "datasheet" if run.is_optimistic else "measured"
    answer = owner_client.get("/runs.csv")
    text = b"".join(answer.streaming_content) if answer.streaming else answer.content
    assert next(csv.DictReader(io.StringIO(text.decode("utf-8-sig"))))["ceilings"] == level
    assert owner_client.get(f"/api/v1/runs/{run.public_id}/").json()["ceilings"] == level
    assert owner_client.get("/history.json?kind=estimate").json()["series"][0]["ceilings"] == level
