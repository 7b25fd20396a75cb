"""Layer graphs as files of other tools. A format is one function that is registered with :func:`exporter`.

Each takes the ``graph`` of a run document (stage → ``{nodes, edges}``, see docs/run-document.md) and a name, and returns the text
of the file. Documents may come from outside: unknown parents, circles of parents and edges to nowhere do no harm, and labels are
escaped. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from profiling.quantities import number, say

Graphs = Mapping[str, Mapping[str, Any]]
Writer = Callable[[Graphs, str], str]


@dataclass(frozen=True)
class Exporter:
    """A format: ``name`` on the command line and in addresses, ``suffix`` of the file, ``title`` for people."""

    name: str
    title: str
    suffix: str
    media_type: str
    write: Writer


EXPORTERS: dict[str, Exporter] = {}


def exporter(name: str, *, title: str, suffix: str, media_type: str) -> Callable[[Writer], Writer]:
    """Register a function as the writer of a format."""

    def register(write: Writer) -> Writer:
        EXPORTERS[name] = Exporter(name, title, suffix, media_type, write)
        return write

    return register


# --- what all formats share -------------------------------------------------------------------------------------------


@dataclass
class Node:
    """A node of the document in its place: ``children`` are empty for what runs; ``folded``: times within its parent."""

    id: str
    raw: Mapping[str, Any]
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    folded: int = 1

    @property
    def kind(self) -> str:
        return str(self.raw.get("kind") or "module")

    @property
    def label(self) -> str:
        """Its name, with the class where the name is only the number of a block, and the repetitions."""
        name, of = str(self.raw.get("label") or self.id), str(self.raw.get("class") or "")
        name = f"{name} {of}" if name.isdigit() and of else name
        return f"{name} × {self.folded}" if self.folded > 1 else name

    def above(self) -> list[Node]:
        """Its parents, the outermost first."""
        chain: list[Node] = []
        node = self.parent
        while node is not None:
            chain.append(node)
            node = node.parent
        return chain[::-1]


@dataclass(frozen=True)
class Link:
    """An edge between two nodes that run, in words: ``shape`` as 1×48×768, ``bytes`` 0 where unknown."""

    source: Node
    target: Node
    kind: str
    bytes: float
    shape: str
    dtype: str


def tree(graph: Mapping[str, Any]) -> dict[str, Node]:
    """Nodes by id, linked; the first of several with one id counts. A parent that is unknown or closes a circle is none."""
    nodes: dict[str, Node] = {}
    for raw in _entries(graph, "nodes"):
        if str(raw.get("id")) not in nodes:
            nodes[str(raw.get("id"))] = Node(str(raw.get("id")), raw)
    for node in nodes.values():
        parent = nodes.get(str(node.raw.get("parent"))) if node.raw.get("parent") is not None else None
        above = parent
        while above is not None and above is not node:
            above = above.parent
        if parent is not None and above is not node:
            node.parent = parent
            parent.children.append(node)
    for node in nodes.values():
        outside = _repeat(node.parent) if node.parent else 1
        node.folded = max(1, _repeat(node) // outside)
    return nodes


def _entries(graph: Any, key: str) -> list[Mapping[str, Any]]:
    entries = graph.get(key) if isinstance(graph, Mapping) else None
    return [raw for raw in entries if isinstance(raw, Mapping)] if isinstance(entries, list) else []


def _repeat(node: Node) -> int:
    return max(1, int(number(node.raw.get("repeat")) or 1))


def links(graph: Mapping[str, Any], nodes: Mapping[str, Node]) -> Iterator[Link]:
    """The edges between nodes that run; one that names anything else is left out."""
    for raw in _entries(graph, "edges"):
        source, target = nodes.get(str(raw.get("source"))), nodes.get(str(raw.get("target")))
        if source is None or target is None or source.children or target.children:
            continue
        shape = raw.get("shape")
        yield Link(
            source,
            target,
            str(raw.get("kind") or "data"),
            max(0.0, number(raw.get("bytes")) or 0.0),
            "×".join(map(str, shape)) if isinstance(shape, (list, tuple)) else "",
            str(raw.get("dtype") or ""),
        )


# --- the graph as it stands in the document -----------------------------------------------------------------------------


@exporter("json", title="JSON", suffix="json", media_type="application/json")
def as_json(graphs: Graphs, name: str) -> str:
    """Stage → ``{nodes, edges}``, unchanged."""
    text = json.dumps({"name": name, "graph": graphs})
    # A number that is not finite has no form in JSON: null, as everywhere.
    return json.dumps(json.loads(text, parse_constant=lambda _: None), indent=1) + "\n"


# --- Google's Model Explorer --------------------------------------------------------------------------------------------

#: Figures of a node that its side panel lists, exact, under the names that they have in the document.
_ATTRIBUTES = (
    *("class", "kind", "repeat", "bound", "time_s", "measured_s", "flops", "bytes", "parameters", "weight_bytes"),
    *("memory_bytes", "output_bytes", "output_shape", "tied"),
)
_FILL = {"compute": "#fbd5c0", "memory": "#cfe0f7", "overhead": "#f3e6a8", "network": "#dccdf2"}
_OVERLAYS = {"residual": "#b3540e", "cache": "#1f7a4d", "repeat": "#6b6f76"}


@exporter("model-explorer", title="Model Explorer", suffix="model-explorer.json", media_type="application/json")
def model_explorer(graphs: Graphs, name: str) -> str:
    """A graph collection for the JSON adapter of ai-edge-model-explorer: one graph per stage, modules as layers.

    Loops from block to block are overlays, not edges: there a layer would have to stand above itself.
    """
    collection = {"label": name, "graphs": [_explorer_graph(stage, graph) for stage, graph in graphs.items()]}
    return json.dumps(collection, indent=1) + "\n"


def _explorer_graph(stage: str, graph: Mapping[str, Any]) -> dict[str, Any]:
    nodes = tree(graph)
    namespaces = _namespaces(nodes)
    entries = {node.id: _explorer_node(node, namespaces) for node in nodes.values() if not node.children}
    overlays: dict[str, list[dict[str, str]]] = {}
    outputs: dict[str, dict[tuple[str, str, float], str]] = {}
    for link in links(graph, nodes):
        source, target = entries[link.source.id], entries[link.target.id]
        if link.kind in _OVERLAYS:
            text = link.shape.replace("×", "x")
            edge = {"sourceNodeId": link.source.id, "targetNodeId": link.target.id, "label": text}
            overlays.setdefault(link.kind, []).append(edge)
        if link.kind == "repeat" or (link.kind == "cache" and link.target.id == "cache"):
            continue
        known = outputs.setdefault(link.source.id, {})
        tensor = (link.shape, link.dtype, link.bytes)
        if tensor not in known:
            known[tensor] = str(len(known))
            values = {"shape": link.shape, "dtype": link.dtype, "bytes": say(link.bytes, "B")}
            source["outputsMetadata"].append({"id": known[tensor], "attrs": _pairs(values)})
        at = str(len(target["incomingEdges"]))
        target["incomingEdges"].append(
            {"sourceNodeId": link.source.id, "sourceNodeOutputId": known[tensor], "targetNodeInputId": at}
        )
        target["inputsMetadata"].append({"id": at, "attrs": _pairs({"kind": link.kind})})
    return {
        "id": stage,
        "nodes": list(entries.values()),
        "groupNodeAttributes": {
            namespaces[node.id]: {key: value for key, value in _figures(node).items() if value}
            for node in nodes.values()
            if node.children
        },
        "tasksData": {
            "edgeOverlaysDataListLeftPane": [
                {
                    "type": "edge_overlays",
                    "name": "Residual connections, cache, repeated blocks",
                    "overlays": [
                        {"name": kind, "edgeColor": _OVERLAYS[kind], "edgeWidth": 2, "edges": edges}
                        for kind, edges in overlays.items()
                    ],
                }
            ]
            if overlays
            else []
        },
    }


def _namespaces(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Module → the path of layers that stands for it; two modules never share one."""
    paths: dict[str, str] = {}
    taken: set[str] = set()
    waiting = [node for node in nodes.values() if node.parent is None and node.children]
    for node in waiting:  # grows while we walk: parents first
        above = f"{paths[node.parent.id]}/" if node.parent else ""
        local = node.id.removeprefix(f"{node.parent.id}.") if node.parent else node.id
        own = (local or "model").replace("/", "_").replace("\\", "_")
        own += f" (x {node.folded})" if node.folded > 1 else ""
        while above + own in taken:
            own += "'"
        paths[node.id] = above + own
        taken.add(above + own)
        waiting += [child for child in node.children if child.children]
    return paths


