"""The run page's section on resource use: figures, their table twin, what was not read, and an empty state."""

from __future__ import annotations

import copy

import pytest

from llmcompare.runs.charts import resource_figures
from llmcompare.runs.resourcetable import resource_use

ROWS = [
    [0, 0.0, 1.0, "measure", 1.0, 0.5, 100_000_000, 8_000_000_000],
    [0, 1.0, 3.0, "iterations", 2.0, 0.1, 300_000_000, 7_000_000_000],
    [0, 4.0, 1.0, "iterations", 1.0, 0.5, 200_000_000, 7_500_000_000],
]
COLUMNS = ["process", "t_s", "seconds", "phase", "process_cores", "other_cores", "process_rss_bytes", "available_bytes"]


@pytest.fixture
def document() -> dict:
    section = {
        "interval_s": 0.25,
        "timeline": {"columns": COLUMNS, "rows": copy.deepcopy(ROWS)},
        "energy": [],
        "cost": {"samples": 3, "cpu_s": 0.002, "cores": 0.0004},
        "unavailable": [{"what": "package_power_w", "reason": "There are no energy counters here."}],
    }
    return {"kind": "measure", "resources": section}


def test_phases_have_means_by_time_and_extremes(document):
    found = resource_use(document)
    assert found["columns"] == ["Cores, this run", "Cores, the rest", "Memory, highest (RSS)", "Available, least"]
    start, iterations = found["rows"]
    assert (start["phase"], iterations["phase"]) == ("start", "iterations")
    assert iterations["seconds"] == "4\u202fs"
    assert iterations["values"] == ["1.75", "0.20", "300\u202fMB", "7\u202fGB"]
    assert found["unavailable"] == [("Energy of the processor", "There are no energy counters here.")]


def test_each_quantity_has_its_figure_over_its_own_time(document):
    figures = {item["key"]: item["figure"] for item in resource_figures(document)}
    assert set(figures) == {"cores", "memory"}
    assert [trace["name"] for trace in figures["memory"]["data"]] == ["this run (RSS)"], "7 GB would press 0.3 GB flat"
    run, rest = figures["cores"]["data"]
    assert list(run["x"]) == [0.0, 1.0, 1.0, 4.0, 4.0, 5.0]
    assert list(run["y"]) == [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]
    assert (run["name"], rest["name"]) == ("this run", "everything else")
    assert [shape["x0"] for shape in figures["cores"]["layout"]["shapes"]] == [1.0], "one phase begins"
    assert [note["text"] for note in figures["cores"]["layout"]["annotations"]] == ["start", "iterations"]


def test_memory_that_runs_out_is_drawn_beside_what_is_used(document):
    for row in document["resources"]["timeline"]["rows"]:
        row[-1] = 400_000_000
    figures = {item["key"]: item["figure"] for item in resource_figures(document)}
    assert [trace["name"] for trace in figures["memory"]["data"]] == ["this run (RSS)", "available on the machine"]


def test_a_phase_that_only_a_later_process_shows_stands_in_its_place(document):
    document["resources"]["timeline"]["rows"] += [[1, 5.0, 1.0, phase, 1.0, 0.1, 1, 1] for phase in ("memory", "load")]
    assert [row["phase"] for row in resource_use(document)["rows"]] == ["start", "load", "iterations", "memory"]


def test_what_was_not_read_once_is_a_gap_and_not_zero(document):
    document["resources"]["timeline"]["columns"].append("gpu_power_w")
    for row, power in zip(document["resources"]["timeline"]["rows"], (None, 300.0, 500.0), strict=True):
        row.append(power)
    document["resources"]["energy"] = [
        {"source": "nvidia-smi", "of": "the whole board", "phase": "iterations", "joules": 1400.0, "seconds": 4.0}
    ]
    figures = {item["key"]: item["figure"] for item in resource_figures(document)}
    assert list(figures["power"]["data"][0]["y"])[:3] == [None, None, 300.0]
    start, iterations = resource_use(document)["rows"]
    assert start["values"][-2:] == ["unknown", "unknown"]
    assert iterations["values"][-2:] == ["350\u202fW", "1,400\u202fJ"]


@pytest.mark.parametrize("section", [None, {}, {"timeline": {"columns": COLUMNS, "rows": []}}, "broken"])
def test_a_measured_run_without_samples_has_an_empty_state_and_an_estimate_nothing(section):
    assert resource_use({"kind": "measure", "resources": section})["rows"] == []
    assert resource_use({"kind": "estimate", "resources": section}) is None
