"""Google's packages cost seconds and more than 100 MiB: only the tasks that need the cloud pay for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.standins.vertex.fixture import REGION

ROOT = Path(__file__).resolve().parents[3]
HEAD = """
import json, resource, sys
import django
django.setup()
def loaded():
    names = ("google.cloud.", "google.api_core", "google.auth", "google.protobuf", "grpc", "proto")
    return sorted({name for name in sys.modules if name.startswith(names)})
def mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""
STARTED = (
    HEAD
    + """
from llmcompare.cloud.google import connection, credentials, errors, inference, labels, logs, monitoring, names, resources
print(json.dumps(loaded()))
"""
)
RUN = (
    HEAD
    + """
import threading
from django.core.management import call_command
call_command("migrate", interactive=False, verbosity=0)
import llmcompare.runs.tasks
from llmcompare.celery import app
app.loader.import_default_modules()
from llmcompare.runs import executor
from tests.factories import make_run, make_user
run = make_run(make_user("owner"))
executor.execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
run.refresh_from_db()
print(json.dumps([run.state, run.error, loaded()]))
"""
)
USED = (
    HEAD
    + """
import os
before, environment = mib(), dict(os.environ)
from llmcompare.cloud.google.connection import Connection
from llmcompare.cloud.google.credentials import credentials
base, region = sys.argv[1:]
with Connection("project-alpha", region, credentials("token", "token-alpha"), base, instance="here") as connection:
    connection.list_endpoints()
    connection.list_models()
print(json.dumps([loaded(), mib() - before, dict(os.environ) == environment]))
"""
)


def child(code: str, folder: Path, *arguments: str) -> object:
    own = {
        "DJANGO_SETTINGS_MODULE": "llmcompare.settings",
        "LLMCOMPARE_DATA": str(folder),
        "LLMCOMPARE_CLOUD_TEST_TOKENS": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=os.environ | own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_starting_django_and_importing_our_side_loads_nothing_of_google(tmp_path):
    assert child(STARTED, tmp_path) == []


def test_a_worker_that_carries_out_an_ordinary_run_loads_nothing_of_google(tmp_path):
    state, error, loaded = child(RUN, tmp_path)
    assert (state, error) == ("done", "")
    assert loaded == []


def test_a_connection_loads_the_generated_clients_and_nothing_global(vertex, tmp_path):
    loaded, grown_mib, same_environment = child(USED, tmp_path, vertex.base, REGION)
    assert "google.cloud.aiplatform_v1" in loaded
    # The high-level package, whose init() is global to a process, and Model Garden's v1beta1 stay out.
    assert [name for name in loaded if name == "google.cloud.aiplatform" or "v1beta1" in name] == []
    assert same_environment
    assert grown_mib < 400, f"the clients took {grown_mib:.0f} MiB"
