"""The direction of imports, and what the web process must never load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# google.cloud itself is an empty namespace that its packages put into every process; what counts is anything inside it.
HEAVY = ("torch.", "transformers.", "tokenizers.", "safetensors.", "google.cloud.", "grpc.")


def lint(folder: Path) -> subprocess.CompletedProcess:
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_imports_point_one_way():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_contracts_notice_a_forbidden_import(tmp_path):
    """The check itself can fail: a copy of the engine that imports Django breaks the contract."""
    for name in ("profiling", "hardware", "llmcompare", "serving"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import django\n" if name == "profiling" else "")
    text = (ROOT / ".importlinter").read_text()
    engine_only = text[: text.index("[importlinter:contract:container]")]
    (tmp_path / ".importlinter").write_text(engine_only)
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "1 broken" in done.stdout


PAGES = """
import json, sys
from django.core.management import call_command
from llmcompare.wsgi import application
call_command("migrate", interactive=False, verbosity=0)
call_command("load_catalogue", verbosity=0)

from django.conf import settings
settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
from django.contrib.auth import get_user_model
from django.test import Client
client = Client(raise_request_exception=False)
client.force_login(
    get_user_model().objects.create_superuser("root", "", "a long password 1"),
    backend="django.contrib.auth.backends.ModelBackend",
)
paths = ["/", "/accounts/login/", "/models/", "/hardware/", "/runs/", "/runs/new/", "/compare/", "/history/", "/admin/", "/api/v1/models/",
         "/api/v1/schema/", "/runs.csv", "/models/upload/", "/explore/", "/explore/sweeps/", "/cloud/", "/cloud/new/", "/cloud/stop/", "/admin/cloud/deployment/",
         "/explore/?model=llama-3-8b&hardware=nvidia-h100-sxm5-80gb", "/explore.json?model=gpt2&hardware=nvidia-l4-24gb"]
statuses = {path: client.get(path, headers={"host": "127.0.0.1"}).status_code for path in paths}
heavy = [name for name in sys.modules if (name + '.').startswith(%r) and name != 'google.cloud']
print("RESULT " + json.dumps([statuses, heavy]))
"""


def test_the_web_process_loads_neither_torch_nor_transformers_nor_the_cloud(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PAGES % (HEAVY,)],
        cwd=ROOT,
        env=os.environ | {"LLMCOMPARE_DATA": str(tmp_path), "LLMCOMPARE_URL": "http://127.0.0.1:8000"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    statuses, heavy = json.loads(line.removeprefix("RESULT "))
    assert heavy == []
    # A page that fails could hide an import: every one has to answer.
    assert {path: status for path, status in statuses.items() if status >= 400} == {}


WORKER = """
import json, sys
from llmcompare.celery import app
import django
django.setup()
app.loader.import_default_modules()
print("RESULT " + json.dumps([name for name in sys.modules if (name + '.').startswith(%r) and name != 'google.cloud']))
"""


def test_a_worker_loads_google_only_when_something_is_to_be_done_there(tmp_path):
    """It costs seconds and more than 100 MiB. A measurement has processes of its own, an ordinary run never comes near it."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER % (("google.cloud.", "google.api_core.", "google.auth.", "grpc."),)],
        cwd=ROOT,
        env=os.environ | {"LLMCOMPARE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    assert json.loads(line.removeprefix("RESULT ")) == []
