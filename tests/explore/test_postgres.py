"""Forms and sweeps on PostgreSQL: compressed bytes come back whole, numbers in JSON keep their digests, two web processes agree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SETUP = """
import django; django.setup()
from django.conf import settings
settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
from django.core.management import call_command
from django.test import Client
from llmcompare.accounts.models import User
from llmcompare.explore.models import StoredForm
client = Client(headers={"host": "127.0.0.1"})
query = "model=tinyllama-1-1b&hardware=nvidia-l4-24gb&input_tokens=64&output_tokens=8&lengths=64,128&batches=1,2"
def log_in():
    client.force_login(User.objects.get(username="root"), backend="django.contrib.auth.backends.ModelBackend")
"""
ASK = (
    SETUP
    + """
call_command("migrate", verbosity=0); call_command("load_catalogue", verbosity=0)
User.objects.create_superuser("root", "", "a long password 1"); log_in()
assert client.post("/explore/forms/", {"query": query}).status_code == 302
assert client.post("/explore/forms/", {"query": "model=%00gpt2%00x&hardware=%00"}).status_code == 404
import threading
from llmcompare.explore.carrying import carry_out
from tests.explore.conftest import EngineHere
carry_out(form_id=StoredForm.objects.get().pk, worker="a:1", shutdown=threading.Event(), engine=EngineHere())
print(StoredForm.objects.get().state)
"""
)
ANSWER = (
    SETUP
    + """
log_in()
told = client.get("/explore.json?" + query).json()["series"][0]
print(told["state"], told["metrics"]["ttft"]["value"] > 0)
assert client.post("/explore/sweeps/", {"query": query, "name": "kept"}).status_code == 302
from llmcompare.explore.models import SavedSweep
kept = client.get(f"/explore/sweeps/{SavedSweep.objects.get().public_id}.json").json()["series"][0]
print(kept["metrics"] == told["metrics"])
from llmcompare.explore import making
making.sweep()
print(making.forget_oldest(0), StoredForm.objects.count())
"""
)


@pytest.mark.slow
def test_forms_and_sweeps(postgres_database):
    environment = os.environ | {"DATABASE_URL": postgres_database, "DJANGO_SETTINGS_MODULE": "llmcompare.settings"}
    said = []
    for script in (ASK, ANSWER):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        said += done.stdout.split("\n")
    assert [line for line in said if line and not line.startswith("Catalogues")] == [
        "ready",
        "ready True",
        "True",
        "1 0",
    ]
