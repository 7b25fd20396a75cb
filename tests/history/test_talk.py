"""Tags, notes and comments of a run: who may write what, undo, and what lists and exports make of them."""

from __future__ import annotations

import json

import pytest

from llmcompare.history import talk
from llmcompare.history.models import Comment, NotesEdit
from llmcompare.runs.models import RunTag
from llmcompare.runs.tagging import tag_names
from tests import factories
from tests.conftest import client_for


@pytest.fixture
def run(owner, team):
    return factories.make_run(owner, visibility="team", team=team, state="done")


def page(client, run) -> str:
    return client.get(f"/runs/{run.public_id}/").content.decode()


def post(client, run, what, **data):
    return client.post(f"/runs/{run.public_id}/{what}/", data, follow=True)


def exported(client, query) -> list[dict]:
    return json.loads(client.get(f"/runs.json?{query}").getvalue())["runs"]


# --- tags ---


def test_tags_are_lower_case_words_each_once():
    assert tag_names(" Nightly,  two   words,nightly,, ÄPFEL,\x00") == ["nightly", "two words", "äpfel"]


def test_lists_exports_and_the_api_are_narrowed_by_a_tag_exactly(owner_client, owner, run):
    other = factories.make_run(owner, state="done")
    post(owner_client, run, "tags", tags="Nightly, a100")
    post(owner_client, other, "tags", tags="nightly-2")
    for query, wanted in (
        ("tag=nightly", [run]),
        ("tag=NIGHTLY,a100", [run]),
        ("tag=night", []),
        ("tag=nightly,x", []),
    ):
        ids = [r.public_id for r in wanted]
        assert [r["id"] for r in exported(owner_client, query)] == ids
        assert [r["id"] for r in owner_client.get(f"/api/v1/runs/?{query}").json()["results"]] == ids
        assert [r.public_id for r in owner_client.get(f"/runs/?{query}").context["page"]] == ids
    assert exported(owner_client, "tag=nightly")[0]["tags"] == ["a100", "nightly"]
    listed = owner_client.get("/runs/").content.decode()
    assert 'href="/runs/?tag=a100"' in listed


def test_a_tag_can_be_taken_off_again(owner_client, run):
    post(owner_client, run, "tags", tags="one, two")
    post(owner_client, run, "tags/remove", tag="one")
    assert list(RunTag.objects.values_list("name", flat=True)) == ["two"]


@pytest.mark.parametrize("text", ["", " , ", "x" * 41, ",".join(map(str, range(21)))])
def test_tags_without_sense_are_refused(owner_client, run, text):
    assert "alert-danger" in post(owner_client, run, "tags", tags=text).content.decode()
    assert not RunTag.objects.exists()


def test_viewers_see_tags_and_change_none(owner_client, teammate_client, stranger_client, run):
    post(owner_client, run, "tags", tags="nightly")
    assert "nightly" in page(teammate_client, run)
    assert 'name="tags"' not in page(teammate_client, run)
    for client in (teammate_client, stranger_client):
        assert post(client, run, "tags", tags="mine").status_code == 404
        assert post(client, run, "tags/remove", tag="nightly").status_code == 404
    assert RunTag.objects.count() == 1


def test_tags_over_the_api(owner_client, teammate_client, run):
    address = f"/api/v1/runs/{run.public_id}/tags/"
    added = owner_client.post(address, {"tags": "B, a"}, content_type="application/json")
    assert (added.status_code, added.json()) == (200, {"tags": ["a", "b"]})
    assert owner_client.delete(f"{address}?tags=a").json() == {"tags": ["b"]}
    for wrong in ({"tags": " , "}, {"tags": "x" * 41}, {"tags": ["a"]}, {"other": 1}, {}):
        assert owner_client.post(address, wrong, content_type="application/json").status_code == 400, wrong
    assert teammate_client.post(address, {"tags": "c"}, content_type="application/json").status_code == 403
    assert list(run.tags.values_list("name", flat=True)) == ["b"]


def test_tags_of_private_runs_are_offered_to_nobody_else(owner_client, stranger_client, owner, stranger):
    private = factories.make_run(owner, state="done")
    factories.make_run(stranger, state="done")
    post(owner_client, private, "tags", tags="secret-project")
    assert "secret-project" in owner_client.get("/runs/").content.decode()
    assert "secret-project" not in stranger_client.get("/runs/").content.decode()
    assert exported(stranger_client, "tag=secret-project") == []


# --- notes ---


def test_notes_are_written_by_editors_and_undone(owner_client, teammate_client, run):
    post(owner_client, run, "notes", notes="first\r\nline")
    post(owner_client, run, "notes", notes="second")
    assert "second" in page(teammate_client, run)
    assert post(teammate_client, run, "notes", notes="mine").status_code == 404
    assert post(teammate_client, run, "notes/undo").status_code == 404
    post(owner_client, run, "notes/undo")
    run.refresh_from_db()
    assert run.notes == "first\nline"
    post(owner_client, run, "notes/undo")
    post(owner_client, run, "notes/undo")
    run.refresh_from_db()
    assert run.notes == ""
    assert not NotesEdit.objects.exists()


