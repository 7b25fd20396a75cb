"""Folding the layer graph: whatever is open, no FLOP, byte or second is lost, and edges end where one can see them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from llmcompare.runs import graphview
from llmcompare.runs.network import network
from llmcompare.runs.viewoptions import read_options
from tests.run_page import documents

STORED = sorted((Path(__file__).parents[1] / "data" / "documents").glob("*.json"))


def ids(view) -> list[str]:
    return [node["id"] for node in view.nodes]


def leaf_sum(view, key):
    """Sum over what is drawn as a leaf: closed modules and single operations."""
    return sum(n["sums"][key] or 0 for n in view.nodes if not n["open"])


@pytest.mark.parametrize(
    "opened", [None, [], [""], ["", "layers"], ["", "layers", "layers.0"], ["layers.0"], ["gone", "#output"]]
)
def test_sums_of_what_is_visible_equal_the_whole(opened):
    graph = documents.graph(layers=7)
    view = graphview.view(graph, open_ids=opened)
    assert leaf_sum(view, "flops") == 7 * 6e9 + 2e9 == view.totals["flops"]
    assert leaf_sum(view, "time_s") == pytest.approx(7 * 6e-4 + 4e-4)


@pytest.mark.parametrize("path", STORED, ids=lambda p: p.stem)
def test_sums_of_real_documents_equal_their_stages(path):
    document = json.loads(path.read_text())
    for stage, facts in document["stages"].items():
        for opened in (None, []):
            view = graphview.view(document["graph"][stage], open_ids=opened)
            assert leaf_sum(view, "flops") == facts["flops"]
            assert leaf_sum(view, "bytes") == pytest.approx(facts["bytes"], rel=1e-12)
            assert view.dropped_edges == 0
            assert len(view.nodes) <= graphview.DEFAULT_NODES


@pytest.mark.parametrize("path", STORED, ids=lambda p: p.stem)
def test_real_blocks_show_both_residual_edges(path):
    document = json.loads(path.read_text())
    if document["model"]["kind"] != "decoder":
        pytest.skip("residual edges of decoders")
    view = graphview.view(document["graph"]["prefill"])
    assert sum(1 for e in view.edges if e["kind"] == "residual") >= 2


def test_an_open_block_shows_both_residual_edges_and_its_repetition():
    view = graphview.view(documents.graph(layers=32))
    residual = {(e["source"], e["target"]) for e in view.edges if e["kind"] == "residual"}
    assert residual == {("#input", "layers.0#add"), ("layers.0#add", "layers.0#add_1")}
    block = next(n for n in view.nodes if n["id"] == "layers.0")
    assert (block["times"], block["folded"]) == (32, 32)
    inside = next(n for n in view.nodes if n["id"] == "layers.0.mlp")
    assert (inside["times"], inside["folded"]) == (32, 1)
    assert inside["sums"]["flops"] == 32 * 4e9


def test_weights_that_two_modules_share_are_in_the_whole_once():
    graph = documents.graph(layers=3)
    head = next(node for node in graph["nodes"] if node["id"] == "lm_head")
    head["parent"] = None
    before = graphview.view(graph).totals
    head["tied"] = "layers.0.mlp"
    after = graphview.view(graph).totals
    assert after["weight_bytes"] == before["weight_bytes"] - head["weight_bytes"]
    assert after["flops"] == before["flops"]
    for unknown in ("nobody", ["a list"], "lm_head"):
        head["tied"] = unknown
        assert graphview.view(graph).totals == before


def test_repeat_may_be_stated_on_every_node_of_a_block():
    """The engine writes the number of repetitions on the block and on what is inside; that is one folding, not two."""
    graph = documents.graph(layers=5)
    for node in graph["nodes"]:
        if node["id"].startswith("layers.0"):
            node["repeat"] = 5
    assert graphview.view(graph).totals["flops"] == 5 * 6e9 + 2e9


def test_edges_end_at_visible_nodes_and_closed_modules_swallow_theirs():
    view = graphview.view(documents.graph(layers=4), open_ids=["", "layers"])
    shown = set(ids(view))
    assert shown == {"", "#input", "layers", "layers.0", "#cache", "lm_head", "#output"}
    assert all(e["source"] in shown and e["target"] in shown and e["source"] != e["target"] for e in view.edges)
    assert not any(n["open"] and n["id"] in (e["source"], e["target"]) for n in view.nodes for e in view.edges)
    assert [e["bytes"] for e in view.edges if e["target"] == "layers.0" and e["kind"] == "cache"] == [4096]


def test_nothing_open_is_one_node_without_edges():
    view = graphview.view(documents.graph(layers=4), open_ids=[])
    assert ids(view) == [""]
    assert view.edges == []


def test_edges_to_missing_nodes_are_counted_not_drawn():
    graph = documents.graph(layers=2)
    graph["edges"].append({"source": "nowhere", "target": "lm_head", "bytes": 1, "kind": "data"})
    assert graphview.view(graph).dropped_edges == 1


def test_a_circle_of_parents_does_not_hang_or_lose_nodes():
    nodes = [{"id": "a", "parent": "b", "flops": 1}, {"id": "b", "parent": "a", "flops": 2}, {"id": "c", "parent": "c"}]
    assert set(ids(graphview.view({"nodes": nodes, "edges": []}))) == {"a", "b", "c"}


def test_a_graph_of_two_thousand_nodes_folds_quickly():
    nodes = [{"id": "", "parent": None, "kind": "module", "label": "model"}]
    edges = []
    for block in range(100):
        nodes.append({"id": f"b{block}", "parent": "", "kind": "module", "label": f"b{block}"})
        nodes += [
            {"id": f"b{block}.{n}", "parent": f"b{block}", "kind": "module", "label": str(n), "flops": 1, "time_s": 1.0}
            for n in range(19)
        ]
        edges += [
            {"source": f"b{block}.{n}", "target": f"b{block}.{n + 1}", "bytes": 8, "kind": "data"} for n in range(18)
        ]
    started = time.perf_counter()
    view = graphview.view({"nodes": nodes, "edges": edges})
    spent = time.perf_counter() - started
    assert len(view.nodes) == 1  # a hundred blocks at once are more than the default shows
    assert view.totals["flops"] == 1900
    assert spent < 1


def test_a_click_opens_and_a_second_one_closes_and_the_address_says_so():
    document = documents.estimate()
    shown = network(document, read_options({"open": "-"}, document))
    (root,) = shown["graph"]["nodes"]
    assert not root["open"]
    assert root["toggle"] == "?open=."
    (params,) = [root["toggle"].removeprefix("?open=")]
    again = network(document, read_options({"open": params}, document))
    root = again["graph"]["nodes"][0]
    assert root["open"]
    assert root["toggle"] == "?open=-"


def test_opening_a_module_in_the_graph_opens_what_is_above_it_in_the_table():
    document = documents.estimate()
    for stage in document["graph"].values():  # the engine's graph has no node for lists
        stage["nodes"] = [n for n in stage["nodes"] if n["id"] not in ("", "layers")]
        for node in stage["nodes"]:
            node["parent"] = None if node["parent"] in ("", "layers") else node["parent"]
    shown = network(document, read_options({}, document))
    assert [r["path"] for r in shown["rows"]] == [
        "", "layers", "layers.0", "layers.0.attn", "layers.0.norm", "layers.0.mlp", "lm_head",
    ]  # fmt: skip
    closed = network(document, read_options({"open": "-"}, document))
    block = next(n for n in closed["graph"]["nodes"] if n["path"] == "layers.0")
    assert block["toggle"] == "?open=.,layers,layers.0"
