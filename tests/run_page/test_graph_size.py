"""The room that a page keeps for a layer graph before the browser has drawn it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from llmcompare.runs.graphsize import LEAST, MOST, graph_height
from llmcompare.runs.network import network
from llmcompare.runs.viewoptions import read_options

STORED = Path(__file__).parents[1] / "data" / "documents"


def node(name: str, parent: str | None = None, *, opened: bool = False, sub: str = "1 ms") -> dict:
    return {"id": name, "parent": parent, "open": opened, "sub": sub, "share": None}


def edge(source: str, target: str, kind: str = "data") -> dict:
    return {"source": source, "target": target, "kind": kind}


def chain(count: int, **more) -> dict:
    names = [f"n{at}" for at in range(count)]
    edges = [edge(a, b) for a, b in pairwise(names)]
    return {"nodes": [node(name, **more) for name in names], "edges": edges, "scale": {"share": 1.0}}


def test_each_part_after_the_other_takes_its_own_height_and_the_gap():
    ten, eleven = graph_height(chain(10)), graph_height(chain(11))
    assert eleven - ten == pytest.approx((44 + 26) * 0.8 * 1.03, abs=1)
    assert graph_height(chain(10, sub="")) < ten, "a part without a figure is lower"


def test_parts_beside_each_other_take_the_height_of_one():
    graph = chain(10)
    graph["nodes"].append(node("beside"))
    graph["edges"] += [edge("n0", "beside"), edge("beside", "n2")]
    assert graph_height(graph) == graph_height(chain(10))


def test_frames_of_open_modules_take_room():
    graph = chain(10)
    inside = chain(10, parent="open")
    inside["nodes"].append(node("open", opened=True))
    assert graph_height(inside) > graph_height(graph)


def test_an_edge_back_does_not_end_the_way():
    """A cache is written by the part that reads it."""
    graph = chain(10)
    graph["edges"] += [edge("n5", "n4"), edge("n9", "n0", "repeat")]
    assert graph_height(graph) >= graph_height(chain(10))


def test_it_stays_within_bounds():
    assert graph_height(chain(1)) == LEAST
    assert graph_height(chain(3000)) == MOST
    assert graph_height({"nodes": [], "edges": []}) == LEAST


@pytest.mark.parametrize("name", ["estimate_gpt2", "estimate_llama3_70b_h100", "measure_smollm2"])
def test_stored_documents_have_the_height_at_which_dagre_draws_them(name):
    """Drawn in Chromium at the same scale: prefill 1,146 to 1,221 px, decode 1,140 to 1,214 px."""
    document = json.loads((STORED / f"{name}.json").read_text())
    for stage in ("prefill", "decode"):
        (graph,) = network(document, read_options({"stage": stage}, document))["graphs"]
        assert 1100 < graph["height"] < 1270
