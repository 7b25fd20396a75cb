"""Energy per token is the counters' energy of the timed iterations over the tokens that these produced; without counters there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiling.energy import energy_metrics
from profiling.pooling import pool
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