def _explorer_node(node: Node, namespaces: Mapping[str, str]) -> dict[str, Any]:
    fill = _FILL.get(str(node.raw.get("bound")))
    return {
        "id": node.id,
        "label": node.label.replace("×", "x"),  # the font that it draws with has no ×
        "namespace": namespaces[node.parent.id] if node.parent else "",
        "attrs": _pairs({"path": node.id} | _figures(node)),
        "incomingEdges": [],
        "inputsMetadata": [],
        "outputsMetadata": [],
        "style": {"backgroundColor": fill} if fill else {},
    }


def _figures(node: Node) -> dict[str, str]:
    """The known figures of a node as texts: the viewer takes nothing else, and compares those that are numbers."""
    known = {key: node.raw.get(key) for key in _ATTRIBUTES}
    return {
        key: "×".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for key, value in known.items()
        if value not in (None, "")
    }


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items() if value]


# --- Graphviz -----------------------------------------------------------------------------------------------------------

#: By bound, so that the picture says it in black and white too.
_SHAPES = {"compute": "box", "memory": "ellipse", "overhead": "hexagon", "network": "parallelogram"}
_KIND_SHAPES = {"input": "invhouse", "output": "house", "cache": "cylinder"}
_EDGE_STYLES = {
    "residual": 'style=bold, color="#b3540e"',
    "cache": 'style=dashed, color="#1f7a4d"',
    "repeat": 'style=dotted, color="#6b6f76", constraint=false',
}
_KEY = "box: compute-bound, ellipse: memory-bound, hexagon: overhead, parallelogram: network, cylinder: cache; width of a line: bytes"


