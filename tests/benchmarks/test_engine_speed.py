"""The benchmark runs, and its result has what a reader expects. Nothing is said of how fast anything was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    file = tmp_path_factory.mktemp("speed") / "result.json"
    command = [sys.executable, "-m", "benchmarks.engine_speed", "--quick", "--models", "gpt2", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Targets" in done.stdout
    return json.loads(file.read_text())


def test_says_where_it_ran(result):
    assert result["schema"] == "llmcompare-engine-speed"
    assert result["quick"] is True
    assert result["machine"]["logical_cores"] >= 1
    assert result["versions"]["torch"]
    assert len(result["load_before"]) == len(result["load_after"]) == 3


def test_every_timing_has_its_spread_and_number(result):
    timings = [
        *(row["answer_s"] for row in result["cold"]),
        *(row["parts"][part] for row in result["cold"] if "parts" in row for part in row["parts"]),
        *(row[what] for row in result["stored_point"] for what in ("point_s", "point_terms_s", "load_s", "prepare_s")),
        *(row[what] for row in result["bulk"] for what in ("first_s", "again_s", "from_disk_s", "extra_bytes")),
    ]
    for timing in timings:
        assert timing["n"] >= 1
        assert 0 < timing["min"] <= timing["median"] <= timing["max"]
        assert timing["iqr"] >= 0


def test_cold_starts_are_told_apart(result):
    assert {(row["start"], row["what"]) for row in result["cold"]} == {
        ("warm", "closed forms"),
        ("fresh", "closed forms"),
        ("warm", "document"),
    }


def test_stored_forms_answer_without_torch_and_alike(result):
    assert result["stored_point"][0]["torch_imported"] is False
    (bulk,) = result["bulk"]
    assert bulk["points"] == 20_000
    assert bulk["devices"] >= 10
    assert len(bulk["formats"]) >= 3
    assert {"ttft_s", "tpot_s", "e2e_s", "output_tokens_per_s", "total_bytes", "fits"} <= set(bulk["columns"])
    assert len([column for column in bulk["columns"] if column.endswith("_share")]) == 4
    assert bulk["checked"] == {"points": 20, "largest_difference": pytest.approx(0, abs=1e-12), "equal": True}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("tool", ["plain forward", "FlopCounterMode", "calflops", "torchinfo"])
def test_tools_count_the_same_points(result, tool, attention):
    (item,) = result["tools"]
    row = next(row for row in item["rows"] if (row["tool"], row["attention"]) == (tool, attention))
    if row.get("skipped", "").startswith("not installed"):
        pytest.skip(f"{tool} is {row['skipped']}: see requirements/bench.txt")
    assert "skipped" not in row
    assert len(item["points"]) == len(item["ours"]) == len(row["flops"])
    if tool == "FlopCounterMode":
        assert row["flops"] == [point["products"] for point in item["ours"]]
    against = [r for r in result["ratios"] if r["against"] == f"{tool}, {attention}"]
    assert [r["measured"] for r in against] == [True]


def test_the_recorded_figure_is_marked_as_such(result):
    assert [r["against"] for r in result["ratios"] if not r["measured"]] == ["hand-written formula tool"]
    assert result["recorded"]["hand-written formula tool"]["measured"] is False


def test_a_short_run_decides_nothing(result):
    assert all(t["met"] is None for t in result["targets"] if "points of" in t["name"])
