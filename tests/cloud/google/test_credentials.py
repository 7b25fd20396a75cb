"""References to credentials: what is accepted, what is refused, and that nothing of a refused one is read, sent or shown."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from llmcompare.cloud.google.credentials import TOKEN_URI, check, credentials, service_account_key
from llmcompare.cloud.google.errors import CloudError, translated


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


@pytest.fixture
def key(private_key) -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": "project-alpha",
        "private_key_id": "abc",
        "private_key": private_key,
        "client_email": "robot@project-alpha.iam.gserviceaccount.com",
        "token_uri": TOKEN_URI,
    }


@pytest.fixture
def trap():
    """A server that counts who comes by."""
    visits = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            visits.append(self.path)
            self.send_error(404)

        do_GET = do_POST

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", visits
    finally:
        server.shutdown()
        server.server_close()


def refused(kind: str, value: str) -> CloudError:
    with pytest.raises(CloudError) as error:
        credentials(kind, value)
    return error.value


def test_a_key_in_a_variable_of_the_operator(key, monkeypatch):
    monkeypatch.setenv("LLMCOMPARE_GOOGLE_KEY_ONE", json.dumps(key))
    found = credentials("secret", "env:LLMCOMPARE_GOOGLE_KEY_ONE")
    assert found.service_account_email == key["client_email"]
    assert found._token_uri == TOKEN_URI


def test_a_key_in_the_operators_folder(key, settings, tmp_path):
    (tmp_path / "keys").mkdir()
    settings.GOOGLE_KEYS_DIR = str(tmp_path / "keys")
    (tmp_path / "keys" / "alpha.json").write_text(
        json.dumps(key | {"token_uri": "https://accounts.google.com/o/oauth2/token"})
    )
    assert credentials("secret", "file:alpha.json")._token_uri == TOKEN_URI
    (tmp_path / "keys" / "..data").mkdir()
    (tmp_path / "keys" / "..data" / "real").write_text(json.dumps(key))
    (tmp_path / "keys" / "linked.json").symlink_to("..data/real")  # the way clusters mount secrets
    assert credentials("secret", "file:linked.json")


def test_files_outside_of_the_folder_are_not_read(key, settings, tmp_path):
    (tmp_path / "outside.json").write_text(json.dumps(key))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "out.json").symlink_to("../outside.json")
    settings.GOOGLE_KEYS_DIR = str(tmp_path / "keys")
    assert "no key named out.json" in refused("secret", "file:out.json").sentence
    for value in (
        "file:../outside.json",
        "file:/etc/passwd",
        "file:",
        "file:.hidden",
        "file:a/b",
        "env:",
        "env:LLMCOMPARE_GOOGLE_KEY_lower",
        "env:LLMCOMPARE_SECRET_KEY",
        "env:PATH",
        "x",
    ):
        assert refused("secret", value).code == "invalid"
    settings.GOOGLE_KEYS_DIR = ""
    assert "named no folder" in refused("secret", "file:alpha.json").sentence
    assert "GOOGLE_KEY_TWO is not set" in refused("secret", "env:LLMCOMPARE_GOOGLE_KEY_TWO").sentence


def test_a_file_that_is_too_large_is_no_key(settings, tmp_path):
    settings.GOOGLE_KEYS_DIR = str(tmp_path)
    (tmp_path / "big").write_text("x" * 70_000)
    assert "too large" in refused("secret", "file:big").sentence


def test_external_accounts_are_refused_without_reading_or_sending_anything(trap, monkeypatch, tmp_path):
    address, visits = trap
    bait = tmp_path / "bait"
    bait.write_text("secret of the machine")
    hostile = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{address}/token",
        "credential_source": {"file": str(bait)},
    }
    monkeypatch.setenv("LLMCOMPARE_GOOGLE_KEY_ONE", json.dumps(hostile))
    error = refused("secret", "env:LLMCOMPARE_GOOGLE_KEY_ONE")
    assert "not the key of a service account" in error.sentence
    assert "secret of the machine" not in str(error)
    assert visits == []


@pytest.mark.parametrize("field", ["token_uri", "universe_domain"])
def test_a_key_whose_token_would_go_elsewhere_is_refused(key, trap, monkeypatch, field):
    address, visits = trap
    monkeypatch.setenv("LLMCOMPARE_GOOGLE_KEY_ONE", json.dumps(key | {field: f"{address}/token"}))
    error = refused("secret", "env:LLMCOMPARE_GOOGLE_KEY_ONE")
    assert error.code == "credentials"
    assert address not in error.sentence
    assert visits == []


def test_nothing_but_the_three_values_of_a_key_is_used(key):
    kept = service_account_key(key | {"auth_uri": "http://evil", "client_x509_cert_url": "file:///etc/passwd"})
    assert set(kept) == {"type", "token_uri", "client_email", "private_key", "private_key_id"}


@pytest.mark.parametrize(
    "change", [{"private_key": "not a key"}, {"private_key": ""}, {"client_email": 5}, {"type": "authorized_user"}]
)
def test_keys_that_cannot_be_used_are_not_shown(key, monkeypatch, change):
    monkeypatch.setenv("LLMCOMPARE_GOOGLE_KEY_ONE", json.dumps(key | change))
    error = refused("secret", "env:LLMCOMPARE_GOOGLE_KEY_ONE")
    assert error.code == "credentials"
    assert "not a key" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"type"'])
def test_text_that_is_no_key(monkeypatch, text):
    monkeypatch.setenv("LLMCOMPARE_GOOGLE_KEY_ONE", text)
    assert refused("secret", "env:LLMCOMPARE_GOOGLE_KEY_ONE").code == "credentials"


def test_bare_tokens_are_for_tests_only(settings):
    assert credentials("token", "abc").token == "abc"
    settings.CLOUD_TEST_TOKENS = False
    assert refused("token", "abc").code == "invalid"


@pytest.mark.parametrize(
    "value", ["", "me@example.com", "x@evil.com/.gserviceaccount.com", "a@b.gserviceaccount.com\nx", "https://x"]
)
def test_only_service_accounts_are_impersonated(value):
    with pytest.raises(CloudError, match="service account's address"):
        check("impersonate", value)


def test_kinds_that_do_not_exist_are_refused():
    assert refused("file", "/etc/passwd").code == "invalid"
    assert refused("external_account", "{}").code == "invalid"


def test_impersonation_starts_from_what_the_machine_is(monkeypatch, key):
    import google.auth
    from google.oauth2.credentials import Credentials

    monkeypatch.setattr(google.auth, "default", lambda scopes: (Credentials("the machine's"), None))
    found = credentials("impersonate", key["client_email"])
    assert found.service_account_email == key["client_email"]
    assert credentials("adc").token == "the machine's"


def test_a_machine_without_an_identity_says_so(monkeypatch):
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError, RefreshError

    def none(scopes):
        raise DefaultCredentialsError("Your default credentials were not found. /root/.config/secret")

    monkeypatch.setattr(google.auth, "default", none)
    error = refused("adc", "")
    assert "no identity of its own" in error.sentence
    assert "/root" not in error.sentence
    with pytest.raises(CloudError, match="Token Creator"), translated():
        raise RefreshError("Unable to acquire impersonated credentials: iam.serviceAccounts.getAccessToken denied")
