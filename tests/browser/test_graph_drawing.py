"""What a layer graph looks like when it is drawn, read from the drawing itself: edges as thick as the bytes they carry, and a shape of its own
for every bound, so that colour alone tells nothing."""

from __future__ import annotations

import copy
import json

import pytest

from tests.browser.conftest import DRAWN, until
from tests.browser.test_run_page import STORED, pages  # noqa: F401

#: What dagre and cytoscape drew: ends, kind and width of each edge; shape, bound and border of each node.
EDGES = """document.querySelector("[data-graph]").cy.edges().map(e => ({
    source: e.source().id(), target: e.target().id(), kind: e.className().find(c => c.startsWith("edge-")).slice(5),
    width: e.numericStyle("width"), line: e.style("line-style")}))"""
NODES = """document.querySelector("[data-graph]").cy.nodes().map(n => ({
    id: n.id(), bound: n.data("node").bound, kind: n.data("node").kind, open: n.hasClass("open"),
    shape: n.style("shape"), border: n.style("border-color")}))"""
#: What the server sent to be drawn.
SENT = """JSON.parse(document.getElementById(document.querySelector("[data-graph]").dataset.graph).textContent)"""
TONES = """Object.fromEntries(["compute", "memory", "overhead", "network"].map(name => {
    const probe = document.createElement("i");
    probe.className = "dot";
    probe.style.setProperty("color", `var(--tone-${name})`);
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return [name, colour];
}))"""


def opened(pages, document, query=""):  # noqa: F811
    page = pages.open(pages.run(document) + query).page
    until(page, DRAWN)
    return page


@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_edges_are_as_thick_as_the_bytes_they_carry(pages, stage):  # noqa: F811
    document = json.loads((STORED / "measure_smollm2.json").read_text())
    page = opened(pages, document, f"?stage={stage}&open=*")
    sent = {(e["source"], e["target"], e["kind"]): e["bytes"] for e in page.evaluate(SENT)["edges"]}
    drawn = {(e["source"], e["target"], e["kind"]): e["width"] for e in page.evaluate(EDGES)}
    assert len(drawn) > 8
    assert set(drawn) == {ends for ends in sent if ends[2] != "repeat"}
    most = max(sent[ends] or 0 for ends in drawn)
    for ends, width in drawn.items():
        # The line without bytes has a hair's width; the area of what is added grows as the bytes do.
        assert (width - 1.2) ** 2 / 64 == pytest.approx((sent[ends] or 0) / most, abs=1e-3), ends
    assert max(drawn.values()) > 3 * min(drawn.values()), "big and small are told apart by eye"
    # The bytes are those of the document: the edges of modules that are shown as they are.
    stated = {}
    for edge in document["graph"][stage]["edges"]:
        key = (f"n:{edge['source']}", f"n:{edge['target']}", edge["kind"])
        stated[key] = stated.get(key, 0) + edge["bytes"]
    same = [ends for ends in drawn if ends in stated]
    assert len(same) >= 3
    assert all(sent[ends] == stated[ends] for ends in same)


def test_every_bound_has_a_shape_as_well_as_a_colour(pages):  # noqa: F811
    document = copy.deepcopy(json.loads((STORED / "measure_smollm2.json").read_text()))
    leaves = [n for n in document["graph"]["prefill"]["nodes"] if n["bound"] and n["kind"] not in ("input", "output")]
    for number, node in enumerate(leaves):
        node["bound"] = ("compute", "memory", "overhead", "network")[number % 4]
    page = opened(pages, document, "?stage=prefill&by=bound&open=*")
    nodes = [n for n in page.evaluate(NODES) if not n["open"] and n["bound"] and n["kind"] in ("module", "op")]
    shapes = {
        bound: {n["shape"] for n in nodes if n["bound"] == bound}
        for bound in ("compute", "memory", "overhead", "network")
    }
    assert all(len(of) == 1 for of in shapes.values()), f"one shape a bound: {shapes}"
    assert len(set.union(*shapes.values())) == 4, f"no two bounds share one: {shapes}"
    borders = {n["bound"]: n["border"].replace(" ", "") for n in nodes}
    assert len(set(borders.values())) == 4
    wanted = {bound: colour.replace(" ", "") for bound, colour in page.evaluate(TONES).items()}
    assert borders == wanted, "the colours of the legend"
    # The legend names each bound beside the shape that it has in the graph.
    legend = page.locator("#network .shape-key").count()
    assert legend >= 4


def test_a_cache_is_told_from_a_module_and_its_edge_from_others(pages):  # noqa: F811
    page = opened(pages, json.loads((STORED / "measure_smollm2.json").read_text()), "?stage=decode")
    kinds = {n["kind"]: n["shape"] for n in page.evaluate(NODES) if not n["open"]}
    assert kinds["input"] == kinds["output"] == "round-tag"
    lines = {e["kind"]: e["line"] for e in page.evaluate(EDGES)}
    if "cache" in kinds:
        assert kinds["cache"] == "barrel"
    assert lines["data"] == "solid"
