"""What workers log in to Google with is nowhere to be found: every address of the portal is asked as everybody, every page of the admin is
opened, and whatever came of a connection that was read, refused, used and broken is searched."""

from __future__ import annotations

import gzip
import io
import json
import logging

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.apps import apps
from django.core.management import call_command
from django.db import connection as database
from django.urls import NoReverseMatch, reverse
from google.auth import jwt

from llmcompare.cloud import connections, reading
from llmcompare.cloud.google.errors import by_status, without_credentials
from llmcompare.cloud.models import Connection, Deployment, Operation
from tests.cloud.conftest import Hand
from tests.security.access_table import API, TABLE
from tests.security.cast import WHO, browser_of, make_world, script_of
from tests.security.test_access import ADMIN, ask
from tests.standins.vertex.fixture import REGION, vertex, vertex_process  # noqa: F401

TOKEN = "ya29.Zq7-never-to-be-found-4711"
pytestmark = pytest.mark.django_db


@pytest.fixture
def people(owner, teammate, stranger, staff):
    return {"anonymous": None, "stranger": stranger, "teammate": teammate, "staff": staff, "owner": owner}


def written(response) -> str:
    body = response.getvalue()
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    return body.decode() + repr(sorted(response.items())) + repr(response.cookies)


def test_no_address_of_the_portal_answers_with_a_token(owner, team, people, caplog):
    """Pages, exports and the API; also what is asked for, refused, deleted and put back."""
    caplog.set_level(logging.DEBUG)
    world = make_world(owner, team)
    Connection.objects.update(credential_kind="token", credential=TOKEN)
    asked = 0
    for name, cases in TABLE.items():
        for case in cases:
            for who in WHO:
                client = script_of(people[who]) if name in API else browser_of(people[who])
                client.raise_request_exception = False
                assert TOKEN not in written(ask(client, name, case, world)), (name, case, who)
                asked += 1
    assert asked > 1000
    assert Connection.objects.filter(credential=TOKEN).exists(), "it is still there to be found"
    assert TOKEN not in logged(caplog)


def test_no_page_of_the_admin_shows_a_token(owner, team, staff):
    make_world(owner, team)
    Connection.objects.update(credential_kind="token", credential=TOKEN)
    Operation.objects.create(connection=Connection.objects.first(), kind="deploy")
    browser, opened = browser_of(staff), 0
    for name in ADMIN:
        for path in admin_paths(name):
            answer = browser.get(path, {"q": TOKEN[:8]}) if name.endswith("changelist") else browser.get(path)
            text = written(answer).replace(f'value="{TOKEN[:8]}"', "")
            assert TOKEN not in text, path
            opened += answer.status_code == 200
    assert opened > 50


def admin_paths(name: str) -> list[str]:
    """Every page of the admin that has this name: one for each row of its model where it is about a row."""
    _admin, _colon, page = name.partition(":")
    models = {f"{m._meta.app_label}_{m._meta.model_name}": m for m in apps.get_models()}
    model = models.get(page.rpartition("_")[0])
    choices = [[]] if model is None else [[], *([str(pk)] for pk in model._base_manager.values_list("pk", flat=True))]
    found = []
    for args in choices:
        try:
            found.append(reverse(name, args=args))
        except NoReverseMatch:
            continue
    return found


def logged(caplog) -> str:
    return "\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records)


def everything_kept() -> str:
    """All tables as they lie in the database, and the objects as they print themselves."""
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)
    database.ensure_connection()
    rows = [repr(vars(one)) for model in (Connection, Deployment, Operation) for one in model.objects.all()]
    return "\n".join([dump.getvalue(), *database.connection.iterdump(), *rows])


def test_a_service_that_repeats_the_token_in_its_refusal(vertex, settings, owner, staff, caplog):  # noqa: F811
    """Google's words are shown, and no credential with them."""
    caplog.set_level(logging.DEBUG, logger="llmcompare")
    settings.CLOUD_TEST_TOKENS, settings.VERTEX_BASE = True, vertex.base
    hand = Hand(vertex)
    connection = hand.read(hand.connect(owner))
    model = hand.model(connection)
    said = "Request had invalid authentication: Authorization: Bearer token-alpha was refused."
    vertex.fail("DeployModel", 400, said)
    hand.ask(connection, model=model)
    hand.work()
    vertex.fail("ListModels", 403, said)
    hand.read(connection)
    assert connection.read_error
    assert Deployment.objects.get().error
    Connection.objects.update(credential="")
    kept = everything_kept() + logged(caplog)
    pages = (f"/cloud/{connection.public_id}/", "/cloud/", f"/cloud/deployments/{Deployment.objects.get().public_id}/")
    shown = [written(browser_of(user).get(page)) for user in (owner, staff) for page in pages]
    assert "token-alpha" not in kept
    assert not any("token-alpha" in text for text in shown)


