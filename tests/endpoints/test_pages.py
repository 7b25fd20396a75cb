"""The pages of endpoints, as somebody without scripts uses them: list, new, choose a model, edit, look again, delete and undo."""

from __future__ import annotations

import re

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.urls import reverse

from llmcompare.accounts.models import Membership
from llmcompare.endpoints import crypto
from llmcompare.endpoints.models import Endpoint, PrivateNetwork, Probe
from llmcompare.endpoints.targets import resolve
from tests.factories import make_endpoint, make_hardware, make_model, make_run
from tests.security.strings import HOSTILE
from tests.security.test_pages_input import DANGEROUS

KEY = "sk-not-to-be-seen"
URL = "https://api.example.com/v1"
SEEN = {
    "models": ["big", "small"],
    "models_problem": "",
    "model": "m",
    "routes": {
        "chat": {"works": True, "streams": True, "usage": True, "usage_asked": True, "problem": ""},
        "completions": {"works": False, "streams": None, "usage": None, "usage_asked": None, "problem": "No route."},
    },
    "abilities": {"api": "chat", "streams": True, "usage": True, "usage_asked": True},
    "problem": "",
}
pytestmark = pytest.mark.django_db


def at(name: str, endpoint: Endpoint | None = None) -> str:
    return reverse(f"endpoints:{name}", args=[endpoint.public_id] if endpoint else [])


def words(response) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def entered(**fields) -> dict[str, str]:
    return {"name": "Ours", "url": URL, "visibility": "private", "team": ""} | fields


def test_the_empty_list_says_what_to_do(owner_client):
    page = owner_client.get(at("list"))
    assert "No endpoints yet" in words(page)
    assert at("new") in page.content.decode()


def test_a_new_endpoint_is_saved_and_looked_at(owner, owner_client, bells):
    response = owner_client.post(at("new"), entered(key=KEY, model="m", api="chat"), follow=True)
    endpoint = Endpoint.objects.get()
    assert response.redirect_chain[-1][0] == at("detail", endpoint)
    assert resolve(endpoint).headers() == {"Authorization": f"Bearer {KEY}"}
    assert (endpoint.owner, endpoint.api, bells) == (owner, "chat", [1])
    assert "Waits for a worker" in words(response)
    assert "No worker is online" in words(response)


def test_what_is_wrong_is_said_at_its_field_and_nothing_but_the_key_is_lost(owner_client):
    page = owner_client.post(at("new"), entered(url="http://localhost.example/v1", key=KEY, model="m", name="Mine"))
    text = page.content.decode()
    assert "has no address" in re.search(r'id="id_url_error">(.*?)</div>\s*</div>', text, re.DOTALL)[1]
    assert 'value="http://localhost.example/v1"' in text
    assert 'value="Mine"' in text
    assert 'value="m"' in text
    assert KEY not in text
    assert "Enter the key again" in text
    assert not Endpoint.objects.exists()


def test_only_staff_is_asked_about_private_networks(owner_client, staff_client):
    assert "id_private" not in owner_client.get(at("new")).content.decode()
    assert "id_private" in staff_client.get(at("new")).content.decode()
    PrivateNetwork.objects.create(name="lab", network="127.0.0.0/8")
    here = entered(url="http://127.0.0.1:8001/v1", private="on")
    assert "private or reserved" in words(owner_client.post(at("new"), here))
    assert staff_client.post(at("new"), here).status_code == 302
    assert Endpoint.objects.get().private


def test_the_states_of_the_list(owner, owner_client, settings):
    make_endpoint(owner, name="Ready", probe=SEEN)
    make_endpoint(owner, name="Chooses", model="")
    make_endpoint(owner, name="New")
    make_endpoint(owner, name="Broken", probe={**SEEN, "abilities": None, "problem": "The server failed."})
    lost = make_endpoint(owner, name="Lost", key=KEY)
    under_way = make_endpoint(owner, name="Watched")
    Probe.objects.create(endpoint=under_way)
    settings.FIELD_KEYS = [crypto.new_field_key()]
    rows = re.findall(r'<tr>\s*<th scope="row".*?</tr>', owner_client.get(at("list")).content.decode(), re.DOTALL)
    found = {
        re.search(r'run-name"[^>]*>([^<]+)', row)[1]: re.search(r"</svg>\s*([^<]+)</span>", row)[1] for row in rows
    }
    assert {name: state.strip() for name, state in found.items()} == {
        "Ready": "ready",
        "Chooses": "choose a model",
        "New": "not looked at yet",
        "Broken": "does not answer as it should",
        "Lost": "enter the key again",
        "Watched": "being looked at",
    }
    page = words(owner_client.get(at("detail", lost)))
    assert "Enter the key again" in page
    assert "Enter it" in page


