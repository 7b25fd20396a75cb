"""Models of the Hub in the portal, through the real client in a process of its own, against a stand-in for the Hub."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from llmcompare.catalog import hub, services
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from profiling import hub as engine
from tests.profiling.folders import make_model_folder
from tests.profiling.hub_server import COMMIT, running

PAGE = "/models/hub/"


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = make_model_folder(tmp_path / "source", tensors={"w": [1024, 1024]})
    monkeypatch.setattr(services, "facts_or_refusal", lambda spec: None)
    monkeypatch.setattr(hub, "ROOT", tmp_path / "hub")
    with running({path.name: path.read_bytes() for path in folder.iterdir()}) as server:
        monkeypatch.setenv("LLMCOMPARE_HUB", "on")
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def test_it_is_off_and_says_how_it_is_turned_on(owner_client, monkeypatch, db):
    monkeypatch.delenv("LLMCOMPARE_HUB", raising=False)
    assert "LLMCOMPARE_HUB=on" in owner_client.get(PAGE).content.decode()
    answer = owner_client.post("/api/v1/hub/models/", {"hub": "org/tiny"}, content_type="application/json")
    assert answer.status_code == 400
    assert "LLMCOMPARE_HUB=on" in answer.json()["errors"]["hub"]


def test_a_model_is_added_at_its_commit_once_and_can_be_estimated(owner_client, server, db):
    response = owner_client.post(PAGE, {"hub": "org/tiny@main"})
    model = LanguageModel.objects.get(source="hub")
    assert response["Location"] == f"/models/{model.slug}/"
    assert (model.name, model.hf_id, model.weights) == (f"org/tiny@{COMMIT[:12]}", "org/tiny", "random")
    assert COMMIT in model.weights_note
    assert model.to_spec().source == "hub"
    again = owner_client.post("/api/v1/hub/models/", {"hub": f"org/tiny@{COMMIT}"}, content_type="application/json")
    assert again.json()["slug"] == model.slug
    assert LanguageModel.objects.filter(source="hub").count() == 1
    html = owner_client.get(f"/models/{model.slug}/").content.decode()
    assert COMMIT in html
    assert "Fetch its weights" not in html  # for administrators


@pytest.mark.parametrize(
    ("text", "words"),
    [("tiny", "organisation/name"), ("org/absent", "no public model"), ("org/tiny@x", "no revision x")],
)
def test_what_is_not_there_is_said_at_the_field(owner_client, server, db, text, words):
    page = owner_client.post(PAGE, {"hub": text})
    assert words in page.content.decode()
    assert not LanguageModel.objects.exists()


def test_weights_are_fetched_by_a_worker_and_then_used(staff_client, server, db, monkeypatch):
    model = hub.add_model(text="org/tiny")
    assert "Fetch its weights" in staff_client.get(f"/models/{model.slug}/").content.decode()
    staff_client.post(f"/models/{model.slug}/hub-weights/")
    assert hub.wanted() == model
    hub.fetch(model=hub.wanted(), should_stop=lambda: False)
    model.refresh_from_db()
    assert (model.weights, hub.wanted()) == ("local", None)
    assert Path(model.weights_path, "model.safetensors").is_file()
    assert len(model.weights_digest) == 64


def test_a_download_that_cannot_be_finished_says_why(server, db):
    model = hub.add_model(text="org/tiny")
    hub.ask_for_weights(model=model)
    server.wrong = bytes(len(server.files["model.safetensors"]))
    hub.fetch(model=hub.wanted(), should_stop=lambda: False)
    model.refresh_from_db()
    assert model.weights == "failed"
    assert "SHA-256" in model.weights_note


def test_stopping_ends_the_download_and_the_next_goes_on(staff_client, server, db):
    model = hub.add_model(text="org/tiny")
    hub.ask_for_weights(model=model)
    server.slow = threading.Event()
    asked = []

    def stop() -> bool:
        asked.append(True)
        if any(path.startswith("/cdn/") for _, path, _ in server.requests) and len(asked) > 8:
            staff_client.post(f"/models/{model.slug}/hub-weights/", {"cancel": "1"})
        return False

    hub.fetch(model=hub.wanted(), should_stop=stop)
    model.refresh_from_db()
    assert (model.weights, hub.wanted()) == ("random", None)
    assert COMMIT in model.weights_note
    server.slow.set()
    server.slow = None
    hub.ask_for_weights(model=model)
    hub.fetch(model=hub.wanted(), should_stop=lambda: False)
    model.refresh_from_db()
    assert model.weights == "local"


def test_too_large_is_refused_before_a_worker_is_asked(server, db, monkeypatch):
    model = hub.add_model(text="org/tiny")
    monkeypatch.setenv("LLMCOMPARE_HUB_MAX_GB", "0.001")
    with pytest.raises(FieldErrors, match="at most"):
        hub.ask_for_weights(model=model)
    monkeypatch.setenv("LLMCOMPARE_HUB", "off")
    with pytest.raises(FieldErrors, match="is off"):
        hub.ask_for_weights(model=model)
    assert not engine.is_on()


def test_a_model_that_is_added_twice_at_the_same_moment_is_one(server, db, monkeypatch):
    added = []

    def meanwhile(spec):
        if not added:
            added.append(None)
            added.append(hub.add_model(text="org/tiny"))

    monkeypatch.setattr(services, "facts_or_refusal", meanwhile)
    assert hub.add_model(text="org/tiny") == added[1]
    assert LanguageModel.objects.filter(source="hub").count() == 1
