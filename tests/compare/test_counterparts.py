"""One selection on every side of a comparison: rows of the layer table, nodes of both graphs, points of the rooflines."""

from __future__ import annotations

import copy
import json

import pytest
from django.http import QueryDict

from llmcompare.runs import counterparts
from llmcompare.runs.compare import columns_of
from llmcompare.runs.compare_graphs import graphs
from llmcompare.runs.rolediff import diff
from tests.compare.test_charts import drawn
from tests.compare.test_layers import GPT2, LLAMA, SMOL, address
from tests.factories import make_run


@pytest.fixture
def small_and_large(owner):
    return [make_run(owner, document=GPT2, title="Small"), make_run(owner, document=LLAMA, title="Large")]


def sides(runs, **params):
    query = QueryDict(mutable=True)
    query.update({"graphs": "1"} | params)
    return [side["json"]["nodes"] for side in graphs(query, columns_of(runs), 0)["sides"]]


def reached(nodes) -> set[str]:
    """Every key that something of the graph stands for."""
    own = {key for n in nodes for key in (n["match"], n["role"]) if key}
    return own | {key for n in nodes for key in n["holds"]}


@pytest.mark.parametrize("documents", [(GPT2, LLAMA), (SMOL, LLAMA), (GPT2, GPT2)])
def test_every_row_of_the_layer_table_is_found_in_the_graphs_of_those_that_have_it(owner, documents):
    runs = [make_run(owner, document=d, kind=d["kind"]) for d in documents]
    found = diff(columns_of(runs), "decode", "flops", 0)
    for at, nodes in enumerate(sides(runs)):
        rows = [row for row in (*found.parts, *found.roles) if row.values[at]]
        missing = {row.match for row in rows} - reached(nodes)
        assert not missing
        assert len(rows) > 8


def test_one_architecture_is_matched_by_module_and_two_by_role_and_name(small_and_large, owner):
    alike = [make_run(owner, document=LLAMA) for _ in range(2)]
    nodes = sides(alike, open0="*", open1="*")
    keys = [{n["path"]: n["match"] for n in side} for side in nodes]
    assert keys[0] == keys[1]
    assert keys[0]["model.layers.0.mlp.gate_proj"] == "model.layers.*.mlp.gate_proj"
    gpt2, llama = sides(small_and_large, open0="*", open1="*")
    both = reached(gpt2) & reached(llama)
    assert {"head lm_head", "attention attention", "mlp mlp", "other block"} <= both, "whatever they are called"
    assert {"role:attention", "role:mlp", "role:norm"} <= both
    by_path = {n["path"]: n["match"] for n in gpt2}
    assert by_path["lm_head"] == {n["path"]: n["match"] for n in llama}["lm_head"] == "head lm_head"


def test_a_closed_module_stands_for_what_is_inside(small_and_large):
    closed = sides(small_and_large, open0="-", open1="-")[1]
    opened = sides(small_and_large, open0="*", open1="*")[1]
    assert len(closed) < len(opened)
    assert reached(closed) >= {n["match"] for n in opened if n["match"]}
    assert all(not n["holds"] for n in opened if n["open"])


def test_points_of_the_rooflines_name_rows_of_the_table(owner, owner_client, small_and_large):
    page = owner_client.get(address(small_and_large, by="time")).content.decode()
    points = drawn(page, "compare-links")["points"]
    figure = drawn(page, "roofline-data")
    clicked = {key[2] for trace in figure["data"] for key in trace.get("customdata") or []}
    assert clicked <= set(points)
    assert sum(bool(keys) for keys in points.values()) > 0.9 * len(points)
    found = diff(columns_of(small_and_large), "decode", "time", 0)
    rows = {row.match for row in (*found.parts, *found.roles)}
    for point in clicked:
        for key in points[point]:
            assert key in rows or key.startswith("role:"), (point, key)
    assert points["1|mlp gate_proj"] == ["mlp gate_proj"]
    assert points["0|attention sdpa"] == points["1|attention sdpa"] == ["attention attention"]


