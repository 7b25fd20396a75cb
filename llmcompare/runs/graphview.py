"""The layer graph as one may look at it: which nodes are visible for a set of open modules, with sums and merged edges.

Pure functions over ``document["graph"][stage]``. What is open is part of the address (``?open=a,a.b``), so every view is a permalink.
A closed module stands for everything below it: its figures are the sums over its leaves, and edges end at it.
A folded block (``repeat`` = N) shows one block with the figures of all N.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from profiling.quantities import number

#: What a node can be coloured and sized by: parameter value → (key of the node, title, unit).
MEASURES: dict[str, tuple[str, str, str]] = {
    "time": ("time_s", "Estimated time", "s"),
    "measured": ("measured_s", "Measured time", "s"),
    "flops": ("flops", "FLOPs", "FLOP"),
    "bytes": ("bytes", "Bytes moved", "B"),
    "memory": ("memory_bytes", "Memory", "B"),
    "weights": ("weight_bytes", "Weights", "B"),
}
_SUMMED = ("parameters", "weight_bytes", "flops", "bytes", "time_s", "memory_bytes", "measured_s")

#: Without ``open`` the view opens modules, largest share first, while no more nodes than this are visible.
DEFAULT_NODES = 40


@dataclass
class Node:
    """One node of the whole graph. ``sums`` are over its leaves and over all repetitions that it or its parents stand for."""

    id: str
    raw: Mapping[str, Any]
    parent: str | None
    times: int = 1
    children: list[str] = field(default_factory=list)
    sums: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """What is drawn. ``nodes`` parents first; ``open_ids`` those opened; ``totals`` of the whole stage."""

    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    open_ids: list[str]
    totals: dict[str, float | None]
    dropped_edges: int


def build_tree(graph: Mapping[str, Any]) -> dict[str, Node]:
    """Nodes by id, with parents linked (an unknown or circular parent counts as none), repetitions multiplied and sums made."""
    nodes: dict[str, Node] = {}
    for raw in graph.get("nodes") or []:
        node_id = str(raw.get("id"))
        if node_id not in nodes:
            nodes[node_id] = Node(node_id, raw, raw.get("parent"))
    for node in nodes.values():
        if node.parent is not None and (node.parent not in nodes or node.parent == node.id):
            node.parent = None
        if node.parent is not None:
            nodes[node.parent].children.append(node.id)
    order = _parents_first(nodes)
    for node_id in order:
        node = nodes[node_id]
        above = nodes[node.parent].times if node.parent is not None else 1
        # ``repeat`` counts all repetitions of a node; inside a folded block it may be left at 1.
        node.times = max(above, int(number(node.raw.get("repeat")) or 1))
    for node_id in reversed(order):
        _sum_up(nodes[node_id], nodes)
    return nodes


def _parents_first(nodes: dict[str, Node]) -> list[str]:
    order = [n.id for n in nodes.values() if n.parent is None]
    for node_id in order:  # grows while we walk: breadth first
        order.extend(nodes[node_id].children)
    # Whatever hangs on a circle of parents was not reached: cut it loose, so that nothing disappears.
    reached = set(order)
    for node in nodes.values():
        if node.id not in reached:
            node.parent = None
            order.append(node.id)
    for node in nodes.values():
        node.children = [child for child in node.children if nodes[child].parent == node.id]
    return order


def _sum_up(node: Node, nodes: dict[str, Node]) -> None:
    for key in _SUMMED:
        if node.children:
            known = [value for child in node.children if (value := nodes[child].sums[key]) is not None]
            node.sums[key] = sum(known) if known else None
            stated = number(node.raw.get(key))
            # Tied weights are in two leaves but once in their parent: what the module says of itself is right.
            if key in ("parameters", "weight_bytes") and stated:
                node.sums[key] = stated * node.times
        else:
            own = number(node.raw.get(key))
            node.sums[key] = None if own is None else own * node.times


def totals(nodes: Mapping[str, Node]) -> dict[str, float | None]:
    """Sums over the whole stage: those of the nodes without parent, weights that two of them share once."""
    result: dict[str, float | None] = {}
    owners = [(n, nodes.get(str(n.raw.get("tied")))) for n in nodes.values() if n.raw.get("tied")]
    shared = [n for n, owner in owners if owner is not None and _top(n, nodes) != _top(owner, nodes)]
    for key in _SUMMED:
        known = [n.sums[key] for n in nodes.values() if n.parent is None and n.sums[key] is not None]
        twice = sum(n.sums[key] or 0 for n in shared) if key in ("parameters", "weight_bytes") else 0
        result[key] = sum(known) - twice if known else None  # type: ignore[arg-type]
    return result


def _top(node: Node, nodes: Mapping[str, Node]) -> str:
    while node.parent is not None:
        node = nodes[node.parent]
    return node.id


def default_open(nodes: Mapping[str, Node], limit: int = DEFAULT_NODES) -> list[str]:
    """Open from the outside in, modules with the largest time first, until ``limit`` nodes would be passed."""
    opened: list[str] = []
    waiting = [n for n in nodes.values() if n.parent is None and n.children]
    visible = sum(1 for n in nodes.values() if n.parent is None)
    while waiting:
        waiting.sort(key=lambda n: (n.id.count("."), -(n.sums["time_s"] or n.sums["flops"] or 0), n.id))
        node = waiting.pop(0)
        if visible + len(node.children) > limit:
            continue
        visible += len(node.children)
        opened.append(node.id)
        waiting += [nodes[c] for c in node.children if nodes[c].children]
    return opened


def view(graph: Mapping[str, Any], *, open_ids: Iterable[str] | None = None) -> View:
    """The visible part of ``graph``. ``open_ids``: modules whose inside is shown (``None``: a sensible default).

    A module inside a closed one stays hidden; unknown names are ignored. Edges are those of the leaves, lifted to what is visible;
    several between the same two nodes become one with the sum of their bytes; those inside a closed module are left out.
    """
    tree = build_tree(graph)
    opened = list(default_open(tree)) if open_ids is None else [i for i in dict.fromkeys(open_ids) if i in tree]
    is_open = {i for i in opened if tree[i].children}
    shown: list[str] = []
    stands_for: dict[str, str] = {}
    stack: list[tuple[str, str | None]] = [(n.id, None) for n in reversed(tree.values()) if n.parent is None]
    while stack:
        node_id, hidden_in = stack.pop()
        node = tree[node_id]
        stands_for[node_id] = node_id if hidden_in is None else hidden_in
        if hidden_in is None:
            shown.append(node_id)
            if node_id not in is_open:
                hidden_in = node_id
        stack += [(child, hidden_in) for child in reversed(node.children)]
    whole = totals(tree)
    edges, dropped = _lift_edges(graph, stands_for, is_open)
    return View(
        nodes=[_visible_node(tree[i], i in is_open, _times_above(tree[i], tree), whole) for i in shown],
        edges=edges,
        open_ids=[i for i in opened if i in is_open],
        totals=whole,
        dropped_edges=dropped,
    )


def _times_above(node: Node, tree: Mapping[str, Node]) -> int:
    return tree[node.parent].times if node.parent is not None else 1


def _visible_node(node: Node, opened: bool, times_above: int, whole: Mapping[str, float | None]) -> dict[str, Any]:
    shares = {}
    for name, (key, _, _) in MEASURES.items():
        value, total = node.sums[key], whole[key]
        shares[name] = value / total if value is not None and total else None
    return {
        "id": node.id,
        "parent": node.parent,
        "open": opened,
        "expandable": bool(node.children),
        "times": node.times,
        "folded": node.times // times_above,
        "raw": node.raw,
        "sums": node.sums,
        "shares": shares,
    }


def _lift_edges(graph: Mapping[str, Any], stands_for: Mapping[str, str], is_open: set[str]) -> tuple[list[dict], int]:
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    dropped = 0
    for raw in graph.get("edges") or []:
        source, target = stands_for.get(str(raw.get("source"))), stands_for.get(str(raw.get("target")))
        if source is None or target is None:
            dropped += 1
            continue
        # An edge from a folded block to itself is the loop that the × N on the block already says.
        if source == target or source in is_open or target in is_open:
            continue
        kind = str(raw.get("kind") or "data")
        edge = merged.get((source, target, kind))
        if edge is None:
            merged[source, target, kind] = {
                "source": source,
                "target": target,
                "kind": kind,
                "bytes": number(raw.get("bytes")),
                "shape": raw.get("shape"),
                "dtype": raw.get("dtype"),
                "count": 1,
            }
            continue
        size = number(raw.get("bytes"))
        edge["bytes"] = size if edge["bytes"] is None else edge["bytes"] + (size or 0)
        edge["count"] += 1
    return list(merged.values()), dropped


def toggled(open_ids: Iterable[str], node_id: str) -> list[str]:
    """The open modules after a click on ``node_id``: closed if it was open, else opened. What is inside keeps its state."""
    opened = list(open_ids)
    return [i for i in opened if i != node_id] if node_id in opened else [*opened, node_id]
