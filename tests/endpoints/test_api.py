"""The REST API of endpoints."""

from __future__ import annotations

import pytest

from llmcompare.accounts.models import Membership
from llmcompare.api.views import endpoints as views
from llmcompare.endpoints import services
from llmcompare.endpoints.models import Endpoint
from llmcompare.endpoints.targets import resolve
from tests.factories import make_endpoint, make_hardware, make_model
from tests.security.cast import script_of

A = "/api/v1/endpoints/"
KEY = "sk-not-to-be-seen"
NEW = {"name": "Ours", "url": "https://api.example.com/v1", "key": KEY, "model": "m"}
pytestmark = pytest.mark.django_db


@pytest.fixture
def script(owner):
    return script_of(owner)


def send(script, method: str, path: str, **body):
    response = getattr(script, method)(path, body, content_type="application/json")
    assert KEY not in response.content.decode()
    return response


def test_a_key_goes_in_and_never_comes_out(script, bells):
    made = send(script, "post", A, **NEW)
    assert made.status_code == 201
    body = made.json()
    assert (body["key_set"], body["state"], body["look"]["state"]) == (True, "checking", "queued")
    assert "key" not in body
    assert bells == [1]
    for path in (A, f"{A}{body['id']}/"):
        assert KEY not in script.get(path).content.decode()
    assert resolve(Endpoint.objects.get()).headers() == {"Authorization": f"Bearer {KEY}"}


def test_a_patch_changes_what_it_names(script, owner):
    device, model = make_hardware(), make_model()
    endpoint = make_endpoint(owner, key=KEY)
    path = f"{A}{endpoint.public_id}/"
    body = send(script, "patch", path, name="New", hardware=device.slug, language_model=model.slug).json()
    assert (body["name"], body["model"], body["hardware"], body["language_model"]) == (
        "New",
        "m",
        device.slug,
        model.slug,
    )
    assert body["key_set"]
    assert send(script, "patch", path, hardware=None, api="chat").json()["hardware"] is None
    moved = send(script, "patch", path, url="https://other.example.com/v1")
    assert moved.status_code == 400
    assert "another server" in moved.json()["errors"]["key"]
    assert send(script, "patch", path, url="https://other.example.com/v1", key="").json()["key_set"] is False


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://127.0.0.1/v1"}, "url"),
        ({"private": True}, "private"),
        ({"key": "two words"}, "key"),
        ({"api": "telepathy"}, "api"),
        ({"team": "nobody", "visibility": "team"}, "team"),
        ({"hardware": "nothing"}, "hardware"),
        ({"sealed_key": "gAAAA"}, "sealed_key"),
        ({"kind": "vertex"}, "kind"),
        ({"name": ""}, "name"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(script, body, field):
    answer = send(script, "post", A, **(NEW | body))
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [field]
    assert not Endpoint.objects.exists()


def test_deleting_and_looking_again(script, owner, bells):
    endpoint = make_endpoint(owner)
    path = f"{A}{endpoint.public_id}/"
    assert send(script, "post", f"{path}probe/").json()["look"]["state"] == "queued"
    assert send(script, "post", f"{path}probe/").status_code == 202
    assert bells == [1], "the second one is the first"
    assert script.delete(path).status_code == 204
    assert script.get(path).status_code == 404
    services.restore(endpoint=endpoint)
    assert script.get(path).status_code == 200


def test_a_teammate_reads_and_does_not_change(owner, team, teammate):
    endpoint, script = make_endpoint(owner, visibility="team", team=team), script_of(teammate)
    path = f"{A}{endpoint.public_id}/"
    assert script.get(path).status_code == 200
    assert [row["id"] for row in script.get(A).json()["results"]] == [endpoint.public_id]
    for answer in (script.delete(path), send(script, "patch", path, name="x"), send(script, "post", f"{path}probe/")):
        assert answer.status_code == 403


def test_an_editor_of_the_team_does_not_lend_it_to_others(owner, team, teammate):
    Membership.objects.filter(user=teammate).update(role="editor")
    endpoint = make_endpoint(owner, key=KEY, visibility="team", team=team)
    editor, path = script_of(teammate), f"{A}{endpoint.public_id}/"
    refused = send(editor, "patch", path, visibility="public")
    assert refused.status_code == 400
    assert list(refused.json()["errors"]) == ["visibility"]
    assert send(editor, "patch", path, name="Renamed", visibility="team").json()["name"] == "Renamed"


def test_a_patch_does_not_put_back_what_another_request_changed_meanwhile(script, owner, monkeypatch):
    endpoint = make_endpoint(owner, model="m")
    read = views.editable_endpoint

    def slowly(request, public_id):
        found = read(request, public_id)
        Endpoint.objects.update(model="n")
        return found

    monkeypatch.setattr(views, "editable_endpoint", slowly)
    answer = send(script, "patch", f"{A}{endpoint.public_id}/", name="Renamed").json()
    assert (answer["name"], answer["model"]) == ("Renamed", "n")


def test_the_api_does_not_lend_the_cloud_connection_of_a_team(script, owner, team):
    endpoint = make_endpoint(owner, kind="vertex", url="", visibility="team", team=team)
    answer = send(script, "patch", f"{A}{endpoint.public_id}/", visibility="public")
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["visibility"]
    owner.membership_set.all().delete()
    assert script.get(f"{A}{endpoint.public_id}/").status_code == 404


def test_null_does_not_remove_a_link_that_its_sender_does_not_see(owner, team, teammate, staff):
    """To a script that sends back what it read, what is hidden from it looks like null."""
    Membership.objects.filter(user=teammate).update(role="editor")
    device = make_hardware(source="private", owner=staff)
    model = make_model(source="upload", owner=staff)
    endpoint = make_endpoint(owner, visibility="team", team=team)
    Endpoint.objects.update(hardware=device, language_model=model)
    editor, path = script_of(teammate), f"{A}{endpoint.public_id}/"
    read = editor.get(path).json()
    assert (read["hardware"], read["language_model"]) == (None, None)
    assert send(editor, "patch", path, name="New", hardware=None, language_model=None).json()["name"] == "New"
    endpoint.refresh_from_db()
    assert (endpoint.hardware, endpoint.language_model) == (device, model)