def test_no_page_decrypts_a_key(owner, owner_client, settings, monkeypatch):
    """Not to tell whether it can be read either: that is the business of the workers alone."""

    def refused(*_, **__):
        raise AssertionError("decrypted")

    for cls in (Fernet, MultiFernet):
        for name in ("decrypt", "decrypt_at_time", "rotate"):
            if hasattr(cls, name):
                monkeypatch.setattr(cls, name, refused)
    endpoint = make_endpoint(owner, name="Readable", key=KEY, probe=SEEN)
    addresses = [at("list"), at("detail", endpoint), at("edit", endpoint), "/endpoints.csv", "/endpoints.json"]
    addresses += ["/api/v1/endpoints/", f"/api/v1/endpoints/{endpoint.public_id}/"]
    for address in addresses:
        answer = owner_client.get(address)
        assert answer.status_code == 200, address
        assert b"nter the key again" not in b"".join(answer), address
    assert owner_client.post(at("edit", endpoint), entered(name="Renamed", model="m")).status_code == 302
    settings.FIELD_KEYS = [crypto.new_field_key()]
    for address in addresses:
        assert b"nter the key again" in b"".join(owner_client.get(address)), address


def test_the_page_says_what_was_seen_and_what_was_not_tried(owner, owner_client):
    page = words(owner_client.get(at("detail", make_endpoint(owner, probe=SEEN))))
    assert "/chat/completions yes the one that is used" in page
    assert "/completions no No route." in page
    assert "Counts its tokens yes when it is asked to" in page
    untried = {**SEEN, "routes": {}, "abilities": None, "problem": "x"}
    assert "/completions not tried" in words(owner_client.get(at("detail", make_endpoint(owner, probe=untried))))
    assert "Nobody has looked yet" in words(owner_client.get(at("detail", make_endpoint(owner))))


def test_a_model_is_chosen_from_the_server_s_list_or_typed(owner, owner_client, bells):
    endpoint = make_endpoint(owner, model="", probe={**SEEN, "model": "", "abilities": None, "routes": {}})
    page = owner_client.get(at("detail", endpoint)).content.decode()
    assert '<option value="small">small</option>' in page
    wrong = owner_client.post(at("model", endpoint), {"model": "", "typed": ""})
    assert wrong.status_code == 400
    assert "Choose a model" in words(wrong)
    owner_client.post(at("model", endpoint), {"model": "small", "typed": ""})
    endpoint.refresh_from_db()
    assert (endpoint.model, bells) == ("small", [1])
    owner_client.post(at("model", endpoint), {"model": "small", "typed": "org/other"})
    endpoint.refresh_from_db()
    assert endpoint.model == "org/other"


@pytest.mark.parametrize(
    ("models", "problem", "said"),
    [([], "", "list is empty"), (None, "The server has no list of models at … (status 404).", "Type the model")],
)
def test_a_server_without_a_list_has_its_model_typed(owner, owner_client, models, problem, said):
    probe = {**SEEN, "models": models, "models_problem": problem, "abilities": None, "routes": {}}
    page = words(owner_client.get(at("detail", make_endpoint(owner, model="", probe=probe))))
    assert said in page
    assert "Name of the model at the server" in page


def test_editing_keeps_replaces_and_removes_the_key(owner, owner_client):
    endpoint = make_endpoint(owner, key=KEY)

    def key_after(**fields) -> dict[str, str]:
        assert owner_client.post(at("edit", endpoint), entered(model="m", **fields)).status_code == 302
        endpoint.refresh_from_db()
        return resolve(endpoint).headers()

    assert KEY not in owner_client.get(at("edit", endpoint)).content.decode()
    assert key_after(name="Renamed") == {"Authorization": f"Bearer {KEY}"}
    assert key_after(key="sk-new") == {"Authorization": "Bearer sk-new"}
    moved = owner_client.post(at("edit", endpoint), entered(url="https://other.example.com/v1"))
    assert "must not get the stored key" in words(moved)
    assert key_after(remove_key="on") == {}


