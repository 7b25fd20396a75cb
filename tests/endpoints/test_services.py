"""What may be registered and changed, by whom, and what happens to the key."""

from __future__ import annotations

import dataclasses

import pytest

from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints import services
from llmcompare.endpoints.models import Endpoint, PrivateNetwork
from llmcompare.endpoints.services import Draft, choose_model, create, update
from llmcompare.endpoints.targets import resolve
from tests.factories import add_member, make_endpoint, make_hardware, make_model, make_team

URL = "https://api.example.com/v1"
KEY = "sk-not-to-be-seen"
pytestmark = pytest.mark.django_db


def draft(**fields) -> Draft:
    return Draft(**({"name": "Ours", "url": URL} | fields))


def refused(call, *names: str) -> dict[str, str]:
    with pytest.raises(FieldErrors) as error:
        call()
    assert set(error.value.errors) == set(names)
    assert KEY not in str(error.value)
    return error.value.errors


def key_of(endpoint: Endpoint) -> str:
    endpoint.refresh_from_db()
    return resolve(endpoint).headers().get("Authorization", "").removeprefix("Bearer ")


def test_an_endpoint_is_kept_with_its_address_written_plainly(owner):
    endpoint = create(
        owner=owner, draft=draft(name="  Our   server ", url=" HTTPS://API.example.com:443/v1/ ", key=KEY)
    )
    assert (endpoint.name, endpoint.url) == ("Our server", URL)
    assert key_of(endpoint) == KEY
    assert KEY not in repr(draft(key=KEY))


def test_everything_that_is_wrong_is_said_at_once(owner):
    errors = refused(
        lambda: create(owner=owner, draft=draft(name=" ", url="http://127.0.0.1/v1", visibility="team")),
        *("name", "url", "team"),
    )
    assert "private or reserved" in errors["url"]
    assert not Endpoint.objects.exists()


@pytest.mark.parametrize("key", ["Bearer sk-1", "sk-1\nHost: evil", "schlüssel", "a" * 4097])
def test_a_key_that_cannot_be_sent_is_refused_without_being_repeated(owner, key):
    errors = refused(lambda: create(owner=owner, draft=draft(key=key)), "key")
    assert key not in errors["key"]


def test_another_server_needs_the_key_anew(owner):
    endpoint = make_endpoint(owner, key=KEY)
    for url in ("https://other.example.com/v1", "http://api.example.com/v1", "https://api.example.com:8443/v1"):
        errors = refused(lambda url=url: update(endpoint=endpoint, by=owner, draft=draft(url=url)), "key")
        assert "another server" in errors["key"]
    assert key_of(endpoint) == KEY
    update(endpoint=endpoint, by=owner, draft=draft(url="https://other.example.com/v1", key="sk-other"))
    assert key_of(endpoint) == "sk-other"
    update(endpoint=endpoint, by=owner, draft=draft(url=URL, key=""))
    assert key_of(endpoint) == ""


def test_another_path_of_the_same_server_keeps_the_key(owner):
    endpoint = make_endpoint(owner, key=KEY)
    update(endpoint=endpoint, by=owner, draft=draft(url="https://api.example.com/openai/v1"))
    assert key_of(endpoint) == KEY


def test_a_name_server_that_is_away_does_not_stop_a_new_name(owner, monkeypatch):
    endpoint = make_endpoint(owner)
    monkeypatch.setattr("profiling.remote.addresses.system_resolve", lambda host, port: 1 / 0)
    update(endpoint=endpoint, by=owner, draft=draft(name="Renamed"))
    endpoint.refresh_from_db()
    assert endpoint.name == "Renamed"


def test_a_name_server_that_does_not_answer_keeps_nobody_waiting(owner, monkeypatch):
    import threading

    answers = threading.Event()
    monkeypatch.setattr("llmcompare.endpoints.checking.RESOLVE_S", 0.05)
    monkeypatch.setattr("profiling.remote.addresses.system_resolve", lambda host, port: answers.wait(30) or [])
    try:
        assert create(owner=owner, draft=draft()).url == URL
    finally:
        answers.set()


def test_what_was_seen_of_another_server_or_model_is_forgotten(owner):
    seen = {"models": ["m", "n"], "models_problem": "", "model": "m", "abilities": {"api": "chat"}, "routes": {}}
    endpoint = make_endpoint(owner, probe=seen)
    assert not update(endpoint=endpoint, by=owner, draft=draft(model="m", name="Renamed"))
    assert endpoint.probe == seen
    assert choose_model(endpoint=endpoint, model="n")
    assert endpoint.probe["models"] == ["m", "n"]
    assert endpoint.probe["abilities"] is None
    assert update(endpoint=endpoint, by=owner, draft=draft(model="n", url="https://other.example.com/v1"))
    assert endpoint.probe is None


