"""How high a layer graph will be when ``static/graph.js`` has drawn it, so that the page keeps the room for it from the start.

Only dagre, in the browser, knows exactly. Its ranks are those of the longest path, and its distances are known: sizes and gaps here are those
of ``elements`` and ``layout`` in that script. On the stored documents the height comes out 0.94 to 0.98 of the drawn one, borders and names of
frames included in that; :data:`BORDERS` stands for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: CSS pixels: of a node without and with its figure, of the title of an open module, between two ranks, and for each frame that an edge
#: goes through (dagre puts a rank of its own there, at half of the distance).
NODE, NODE_WITH_FIGURE, TITLE, RANK_GAP, FRAME_GAP = 30.0, 44.0, 20.0, 26.0, 13.0
BORDERS = 1.03
#: A node with the largest share of all is higher by this part.
GROWN = 0.4
#: The scale at which texts are read without effort, and the room around.
READABLE, AROUND = 0.8, 40.0
LEAST, MOST = 320, 1500


def graph_height(graph: Mapping[str, Any]) -> int:
    """CSS pixels of the box of ``graph`` (``network.graph_json`` with its ``scale``): all of it at a readable size, within bounds."""
    longest = _longest(graph)
    return round(min(max(longest * BORDERS * READABLE + AROUND, LEAST), MOST))


def _longest(graph: Mapping[str, Any]) -> float:
    """Height of the drawing at scale 1: the longest way through it, with the frames of open modules around."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    leaves = [node for node in graph["nodes"] if not node["open"]]
    top = (graph.get("scale") or {}).get("share") or 0.0
    frames = {node["id"]: _frames(node, nodes) for node in leaves}
    after: dict[str, list[str]] = {node["id"]: [] for node in leaves}
    for edge in graph["edges"]:
        source, target = edge["source"], edge["target"]
        if edge["kind"] != "repeat" and source in after and target in after and source != target:
            after[source].append(target)
    after, before = _without_circles(after)
    begin = {name: FRAME_GAP * len(frames[name]) for name in after}
    ready, longest = [name for name, count in before.items() if not count], 0.0
    for name in ready:  # grows while we walk
        end = begin[name] + _height(nodes[name], top)
        longest = max(longest, end + FRAME_GAP * len(frames[name]))
        for target in after[name]:
            crossed = len(set(frames[name]) ^ set(frames[target]))
            begin[target] = max(begin[target], end + RANK_GAP + FRAME_GAP * crossed)
            before[target] -= 1
            if not before[target]:
                ready.append(target)
    return longest + (TITLE if any(frames.values()) else 0.0)


def _without_circles(after: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Targets by source with the edges that close a circle turned round, as dagre does (a cache is read and written by the same part); and
    how many edges come in at each node."""
    kept: dict[str, list[str]] = {name: [] for name in after}
    before = dict.fromkeys(after, 0)
    seen: set[str] = set()
    for first in after:
        if first in seen:
            continue
        seen.add(first)
        under_way = {first}
        path = [(first, iter(after[first]))]
        while path:
            name, targets = path[-1]
            target = next(targets, None)
            if target is None:
                path.pop()
                under_way.discard(name)
                continue
            source, end = (target, name) if target in under_way else (name, target)
            kept[source].append(end)
            before[end] += 1
            if target not in seen:
                seen.add(target)
                under_way.add(target)
                path.append((target, iter(after[target])))
    return kept, before


def _height(node: Mapping[str, Any], top: float) -> float:
    heat = math.sqrt(node["share"] / top) if node["share"] and top else 0.0
    return (NODE_WITH_FIGURE if node["sub"] else NODE) * (1 + GROWN * heat)


def _frames(node: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The open modules around a node."""
    found, parent = [], node["parent"]
    while parent in nodes and parent not in found:
        found.append(parent)
        parent = nodes[parent]["parent"]
    return found
