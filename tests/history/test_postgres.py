"""History on PostgreSQL: the migration of a database that has runs, and every query of the pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import django; django.setup()
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from datetime import timedelta
from django.utils import timezone

executor = MigrationExecutor(connection)
before = [key for key in executor.loader.graph.leaf_nodes() if key[0] in ("accounts", "catalog", "hardware")] + [("runs", "0001_initial")]
executor.migrate(before)
apps = executor.loader.project_state(before).apps
user = apps.get_model("accounts", "User").objects.create(username="old", email="old@example.org")
run = apps.get_model("runs", "Run").objects.create(
    owner=user, kind="measure", state="done", spec={"kind": "measure", "workload": {"batch_size": 1, "dtype": "bf16"}},
    spec_digest="x", model_name="m", hardware_name="h", batch_size=1, input_tokens=1, output_tokens=1, dtype="bf16", queue="q",
    finished=timezone.now(), started=timezone.now() - timedelta(minutes=5),
)
apps.get_model("runs", "RunDocument").objects.create(
    run=run, data={"conditions": {"contended": False}, "producer": {"torch": "2.13.0"}}
)
call_command("migrate", verbosity=0)

from django.conf import settings
settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
from django.test import Client
from llmcompare.accounts.models import User
from llmcompare.history import notices
from llmcompare.history.models import NoticeSettings
from llmcompare.runs.models import Run, RunMetric
old, user = Run.objects.get(), User.objects.get()
print("migrated", old.series != "", old.contended, old.versions)
RunMetric.objects.create(run=old, key="e2e_latency", origin="measured", value=1.0, unit="s", definition="e2e_latency/1")
notices.choose(user=user, page=True, mail=False, at_least_s=1)
NoticeSettings.objects.update(since=timezone.now() - timedelta(days=1))
print("notices", notices.collect(), notices.collect(), notices.send_due())
client = Client(raise_request_exception=True, headers={"host": "127.0.0.1"})
client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
posts = [(f"/runs/{old.public_id}/tags/", {"tags": "a, b"}), (f"/runs/{old.public_id}/notes/", {"notes": "n"}),
         (f"/runs/{old.public_id}/comments/", {"comment": "c"}), (f"/history/runs/{old.public_id}/mark/", {"kind": "expected", "text": "t"}),
         ("/views/save/", {"name": "v", "query": "tag=a"})]
print("posts", {client.post(*post).status_code for post in posts})
pages = ["/history/", "/history.json", f"/history/{old.series}/", f"/history/{old.series}.json", f"/history/{old.series}.csv",
         "/runs/?tag=a,b&columns=tags,host,torch", "/runs.json?tag=a", f"/runs/{old.public_id}/", "/notices/", "/notices/bell/", "/views.json"]
print("pages", {client.get(page).status_code for page in pages})
print("figures", client.get(f"/history/{old.series}.json").json()["metrics"][0]["points"][0]["value"], client.get("/history.json").json()["series"][0]["dtype"])
"""


@pytest.mark.slow
def test_a_database_with_runs_is_migrated_and_every_page_answers(postgres_database, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ
        | {
            "DATABASE_URL": postgres_database,
            "DJANGO_SETTINGS_MODULE": "llmcompare.settings",
            "LLMCOMPARE_DATA": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "migrated True False {'torch': '2.13.0'}",
        "notices 1 0 0",
        "posts {302}",
        "pages {200}",
        "figures 1.0 bf16",
    ]
