"""What replay predicts, on pages, in exports and in comparisons: never among other figures, never called measured, and nobody else's business."""

from __future__ import annotations

import csv
import io

import pytest

from llmcompare.runs import lifecycle, services
from llmcompare.runs.models import Run
from llmcompare.sharing.public import shared_document
from tests.runs.replays import BUSY, host_here, launched, replayed_document


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr(services, "ring", lambda run: None)


@pytest.fixture
def host(db):
    return host_here()


@pytest.fixture
def done(owner, host):
    run = launched(owner, host)
    claimed = lifecycle.claim(run_id=run.pk, worker="here:1")
    lifecycle.finish(run=claimed, document=replayed_document())
    return Run.objects.get(pk=run.pk)


def test_the_columns_of_lists_stay_those_of_the_roofline(done):
    assert (done.ttft_s, done.tpot_s, done.e2e_s) == (0.5, 0.02, 1.12)
    metrics = {metric.key: metric for metric in done.metrics.all()}
    assert metrics["replay_ttft"].value == 0.6
    assert metrics["replay_tpot"].detail == {"low": 0.02, "high": 0.04, "method": "operator replay"}
    assert metrics["ttft"].value == 0.5


def test_the_page_says_predicted_with_its_range_and_never_measured(owner_client, done):
    page = owner_client.get(f"/runs/{done.public_id}/").content.decode()
    part = page[page.index('id="replay-tiles"') : page.index('<section id="replay"')]
    assert part.count('origin-estimated">predicted by replay') == 3
    assert "Predicted, not measured" in part
    assert "origin-measured" not in part
    assert "from 20" in part
    assert "roofline estimate" in part
    assert "no range of its own" in part
    assert "off by 9 and 6" in part, "what such a prediction is worth"
    detail = page[page.index('<section id="replay"') :]
    assert "timed earlier on this host" in detail
    assert "as in the passes of other models" in detail
    assert "2026-11-25 10:00 UTC – 2026-11-26 10:00 UTC" in detail
    assert "spans 9,000,000,000 bytes" in detail
    tiles = page[page.index('class="tiles"') : page.index('id="replay-tiles"')]
    assert "replay_ttft" not in tiles, "not among the roofline estimates"


def test_a_busy_machine_is_said_where_the_figures_are(owner_client, owner, host):
    run = lifecycle.claim(run_id=launched(owner, host).pk, worker="here:1")
    lifecycle.finish(run=run, document=replayed_document(BUSY))
    page = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    assert "Do not decide by these times" in page
    assert "Other processes used 1.1 of 2 cores." in page


def test_an_unknown_part_makes_no_number(owner_client, owner, host):
    run = lifecycle.claim(run_id=launched(owner, host).pk, worker="here:1")
    document = replayed_document()
    for key in ("replay_tpot", "replay_e2e_latency"):
        document["metrics"][key] |= {"value": None, "low": None, "high": None}
    document["replay"]["stages"]["decode"]["unknown_operators"] = ["strange_op"]
    lifecycle.finish(run=run, document=document)
    page = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    tile = page[page.index('id="tile-replay_tpot"') :]
    assert 'tile-unknown"><data value="">unknown' in tile[:600]
    assert "strange_op" in page
    assert "unknown, at least 25" in page.replace("\u202f", " ")


def test_exports_have_it_under_names_of_its_own(owner_client, done):
    document = owner_client.get(f"/runs/{done.public_id}.json").json()
    assert document["metrics"]["ttft"]["value"] == 0.5
    assert document["metrics"]["replay_ttft"]["value"] == 0.6
    assert document["run"]["spec"]["replay"] == "cpu"
    text = b"".join(owner_client.get(f"/runs/{done.public_id}.csv")).decode()
    rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))
    figures = {row["metric"]: row for row in rows if row["section"] == "metric"}
    assert (figures["replay_tpot"]["value"], figures["replay_tpot"]["origin"]) == ("0.025", "estimated")
    assert (figures["replay_tpot.low"]["value"], figures["replay_tpot.high"]["value"]) == ("0.02", "0.04")
    replayed = {(row["stage"], row["path"], row["metric"]): row for row in rows if row["section"] == "replay"}
    assert replayed["", "shapes", "from_table"]["value"] == "7"
    assert (replayed["decode", "", "glue_s"]["value"], replayed["decode", "", "glue_s"]["unit"]) == ("0.005", "s")
    assert replayed["prefill", "largest.1", "operator"]["value"] == "addmm"


def test_a_comparison_has_rows_of_its_own_and_ranks_nothing(owner_client, owner, host, done):
    other = lifecycle.claim(run_id=launched(owner, host).pk, worker="here:1")
    slower = replayed_document()
    slower["metrics"]["replay_ttft"]["value"] = 0.9
    lifecycle.finish(run=other, document=slower)
    answer = owner_client.get(f"/compare/?runs={done.public_id},{other.public_id}")
    rows = {row["key"]: row for row in answer.context["table"]["metrics"]}
    cell = rows["replay_ttft"]["cells"][1]
    assert (cell["origin"], cell["tone"]) == ("predicted by replay", "")
    assert cell["delta"].startswith("+50")
    assert rows["replay_ttft"]["cells"][0]["cautions"] == (), "no optimistic bound: it stands on no ceilings"
    assert rows["ttft"]["cells"][0]["origin"] == "estimated, datasheet ceilings"
    assert rows["replay_tpot"]["cells"][0]["range"].startswith("20")
    assert rows["replay_ttft"]["cells"][0]["range"] == ""
    exported = owner_client.get(f"/compare.json?runs={done.public_id},{other.public_id}").json()
    found = {row["key"]: row["values"] for row in exported["rows"] if row["section"] == "metric"}
    assert found["replay_tpot"] == [0.025, 0.025]
    assert (found["replay_tpot.low"], found["replay_tpot.high"]) == ([0.02, 0.02], [0.04, 0.04])
    assert "ttft.low" not in found
    assert "rows of its own" in answer.content.decode()


def test_others_see_nothing_of_a_private_one(stranger_client, owner_client, done):
    for path in (f"/runs/{done.public_id}/", f"/runs/{done.public_id}.json", f"/runs/{done.public_id}.csv"):
        assert stranger_client.get(path).status_code == 404
    listed = stranger_client.get("/runs/").content.decode()
    assert done.public_id not in listed


def test_visitors_of_a_share_learn_no_fingerprint_of_the_machine(done):
    shown = shared_document(done, include_text=False)
    assert shown["replay"]["shapes"]["timed_now"] == 31
    assert "fingerprint" not in shown["replay"]
    assert shown["metrics"]["replay_ttft"]["value"] == 0.6
