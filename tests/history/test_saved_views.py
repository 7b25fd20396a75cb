"""Saved views of the list of runs: what they keep, who sees and changes them, undo."""

from __future__ import annotations

import pytest

from llmcompare.history import saved
from llmcompare.history.models import SavedView
from llmcompare.history.saved import query_of
from tests import factories
from tests.conftest import client_for


def save(client, **data):
    return client.post("/views/save/", data)


def test_a_view_keeps_filters_order_and_columns_and_nothing_else():
    query = query_of("page=3&q=llama&evil=1&sort=-ttft&columns=state,ttft&size=100&state=&view=x&q=smol")
    assert query == "q=smol&sort=-ttft&columns=state,ttft&size=100"


def test_saving_opens_the_view_and_opening_shows_the_same_list(owner_client, owner):
    wanted, other = factories.make_run(owner, title="needle"), factories.make_run(owner, title="hay")
    answer = save(owner_client, name=" My  needles ", query="q=needle&columns=state,owner&page=2")
    view = SavedView.objects.get()
    assert (view.name, view.query) == ("My needles", "q=needle&columns=state,owner")
    assert answer["Location"] == f"/runs/?q=needle&columns=state,owner&view={view.public_id}"
    opened = owner_client.get(f"/views/{view.public_id}/", follow=True)
    assert [run.pk for run in opened.context["page"]] == [wanted.pk]
    assert [column.key for column in opened.context["columns"]] == ["state", "owner"]
    page = opened.content.decode()
    assert 'class="view is-current"' in page
    assert "Update “My needles”" not in page
    changed = owner_client.get(f"/runs/?q=hay&view={view.public_id}").content.decode()
    assert "Update “My needles”" in changed
    owner_client.post(f"/views/{view.public_id}/change/", {"query": "q=hay"})
    opened = owner_client.get(f"/views/{view.public_id}/", follow=True)
    assert [run.pk for run in opened.context["page"]] == [other.pk]


def test_the_same_name_replaces_ones_own_view(owner_client, stranger_client):
    save(owner_client, name="A", query="q=1")
    save(owner_client, name="A", query="q=2")
    save(stranger_client, name="A", query="q=3")
    assert sorted(SavedView.objects.values_list("query", flat=True)) == ["q=2", "q=3"]


@pytest.mark.parametrize("data", [{"name": ""}, {"name": "x" * 61}, {"name": "x", "query": "q=" + "y" * 2000}])
def test_views_without_sense_are_refused_and_the_filters_stay(owner_client, data):
    answer = owner_client.post("/views/save/", {"query": "q=kept"} | data, follow=True)
    assert not SavedView.objects.exists()
    assert "alert-danger" in answer.content.decode()
    assert answer.request["QUERY_STRING"].startswith("q=")


def test_team_views_are_seen_by_members_and_changed_by_editors(owner_client, teammate_client, stranger_client, team):
    save(owner_client, name="Ours", query="q=a", team=team.slug)
    view = SavedView.objects.get()
    assert "Ours" in teammate_client.get("/runs/").content.decode()
    assert "Ours" not in stranger_client.get("/runs/").content.decode()
    assert teammate_client.get(f"/views/{view.public_id}/").status_code == 302
    assert stranger_client.get(f"/views/{view.public_id}/").status_code == 404
    assert [v["name"] for v in teammate_client.get("/views.json").json()["views"]] == ["Ours"]
    for client in (teammate_client, stranger_client):
        for act in ("change", "delete", "restore"):
            assert client.post(f"/views/{view.public_id}/{act}/", {"query": ""}).status_code == 404
    editor = factories.make_user("editor")
    factories.add_member(team, editor, role="editor")
    client_for(editor).post(f"/views/{view.public_id}/change/", {"query": "q=b"})
    view.refresh_from_db()
    assert view.query == "q=b"


def test_a_viewer_makes_no_view_for_the_team(teammate_client, stranger_client, team):
    assert (
        "alert-danger"
        in teammate_client.post("/views/save/", {"name": "x", "team": team.slug}, follow=True).content.decode()
    )
    assert save(stranger_client, name="x", team=team.slug).status_code == 404
    assert not SavedView.objects.exists()


def test_a_team_view_shows_each_member_only_their_own_runs(owner_client, teammate_client, owner, team):
    factories.make_run(owner, title="private needle")
    save(owner_client, name="Ours", query="q=needle", team=team.slug)
    view = SavedView.objects.get()
    assert "private needle" not in teammate_client.get(f"/views/{view.public_id}/", follow=True).content.decode()


def test_deleting_can_be_undone(owner_client):
    save(owner_client, name="Gone <b>", query="q=a")
    view = SavedView.objects.get()
    assert (
        "bring “Gone &lt;b&gt;” back"
        in owner_client.post(f"/views/{view.public_id}/delete/", follow=True).content.decode()
    )
    assert owner_client.get(f"/views/{view.public_id}/").status_code == 404
    save(owner_client, name="Gone <b>", query="q=other")
    assert "alert-danger" in owner_client.post(f"/views/{view.public_id}/restore/", follow=True).content.decode()
    owner_client.post(f"/views/{SavedView.objects.kept().get().public_id}/delete/")
    owner_client.post(f"/views/{view.public_id}/restore/")
    assert SavedView.objects.kept().get().query == "q=a"


def test_a_view_outlives_the_team_that_saw_it(owner_client, teammate_client, team):
    save(owner_client, name="Ours", query="q=a", team=team.slug)
    assert owner_client.get("/runs/").status_code == 200  # which says once that it was saved
    team.delete()
    assert "Ours" in owner_client.get("/runs/").content.decode()
    assert "Ours" not in teammate_client.get("/runs/").content.decode()


def test_a_view_comes_back_where_there_is_a_place_for_it(owner_client, monkeypatch):
    monkeypatch.setattr(saved, "VIEWS_OF_A_USER", 1)
    save(owner_client, name="First", query="q=1")
    first = SavedView.objects.get()
    owner_client.post(f"/views/{first.public_id}/delete/")
    save(owner_client, name="Second", query="q=2")
    answer = owner_client.post(f"/views/{first.public_id}/restore/", follow=True)
    assert "as many as fit" in answer.content.decode()
    assert [view.name for view in SavedView.objects.kept()] == ["Second"]
    owner_client.post(f"/views/{SavedView.objects.kept().get().public_id}/delete/")
    for _ in range(2):
        assert "is back" in owner_client.post(f"/views/{first.public_id}/restore/", follow=True).content.decode()
