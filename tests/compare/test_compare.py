"""The comparison: what is ranked, what is not, and who sees what."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from django.urls import reverse

from llmcompare.runs.compare import columns_of, comparison
from llmcompare.runs.models import RunMetric
from llmcompare.sharing.presentation import comparison_rows
from tests.factories import make_host, make_run

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


def test_a_very_large_difference_is_a_factor_on_the_pages_and_exact_in_exports(owner, owner_client):
    small, large = 1e-6, 0.123457789
    runs = [make_run(owner, document=document(ttft=value)) for value in (small, large)]
    ids = ",".join(run.public_id for run in runs)
    cell = row(comparison(columns_of(runs)), "ttft")["cells"][1]
    assert (cell["delta"], cell["tone"]) == ("×\u202f123\u202fk", "worse")
    assert "×\u202f123\u202fk" in owner_client.get(reverse("runs:compare"), {"runs": ids}).content.decode()
    for run, value in zip(runs, (small, large), strict=True):
        RunMetric.objects.create(run=run, key="ttft", origin="estimated", value=value, unit="s", definition="ttft/1")
    exact = 100 * (large - small) / small
    exported = owner_client.get(reverse("runs:compare-json"), {"runs": ids}).json()
    line = next(line for line in exported["rows"] if line["key"] == "ttft")
    assert line["delta_pct"][1] == pytest.approx(exact, rel=1e-12)
    shared = comparison_rows({"rows": [line]})
    assert shared[0]["cells"][1]["delta"] == "×\u202f123\u202fk"


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


def measured_document(*processes: float, iterations: int = 6, **conditions) -> dict:
    """A measurement whose processes had these times to first token, in seconds."""
    changed = document(ttft=sorted(processes)[len(processes) // 2])
    changed["kind"] = "measure"
    changed["metrics"]["ttft"] |= {"origin": "measured", "n": iterations * len(processes)}
    columns = ["process", "iteration", "phase", "warmup", "start_ns", "wall_ns", "cpu_ns", "tokens"]
    rows = [
        [process, iteration, "prefill", iteration == 0, 0, round(1e9 * seconds) + iteration, 0, 512]
        for process, seconds in enumerate(processes)
        for iteration in range(iterations + 1)
    ]
    changed["samples"] = {"columns": columns, "rows": rows}
    changed["conditions"] = {"contended": False, **conditions}
    return changed


QUIET = (0.100, 0.101, 0.099)


@pytest.mark.parametrize(
    ("other", "tone", "verdict"),
    [
        (
            measured_document(0.104, 0.105, 0.103),
            "",
            "no difference shown",
        ),  # less than what two programs must differ by
        (measured_document(0.080, 0.160, 0.130), "", "no difference shown"),  # processes differ more
        (measured_document(0.120, 0.121, 0.119), "worse", "slower"),
        (measured_document(0.080, 0.081, 0.079), "better", "faster"),
        (measured_document(0.120), "", "not comparable"),  # one process
        (measured_document(0.120, 0.121, 0.119, contended=True), "", "not comparable"),
    ],
)
def test_measurements_are_ranked_by_what_their_processes_differ_by(owner, other, tone, verdict):
    runs = [make_run(owner, document=d, kind="measure") for d in (measured_document(*QUIET), other)]
    cell = row(comparison(columns_of(runs)), "ttft")["cells"][1]
    assert cell["delta"]
    assert (cell["tone"], cell["verdict"]) == (tone, verdict)
    assert cell["why"]


def test_the_module_that_moved_is_named(owner):
    quiet, slow = measured_document(*QUIET), measured_document(0.120, 0.121, 0.119)
    paths = ["model.layers.0.mlp", "model.layers.1.mlp", "lm_head"]
    quiet["module_times"] = {"prefill": {"paths": paths, "exclusive_s": [[0.03, 0.03, 0.04]] * 3}}
    slow["module_times"] = {"prefill": {"paths": paths, "exclusive_s": [[0.03, 0.05, 0.04]] * 3}}
    runs = [make_run(owner, document=d, kind="measure") for d in (quiet, slow)]
    cell = row(comparison(columns_of(runs)), "ttft")["cells"][1]
    assert "The module model.layers.1.mlp explains" in cell["why"]
    assert "20\u202fms" in cell["why"]


def test_measurements_of_one_host_can_be_measured_in_turns(owner, owner_client):
    host, other = make_host(slug="one"), make_host(slug="other")
    runs = [make_run(owner, document=measured_document(*QUIET), kind="measure", host=h) for h in (host, host, other)]
    page = owner_client.get(reverse("runs:compare"), {"runs": ",".join(run.public_id for run in runs)}).content.decode()
    address = f"{reverse('runs:new')}?from={runs[1].public_id}&amp;against={runs[0].public_id}"
    assert page.count("measure in turns") == 1
    assert address in page
    form = owner_client.get(address.replace("&amp;", "&")).content.decode()
    assert "In turns with" in form
    assert f'name="against" value="{runs[0].public_id}"' in form


def test_other_workloads_are_not_ranked_and_the_reason_names_what_differs(owner):
    other = measured_document(0.2, 0.2, 0.2)
    other["workload"]["batch_size"] = 8
    runs = [make_run(owner, document=d, kind="measure") for d in (measured_document(*QUIET), other)]
    cell = row(comparison(columns_of(runs)), "ttft")["cells"][1]
    assert cell["verdict"] == "not comparable"
    assert "batch size (1 and 8)" in cell["why"]


def test_the_verdict_and_its_reason_are_on_the_page(owner, owner_client):
    documents = (measured_document(*QUIET), measured_document(0.120, 0.121, 0.119))
    runs = [make_run(owner, document=d, kind="measure") for d in documents]
    page = owner_client.get(reverse("runs:compare"), {"runs": ",".join(str(run.public_id) for run in runs)})
    assert b">slower</span>" in page.content
    assert b"more time" in page.content
