"""Lint, format and types are clean, so that nobody has to wonder whether a complaint is new."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("profiling", "hardware", "llmcompare", "serving")


def tool(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "command", [("check", "--no-cache"), ("format", "--check", "--no-cache")], ids=["lint", "format"]
)
def test_ruff_has_nothing_to_say(command):
    done = tool("ruff", *command, "manage.py", *CODE, "tests", "scripts", "benchmarks")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_types_hold(tmp_path):
    done = tool("mypy", "--cache-dir", str(tmp_path), *CODE)
    assert done.returncode == 0, done.stdout + done.stderr
