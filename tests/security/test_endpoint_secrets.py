"""An API key that was entered is nowhere to be found again: not on pages, in exports, answers, logs, messages of the broker, errors, files,
or the database as it lies on the disk. Every path that a key takes is walked, and everything that came of it is searched."""

from __future__ import annotations

import functools
import io
import json
import logging
import threading

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from llmcompare.celery import app
from llmcompare.endpoints import carrying, crypto, probing
from llmcompare.endpoints.models import Endpoint, PrivateNetwork
from tests.endpoints.servers import running
from tests.security.cast import browser_of, script_of

SECRET = "sk-Zq7-never-to-be-found-4711"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_field_keys(settings, tmp_path):
    settings.DATA_DIR, settings.FIELD_KEYS = tmp_path, []


@pytest.fixture
def messages(monkeypatch) -> list[str]:
    """What would have gone to the broker."""
    sent: list[str] = []
    monkeypatch.undo()
    monkeypatch.setattr(app, "send_task", lambda *args, **options: sent.append(repr((args, options))))
    monkeypatch.setattr("llmcompare.runs.services.ring", lambda run: None)
    return sent


def look_at_all(owner) -> None:
    for endpoint in Endpoint.objects.kept():
        probe = probing.ask(endpoint=endpoint, user=owner)
        carrying.carry_out(probe_id=probe.pk, worker="here", shutdown=threading.Event())


async def echo(request):
    """A server that sends back what it was sent wherever it can."""
    said = request.headers.get("authorization", "none")
    if request.path.endswith("/models"):
        return await request.whole({"data": [{"id": f"model of {said}"}]})
    if "chat" in request.path:
        return await request.whole({"error": {"message": f"bad key: {said}"}}, 400)
    await request.head()
    await request.event({"error": {"message": "y" * 290 + said}})
    await request.end()


def database_as_text() -> str:
    connection.ensure_connection()
    return "\n".join(connection.connection.iterdump())


def test_the_key_is_nowhere(staff, owner, team, messages, caplog, settings, tmp_path):
    caplog.set_level(logging.DEBUG)
    PrivateNetwork.objects.create(name="lab", network="127.0.0.0/8")
    browser, script, found = browser_of(staff), script_of(staff), io.StringIO()
    team.members.add(staff, through_defaults={"role": "editor"})
    fields = {"name": "Ours", "visibility": "team", "team": team.slug, "key": SECRET, "private": "on", "model": "m"}

    def keep(response) -> None:
        found.write(response.getvalue().decode())
        found.write(repr(sorted(response.items())) + repr(response.cookies))

    with running(echo) as (base, requests):
        keep(browser.post("/endpoints/new/", fields | {"url": "http://127.0.0.1:1/no way"}))
        keep(browser.post("/endpoints/new/", fields | {"url": base}))
        body = {"name": "Ours too", "url": base, "key": SECRET, "private": True, "model": "m"}
        for path, sent in (("", body), ("", body | {"url": "ftp://x"}), ("", body | {"nonsense": SECRET[:3]})):
            keep(script.post(f"/api/v1/endpoints/{path}", sent, content_type="application/json"))
        endpoint = Endpoint.objects.get(name="Ours")
        look_at_all(staff)
        at = f"/endpoints/{endpoint.public_id}/"
        keep(browser.post(f"{at}edit/", fields | {"url": "http://127.0.0.1:2/v1", "key": ""}))
        keep(browser.post(f"{at}edit/", fields | {"url": base, "name": "Still ours"}))
        look_at_all(staff)
    assert any(SECRET in request.headers.get("authorization", "") for request in requests), "it was really sent"

    # Lost field keys, and a fault in the middle, with Django's page for developers.
    before = crypto.field_keys()
    settings.FIELD_KEYS = [crypto.new_field_key()]
    look_at_all(staff)
    keep(browser.get(at))
    settings.FIELD_KEYS = before
    pages = [at, f"{at}edit/", f"{at}status/", at.rstrip("/") + ".json", "/endpoints/", "/endpoints.csv"]
    pages += ["/endpoints.json", "/admin/", "/admin/endpoints/privatenetwork/", "/admin/auth/group/"]
    for person in (staff, owner):
        for path in pages:
            keep(browser_of(person).get(path))
    for path in ("", f"{endpoint.public_id}/"):
        keep(script.get(f"/api/v1/endpoints/{path}"))
    keep(script.post(f"/api/v1/endpoints/{endpoint.public_id}/probe/"))
    keep(browser.post(f"{at}delete/"))
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)
    errors = io.StringIO()
    call_command("rotate_field_keys", stdout=errors, stderr=errors)

    places = {
        "pages, exports and answers": found.getvalue(),
        "messages of the broker": "\n".join(messages),
        "logs": "\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records),
        "dumpdata": dump.getvalue(),
        "the database": database_as_text(),
        "output of commands": errors.getvalue(),
        "files": "\n".join(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()),
        "objects": "\n".join(repr(vars(one)) for one in Endpoint.objects.all()),
    }
    assert messages
    assert len(caplog.records) > 20
    for place, text in places.items():
        assert text, place
        assert SECRET not in text, place
        assert "never-to-be-found" not in text, place
    # A server's excerpt may end in the middle of it.
    assert SECRET[:8] not in json.dumps([one.probe for one in Endpoint.objects.all()])


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("fault_in", ["seal", "save", "look"])
def test_a_fault_of_the_portal_shows_and_logs_no_key(owner, settings, monkeypatch, caplog, debug, fault_in):
    """Django's page for developers has the variables of every frame; the log has the traceback."""
    settings.DEBUG = debug
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("profiling.remote.addresses.system_resolve", lambda host, port: ["93.184.215.14"])

    def fault(*args, **options):
        raise RuntimeError("a fault")

    where = {
        "seal": "llmcompare.endpoints.crypto.seal",
        "save": "llmcompare.endpoints.models.Endpoint.save",
        "look": "llmcompare.endpoints.probing.ask",
    }
    monkeypatch.setattr(where[fault_in], fault)
    fields = {"name": "Ours", "url": "https://api.example.com/v1", "key": SECRET, "visibility": "private"}
    browser = Client(raise_request_exception=False)
    browser.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    script = script_of(owner)
    script.raise_request_exception = False
    for answer in (
        browser.post("/endpoints/new/", fields),
        script.post("/api/v1/endpoints/", fields, content_type="application/json"),
    ):
        assert answer.status_code == 500
        assert SECRET not in answer.content.decode()
    assert "a fault" in caplog.text
    assert SECRET not in caplog.text


def test_a_draft_and_a_place_do_not_print_their_key():
    from llmcompare.endpoints.services import Draft
    from profiling.remote.look import Place

    assert SECRET not in repr(Draft(name="x", url="y", key=SECRET)) + repr(Place("x", key=SECRET))
    assert SECRET not in repr(functools.partial(Place, "x")(key=SECRET))


def test_of_an_excerpt_that_ends_in_the_middle_of_a_key_nothing_of_the_key_is_kept():
    from profiling.remote.protocol import cleaned
    from profiling.remote.secrets import secrets_of, without

    said = cleaned("y" * 290 + SECRET)
    assert SECRET[:8] in said
    kept = without(secrets_of({"Authorization": f"Bearer {SECRET}"}), {"failures": [said, f"An error: {said}"]})
    assert kept == {"failures": ["y" * 290 + "…", "An error: " + "y" * 290 + "…"]}
