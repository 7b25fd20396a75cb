"""Charts of a comparison: their numbers are those of the JSON at the same address, and nothing is ranked that may not be."""

from __future__ import annotations

import json

import pytest

from llmcompare.runs.compare import columns_of, comparison
from llmcompare.runs.compare_scatter import scatter
from profiling.quantities import show
from tests.compare.test_compare import document
from tests.factories import make_run


def place(owner, tpot: float, throughput: float, **changes):
    made = document(tpot=tpot, output_throughput=throughput) | changes
    return make_run(owner, document=made, kind=made["kind"])


def drawn(page: str, name: str) -> dict:
    return json.loads(page.partition(f'<script id="{name}" type="application/json">')[2].partition("</script>")[0])


def scattered(runs, **params):
    columns = columns_of(runs)
    return scatter(params, columns, comparison(columns))


@pytest.mark.parametrize("more", ["", "&x=ttft&y=peak_memory&metric=tpot", "&x=none&y="])
def test_numbers_of_every_chart_are_those_of_the_json_at_the_same_address(owner, owner_client, more):
    runs = [place(owner, 0.010, 90.0), place(owner, 0.020, 50.0), place(owner, 0.015, 60.0)]
    query = "?runs=" + ",".join(run.public_id for run in runs) + more
    page = owner_client.get("/compare/" + query).content.decode()
    told = owner_client.get("/compare.json" + query).json()["charts"]

    points = [(trace["x"][0], trace["y"][0]) for trace in drawn(page, "scatter-data")["data"]]
    assert points == [(point["x"], point["y"]) for point in told["scatter"]["points"]]
    assert [trace["x"][0] for trace in drawn(page, "bar-data")["data"]] == told["bars"]["values"]
    markers = [trace for trace in drawn(page, "roofline-data")["data"] if trace["mode"] == "markers"]
    assert [sorted(zip(trace["x"], trace["y"], strict=True)) for trace in markers] == [
        sorted((point["intensity"], point["flops_per_s"]) for point in line["points"]) for line in told["rooflines"]
    ]


def test_points_of_the_rooflines_stand_in_a_table_too(owner, owner_client, monkeypatch):
    runs = [place(owner, 0.010, 90.0), place(owner, 0.020, 50.0)]
    query = "?runs=" + ",".join(run.public_id for run in runs)
    told = owner_client.get("/compare.json" + query).json()["charts"]["rooflines"]
    table = owner_client.get("/compare/" + query).context["roofline_table"]
    assert sorted((row["intensity"], row["reached"]) for row in table["rows"]) == sorted(
        (show(point["intensity"], "FLOP/B"), show(point["flops_per_s"], "FLOP/s"))
        for line in told
        for point in line["points"]
    )
    assert table["cut"] == 0
    monkeypatch.setattr("llmcompare.runs.compare_figures.MOST_POINTS", 2)
    page = owner_client.get("/compare/" + query)
    count = sum(len(line["points"]) for line in told)
    assert [row["run"] for row in page.context["roofline_table"]["rows"]] == [c.label for c in columns_of(runs)]
    assert f"{count - 2} smaller points" in page.content.decode()


def test_estimates_of_one_origin_say_which_no_other_beats(owner):
    runs = [place(owner, 0.010, 90.0), place(owner, 0.020, 50.0), place(owner, 0.005, 60.0)]
    found = scattered(runs, x="tpot", y="output_throughput")
    assert [point["unbeaten"] for point in found["points"]] == [True, False, True]


def test_equal_points_do_not_beat_each_other(owner):
    found = scattered([place(owner, 0.010, 90.0), place(owner, 0.010, 90.0)], x="tpot", y="output_throughput")
    assert [point["unbeaten"] for point in found["points"]] == [True, True]


def test_a_bound_is_never_ranked_against_a_measurement(owner, owner_client):
    runs = [place(owner, 0.010, 90.0), place(owner, 0.020, 50.0, kind="measure")]
    found = scattered(runs, x="tpot", y="output_throughput")
    assert not found["ranked"]
    assert {point["unbeaten"] for point in found["points"]} == {None}
    assert "not ranked" in found["notes"][0]
    page = owner_client.get("/compare/?runs=" + ",".join(run.public_id for run in runs)).content.decode()
    assert "Beaten in both" not in page


def test_a_run_without_the_figure_is_said_not_drawn_as_nothing(owner):
    lacking = document()
    lacking["metrics"].pop("tpot")
    runs = [place(owner, 0.010, 90.0), place(owner, 0.020, 50.0), make_run(owner, document=lacking)]
    found = scattered(runs, x="tpot", y="output_throughput")
    assert len(found["figure"]["data"]) == 2
    assert found["points"][2]["x"] is None
    assert any("1 of the runs" in note for note in found["notes"])


def test_bounds_and_busy_machines_are_named_at_the_figure(owner):
    bound = document()
    bound["conventions"]["ceilings"] = "datasheet"
    busy = document() | {"kind": "measure", "conditions": {"contended": True}}
    shaky = document() | {"warnings": [{"code": "ceilings_contended", "message": "Measure again."}]}
    shaky["conventions"] = shaky["conventions"] | {"ceilings": "measured on a host"}
    runs = [make_run(owner, document=made, kind=made["kind"]) for made in (bound, busy, shaky)]
    rows = {row["key"]: row for row in comparison(columns_of(runs))["metrics"]}
    assert [cell["cautions"] for cell in rows["ttft"]["cells"]] == [
        ("optimistic bound",),
        ("busy machine",),
        ("ceilings of a busy machine",),
    ]
    assert [cell["cautions"] for cell in rows["peak_memory"]["cells"]] == [(), (), ()]
