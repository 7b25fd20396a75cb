"""Requests that must be answered before anything reads them, or looks for what is in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.test import Client
from django.urls import reverse

from tests.factories import make_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", ["/accounts/login/", "/models/upload/", "/api/v1/auth/login/", "/nowhere/"])
def test_a_huge_body_is_refused_before_it_is_read(path, db, monkeypatch, settings):
    def read(*_):
        raise AssertionError("the file was written to disk")

    monkeypatch.setattr(TemporaryFileUploadHandler, "new_file", read)
    settings.MAX_REQUEST_BYTES = 100_000
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1000
    client = Client(enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "a" * 32
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
    body = head + b"a" * 200_000 + b"\r\n--x--\r\n"
    response = client.post(path, body, content_type="multipart/form-data; boundary=x")
    assert response.status_code == 413
    assert "100,000 bytes" in response.content.decode()


def test_a_config_of_the_allowed_size_is_below_the_limit(settings):
    assert settings.CONFIG_UPLOAD_BYTES * 2 < settings.MAX_REQUEST_BYTES <= 10_000_000


def test_nul_in_a_query_is_left_out(owner, owner_client):
    make_run(owner, title="findable")
    make_run(owner, title="another")
    for text in ("find%00able", "find%%0000able"):
        found = owner_client.get("/runs.csv?q=" + text).getvalue()
        assert b"findable" in found
        assert b"another" not in found


SCRIPT = """
import django; django.setup()
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
from llmcompare.accounts.models import User
client = Client(raise_request_exception=False, SERVER_NAME="127.0.0.1")
client.force_login(User.objects.create(username="a"), backend="django.contrib.auth.backends.ModelBackend")
get = ["/runs/a%00b/", "/runs/%00.csv", "/runs/%00.json", "/runs/%00/status/", "/runs/%00/row/", "/runs/%00/rerun/",
       "/compare/?runs=a%00,b", "/compare.csv?runs=%00", "/compare.json?runs=%00", "/runs/new/?from=%00", "/runs/?q=%00",
       "/runs/?model=%00&page=" + "9" * 40, "/models/?q=%00", "/hardware/?q=%00&vendor=%00", "/s/%00/", "/models/%00/"]
post = ["/runs/%00/cancel/", "/runs/%00/delete/", "/runs/%00/restore/", "/runs/%00/share/", "/accounts/tokens/revoke/"]
for path in get:
    print(client.get(path).status_code, path)
for path in post:
    print(client.post(path, {"digest": "a\\0b", "runs": "\\0"}).status_code, path)
"""


@pytest.mark.slow
def test_nul_is_no_crash_on_postgresql(postgres_database, tmp_path):
    more = {"DATABASE_URL": postgres_database, "DJANGO_SETTINGS_MODULE": "llmcompare.settings"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=os.environ | more | {"LLMCOMPARE_DATA": str(tmp_path), "LLMCOMPARE_DEBUG": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wrong = [line for line in done.stdout.splitlines() if line.split()[0] not in ("200", "302", "404")]
    assert not wrong
    assert len(done.stdout.splitlines()) == 21


def test_the_token_page_takes_a_nul_for_an_unknown_token(owner_client):
    assert owner_client.post(reverse("accounts:revoke"), {"digest": "a\x00b"}).status_code == 404