def test_a_change_of_the_server_is_looked_at_and_a_change_of_name_is_not(owner, owner_client, bells):
    endpoint = make_endpoint(owner, probe=SEEN)
    owner_client.post(at("edit", endpoint), entered(name="Renamed", model="m"))
    assert bells == []
    owner_client.post(at("edit", endpoint), entered(name="Renamed", model="n"))
    assert bells == [1]


def test_deleting_can_be_undone(owner, owner_client):
    endpoint = make_endpoint(owner, key=KEY)
    page = owner_client.post(at("delete", endpoint))
    assert "Undo" in words(page)
    assert owner_client.get(at("detail", endpoint)).status_code == 404
    back = owner_client.post(at("restore", endpoint), follow=True)
    assert "is back" in words(back)
    endpoint.refresh_from_db()
    assert resolve(endpoint).headers() == {"Authorization": f"Bearer {KEY}"}


def test_a_deployment_is_not_thrown_away_from_here(owner, owner_client):
    """It would go on and cost, out of sight."""
    endpoint = make_endpoint(owner, kind="vertex", url="")
    page = owner_client.get(at("detail", endpoint)).content.decode()
    assert at("delete", endpoint) not in page
    assert "Undeploy the model instead" in words(owner_client.post(at("delete", endpoint), follow=True))
    Endpoint.objects.update(deleted_at=endpoint.created)
    assert "Undeploy" in words(owner_client.post(at("restore", endpoint), follow=True))
    assert not Endpoint.objects.kept().exists()


def test_looking_again_shows_how_far_it_is(owner, owner_client, bells):
    endpoint = make_endpoint(owner, probe=SEEN)
    owner_client.post(at("look", endpoint))
    assert bells == [1]
    htmx = {"HX-Request": "true"}
    page = owner_client.get(at("status", endpoint), headers=htmx)
    version = re.search(r"\?v=([^\"]+)\"", page.content.decode())[1]
    assert owner_client.get(f"{at('status', endpoint)}?v={version}", headers=htmx).status_code == 204
    Probe.objects.update(state="running", claim="x", lease_until="2999-01-01T00:00Z", progress=0.4, message="Asks.")
    assert "Asks." in owner_client.get(f"{at('status', endpoint)}?v={version}", headers=htmx).content.decode()
    Probe.objects.update(state="done", claim=None, lease_until=None)
    assert owner_client.get(at("status", endpoint), headers=htmx)["HX-Refresh"] == "true"


def test_the_list_is_searched_and_so_are_its_exports(owner, owner_client):
    make_endpoint(owner, name="Lab", model="llama")
    make_endpoint(owner, name="Other", url="https://other.example.com/v1")
    for asked, names in (("lab", ["Lab"]), ("LLAMA", ["Lab"]), ("other.ex", ["Other"]), ("", ["Lab", "Other"])):
        shown = owner_client.get(at("json"), {"q": asked}).json()["endpoints"]
        assert [one["name"] for one in shown] == names
        page = words(owner_client.get(at("list"), {"q": asked}))
        assert all((name in page) == (name in names) for name in ("Lab", "Other"))
    assert "Nothing matches" in words(owner_client.get(at("list"), {"q": "nobody"}))


def test_its_runs_are_on_its_page_for_whoever_sees_them(owner, team, owner_client, teammate_client):
    endpoint = make_endpoint(owner, visibility="team", team=team, probe=SEEN)
    make_run(owner, kind="endpoint", endpoint=endpoint, title="A run of it")
    assert "A run of it" in words(owner_client.get(at("detail", endpoint)))
    assert "No runs of this endpoint yet" in words(teammate_client.get(at("detail", endpoint)))
    link = f"{reverse('runs:new')}?kind=endpoint&amp;endpoint={endpoint.public_id}"
    assert link in teammate_client.get(at("detail", endpoint)).content.decode()
    form = teammate_client.get(reverse("runs:new"), {"kind": "endpoint", "endpoint": endpoint.public_id})
    assert f'value="{endpoint.public_id}" selected' in form.content.decode()


def test_a_teammate_uses_it_and_sees_no_private_links_of_its_owner(owner, team, teammate_client, owner_client):
    theirs = {"hardware": make_hardware(name="Secret box", source="private", owner=owner)}
    theirs["language_model"] = make_model(name="Secret model", source="upload", owner=owner)
    endpoint = make_endpoint(owner, visibility="team", team=team, key=KEY, probe=SEEN, **theirs)
    assert "Secret box" in words(owner_client.get(at("detail", endpoint)))
    page = teammate_client.get(at("detail", endpoint))
    assert page.status_code == 200
    assert "Secret" not in words(page)
    assert at("edit", endpoint) not in page.content.decode()
    for name in ("edit", "look", "delete", "model"):
        assert teammate_client.post(at(name, endpoint)).status_code == 404


