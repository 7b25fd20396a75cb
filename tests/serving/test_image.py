"""What the Dockerfile puts into the image is there, is enough, and is not run as root. The image itself is not built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "serving" / "Dockerfile").read_text().splitlines()


def lines(instruction: str) -> list[str]:
    return [line.removeprefix(instruction).strip() for line in LINES if line.startswith(f"{instruction} ")]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The folder /app of the image."""
    folder = tmp_path_factory.mktemp("app")
    for copied in lines("COPY"):
        *sources, target = copied.split()
        for source in sources:
            found, to = ROOT / source, folder / target
            if found.is_dir():
                shutil.copytree(found, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                to = to / found.name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, to)
    return folder


def test_the_engine_s_requirements_alone_are_installed(image):
    (pattern,) = re.findall(r"sed -n '([^']+)' requirements.txt", "\n".join(LINES))
    done = subprocess.run(["sed", "-n", pattern, "requirements.txt"], cwd=image, capture_output=True, text=True)
    names = {line.split("==")[0] for line in done.stdout.splitlines() if line and not line.startswith("#")}
    assert {"torch", "transformers", "safetensors", "psutil"} <= names
    assert not {"django", "celery", "gunicorn", "google-cloud-aiplatform", "pytest-django"} & names
    assert len(re.findall(r"^torch==[^ ]*", done.stdout, re.MULTILINE)) == 1


def test_what_is_copied_is_enough_to_find_a_model(image):
    code = """
import json
import serving.__main__, serving.app, profiling.resident
from serving import models
from serving.settings import Settings
print(json.dumps([models.source(Settings(model="gpt2", random_weights=True)).model.kind, models.__file__]))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LLMCOMPARE_"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=image, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kind, file = json.loads(done.stdout)
    assert kind == "decoder"
    assert Path(file).is_relative_to(image)


def test_it_is_not_run_as_root_and_can_be_reached_from_outside_of_it():
    assert lines("USER") == ["serving"]
    assert LINES.index("USER serving") < LINES.index('CMD ["python", "-m", "serving"]')
    assert "LLMCOMPARE_BIND=0.0.0.0" in lines("ENV")[0].split()
