"""The run page as people meet it: who sees it, what it says while a run is under way, and what one may do."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import timezone

from llmcompare.runs.models import Run, RunEvent
from tests import factories
from tests.run_page import documents

HTMX = {"HX-Request": "true"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def page(run: Run, part: str = "", query: str = "") -> str:
    return f"/runs/{run.public_id}/{part}{query}"


def make_active(owner, state="running", **fields) -> Run:
    run = factories.make_run(owner, **fields)
    if state == "running":
        Run.objects.filter(pk=run.pk).update(
            state="running", claim="c" * 8, lease_until=timezone.now() + timezone.timedelta(minutes=5), stage="prefill",
            progress=0.42, message="Iteration 3 of 5", attempt=1,
        )  # fmt: skip
    RunEvent.objects.create(run=run, attempt=1, stage="load", message="Loaded in 1.2 s")
    run.refresh_from_db()
    return run


@pytest.fixture
def done(owner):
    return factories.make_run(owner, document=documents.measured(), kind="measure")


def test_the_page_shows_every_part_of_a_result(owner_client, done):
    html = owner_client.get(page(done)).content.decode()
    for part in ("summary", "roofline", "operators", "network", "memory", "samples", "output", "facts"):
        assert f'id="{part}"' in html
    assert "20\u202fms" in html
    assert "Random weights" in html
    assert "contended machine" in html
    assert "hx-trigger" not in html


def test_private_runs_are_404_for_everyone_else(done, stranger_client, teammate_client, staff_client, anonymous_client):
    for client in (stranger_client, teammate_client, staff_client):
        for part in ("", "status/"):
            assert client.get(page(done, part)).status_code == 404
        for part in ("cancel/", "delete/", "restore/"):
            assert client.post(page(done, part)).status_code == 404
    assert anonymous_client.get(page(done)).status_code == 302
    assert not Run.objects.exclude(deleted_at=None).exists()


def test_team_viewers_read_but_do_not_touch(owner, team, teammate_client):
    run = make_active(owner, visibility="team", team=team)
    html = teammate_client.get(page(run)).content.decode()
    assert page(run, "cancel/") not in html
    assert page(run, "delete/") not in html
    assert teammate_client.post(page(run, "cancel/")).status_code == 404
    run.refresh_from_db()
    assert not run.cancel_requested


def test_an_active_run_polls_and_shows_where_it_is(owner_client, owner):
    html = owner_client.get(page(make_active(owner))).content.decode()
    assert 'hx-trigger="every 2s"' in html
    assert 'value="42"' in html
    assert "Iteration 3 of 5" in html
    assert "Loaded in 1.2 s" in html


def test_the_status_is_204_until_something_changes(owner_client, owner):
    run = make_active(owner)
    first = owner_client.get(page(run, "status/"), headers=HTMX)
    address = re.search(r'hx-get="([^"]+)"', first.content.decode()).group(1).replace("&amp;", "&")
    assert owner_client.get(address, headers=HTMX).status_code == 204
    Run.objects.filter(pk=run.pk).update(progress=0.5)
    changed = owner_client.get(address, headers=HTMX)
    assert changed.status_code == 200
    assert 'value="50"' in changed.content.decode()
    RunEvent.objects.create(run=run, attempt=1, message="One more line")
    address = re.search(r'hx-get="([^"]+)"', changed.content.decode()).group(1).replace("&amp;", "&")
    assert "One more line" in owner_client.get(address, headers=HTMX).content.decode()


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_polling_ends_with_the_run_and_the_page_loads_its_results(owner_client, owner, state):
    run = factories.make_run(owner, state=state)
    answer = owner_client.get(page(run, "status/"), headers=HTMX)
    assert answer.headers["HX-Refresh"] == "true"
    assert b"hx-trigger" not in answer.content
    assert b"hx-trigger" not in owner_client.get(page(run, "status/")).content


def test_a_waiting_run_says_what_it_waits_for(owner_client, owner):
    first = make_active(owner, state="queued")
    second = make_active(owner, state="queued")
    html = owner_client.get(page(second)).content.decode()
    assert "No worker is online" in html
    factories.make_host(details={"queues": ["estimate"]})
    assert "1 run before this one" in owner_client.get(page(second)).content.decode()
    assert "Next in line" in owner_client.get(page(first)).content.decode()


def test_cancelling_stops_a_waiting_run(owner_client, owner):
    run = make_active(owner, state="queued")
    assert owner_client.post(page(run, "cancel/"), follow=True).status_code == 200
    run.refresh_from_db()
    assert run.state == "cancelled"


def test_cancelling_needs_post_and_the_token_against_forgery(owner, owner_client):
    run = make_active(owner, state="queued")
    assert owner_client.get(page(run, "cancel/")).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    assert strict.post(page(run, "cancel/")).status_code == 403
    run.refresh_from_db()
    assert run.state == "queued"


def test_deleting_can_be_undone(owner_client, done):
    html = owner_client.post(page(done, "delete/")).content.decode()
    assert page(done, "restore/") in html
    assert owner_client.get(page(done)).status_code == 404
    assert owner_client.post(page(done, "restore/"), follow=True).status_code == 200
    assert owner_client.get(page(done)).status_code == 200


def test_a_failed_run_says_why_and_keeps_log_and_partial_results(owner_client, owner):
    document = documents.measured()
    for key in ("operators", "modules", "graph", "roofline"):
        del document[key]
    run = factories.make_run(
        owner, document=document, kind="measure", state="failed", error="Killed (signal 9).", error_phase="decode"
    )
    RunEvent.objects.create(run=run, attempt=1, level="error", stage="decode", message="The child was killed")
    html = owner_client.get(page(run)).content.decode()
    assert "Killed (signal 9)." in html
    assert "phase “decode”" in html
    assert "Try fewer output tokens" in html
    assert "The child was killed" in html
    assert 'id="summary"' in html


def test_hostile_names_are_text_everywhere(owner_client, owner):
    document = documents.measured()
    document["model"]["name"] = document["model"]["architecture"] = HOSTILE
    document["hardware"]["name"] = document["output"]["texts"][0] = document["output"]["prompt"] = HOSTILE
    document["warnings"] = [{"code": HOSTILE, "message": HOSTILE}]
    document["unknown_operators"] = [HOSTILE]
    document["environment"][HOSTILE] = HOSTILE
    for stage in document["graph"].values():
        for node in stage["nodes"]:
            node["label"] = node["class"] = node["bound"] = HOSTILE
    for table, columns in (("operators", (1, 2, 10)), ("modules", (3, 4, 14))):
        for row in document[table]["rows"]:
            for column in columns:
                row[column] = HOSTILE
    for point in document["roofline"]["points"]:
        point["label"] = HOSTILE
    run = factories.make_run(owner, document=document, kind="measure", title=HOSTILE[:150], notes=HOSTILE)
    RunEvent.objects.create(run=run, attempt=1, stage=HOSTILE[:40], message=HOSTILE)
    html = owner_client.get(page(run, query="?find=" + HOSTILE)).content.decode()
    assert "<img src=x" not in html
    assert "<script>alert" not in html


def test_no_inline_style_or_script_that_the_policy_would_refuse(owner_client, done):
    answer = owner_client.get(page(done))
    html = answer.content.decode()
    assert " style=" not in html
    assert not re.search(r"\son[a-z]+=", html)
    assert all('type="application/json"' in tag or "src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("?stage=decode", 'aria-label="Modules of the decode stage"'),
        ("?open=-", 'aria-expanded="false"'),
        ("?find=lm_head", 'data-path="lm_head"'),
        ("?find=nothing-like-it", "No module matches"),
        ("?sort=flops", 'aria-sort="descending"'),
        ("?points=decode&roofs=measured", 'id="roofline"'),
    ],
)
def test_every_view_is_an_address(owner_client, done, query, seen):
    assert seen in owner_client.get(page(done, query=query)).content.decode()


def test_the_number_of_queries_does_not_grow(owner_client, owner, django_assert_max_num_queries, done):
    RunEvent.objects.bulk_create(RunEvent(run=done, attempt=1, message=str(n)) for n in range(300))
    with django_assert_max_num_queries(10):  # three of them for tags, notes and comments
        owner_client.get(page(done))
    run = make_active(owner)
    with django_assert_max_num_queries(8):
        owner_client.get(page(run, "status/"), headers=HTMX)
