"""The dashboard and the history: who sees what, filters and order in the address, paging, live rows, delete."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.runs.models import Run
from tests import factories


def listed(response) -> list[str]:
    return [run.public_id for run in response.context["page"]]


def test_newest_runs_come_first_and_fifty_are_a_page(owner_client, owner, finished):
    runs = [finished(title=f"run {number}") for number in range(60)]
    response = owner_client.get("/runs/")
    assert listed(response) == [run.public_id for run in reversed(runs)][:50]
    assert "Showing 1–50 of 60" in response.content.decode()
    second = owner_client.get("/runs/?page=2")
    assert listed(second) == [run.public_id for run in reversed(runs)][50:]


def test_pages_neither_repeat_nor_lose_rows(owner_client, owner):
    made = {factories.make_run(owner).public_id for _ in range(60)}
    pages = [listed(owner_client.get(f"/runs/?size=25&sort=batch&page={number}")) for number in (1, 2, 3)]
    assert [len(page) for page in pages] == [25, 25, 10]
    assert {run for page in pages for run in page} == made


@pytest.mark.parametrize(
    ("sort", "column", "unknown", "low", "high"),
    [
        ("batch", "batch_size", 0, 1, 8),
        ("input", "input_tokens", 0, 16, 64),
        ("dtype", "dtype", "", "bf16", "fp32"),
        ("bound", "bound", "", "compute", "memory"),
    ],
)
def test_what_is_not_known_comes_last_either_way(owner_client, owner, sort, column, unknown, low, high):
    """Of runs of endpoints batch, prompt and format are not known."""
    nothing, most, least = (factories.make_run(owner, **{column: value}).public_id for value in (unknown, high, low))
    assert listed(owner_client.get(f"/runs/?sort={sort}")) == [least, most, nothing]
    assert listed(owner_client.get(f"/runs/?sort=-{sort}")) == [most, least, nothing]


def test_queries_do_not_grow_with_the_list(owner_client, finished, django_assert_max_num_queries):
    for _ in range(30):
        finished()
    with django_assert_max_num_queries(12):  # two of them for tags, three for saved views
        owner_client.get("/runs/")
    with django_assert_max_num_queries(9):
        owner_client.get("/")


@pytest.mark.parametrize("address", ["/", "/runs/", "/runs.csv", "/runs.json"])
def test_strangers_see_nothing_private(stranger_client, finished, address):
    finished(title="Confidential plan")
    response = stranger_client.get(address)
    content = b"".join(response.streaming_content) if response.streaming else response.content
    assert b"Confidential plan" not in content


def test_filters_narrow_the_page_and_the_exports_alike(owner_client, owner, finished):
    wanted = finished(title="Needle")
    finished(title="Hay")
    failed = factories.make_run(owner, state="failed", dtype="fp32")
    assert listed(owner_client.get("/runs/?q=needle")) == [wanted.public_id]
    assert listed(owner_client.get("/runs/?state=failed&dtype=fp32")) == [failed.public_id]
    assert listed(owner_client.get(f"/runs/?model={failed.model.slug}")) == [failed.public_id]
    text = b"".join(owner_client.get("/runs.csv?q=needle").streaming_content).decode("utf-8-sig")
    assert [line["id"] for line in csv.DictReader(io.StringIO(text))] == [wanted.public_id]


def test_whose(owner_client, owner, stranger, team, teammate, finished):
    mine = finished()
    shared = finished(user=teammate, visibility="team", team=team)
    public = finished(user=stranger, visibility="public")
    assert set(listed(owner_client.get("/runs/"))) == {mine.public_id, shared.public_id, public.public_id}
    assert listed(owner_client.get("/runs/?whose=mine")) == [mine.public_id]
    assert listed(owner_client.get("/runs/?whose=team")) == [shared.public_id]
    assert listed(owner_client.get("/runs/?whose=public")) == [public.public_id]


def test_dates_include_both_days(owner_client, finished):
    old, new = finished(), finished()
    Run.objects.filter(pk=old.pk).update(created=timezone.now() - timedelta(days=3))
    day = (timezone.now() - timedelta(days=3)).date().isoformat()
    assert listed(owner_client.get(f"/runs/?after={day}&before={day}")) == [old.public_id]
    assert new.public_id in listed(owner_client.get(f"/runs/?after={day}"))


def test_order_has_unknown_last_in_both_directions_and_is_total(owner_client, owner, finished):
    slow, fast = finished(ttft_s=2.0), finished(ttft_s=1.0)
    tie = finished(ttft_s=1.0)
    unknown = factories.make_run(owner)
    up = [tie.public_id, fast.public_id, slow.public_id, unknown.public_id]
    down = [slow.public_id, tie.public_id, fast.public_id, unknown.public_id]
    assert listed(owner_client.get("/runs/?sort=ttft")) == up
    assert listed(owner_client.get("/runs/?sort=-ttft")) == down


def test_header_shows_the_direction_and_offers_the_other(owner_client, finished):
    finished()
    page = owner_client.get("/runs/?sort=ttft&q=shared").content.decode()
    assert 'aria-sort="ascending"><a class="sort" href="?sort=-ttft&amp;q=shared">TTFT' in page


@pytest.mark.parametrize(
    "query",
    [
        "page=abc",
        "page=-1",
        "page=999",
        "size=7",
        "size=1000000",
        "sort=evil",
        "sort=--created",
        "state=x",
        "after=nonsense",
    ],
)
def test_parameters_that_make_no_sense_do_no_harm(owner_client, finished, query):
    run = finished()
    response = owner_client.get(f"/runs/?{query}")
    assert response.status_code == 200
    assert listed(response) == [run.public_id]


def test_a_filter_that_was_left_out_is_said(owner_client, finished):
    finished()
    assert "was left out" in owner_client.get("/runs/?state=nonsense").content.decode()


def test_nothing_found_offers_the_way_back(owner_client, finished):
    finished()
    assert "No run matches" in owner_client.get("/runs/?q=zzz").content.decode()


def test_unknown_figures_are_not_zero(owner_client, owner):
    run = factories.make_run(owner, state="failed")
    page = owner_client.get("/runs/").content.decode()
    row = page[page.index(f'id="run-{run.public_id}"') :]
    assert row[: row.index("</tr>")].count(">–<") >= 4


def test_active_rows_ask_again_and_finished_ones_do_not(owner_client, owner, finished):
    done, waiting = finished(), factories.make_run(owner)
    page = owner_client.get("/runs/").content.decode()
    assert f"/runs/{waiting.public_id}/row/" in page
    assert f"/runs/{done.public_id}/row/" not in page


def test_row_is_empty_while_nothing_changed_and_stops_asking_at_the_end(owner_client, stranger_client, owner):
    run = factories.make_run(owner)
    address = f"/runs/{run.public_id}/row/?v=queued-0"
    assert owner_client.get(address).status_code == 204
    assert stranger_client.get(address).status_code == 404
    run.state = "done"
    run.save()
    answer = owner_client.get(address)
    assert answer.status_code == 200
    assert "hx-get" not in answer.content.decode()
    assert "Done" in answer.content.decode()


def test_the_version_in_the_row_is_the_one_the_server_compares(owner_client, owner):
    run = factories.make_run(
        owner, state="running", claim="c", lease_until=timezone.now() + timedelta(minutes=1), progress=0.425
    )
    page = owner_client.get("/runs/").content.decode()
    start = page.index(f"/runs/{run.public_id}/row/")
    address = page[start : page.index('"', start)]
    assert owner_client.get(address).status_code == 204


def test_delete_is_offered_to_those_who_may_and_can_be_undone(owner_client, teammate_client, team, finished):
    run = finished(visibility="team", team=team)
    delete = f"/runs/{run.public_id}/delete/"
    assert delete in owner_client.get("/runs/").content.decode()
    assert delete not in teammate_client.get("/runs/").content.decode()
    assert owner_client.post(delete).status_code == 200
    assert listed(owner_client.get("/runs/")) == []
    owner_client.post(f"/runs/{run.public_id}/restore/")
    assert listed(owner_client.get("/runs/")) == [run.public_id]


def test_names_of_others_are_escaped(owner_client, stranger, finished):
    finished(user=stranger, visibility="public", title="<script>alert(1)</script>")
    page = owner_client.get("/runs/").content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_dashboard_counts_my_runs_and_hosts(owner_client, owner, finished):
    finished()
    factories.make_run(owner)
    factories.make_host(name="Here")
    factories.make_host(name="Gone", seen=timezone.now() - timedelta(hours=1))
    response = owner_client.get("/")
    assert response.context["counts"] == {"all": 2, "active": 1}
    page = response.content.decode()
    assert "Here" in page
    assert "Gone" not in page