def test_a_model_must_be_named(owner):
    endpoint = make_endpoint(owner)
    refused(lambda: choose_model(endpoint=endpoint, model="  "), "model")
    refused(lambda: choose_model(endpoint=endpoint, model="a\x07b"), "model")
    assert not choose_model(endpoint=endpoint, model="m")


# --- private networks ---


def test_only_staff_registers_an_endpoint_in_a_private_network(owner, staff):
    PrivateNetwork.objects.create(name="lab", network="127.0.0.0/8")
    here = draft(url="http://127.0.0.1:8001/v1", private=True)
    refused(lambda: create(owner=owner, draft=here), "private")
    endpoint = create(owner=staff, draft=here)
    assert resolve(endpoint).allowed == ("127.0.0.0/8",)
    # Not said to be private, or in a network that nobody opened: refused for staff too.
    refused(lambda: create(owner=staff, draft=draft(url="http://127.0.0.1:8001/v1")), "url")
    refused(lambda: create(owner=staff, draft=draft(url="http://inner.example.com/v1", private=True)), "url")
    assert create(owner=staff, draft=draft(url="http://lab.example.com/v1", private=True)).private


def test_an_editor_of_the_team_does_not_turn_a_private_endpoint_elsewhere(owner, staff):
    team = make_team("Lab", editors=[owner, staff])
    PrivateNetwork.objects.create(name="lab", network="127.0.0.0/8")
    url = "http://127.0.0.1:8001/v1"
    endpoint = make_endpoint(staff, url=url, private=True, visibility="team", team=team)
    same = {"visibility": "team", "team": team, "private": True}
    refused(lambda: update(endpoint=endpoint, by=owner, draft=draft(url="http://127.0.0.1:6379/v1", **same)), "url")
    refused(lambda: update(endpoint=endpoint, by=owner, draft=draft(url=url, **(same | {"private": False}))), "private")
    update(endpoint=endpoint, by=owner, draft=draft(url=url, name="Ollama", **same))
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.url, endpoint.private) == ("Ollama", url, True)


# --- links and sharing ---


def test_links_are_to_what_the_user_sees(owner, stranger):
    theirs, model = make_hardware(source="private", owner=stranger), make_model(source="upload", owner=stranger)
    refused(
        lambda: create(owner=owner, draft=draft(hardware=theirs, language_model=model)), "hardware", "language_model"
    )
    endpoint = create(owner=owner, draft=draft(hardware=make_hardware(), language_model=make_model()))
    assert endpoint.hardware
    assert endpoint.language_model


def test_what_others_use_is_linked_to_nothing_that_only_its_owner_sees(owner, team):
    """Their runs would keep the configuration of the private model."""
    private = {
        "hardware": make_hardware(source="private", owner=owner),
        "language_model": make_model(source="upload", owner=owner),
    }
    shared = {"visibility": "team", "team": team}
    refused(lambda: create(owner=owner, draft=draft(**private, **shared)), "hardware", "language_model")
    endpoint = create(owner=owner, draft=draft(**private))
    refused(lambda: update(endpoint=endpoint, by=owner, draft=draft(**private, **shared)), *private)
    update(endpoint=endpoint, by=owner, draft=draft(**shared))
    assert endpoint.language_model is None


def test_a_team_is_one_of_the_users_own(owner, team, stranger):
    refused(lambda: create(owner=stranger, draft=draft(visibility="team", team=team)), "team")
    assert create(owner=owner, draft=draft(visibility="team", team=team)).team == team
    assert create(owner=owner, draft=draft(visibility="private", team=team)).team is None


def test_only_its_owner_changes_who_may_use_it(owner, stranger, team):
    """An editor of the team would lend the owner's key to others."""
    add_member(team, stranger, role="editor")
    theirs = make_team("Theirs", editors=[stranger])
    endpoint = make_endpoint(owner, key=KEY, visibility="team", team=team)
    shared = {"visibility": "team", "team": team}
    for wider in ({"visibility": "public"}, {"visibility": "private"}, {"visibility": "team", "team": theirs}):
        refused(lambda wider=wider: update(endpoint=endpoint, by=stranger, draft=draft(**wider)), "visibility")
    update(endpoint=endpoint, by=stranger, draft=draft(name="Renamed", **shared))
    assert (endpoint.name, endpoint.visibility, endpoint.team) == ("Renamed", "team", team)
    update(endpoint=endpoint, by=owner, draft=draft(visibility="public"))
    # What the editor saw before is not put back.
    refused(lambda: update(endpoint=endpoint, by=stranger, draft=draft(**shared)), "visibility")
    assert (endpoint.visibility, endpoint.team) == ("public", None)


