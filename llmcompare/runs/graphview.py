"""The layer graph as one may look at it: which nodes are visible for a set of open modules, with sums and merged edges.

Pure functions over ``document["graph"][stage]``. What is open is part of the address (``?open=a,a.b``), so every view is a permalink.
A closed module stands for everything below it: its figures are the sums over its leaves, and edges end at it.
A folded block (``repeat`` = N) shows one block with the figures of all N. Numbered siblings that are too many to look at (blocks that
are not identical, so that nobody folded them) stand in groups of ten: ``layers 0–9``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text
from profiling.quantities import number

#: What a node can be coloured and sized by: parameter value → (key of the node, title, unit).
MEASURES: dict[str, tuple[str, Text, str]] = {
    "time": ("time_s", _("Estimated time"), "s"),
    "measured": ("measured_s", _("Measured time"), "s"),
    "flops": ("flops", _("FLOPs"), "FLOP"),
    "bytes": ("bytes", _("Bytes moved"), "B"),
    "memory": ("memory_bytes", _("Memory"), "B"),
    "weights": ("weight_bytes", _("Weights"), "B"),
}
#: What the page offers: a measure, or the bound as a colour of its own.
PAINTS = (*MEASURES, "bound")
_SUMMED = ("parameters", "weight_bytes", "flops", "bytes", "time_s", "memory_bytes", "measured_s")

#: Without ``open`` the view opens modules, largest share first, while no more nodes than this are visible.
DEFAULT_NODES = 40
#: More than this are never drawn: nobody could read them, and the browser would take seconds to place them.
MAX_NODES = 500
#: Among open modules: all are, but for those named beside it. So an address stays short however many modules there are.
ALL = "*"
#: Numbered siblings above ``MANY`` are put into groups of ``GROUP``, and groups into groups.
MANY, GROUP = 24, 10


@dataclass
class Node:
    """One node of the whole graph. ``sums`` are over its leaves and over all repetitions that it or its parents stand for."""

    id: str
    raw: Mapping[str, Any]
    parent: str | None
    times: int = 1
    children: list[str] = field(default_factory=list)
    sums: dict[str, float | None] = field(default_factory=dict)

    @property
    def grouped(self) -> bool:
        """Stands for numbered siblings, and for nothing in the model."""
        return self.raw.get("kind") == "group"


@dataclass(frozen=True)
class View:
    """What is drawn. ``nodes`` parents first; ``open_ids`` those opened; ``totals`` of the whole stage; ``kept_closed``: how many
    modules were asked to be open but stayed closed, because more than :data:`MAX_NODES` would be visible."""

    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    open_ids: list[str]
    totals: dict[str, float | None]
    dropped_edges: int
    kept_closed: int = 0


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
    _parents_first(nodes)
    for parent in [None, *nodes]:
        _group(nodes, parent)
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


def _group(nodes: dict[str, Node], parent: str | None) -> None:
    """Numbered children of ``parent`` in groups of ten, while there are more than can be looked at. Order and figures stay."""
    children = [n.id for n in nodes.values() if n.parent is None] if parent is None else nodes[parent].children
    stems: dict[str, list[str]] = {}
    if len(children) <= MANY:
        return
    for child in children:
        stem, _, last = child.rpartition(".")
        if last.isdigit():
            stems.setdefault(stem, []).append(child)
    level = {stem: members for stem, members in stems.items() if len(members) > MANY}
    for stem, members in level.items():
        while len(members) > MANY:
            members = [
                _one_group(nodes, stem, parent, members[at : at + GROUP]) for at in range(0, len(members), GROUP)
            ]
        if parent is not None:
            tops = dict.fromkeys(members)
            kept = nodes[parent].children
            first = next(i for i, child in enumerate(kept) if child in stems[stem])
            nodes[parent].children = [
                *(c for c in kept[:first]),
                *tops,
                *(c for c in kept[first:] if c not in set(stems[stem])),
            ]


def _one_group(nodes: dict[str, Node], stem: str, parent: str | None, members: Sequence[str]) -> str:
    first, last = (nodes[m].raw.get("span", m.rpartition(".")[2]) for m in (members[0], members[-1]))
    low, high = str(first).partition("-")[0], str(last).rpartition("-")[2]
    classes = dict.fromkeys(str(nodes[m].raw.get("class") or "") for m in members)
    group_id = f"{stem}.{low}-{high}" if stem else f"{low}-{high}"
    raw = {
        "id": group_id,
        "kind": "group",
        "label": f"{stem.rpartition('.')[2]} {low}–{high}".strip(),
        "class": " / ".join(name for name in classes if name),
        "span": f"{low}-{high}",
    }
    nodes[group_id] = Node(group_id, raw, parent, children=list(members))
    for member in members:
        nodes[member].parent = group_id
    return group_id


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
        inside = [nodes[c] for c in node.children if nodes[c].children]
        # Of groups, and of what is in one, the first shows what is inside; the others look alike.
        seen = [n for n in inside if n.grouped or node.grouped]
        waiting += [n for n in inside if n not in seen[1:]]
    return opened


def view(graph: Mapping[str, Any], *, open_ids: Iterable[str] | None = None) -> View:
    """The visible part of ``graph``. ``open_ids``: modules whose inside is shown (``None``: a sensible default; with :data:`ALL` every
    module but those named).

    A module inside a closed one stays hidden; unknown names are ignored. Edges are those of the leaves, lifted to what is visible;
    several between the same two nodes become one with the sum of their bytes; those inside a closed module are left out.
    """
    tree = build_tree(graph)
    opened = default_open(tree) if open_ids is None else asked_open(open_ids, tree)
    asked = {i for i in opened if tree[i].children}
    is_open, kept_closed = _within(tree, asked)
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
        kept_closed=kept_closed,
    )


def asked_open(open_ids: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those of ``known`` that ``open_ids`` asks to be open: the named ones, or with :data:`ALL` all others."""
    named = dict.fromkeys(open_ids)
    if ALL in named:
        return [i for i in known if i not in named]
    present = set(known)
    return [i for i in named if i in present]


def _within(tree: Mapping[str, Node], asked: set[str]) -> tuple[set[str], int]:
    """Those of ``asked`` that may be open, outermost first, while at most :data:`MAX_NODES` are visible; and how many may not.

    A module inside a closed one costs nothing and keeps its state."""
    level = [n.id for n in tree.values() if n.parent is None]
    visible, refused = len(level), 0
    kept = set(asked)
    for node_id in level:  # grows while we walk: breadth first
        if node_id not in asked:
            continue
        inside = tree[node_id].children
        if visible + len(inside) > MAX_NODES:
            kept.discard(node_id)
            refused += 1
            continue
        visible += len(inside)
        level.extend(inside)
    return kept, refused


def _times_above(node: Node, tree: Mapping[str, Node]) -> int:
    return tree[node.parent].times if node.parent is not None else 1


def _visible_node(node: Node, opened: bool, times_above: int, whole: Mapping[str, float | None]) -> dict[str, Any]:
    shares = {}
    for name, (key, _title, _unit) in MEASURES.items():
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
    """The open modules after a click on ``node_id``: closed if it was open, else opened. What is inside keeps its state.
    (Beside :data:`ALL` the names are those of closed ones: to name one or not turns it over just as well.)"""
    opened = list(open_ids)
    return [i for i in opened if i != node_id] if node_id in opened else [*opened, node_id]