@pytest.fixture
def key(tmp_path, settings) -> str:
    """A service account's key that the operator put on the worker's machine; its middle, which nothing else contains."""
    settings.GOOGLE_KEYS_DIR = str(tmp_path)
    pem = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
    found = {"type": "service_account", "client_email": "robot@p.iam.gserviceaccount.com", "private_key": pem}
    (tmp_path / "robot.json").write_text(json.dumps(found | {"private_key_id": "abc"}))
    (tmp_path / "broken.json").write_text(json.dumps(found | {"private_key_id": "abc", "private_key": pem[:900]}))
    (tmp_path / "no.json").write_text(pem)
    return pem.splitlines()[5]


@pytest.mark.parametrize("name", ["robot.json", "broken.json", "no.json"])
def test_a_key_on_the_workers_machine_is_nowhere(key, name, settings, vertex, staff, caplog, monkeypatch):  # noqa: F811
    """Whether Google refuses it (and says what it was sent), or it is none."""
    caplog.set_level(logging.DEBUG)
    settings.VERTEX_BASE, signed, encode = vertex.base, [], jwt.encode

    def remember(*args, **options):
        made = encode(*args, **options)
        signed.append(made.decode())
        vertex.fail("ListModels", 403, f"Who is {made.decode()}? Not to be seen: Authorization: Bearer {made.decode()}")
        return made

    monkeypatch.setattr(jwt, "encode", remember)
    made = connections.create(
        owner=staff,
        name="Ours",
        project="project-alpha",
        region=REGION,
        credential_kind="secret",
        credential=f"file:{name}",
    )
    assert reading.read(connection_id=made.pk)
    made.refresh_from_db()
    assert made.read_error
    assert bool(signed) == (name == "robot.json"), "a key that can be read was really used"
    page = written(browser_of(staff).get(f"/cloud/{made.public_id}/"))
    assert made.read_error[:20] in page
    api = written(script_of(staff).get("/api/v1/cloud/connections/"))
    for text in (everything_kept(), page, api, logged(caplog)):
        assert key not in text
        assert not any(words in text or words[-80:] in text for words in signed)


@pytest.mark.parametrize("fault", [False, True])
def test_a_key_that_was_pasted_by_mistake_is_not_handed_back(
    key, fault, staff, settings, tmp_path, caplog, monkeypatch
):
    """Nor by the page for developers, nor by the log, when the portal has a fault just then."""
    settings.DEBUG = True
    pasted = (tmp_path / "robot.json").read_text()
    if fault:
        monkeypatch.setattr("llmcompare.cloud.connections.check", lambda kind, value: 1 / 0)
    browser, script = browser_of(staff), script_of(staff)
    browser.raise_request_exception = script.raise_request_exception = False
    fields = {"name": "Ours", "project": "project-alpha", "region": REGION, "credential_kind": "secret"}
    answers = [browser.post("/cloud/new/", fields | {"credential": pasted})]
    answers.append(browser.post("/cloud/new/", fields | {"credential": key}))
    answers.append(
        script.post(
            "/api/v1/cloud/connections/",
            fields | {"credential": key if fault else pasted},
            content_type="application/json",
        )
    )
    assert [answer.status_code for answer in answers] == ([200, 500, 500] if fault else [200, 200, 400])
    assert not any(key in written(answer) for answer in answers)
    assert key not in logged(caplog)
    assert not Connection.objects.exists()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Authorization: Bearer abc.DEF-1 was refused", "Authorization: Bearer … was refused"),
        ("The token ya29.a0Af_x-1 has expired", "The token … has expired"),
        ("Invalid JWT: eyJhbGciOi.eyJpc3MiOi.c2ln-_x", "Invalid JWT: …"),
        ("key -----BEGIN PRIVATE KEY----- MIIE vQ== -----END PRIVATE KEY----- is wrong", "key … is wrong"),
        ("key -----BEGIN RSA PRIVATE KEY----- MIIE", "key …"),
        ("The quota of bearers is 3; see eye.gov", "The quota of bearers is 3; see eye.gov"),
    ],
)
def test_credentials_are_taken_out_of_the_words_of_others(said, kept):
    assert without_credentials(said) == kept
    assert by_status(400, said).sentence.endswith(f"{kept}.")
