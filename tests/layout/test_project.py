"""The shape of the project: requirements, documented settings, size of files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmcompare import install

ROOT = Path(__file__).resolve().parents[2]
CODE = ("profiling", "hardware", "llmcompare", "serving")
ASKED_FOR = {
    "django",
    "djangorestframework",
    "django-htmx",
    "celery",
    "torch",
    "transformers",
    "plotly",
    "google-cloud-aiplatform",
    "pytest-django",
}
MOST_LINES = 450  # the aim is 400


def sources(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py")) if "migrations" not in p.parts]


def test_the_top_level_is_what_the_design_says():
    needed = [
        "manage.py",
        "llmcompare",
        "profiling",
        "hardware",
        "templates",
        "static",
        "tests",
        "requirements.txt",
        "README.md",
    ]
    assert [name for name in needed if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "name",
    ["requirements.txt", *(f"requirements/{name}.txt" for name in ("dev", "weights", "serving", "transformers_serve"))],
)
def test_every_requirement_is_pinned_exactly(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    lines = [line for line in lines if line]
    assert lines
    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][A-Za-z0-9.+]*", line)
    ] == []


def test_the_tests_have_the_packages_of_the_container_in_the_same_versions():
    ours, tests = (install.pins(ROOT / "requirements" / name) for name in ("serving.txt", "dev.txt"))
    assert {name: tests[name] for name in ("starlette", "uvicorn")} == {
        name: ours[name] for name in ("starlette", "uvicorn")
    }


def test_the_packages_that_were_asked_for_are_required():
    assert set(install.pins(ROOT / "requirements.txt")) >= ASKED_FOR
    assert install.pins(ROOT / "requirements.txt")["torch"] == "2.13.0"


def settings_in_code() -> set[str]:
    """Every environment variable of the portal that our code reads, by its literal name."""
    pattern = re.compile(r"""["'](LLMCOMPARE_[A-Z0-9_]+|DATABASE_URL|BROKER_URL)["']""")
    return {name for path in [ROOT / "manage.py", *sources(*CODE)] for name in pattern.findall(path.read_text())}


def test_every_setting_is_in_the_readme_and_every_one_there_exists():
    tables = (ROOT / "README.md").read_text() + (ROOT / "docs" / "serving.md").read_text()
    rows = re.findall(r"^\|\s*`(LLMCOMPARE_[A-Z0-9_]+|DATABASE_URL|BROKER_URL)`", tables, re.MULTILINE)
    # Between our own processes, not for people.
    internal = {"LLMCOMPARE_RESULT_FD", "LLMCOMPARE_PARENT_PID"}
    tests_only = {"LLMCOMPARE_TEST_DATABASE_URL", "LLMCOMPARE_TEST_BROKER_URL"}
    assert sorted(settings_in_code() - set(rows) - internal) == [], "not in the tables of README.md and docs/serving.md"
    assert sorted(set(rows) - settings_in_code() - tests_only) == [], "documented, but nothing reads it"


def test_files_stay_readable_at_one_sitting():
    long = {str(p.relative_to(ROOT)): n for p in sources(*CODE) if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert long == {}


def test_each_app_migrations_are_up_to_date(tmp_path):
    done = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
