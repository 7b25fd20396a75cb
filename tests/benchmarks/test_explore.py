"""The benchmark of what-if answers runs, without torch in its process. Nothing is said of how fast anything was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_runs_and_says_what_a_reader_needs(tmp_path):
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.explore", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["torch_imported"] is False
    assert result["machine"]["logical_cores"] >= 1
    (case,) = result["cases"]
    assert case["answer_s"]["n"] == 20
    assert case["answer_s"]["p95"] >= case["answer_s"]["median"] > 0
    assert case["met"] is (case["answer_s"]["p95"] < result["goal_s"])
    assert {"contended", "others"} <= set(case["meter"])
    assert "one model, one device" in done.stdout