def test_notes_that_are_too_long_are_refused_and_not_lost(owner_client, run):
    text = "x" * 20_001
    answer = post(owner_client, run, "notes", notes=text).content.decode()
    assert "20,000 fit" in answer
    assert text in answer
    run.refresh_from_db()
    assert run.notes == ""


# --- comments ---


def test_whoever_sees_a_run_may_comment_on_it(owner_client, teammate_client, stranger_client, run):
    post(teammate_client, run, "comments", comment="Looks <b>slow</b>\nto me")
    shown = page(owner_client, run)
    assert "Looks &lt;b&gt;slow&lt;/b&gt;<br>to me" in shown
    assert "teammate" in shown
    assert post(stranger_client, run, "comments", comment="hello").status_code == 404
    assert Comment.objects.count() == 1


def test_only_the_author_edits_and_deletes_and_both_can_be_undone(owner_client, teammate_client, run):
    post(teammate_client, run, "comments", comment="first words")
    comment = Comment.objects.get()
    for act in ("edit", "delete", "undo", "restore"):
        assert owner_client.post(f"/comments/{comment.pk}/{act}/", {"comment": "theirs"}).status_code == 404
    teammate_client.post(f"/comments/{comment.pk}/edit/", {"comment": "other words"})
    assert "other words" in page(owner_client, run)
    assert "edited" in page(owner_client, run)
    teammate_client.post(f"/comments/{comment.pk}/undo/")
    assert "first words" in page(owner_client, run)
    teammate_client.post(f"/comments/{comment.pk}/delete/")
    assert "first words" not in page(owner_client, run)
    assert "You deleted: first words" in page(teammate_client, run)
    teammate_client.post(f"/comments/{comment.pk}/restore/")
    assert "first words" in page(owner_client, run)


def test_an_edit_from_an_old_page_can_be_undone_to_what_it_replaced(owner, run):
    """Two windows: the second one still shows the words from before the first one's edit."""
    comment = talk.add_comment(run=run, by=owner, text="first")
    one, other = Comment.objects.get(), Comment.objects.get()
    talk.edit_comment(comment=one, text="second")
    talk.edit_comment(comment=other, text="third")
    comment.refresh_from_db()
    assert (comment.text, comment.before) == ("third", "second")
    talk.undo_edit(comment=one)
    talk.undo_edit(comment=other)
    comment.refresh_from_db()
    assert (comment.text, comment.before, comment.edited_at) == ("second", None, None)


def test_a_comment_comes_back_where_there_is_a_place_for_it(teammate_client, run, monkeypatch):
    monkeypatch.setattr(talk, "COMMENTS_OF_A_RUN", 1)
    post(teammate_client, run, "comments", comment="one")
    first = Comment.objects.get()
    teammate_client.post(f"/comments/{first.pk}/delete/")
    post(teammate_client, run, "comments", comment="two")
    answer = teammate_client.post(f"/comments/{first.pk}/restore/", follow=True)
    assert "as many as fit" in answer.content.decode()
    assert [comment.text for comment in Comment.objects.kept()] == ["two"]
    teammate_client.post(f"/comments/{Comment.objects.kept().get().pk}/delete/")
    for _ in range(2):
        assert "is back" in teammate_client.post(f"/comments/{first.pk}/restore/", follow=True).content.decode()


@pytest.mark.parametrize("text", ["", "  \n ", "x" * 5_001])
def test_comments_without_sense_are_refused(owner_client, run, text):
    assert "alert-danger" in post(owner_client, run, "comments", comment=text).content.decode()
    assert not Comment.objects.exists()


def test_who_lost_sight_of_a_run_cannot_touch_their_comment(teammate_client, teammate, team, run):
    post(teammate_client, run, "comments", comment="words")
    team.members.remove(teammate)
    comment = Comment.objects.get()
    assert teammate_client.post(f"/comments/{comment.pk}/edit/", {"comment": "new"}).status_code == 404


def test_comments_are_exported_and_never_shared(owner_client, client, owner, run):
    from llmcompare.sharing.services import create_link

    post(owner_client, run, "comments", comment="internal words")
    post(owner_client, run, "tags", tags="internal-tag")
    data = owner_client.get(f"/runs/{run.public_id}/comments.json").json()
    assert [(c["by"], c["text"]) for c in data["comments"]] == [("owner", "internal words")]
    assert data["tags"] == ["internal-tag"]
    _, token = create_link(owner=owner, runs=[run])
    for suffix in ("", "export.json", "export.csv"):
        answer = client.get(f"/s/{token}/{suffix}")
        assert answer.status_code == 200
        assert b"internal" not in answer.getvalue()


def test_a_panel_with_many_comments_costs_no_more_queries(owner, team, run, django_assert_max_num_queries):
    for at in range(30):
        user = factories.make_user(f"u{at}")
        factories.add_member(team, user)
        Comment.objects.create(run=run, by=user, text=str(at))
    client = client_for(owner)
    with django_assert_max_num_queries(14):
        assert "Comments (30)" in page(client, run)
