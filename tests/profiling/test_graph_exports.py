"""Graphs as files: what other tools read in them is what the document says, whatever the document says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from profiling.cli import main
from profiling.graph_exports import EXPORTERS, dot, exporter, model_explorer
from tests.profiling.documents import FOLDER

HOSTILE = 'a "quoted" \\ back\\\\slash\\" \n new\r\t\x00\x1b line & &lt; </b> {brace} [x] -> ; ’ × /* # //'


def stored(name: str = "estimate_gpt2") -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())["graph"]


def node(path: Any, parent: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": path, "parent": parent, "label": str(path), "class": "", "kind": "module", "repeat": 1} | more


def edge(source: Any, target: Any, kind: str = "data", **more: Any) -> dict[str, Any]:
    return {"source": source, "target": target, "kind": kind, "bytes": 8, "shape": [1, 4], "dtype": "bfloat16"} | more


def hostile() -> dict[str, Any]:
    nodes = [
        node(HOSTILE, label=HOSTILE, **{"class": HOSTILE}),
        node(f"{HOSTILE}.x", HOSTILE, label=HOSTILE, bound=HOSTILE, output_shape=[HOSTILE], tied=HOSTILE),
        node("trailing\\", HOSTILE, label="\\", kind=HOSTILE),
        node("circle", "circle"),
        node("one", "two"),
        node("two", "one"),
        node("lost", "nobody"),
        node("lost", "again"),
        node(7, repeat="many", bytes="much", time_s=[]),
        "no node",
    ]
    edges = [
        edge(f"{HOSTILE}.x", "trailing\\", HOSTILE, shape=[HOSTILE], dtype=HOSTILE),
        edge("lost", f"{HOSTILE}.x", "residual", bytes=None, shape=None),
        edge("lost", "nowhere"),
        edge("lost", "7", bytes=float("1e300")),
        edge("one", HOSTILE),
    ]
    return {HOSTILE: {"nodes": nodes, "edges": edges}, "decode": {"nodes": None, "edges": None}}


def deep(levels: int) -> dict[str, Any]:
    nodes = [node(".".join("x" * n), ".".join("x" * (n - 1)) or None) for n in range(1, levels + 1)]
    return {"prefill": {"nodes": nodes, "edges": []}}


# --- DOT ----------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|->|[{}\[\];=,]|[\w.#-]+|\s+')


def tokens(text: str) -> list[str]:
    """The words of a DOT file; fails where the text cannot be cut into words (an unclosed quote)."""
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match, f"not DOT: {text[at : at + 60]!r}"
        at = match.end()
        if not match.group().isspace():
            found.append(match.group())
    return found


def drawn(text: str) -> tuple[set[str], list[tuple[str, str]], list[str]]:
    """Nodes, edges and clusters of a DOT file; fails on unbalanced brackets and on edges to nodes that are not declared."""
    words, nodes, edges, clusters, open_ = tokens(text), set(), [], [], []
    for at, word in enumerate(words):
        if word in "{[":
            open_.append(word)
        elif word in "}]":
            assert open_.pop() == {"}": "{", "]": "["}[word]
        elif word == "subgraph":
            clusters.append(words[at + 1])
            assert words[at + 1].startswith('"cluster')
        elif word == "->":
            edges.append((words[at - 1], words[at + 1]))
        elif word.startswith('"') and words[at + 1] == "[" and words[at - 1] != "->":
            assert word not in nodes
            nodes.add(word)
    assert not open_
    assert words[:2] == ["digraph", "model"]
    assert {end for pair in edges for end in pair} <= nodes
    return nodes, edges, clusters


@pytest.mark.parametrize("name", ["estimate_gpt2", "estimate_llama3_70b_h100", "measure_smollm2"])
def test_dot_has_every_node_edge_and_module(name):
    for stage, graph in stored(name).items():
        nodes, edges, clusters = drawn(dot({stage: graph}, name))
        parents = {n["parent"] for n in graph["nodes"]} - {None}
        assert nodes == {f'"{n["id"]}"' for n in graph["nodes"] if n["id"] not in parents}
        assert clusters == [f'"cluster:{n["id"]}"' for n in graph["nodes"] if n["id"] in parents]
        assert sorted(edges) == sorted((f'"{e["source"]}"', f'"{e["target"]}"') for e in graph["edges"])


def test_dot_says_repetitions_shapes_bytes_and_bounds():
    graph = {
        "nodes": [
            node("block", label="0", repeat=12, **{"class": "Block"}),
            node("block.a", "block", repeat=12, bound="compute", time_s=0.002, flops=3e9, tied="block.b"),
            node("block.b", "block", repeat=12, bound="memory"),
            node("cache", kind="cache"),
        ],
        "edges": [
            edge("block.a", "block.b", bytes=400, shape=[1, 4, 8]),
            edge("block.b", "cache", "cache", bytes=100),
            edge("block.b", "block.a", "repeat", bytes=0),
        ],
    }
    text = dot({"prefill": graph}, "Model")
    assert '"0 Block × 12"' in text
    assert 'label="1×4×8 bfloat16\\n400 B", penwidth=5.00' in text
    assert "penwidth=2.75, style=dashed" in text, "a quarter of the bytes is half the width"
    assert "penwidth=0.50, style=dotted" in text
    (compute,) = re.findall(r'^ +"block\.a" \[.*', text, re.MULTILINE)
    (memory,) = re.findall(r'^ +"block\.b" \[.*', text, re.MULTILINE)
    assert "2 ms, 3 GFLOP" in compute
    assert "weights of block.b" in compute
    assert "shape=box" in compute
    assert "shape=ellipse" in memory
    assert compute.partition("fillcolor")[2] != memory.partition("fillcolor")[2]
    assert "shape=cylinder" in text


def test_several_stages_are_one_file_with_the_nodes_of_each():
    graphs = stored()
    nodes, _, clusters = drawn(dot(graphs, "gpt2"))
    assert len(nodes) == sum(len(drawn(dot({stage: graph}, ""))[0]) for stage, graph in graphs.items())
    assert {'"cluster:prefill"', '"cluster:decode"'} <= set(clusters)


def test_hostile_labels_stay_inside_their_quotes():
    text = dot(hostile(), HOSTILE)
    nodes, edges, _ = drawn(text)
    assert len(nodes) == 6
    assert len(edges) == 3, "edges to nowhere and to modules are left out"
    assert "\x00" not in text
    assert "\x1b" not in text
    labels = re.findall(r'label=("(?:[^"\\]|\\.)*")', text)
    assert any("&amp;lt;" in label for label in labels)
    assert not any("&lt;" in label for label in labels), "an entity would be drawn as something else"


def test_modules_nest_deeper_than_python_would_recurse():
    _, _, clusters = drawn(dot(deep(1500), "deep"))
    assert len(clusters) == 1499
    assert len(json.loads(model_explorer(deep(300), "deep"))["graphs"][0]["nodes"]) == 1


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed; the texts are checked without it")
@pytest.mark.parametrize("graphs", [stored(), hostile()], ids=["gpt2", "hostile"])
def test_graphviz_draws_it(graphs):
    done = subprocess.run(["dot", "-Tsvg"], input=dot(graphs, "x"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    assert done.stdout.count("<svg") == 1


# --- Model Explorer -----------------------------------------------------------------------------------------------------

NODE_KEYS = {"id", "label", "namespace", "attrs", "incomingEdges", "inputsMetadata", "outputsMetadata", "style"}


def explored(graphs: dict[str, Any]) -> dict[str, Any]:
    """The collection, after what the viewer's JSON adapter takes for granted of it was checked."""
    collection = json.loads(model_explorer(graphs, "Name"))
    assert set(collection) == {"label", "graphs"}
    for graph in collection["graphs"]:
        assert set(graph) == {"id", "nodes", "groupNodeAttributes", "tasksData"}
        nodes = {n["id"]: n for n in graph["nodes"]}
        assert len(nodes) == len(graph["nodes"])
        for one in graph["nodes"]:
            assert set(one) == NODE_KEYS
            lists = [one["attrs"], *(m["attrs"] for key in ("inputsMetadata", "outputsMetadata") for m in one[key])]
            for pairs in lists:
                assert all(set(pair) == {"key", "value"} for pair in pairs)
                assert all(isinstance(text, str) for pair in pairs for text in pair.values())
            for incoming in one["incomingEdges"]:
                source = nodes[incoming["sourceNodeId"]]
                assert incoming["sourceNodeOutputId"] in {m["id"] for m in source["outputsMetadata"]}
                assert incoming["targetNodeInputId"] in {m["id"] for m in one["inputsMetadata"]}
        for attributes in graph["groupNodeAttributes"].values():
            assert all(isinstance(text, str) for text in attributes.values())
        for overlays in graph["tasksData"]["edgeOverlaysDataListLeftPane"]:
            for overlay in overlays["overlays"]:
                assert {end for e in overlay["edges"] for end in (e["sourceNodeId"], e["targetNodeId"])} <= set(nodes)
    return collection