def test_a_point_that_stands_for_several_modules_selects_their_role(owner):
    several = copy.deepcopy(LLAMA)
    several["roofline"]["points"][0]["label"] = "norm"
    found = counterparts.points(columns_of([make_run(owner, document=several)]), False)
    assert found["0|norm"] == ["role:norm", "norm input_layernorm", "norm post_attention_layernorm"]


def test_what_the_address_selects_is_marked_and_can_be_cleared_without_a_script(owner_client, small_and_large):
    response = owner_client.get(address(small_and_large, at="role:mlp", by="flops"))
    layers = response.context["layers"]
    assert {row["title"] for row in layers["roles"] if row["selected"]} == {"MLP"}
    assert all(row["selected"] == (row["role"] == "mlp") for row in layers["parts"])
    assert layers["selected"]["title"] == "MLP"
    assert "at=" not in layers["selected"]["clear"]
    assert "by=flops" in layers["selected"]["clear"]
    one = owner_client.get(address(small_and_large, at="head lm_head")).context["layers"]
    assert [row["match"] for row in one["parts"] if row["selected"]] == ["head lm_head"]
    assert not any(row["selected"] for row in one["roles"])


@pytest.mark.parametrize("at", ["nothing", "<script>alert(1)</script>", "role:", ""])
def test_what_is_not_there_selects_nothing(owner_client, small_and_large, at):
    response = owner_client.get(
        address(small_and_large), {"runs": ",".join(r.public_id for r in small_and_large), "at": at}
    )
    assert response.status_code == 200
    assert response.context["layers"]["selected"] is None
    assert b"<script>alert" not in response.content


def test_links_keep_what_is_selected(owner_client, small_and_large):
    layers = owner_client.get(address(small_and_large, at="role:mlp")).context["layers"]
    assert all("at=role%3Amlp" in link["href"] or "at=role:mlp" in link["href"] for link in layers["stage_links"])


def test_keys_tell_own_work_from_nothing():
    assert counterparts.match_of("mlp mlp: own work") == "mlp mlp"
    assert counterparts.of_module("model.layers.3.mlp.up_proj", "Linear", True) == "model.layers.*.mlp.up_proj"
    assert counterparts.of_module("model.layers.3.mlp.up_proj", "Linear", False) == "mlp up_proj"


@pytest.mark.parametrize("query", [{}, {"stage": "prefill", "colour": "flops"}, {"open0": "*", "open1": "-"}])
def test_both_graphs_have_the_numbers_of_the_json_of_the_address(owner_client, small_and_large, query):
    asked = {"graphs": "1"} | query
    page = owner_client.get(address(small_and_large, **asked)).content.decode()
    told = owner_client.get(address(small_and_large, "runs:compare-json", **asked)).json()["charts"]["graphs"]
    assert [side["run"] for side in told] == [run.public_id for run in small_and_large]
    for at, (side, document) in enumerate(zip(told, (GPT2, LLAMA), strict=True)):
        graph = drawn(page, f"compare-graph-{at}")
        assert [(n["path"], n["value"], n["share"], n["bound"]) for n in graph["nodes"]] == [
            (n["path"], n["value"], n["share"], n["bound"]) for n in side["nodes"]
        ]
        assert [(e["source"], e["target"], e["bytes"]) for e in graph["edges"]] == [
            (e["source"], e["target"], e["bytes"]) for e in side["edges"]
        ]
        # The top of the graph is the whole stage of the run's own document.
        key = {"flops": "flops"}.get(side["by"], "latency_s")
        whole = sum(n["value"] or 0 for n in side["nodes"] if n["parent"] is None)
        assert whole == pytest.approx(document["stages"][side["stage"]][key], rel=1e-6)


def test_without_graphs_the_json_has_none(owner_client, small_and_large):
    told = owner_client.get(address(small_and_large, "runs:compare-json")).json()["charts"]
    assert "graphs" not in told
    assert json.dumps(told)
