"""Actions on several runs of the list, and its columns."""

from __future__ import annotations

import csv
import io
import json

import pytest

from llmcompare.runs.models import Run, RunTag
from tests import factories


def act(client, action, runs, **data):
    return client.post("/runs/bulk/", {"action": action, "run": [r.public_id for r in runs], **data})


@pytest.fixture
def mine(owner):
    return [factories.make_run(owner, title=f"mine {n}", state="done") for n in range(3)]


@pytest.fixture
def seen(stranger):
    """A public run of somebody else: to look at, not to change."""
    return factories.make_run(stranger, title="theirs", visibility="public", state="done")


@pytest.fixture
def hidden(stranger):
    return factories.make_run(stranger, title="hidden", state="done")


def test_ticked_runs_are_compared(owner_client, mine):
    answer = act(owner_client, "compare", mine[:2])
    assert answer["Location"] == f"/compare/?runs={mine[0].public_id},{mine[1].public_id}"


def test_only_what_one_may_change_is_tagged(owner_client, mine, seen, hidden):
    answer = owner_client.post(
        "/runs/bulk/",
        {
            "action": "tag",
            "tags": "Nightly, b",
            "run": [r.public_id for r in (*mine, seen, hidden)],
            "next": "/runs/?q=mine",
        },
        follow=True,
    )
    assert answer.request["PATH_INFO"] + "?" + answer.request["QUERY_STRING"] == "/runs/?q=mine"
    assert "3 runs tagged nightly, b." in answer.content.decode()
    assert "1 run left as before" in answer.content.decode()  # the hidden one is not even counted
    assert set(RunTag.objects.values_list("run", flat=True)) == {run.pk for run in mine}
    act(owner_client, "untag", mine[:1], tags="nightly")
    assert RunTag.objects.filter(name="nightly").count() == 2


def test_deleting_is_undone_with_one_button(owner_client, mine, seen, hidden):
    page = act(owner_client, "delete", [*mine, seen, hidden]).content.decode()
    assert "3 runs deleted" in page
    assert "theirs" not in page
    assert set(Run.objects.kept()) == {seen, hidden}
    act(owner_client, "restore", [*mine, hidden])
    assert Run.objects.kept().count() == 5


def test_only_active_runs_are_cancelled(owner_client, owner, mine):
    waiting = factories.make_run(owner)
    answer = owner_client.post(
        "/runs/bulk/", {"action": "cancel", "run": [waiting.public_id, mine[0].public_id]}, follow=True
    )
    assert "1 run cancelled" in answer.content.decode()
    waiting.refresh_from_db()
    mine[0].refresh_from_db()
    assert (waiting.state, mine[0].state) == ("cancelled", "done")


def test_ticked_runs_are_exported(owner_client, mine, seen, hidden):
    text = act(owner_client, "csv", [mine[0], seen, hidden]).getvalue().decode("utf-8-sig")
    assert {row["id"] for row in csv.DictReader(io.StringIO(text))} == {mine[0].public_id, seen.public_id}
    body = json.loads(act(owner_client, "json", [mine[0], hidden]).getvalue())
    assert [run["id"] for run in body["runs"]] == [mine[0].public_id]


@pytest.mark.parametrize(
    "data", [{}, {"action": "tag"}, {"action": "evil", "run": "x"}, {"action": "delete", "run": "\x00"}]
)
def test_requests_without_sense_change_nothing(owner_client, mine, data):
    assert owner_client.post("/runs/bulk/", data, follow=True).status_code == 200
    assert Run.objects.kept().count() == 3


@pytest.mark.parametrize(
    "target", ["//evil.example/x", "https://evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_the_way_back_never_leads_elsewhere(owner_client, mine, target):
    answer = owner_client.post("/runs/bulk/", {"action": "tag", "run": mine[0].public_id, "tags": "x", "next": target})
    assert answer["Location"] == "/runs/"


def test_viewers_of_a_team_change_nothing(teammate_client, owner, team):
    run = factories.make_run(owner, visibility="team", team=team, state="done")
    for action in ("tag", "delete", "cancel"):
        act(teammate_client, action, [run], tags="x")
    run.refresh_from_db()
    assert (run.deleted_at, run.state, run.tags.count()) == (None, "done", 0)


# --- columns ---


def heads(response) -> list[str]:
    return [column.key for column in response.context["columns"]]


def test_columns_come_from_the_address(owner_client, mine):
    usual = heads(owner_client.get("/runs/"))
    assert "ttft" in usual
    response = owner_client.get("/runs/?columns=owner,ttft,nonsense")
    assert heads(response) == ["ttft", "owner"]
    page = response.content.decode()
    assert page.count("<td") == 3 * 5  # tick, run, two columns, delete
    assert heads(owner_client.get("/runs/?columns=nonsense")) == usual


def test_ticked_boxes_become_one_parameter(owner_client, mine):
    assert owner_client.get("/runs/?q=a&col=ttft&col=state&columns=x")["Location"] == "/runs/?q=a&columns=state,ttft"
    assert owner_client.get("/runs/?q=a&columns=ttft&col=ttft&col=default")["Location"] == "/runs/?q=a"


def test_sorting_filtering_and_live_rows_keep_the_columns(owner_client, owner):
    run = factories.make_run(owner)
    page = owner_client.get("/runs/?columns=state,created").content.decode()
    assert 'name="columns" value="state,created"' in page
    assert "columns=state%2Ccreated&amp;sort=created" in page or "sort=created" in page
    assert f"/runs/{run.public_id}/row/?v=queued-0&amp;columns=state,created" in page
    row = owner_client.get(f"/runs/{run.public_id}/row/?columns=state,created").content.decode()
    assert row.count("<td") == 5


def test_every_column_can_be_shown(owner_client, finished):
    from llmcompare.runs.columns import COLUMNS

    finished()
    everything = ",".join(column.key for column in COLUMNS)
    page = owner_client.get(f"/runs/?columns={everything}").content.decode()
    assert page.count("<td") == len(COLUMNS) + 3
