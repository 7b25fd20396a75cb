"""The comparison of predictions with measurements runs, and says what a reader needs. Nothing is said of how good they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import report
from benchmarks.errors.models import CASES

ROOT = Path(__file__).resolve().parents[2]


def pair(family="a", **errors):
    """Two rounds: in the second the machine took twice as long, for the measurement and for what was predicted."""
    error = dict.fromkeys(report.METHODS) | errors
    predicted = {name: [None if e is None else factor * (1 + e) for factor in (1, 2)] for name, e in error.items()}
    return {"family": family, "error": error, "measured_rounds_s": [1.0, 2.0], "predicted_rounds_s": predicted}


def test_errors_are_summed_up_by_size_and_bias():
    found = report.summary([pair(own=-0.1), pair(own=0.3), pair(own=-0.2)])
    assert found["own"] == {"n": 3, "of": 3, "median": 0.2, "p90": pytest.approx(0.28), "bias": -0.1} | {
        "paired": {"median": pytest.approx(0.2), "p90": pytest.approx(0.28)}
    }
    assert found["left out"]["median"] is None


def test_rounds_are_compared_with_themselves_too():
    """Medians of measurement and prediction fall into different rounds; the paired error does not."""
    one = {
        "measured_rounds_s": [1.0, 1.0, 4.0],
        "predicted_rounds_s": {"own": [1.1, 4.4, 4.4], "left out": [1.0, None, 1.0]},
    }
    assert report.paired_error(one, "own") == pytest.approx(0.1)
    assert report.paired_error(one, "left out") is None
    found = report.repeats([one])
    assert found == {"n": 3, "median": pytest.approx(0.6), "p90": pytest.approx(0.6 + 0.8 * 2.4)}


def document(pairs, **extra):
    return {"pairs": pairs, "quick": False, "rounds": 5, "summary": report.summary(pairs)} | extra


@pytest.mark.parametrize(("error", "met"), [(0.09, True), (-0.11, False)])
def test_targets_are_judged_by_size_of_the_error(error, met):
    pairs = [pair(family, own=error) for family in "abcdef" for _ in range(2)]
    found = {item["name"]: item["met"] for item in report.targets(document(pairs))}
    assert found["own: median of |error| at most 10%"] is met
    assert found["at least 12 pairs over 5 families, 5 rounds"] is True


def test_a_pair_without_a_prediction_is_no_success():
    pairs = [pair(family, own=0.0) for family in "abcdef" for _ in range(2)] + [pair("a")]
    found = {item["name"]: item["met"] for item in report.targets(document(pairs))}
    assert found["own: median of |error| at most 10%"] is False


def test_a_short_run_decides_nothing():
    pairs = [pair(family, own=0.0) for family in "abcdef" for _ in range(2)]
    found = report.targets(document(pairs, rounds=2))
    assert [item["met"] for item in found if "|error|" in item["name"]] == [None] * 4
    assert found[0]["met"] is False


def test_enough_models_are_compared():
    pairs = sum(len(case.shapes) * (1 if case.kind == "encoder" else 2) for case in CASES)
    assert pairs >= 12
    assert len({case.family for case in CASES}) >= 5
    families = [case.family for case in CASES]
    assert all(families.count(family) >= 2 for family in families if family != "opt")


@pytest.mark.slow
def test_it_runs(tmp_path):
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.prediction_error", "--quick", "--models", "moe-70m", "bert-33m"]
    done = subprocess.run([*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "median |error|" in done.stdout
    result = json.loads(file.read_text())
    assert {(row["model"], row["stage"]) for row in result["pairs"]} == {
        ("moe-70m", "prefill"),
        ("moe-70m", "decode"),
        ("bert-33m", "encode"),
    }
    for row in result["pairs"]:
        assert row["measured_s"] > 0
        assert row["predicted_s"]["own"] > 0
        assert row["predicted_s"]["measured"] > row["predicted_s"]["two lines"] > 0
        assert row["own_parts"]["glue_from"] == "twin"
        assert row["own_parts"]["interpolated_s"] == 0
    assert result["targets"][0]["met"] is False
    assert {"replay", "measurement", "ceilings"} == set(result["contended_rounds"])