def test_exports_have_a_row_for_each_and_no_key(owner, owner_client):
    make_endpoint(owner, name="=cmd", key=KEY, probe=SEEN)
    text = owner_client.get(at("csv")).getvalue().decode()
    assert "'=cmd" in text
    [shown] = owner_client.get(at("json")).json()["endpoints"]
    assert (shown["key_set"], shown["state"], shown["streams"]) == (True, "ready", True)
    sealed = Endpoint.objects.get().sealed_key
    for name in (at("csv"), at("json"), at("detail-json", Endpoint.objects.get())):
        body = owner_client.get(name).getvalue().decode()
        assert KEY not in body
        assert sealed not in body


def test_exports_have_the_states_of_the_page(owner, owner_client, team, teammate_client):
    shared = {"hardware": make_hardware(), "language_model": make_model()}
    own = {
        "hardware": make_hardware(owner=owner, source="private"),
        "language_model": make_model(owner=owner, source="upload"),
    }
    make_endpoint(owner, name="A", probe=SEEN, visibility="team", team=team, **shared)
    Probe.objects.create(endpoint=make_endpoint(owner, name="B", visibility="team", team=team, **own))
    names = (shared["hardware"].slug, own["hardware"].slug)
    for client, devices in ((owner_client, names), (teammate_client, (names[0], None))):
        shown = client.get(at("json")).json()["endpoints"]
        assert [(one["state"], one["hardware"]) for one in shown] == list(
            zip(("ready", "checking"), devices, strict=True)
        )
        assert client.get("/api/v1/endpoints/").json()["results"][1]["hardware"] == devices[1]
        sheet = client.get(at("csv")).getvalue().decode()
        assert "checking" in sheet
        assert (names[1] in sheet) is (devices[1] is not None)


def test_queries_of_exports_do_not_grow_with_the_endpoints(owner, owner_client, django_assert_max_num_queries):
    for _ in range(12):
        make_endpoint(owner, hardware=make_hardware(), language_model=make_model())
    for path in (at("json"), at("csv"), "/api/v1/endpoints/"):
        with django_assert_max_num_queries(10):
            assert owner_client.get(path).getvalue()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_a_user_or_a_server_says_is_shown_as_text(text, owner, owner_client):
    said = text[:150]
    probe = {**SEEN, "models": [said], "models_problem": said, "abilities": None, "problem": said}
    probe["routes"] = {"chat": {**SEEN["routes"]["completions"], "problem": said}}
    endpoint = make_endpoint(owner, name=said, model=said, probe=probe)
    Probe.objects.create(endpoint=endpoint, state="failed", error=said)
    for name in ("list", "csv", "json"):
        assert owner_client.get(at(name)).status_code == 200
    for name in ("detail", "edit", "detail-json"):
        page = owner_client.get(at(name, endpoint))
        assert page.status_code == 200
        if name != "detail-json":
            assert not any(broken in page.content.decode() for broken in DANGEROUS)


def test_an_editor_of_the_team_is_not_asked_who_may_use_it(owner, owner_client, team, teammate_client):
    Membership.objects.filter(user__username="teammate").update(role="editor")
    endpoint = make_endpoint(owner, visibility="team", team=team, key=KEY)
    assert "id_visibility" in owner_client.get(at("edit", endpoint)).content.decode()
    page = teammate_client.get(at("edit", endpoint)).content.decode()
    assert "id_visibility" not in page
    assert "id_team" not in page
    assert teammate_client.post(at("edit", endpoint), entered(name="Renamed", visibility="public")).status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.visibility, endpoint.team) == ("Renamed", "team", team)


def test_the_endpoint_of_a_team_s_deployment_is_edited_without_a_choice_of_who_uses_it(owner, owner_client, team):
    endpoint = make_endpoint(owner, kind="vertex", url="", visibility="team", team=team)
    assert 'name="visibility"' not in owner_client.get(at("edit", endpoint)).content.decode()
    owner_client.post(at("edit", endpoint), {"name": "Renamed", "visibility": "public"})
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.visibility, endpoint.team) == ("Renamed", "team", team)
