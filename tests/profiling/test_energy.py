"""Energy per token is the counters' energy of the timed iterations over the tokens that these produced; without counters there is none."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from profiling.energy import energy_metrics
from profiling.pooling import pool
from profiling.processes import _with_resources
from profiling.quantities import show
from profiling.units import DEFINITIONS

SMOL = json.loads((Path(__file__).parents[1] / "data/documents/measure_smollm2.json").read_text())
COLUMNS = ["iteration", "phase", "warmup", "start_ns", "wall_ns", "cpu_ns", "tokens"]


def document(source: str = "RAPL", joules: float = 12.0, batch: int = 2, **extra) -> dict:
    """Two timed iterations of three tokens in two sequences, after a warm-up that does not count: 12 tokens."""
    one = [("prefill", 2 * 7), ("decode", 2), ("decode", 2)]
    rows = [[n, phase, n < 0, 0, 1, 1, tokens] for n in (-1, 0, 1) for phase, tokens in one]
    energy = [
        {"source": source, "of": "everything", "phase": "iterations", "joules": joules, "seconds": 1.0},
        {"source": source, "of": "everything", "phase": "load", "joules": 99.0, "seconds": 1.0},
    ]
    return {
        "workload": {"batch_size": batch},
        "samples": {"columns": COLUMNS, "rows": rows},
        "resources": {"energy": energy},
    } | extra


@pytest.mark.parametrize(
    ("source", "key"), [("RAPL", "package_energy_per_token"), ("nvidia-smi", "gpu_energy_per_token")]
)
def test_joules_of_the_iterations_over_their_output_tokens(source, key):
    (found,) = energy_metrics(document(source)).items()
    name, entry = found
    assert (name, entry["value"], entry["unit"], entry["origin"]) == (key, 1.0, "J/token", "measured")
    assert "12 tokens" in entry["note"]
    assert DEFINITIONS[entry["definition"]].better == "lower"
    assert show(entry["value"], entry["unit"]).endswith("J/token")


@pytest.mark.parametrize(
    "without",
    [
        document(joules=0.0),
        document("somebody else"),
        document(batches=[{}]),
        document() | {"resources": None},
        document() | {"resources": {"energy": []}},
        document() | {"samples": {"columns": COLUMNS, "rows": []}},
        document() | {"samples": {}},
    ],
)
def test_without_energy_or_tokens_there_is_no_figure(without):
    assert energy_metrics(without) == {}


def test_processes_are_pooled_by_all_their_energy_and_all_their_tokens():
    own = {key: SMOL[key] for key in SMOL if key not in ("estimates", "resources")}
    section = {
        "timeline": {
            "columns": ["t_s", "seconds", "phase", "package_power_w"],
            "rows": [[0.0, 1.0, "iterations", 5.0]],
        },
        "energy": [{"source": "RAPL", "of": "all", "phase": "iterations", "joules": 30.0, "seconds": 1.0}],
        "cost": {"samples": 1, "cpu_s": 0.0, "cores": 0.0},
        "unavailable": [],
    }
    documents = [own | {"resources": section}, own | {"resources": section}]
    one = energy_metrics(documents[0])["package_energy_per_token"]["value"]
    both = pool(documents, protocol={"processes": 2})["metrics"]["package_energy_per_token"]
    assert both["value"] == pytest.approx(one)
    assert "60 J" in both["note"]


def section(joules: float | None) -> dict:
    entry = {"source": "RAPL", "of": "all", "phase": "iterations", "joules": joules, "seconds": 1.0}
    return {
        "timeline": {
            "columns": ["t_s", "seconds", "phase", "package_power_w"],
            "rows": [[0.0, 1.0, "iterations", 5.0]],
        },
        "energy": [] if joules is None else [entry],
        "cost": {"samples": 1, "cpu_s": 0.0, "cores": 0.0},
        "unavailable": [],
    }


@pytest.mark.parametrize("joules", [None, 30.0], ids=["a gap in the power", "ended early"])
def test_a_process_whose_energy_or_end_is_missing_leaves_no_figure(joules):
    """Its tokens would count and its energy not, or the other way round: half or twice of what a token took."""
    own = {key: SMOL[key] for key in SMOL if key not in ("estimates", "resources")}
    first = own | {"resources": section(30.0)}
    first["metrics"] = own["metrics"] | energy_metrics(first)
    other = own | {"resources": section(joules)}
    if joules:
        del other["conditions"]
    assert "package_energy_per_token" in pool([first], protocol={"processes": 1})["metrics"]
    assert "package_energy_per_token" not in pool([first, other], protocol={"processes": 2})["metrics"]


def test_a_measurement_that_ended_early_has_no_energy_per_token():
    """Of its samples only the latest are kept, of its energy all."""
    whole = {key: SMOL[key] for key in SMOL if key != "resources"}
    sampler = SimpleNamespace(section=lambda: section(30.0))
    assert "package_energy_per_token" in _with_resources(whole, sampler)["metrics"]
    early = {key: value for key, value in whole.items() if key != "conditions"}
    found = _with_resources(early, sampler)
    assert found["resources"]["energy"]
    assert "package_energy_per_token" not in found["metrics"]