@exporter("dot", title="DOT (Graphviz)", suffix="dot", media_type="text/vnd.graphviz; charset=utf-8")
def dot(graphs: Graphs, name: str) -> str:
    """A directed graph in which modules are clusters; with several stages each is a cluster around its own nodes."""
    lines = [
        "digraph model {",
        f"  label={_quoted(name, _KEY)}; labelloc=t; fontname=Helvetica; compound=true; newrank=true;",
        '  node [fontname=Helvetica, fontsize=10, style=filled, fillcolor="#ffffff"];',
        "  edge [fontname=Helvetica, fontsize=8];",
    ]
    for stage, graph in graphs.items():
        alone = len(graphs) == 1
        if not alone:
            lines += [f"  subgraph {_identifier(f'cluster:{stage}')} {{", f"  label={_quoted(stage)};"]
        lines += _dot_stage(graph, "" if alone else f"{stage}:")
        lines += [] if alone else ["  }"]
    return "\n".join([*lines, "}", ""])


def _dot_stage(graph: Mapping[str, Any], prefix: str) -> Iterator[str]:
    nodes = tree(graph)
    # None closes the cluster whose parts lie above it on the stack; modules nest deeper than Python would recurse.
    stack: list[Node | None] = [node for node in reversed(nodes.values()) if node.parent is None]
    while stack:
        node = stack.pop()
        if node is None:
            yield "  }"
        elif node.children:
            yield f"  subgraph {_identifier(f'cluster:{prefix}{node.id}')} {{"
            style = "style=rounded, penwidth=2" if node.folded > 1 else "style=rounded, penwidth=1"
            yield f'  graph [label={_quoted(node.label, _sizes(node))}, {style}, color="#6b6f76"];'
            stack += [None, *reversed(node.children)]
        else:
            bound = str(node.raw.get("bound"))
            shape = _KIND_SHAPES.get(node.kind) or _SHAPES.get(bound, "box")
            fill = f', fillcolor="{_FILL[bound]}"' if bound in _FILL else ""
            tied = f"weights of {node.raw['tied']}" if node.raw.get("tied") else ""
            text = _quoted(node.label, str(node.raw.get("class") or ""), _sizes(node), tied)
            yield f"  {_identifier(prefix + node.id)} [label={text}, shape={shape}{fill}];"
    found = list(links(graph, nodes))
    most = max((link.bytes for link in found), default=0.0) or 1.0
    for link in found:
        ends = f"{_identifier(prefix + link.source.id)} -> {_identifier(prefix + link.target.id)}"
        text = _quoted(f"{link.shape} {link.dtype}".strip(), say(link.bytes, "B") if link.bytes else "")
        # The area of a line, not its width, grows as fast as the bytes: a cache is often a thousand times an activation.
        width = 0.5 + 4.5 * (link.bytes / most) ** 0.5
        style = _EDGE_STYLES.get(link.kind, 'color="#30343a"')
        # A cache that is written would pull the node that it was read from below everything.
        back = ", constraint=false" if link.target.id == "cache" else ""
        yield f"  {ends} [label={text}, penwidth={width:.2f}, {style}{back}];"


def _sizes(node: Node) -> str:
    """Time and work of a node in a few words; nothing for what takes none."""
    known = [("time_s", "s"), ("flops", "FLOP"), ("bytes", "B"), ("memory_bytes", "B")]
    texts = {key: say(node.raw.get(key), unit) for key, unit in known if number(node.raw.get(key))}
    if "memory_bytes" in texts:
        texts["memory_bytes"] = f"memory {texts['memory_bytes']}"
    return ", ".join(texts.values())


def _identifier(text: str) -> str:
    return f'"{_escaped(text)}"'


def _quoted(*lines: str) -> str:
    """A label of several lines; empty ones are left out. ``&`` would begin an entity."""
    return '"' + "\\n".join(_escaped(line).replace("&", "&amp;") for line in lines if line) + '"'


def _escaped(text: str) -> str:
    """Safe inside double quotes: no control characters, no end of the quotes, no escape of Graphviz's own."""
    printable = "".join(c if c.isprintable() or c == " " else " " for c in text)
    return printable.replace("\\", "\\\\").replace('"', '\\"')