@pytest.mark.parametrize("name", ["estimate_gpt2", "estimate_llama3_70b_h100", "measure_smollm2"])
def test_model_explorer_gets_layers_shapes_and_figures(name):
    graphs = stored(name)
    collection = explored(graphs)
    assert [g["id"] for g in collection["graphs"]] == list(graphs)
    for stage, graph in zip(graphs.values(), collection["graphs"], strict=True):
        nodes = {n["id"]: n for n in graph["nodes"]}
        block = next(n for n in stage["nodes"] if n["repeat"] > 1)
        (namespace,) = [path for path in graph["groupNodeAttributes"] if path.endswith(f"0 (x {block['repeat']})")]
        assert graph["groupNodeAttributes"][namespace]["flops"] == str(block["flops"])
        assert namespace.count("/") == 1
        attention = next(n for n in stage["nodes"] if n["id"].endswith("#sdpa"))
        shown = nodes[attention["id"]]
        assert shown["namespace"].startswith(f"{namespace}/")
        values = {pair["key"]: pair["value"] for pair in shown["attrs"]}
        assert values["flops"] == str(attention["flops"])
        assert values["bound"] == attention["bound"]
        made = {e["source"] for e in stage["edges"] if e["target"] == attention["id"]}
        assert {e["sourceNodeId"] for e in shown["incomingEdges"]} == made
        (out,) = shown["outputsMetadata"]
        (edge_,) = [e for e in stage["edges"] if e["source"] == attention["id"]]
        assert {"key": "shape", "value": "×".join(map(str, edge_["shape"]))} in out["attrs"]