def test_who_sees_changes_and_restores_one(owner, team, teammate, stranger, staff):
    mine, ours = make_endpoint(owner), make_endpoint(owner, visibility="team", team=team)
    everyones, binned = make_endpoint(owner, visibility="public"), make_endpoint(owner)
    services.delete(endpoint=binned)
    found = Endpoint.objects

    def names(rows):
        return set(rows.values_list("pk", flat=True))

    assert names(found.visible_to(owner)) == {mine.pk, ours.pk, everyones.pk}
    assert names(found.visible_to(teammate)) == {ours.pk, everyones.pk}
    assert names(found.visible_to(stranger)) == names(found.visible_to(staff)) == {everyones.pk}
    assert names(found.editable_by(teammate)) == names(found.editable_by(staff)) == set()
    assert names(found.binned_by(owner)) == {binned.pk}
    assert names(found.binned_by(stranger)) == set()
    services.restore(endpoint=binned)
    assert binned.pk in names(found.visible_to(owner))


def test_one_user_keeps_so_many(owner, monkeypatch):
    monkeypatch.setattr(services, "MAX_PER_USER", 1)
    create(owner=owner, draft=draft())
    refused(lambda: create(owner=owner, draft=draft()), "__all__")


def test_an_endpoint_of_another_kind_keeps_its_address(owner):
    """A deployment's address and model are its app's; name and sharing are its user's."""
    endpoint = make_endpoint(owner, kind="vertex", url="", model="gemma")
    update(endpoint=endpoint, by=owner, draft=dataclasses.replace(draft(name="Gemma"), model="other"))
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.url, endpoint.model) == ("Gemma", "", "gemma")
    refused(lambda: services.delete(endpoint=endpoint), "__all__")
    refused(lambda: services.restore(endpoint=endpoint), "__all__")


def test_who_left_the_team_no_longer_uses_its_cloud_connection(owner, team):
    """The endpoint of a deployment is its maker's, the credentials that it sends are the team's."""
    endpoint = make_endpoint(owner, kind="vertex", url="", visibility="team", team=team)
    own = make_endpoint(owner, kind="vertex", url="")
    with_key = make_endpoint(owner, key=KEY, visibility="team", team=team)
    found = Endpoint.objects

    def names(rows) -> set[int]:
        return set(rows.values_list("pk", flat=True))

    assert names(found.visible_to(owner)) == names(found.editable_by(owner)) == {endpoint.pk, own.pk, with_key.pk}
    owner.membership_set.filter(team=team).delete()
    assert names(found.visible_to(owner)) == names(found.editable_by(owner)) == {own.pk, with_key.pk}
    Endpoint.objects.update(deleted_at=endpoint.created)
    assert names(found.binned_by(owner)) == {own.pk, with_key.pk}


@pytest.mark.parametrize("wanted", ["public", "private", "team"])
def test_nobody_lends_the_cloud_connection_of_a_team_or_keeps_it(owner, team, wanted):
    endpoint = make_endpoint(owner, kind="vertex", url="", visibility="team", team=team)
    other = make_team("Other", editors=[owner]) if wanted == "team" else None
    errors = refused(
        lambda: update(endpoint=endpoint, by=owner, draft=draft(visibility=wanted, team=other)), "visibility"
    )
    assert "cloud connection of a team" in errors["visibility"]
    endpoint.refresh_from_db()
    assert (endpoint.visibility, endpoint.team) == ("team", team)
    update(endpoint=endpoint, by=owner, draft=draft(name="Another name", visibility="team", team=team))
    endpoint.refresh_from_db()
    assert endpoint.name == "Another name"


def test_what_comes_out_of_the_bin_needs_a_place(owner, monkeypatch):
    """Else deleting, adding and restoring would pass the limit."""
    monkeypatch.setattr(services, "MAX_PER_USER", 1)
    first = create(owner=owner, draft=draft())
    services.delete(endpoint=first)
    second = create(owner=owner, draft=draft(name="Second"))
    refused(lambda: services.restore(endpoint=first), "__all__")
    assert list(Endpoint.objects.kept()) == [second]
    services.delete(endpoint=second)
    services.restore(endpoint=first)
    assert list(Endpoint.objects.kept()) == [first]
