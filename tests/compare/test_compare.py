"""The comparison: what is ranked, what is not, and who sees what."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from django.urls import reverse

from llmcompare.runs.compare import columns_of, comparison
from tests.factories import make_run

DOCUMENT = json.loads((Path(__file__).parents[1] / "data/documents/estimate_gpt2.json").read_text())


def document(**metrics) -> dict:
    """The GPT-2 estimate with other values for some metrics."""
    changed = copy.deepcopy(DOCUMENT)
    for key, value in metrics.items():
        changed["metrics"][key]["value"] = value
    return changed


def row(result, key):
    return next(row for row in result["metrics"] if row["key"] == key)


@pytest.fixture
def pair(owner):
    return [
        make_run(owner, document=document(ttft=0.100, output_throughput=50.0)),
        make_run(owner, document=document(ttft=0.080, output_throughput=40.0)),
    ]


def test_direction_decides_what_is_better(pair):
    result = comparison(columns_of(pair))
    ttft, throughput = row(result, "ttft")["cells"], row(result, "output_throughput")["cells"]
    assert (ttft[1]["delta"], ttft[1]["tone"]) == ("−20.0 %".replace(" ", "\u202f"), "better")
    assert (throughput[1]["delta"], throughput[1]["tone"]) == ("−20.0 %".replace(" ", "\u202f"), "worse")
    assert ttft[0]["delta"] == ""


def test_the_baseline_can_be_any_run(pair):
    cells = row(comparison(columns_of(pair), baseline=1), "ttft")["cells"]
    assert cells[0]["delta"] == "+25.0\u202f%"
    assert cells[0]["tone"] == "worse"


def test_estimate_and_measurement_are_not_ranked(owner):
    measured = document(ttft=0.2)
    measured["kind"] = "measure"
    runs = [make_run(owner, document=document(ttft=0.1)), make_run(owner, document=measured, kind="measure")]
    result = comparison(columns_of(runs))
    cell = row(result, "ttft")["cells"][1]
    assert cell["delta"] == "+100.0\u202f%"
    assert cell["tone"] == ""
    assert any("different origin" in note for note in result["notes"])


def test_unknown_values_have_no_difference(owner):
    runs = [make_run(owner, document=document(ttft=0.1)), make_run(owner, document=document(ttft=None))]
    cell = row(comparison(columns_of(runs)), "ttft")["cells"][1]
    assert (cell["text"], cell["delta"], cell["tone"]) == ("unknown", "", "")


def test_different_conditions_are_named(owner):
    other = document()
    other["workload"]["batch_size"] = 8
    result = comparison(
        columns_of([make_run(owner, document=document()), make_run(owner, document=other)]), only_differences=True
    )
    assert [r["title"] for r in result["conditions"]] == ["Batch size"]
    assert any("batch size" in note for note in result["notes"])


@pytest.mark.parametrize("transpose", ["0", "1"])
def test_hostile_names_are_escaped(owner, owner_client, transpose):
    run = make_run(owner, document=document(), title="</script><img src=x onerror=alert(1)>")
    other = make_run(owner, document=document())
    page = owner_client.get(
        reverse("runs:compare"), {"runs": f"{run.public_id},{other.public_id}", "transpose": transpose}
    )
    assert b"<img src=x" not in page.content


def measured_document(*, ttft: float, ci95: list[float] | None) -> dict:
    changed = document(ttft=ttft)
    changed["kind"] = "measure"
    changed["metrics"]["ttft"] |= {"origin": "measured", "ci95": ci95, "n": 5}
    return changed


@pytest.mark.parametrize(
    ("ttft", "ci95", "tone"),
    [
        (0.104, [0.1039, 0.1041], ""),  # two processes differ by as much
        (0.120, [0.095, 0.130], ""),  # the intervals overlap
        (0.120, [0.118, 0.122], "worse"),
        (0.120, None, "worse"),
    ],
)
def test_measurements_are_ranked_only_beyond_their_noise(owner, ttft, ci95, tone):
    base = make_run(owner, document=measured_document(ttft=0.100, ci95=[0.098, 0.102]), kind="measure")
    other = make_run(owner, document=measured_document(ttft=ttft, ci95=ci95), kind="measure")
    cell = row(comparison(columns_of([base, other])), "ttft")["cells"][1]
    assert cell["delta"].startswith("+")
    assert cell["tone"] == tone