def test_loops_are_overlays_and_not_edges():
    graph = explored(stored())["graphs"][1]
    incoming = {(e["sourceNodeId"], n["id"]) for n in graph["nodes"] for e in n["incomingEdges"]}
    (data,) = graph["tasksData"]["edgeOverlaysDataListLeftPane"]
    kinds = {o["name"]: {(e["sourceNodeId"], e["targetNodeId"]) for e in o["edges"]} for o in data["overlays"]}
    assert set(kinds) == {"residual", "cache", "repeat"}
    assert kinds["residual"] <= incoming
    assert not kinds["repeat"] & incoming
    assert not any(target == "cache" for _, target in incoming)


def test_hostile_documents_make_valid_collections():
    graph = explored(hostile())["graphs"][0]
    assert len(graph["nodes"]) == 6
    (namespace,) = {n["namespace"] for n in graph["nodes"]} - {"", "two", "one"}
    assert "/" not in namespace, "a slash in a name is no level"


# --- the registry and the command line ----------------------------------------------------------------------------------


def test_a_format_is_one_function():
    @exporter("names", title="Names", suffix="txt", media_type="text/plain")
    def names(graphs, name):
        return name + "".join(n["id"] for graph in graphs.values() for n in graph["nodes"])

    try:
        assert EXPORTERS["names"].write({"prefill": {"nodes": [node("x")]}}, "Model ") == "Model x"
        assert EXPORTERS["names"].suffix == "txt"
    finally:
        del EXPORTERS["names"]


@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_the_command_writes_each_format(name, tmp_path, capsys):
    model = ["graph", "-m", "gpt2", "-d", "nvidia-h100-sxm5-80gb", "--input-tokens", "8", "--output-tokens", "4"]
    target = tmp_path / "graph"
    assert main([*model, "--format", name, "--stage", "decode", "--file", str(target)]) == 0
    assert main([*model, "--format", name, "--stage", "decode"]) == 0
    text = target.read_text()
    assert capsys.readouterr().out == text
    assert "transformer.h.0.attn#sdpa" in text
    assert "gpt2 on H100" in text
    if name == "dot":
        drawn(text)
    elif name == "model-explorer":
        assert [g["id"] for g in json.loads(text)["graphs"]] == ["decode"]
    else:
        assert list(json.loads(text)["graph"]) == ["decode"]


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    model = [
        "graph",
        "-m",
        "bert-base-uncased",
        "-d",
        "nvidia-h100-sxm5-80gb",
        "--input-tokens",
        "8",
        "--output-tokens",
        "0",
    ]
    assert main([*model, "--stage", "decode"]) == 2
    assert "error: stage: This run has no stage decode: it has encode." in capsys.readouterr().err
    assert main([*model, "--file", str(tmp_path / "none" / "graph")]) == 2
    assert "error: file:" in capsys.readouterr().err
