"""Endpoints on PostgreSQL: the constraints that keep looks apart, and texts of servers that a database may refuse."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.layout.test_project import ROOT

SCRIPT = """
import threading
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from llmcompare.accounts.models import User
from llmcompare.endpoints import probing, rotation, services
from llmcompare.endpoints.models import Endpoint, Probe
probing.ring = lambda: None
user = User.objects.create(username="one")
endpoint = Endpoint.objects.create(owner=user, name="x", url="https://api.example.com/v1")
answers = []
threads = [threading.Thread(target=lambda: answers.append(probing.ask(endpoint=endpoint, user=user).pk)) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print("asked", len(answers), "looks", len(set(answers)), Probe.objects.count())
taken = []
threads = [threading.Thread(target=lambda: taken.append(probing.claim(probe_id=answers[0], worker="w"))) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
[probe] = [one for one in taken if one]
print("finished", probing.finish(probe=probe, found={"models": ["m"], "abilities": None}))
endpoint.refresh_from_db()
print("chosen", services.choose_model(endpoint=endpoint, model="m"), endpoint.probe["models"])
services.update(endpoint=endpoint, by=user, draft=services.Draft(name="y", url=endpoint.url, model="m", key="sk-1"))
print("rotated", rotation.rotate().count)
"""


@pytest.mark.slow
def test_looks_and_keys_on_postgresql(postgres_database, tmp_path):
    env = os.environ | {"DATABASE_URL": postgres_database, "LLMCOMPARE_DATA": str(tmp_path)}
    env |= {"DJANGO_SETTINGS_MODULE": "llmcompare.settings"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "asked 8 looks 1 1",
        "finished True",
        "chosen True ['m']",
        "rotated 1",
    ]
