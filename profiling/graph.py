"""The layer graph of a stage: modules and operations as nodes, tensors that really flowed as edges.

Built from a recording (:mod:`profiling.dataflow`). Blocks that repeat identically appear once.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from profiling.build import Built, Fold, block_index
from profiling.dataflow import CACHE, INPUT, OUTPUT, Edge, Flow, flow
from profiling.recording import Shaped
from profiling.tables import Evaluated, _Sum, module_sums, timings_of, traced_path


def graph(built: Built, item: Evaluated) -> dict[str, Any]:
    """``{nodes, edges}`` of one stage, as docs/run-document.md describes them."""
    made = flow(item.trace.recording, {m.path for m in built.modules if m.leaf})
    shown = [node for node in dict.fromkeys(made.node_of_call) if _shown(built, made.parents.get(node, node))]
    edges = _folded_edges(built, made)
    used = {n for e in edges for n in (e["source"], e["target"])}
    return {"nodes": _Nodes(built, item, made).all(shown, used), "edges": edges}


# --- folding ------------------------------------------------------------------------------------------------------------


def _place(built: Built, path: str) -> tuple[Fold, int] | None:
    for fold in built.folds:
        index = block_index(fold, path)
        if index is not None:
            return fold, index
    return None


def _shown(built: Built, path: str) -> bool:
    """Is this the first of its identical blocks, or outside of blocks?"""
    place = _place(built, path)
    return place is None or place[0].first[place[1]] == place[1]


def _renamed(fold: Fold, index: int, node: str, target: int) -> str:
    head = f"{fold.path}.{index}"
    return f"{fold.path}.{target}{node[len(head) :]}"


def _folded_edges(built: Built, made: Flow) -> list[dict[str, Any]]:
    known = set(made.node_of_call) | {INPUT, OUTPUT, CACHE}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for edge in made.edges.values():
        source, target, kind = _fold_edge(built, made, edge, known)
        if source is None or source not in known or target not in known:
            continue
        key = (source, target, kind)
        if key in found:
            continue
        largest = max(edge.tensors.values(), key=lambda t: t.nbytes)
        found[key] = {
            "source": source,
            "target": target,
            "bytes": sum(t.nbytes for t in edge.tensors.values()),
            "shape": list(largest.shape),
            "dtype": largest.dtype,
            "kind": kind,
        }
    return list(found.values())


def _fold_edge(built: Built, made: Flow, edge: Edge, known: set[str]) -> tuple[str | None, str, str]:
    """The edge between the blocks that are shown; (None, …) for one that a shown edge already stands for."""
    a = _place(built, made.parents.get(edge.source, edge.source))
    b = _place(built, made.parents.get(edge.target, edge.target))
    source, target, kind = edge.source, edge.target, edge.kind
    if a and b and a[0] is b[0]:
        fold, i, j = a[0], a[1], b[1]
        if i == j:
            return (source if fold.first[i] == i else None), target, kind
        source = _renamed(fold, i, source, fold.first[i])
        target = _renamed(fold, j, target, fold.first[j])
        return source, target, "repeat" if fold.first[j] <= fold.first[i] else kind
    if a:
        fold, i = a
        source = _renamed(fold, i, edge.source, fold.first[i])
        last = _renamed(fold, i, edge.source, fold.first[-1])
        # What the last block that was traced hands out, the last of all does; of another kind it may not have such a node.
        if i == fold.kept - 1 and last in known:
            source = last
    if b:
        fold, j = b
        target = _renamed(fold, j, target, fold.first[j])
    return source, target, kind


# --- nodes --------------------------------------------------------------------------------------------------------------


class _Nodes:
    """The nodes of the document: modules that have parts, then what runs, in order of first execution."""

    def __init__(self, built: Built, item: Evaluated, made: Flow) -> None:
        self._built, self._item, self._flow = built, item, made
        self._infos = {m.path: m for m in built.modules}
        self._lists = {m.path for m in built.modules if m.class_name in ("ModuleList", "Sequential", "ModuleDict")}
        self._modules = module_sums(built, item)
        self._operations = self._operation_sums()
        self._handed_on = made.handed_on()

    def all(self, shown: list[str], used: set[str]) -> list[dict[str, Any]]:
        containers: dict[str, None] = {}
        for node in shown:
            containers.update(dict.fromkeys(reversed(self._above(node))))
        leaves = [self._leaf(node) for node in shown]
        self._mark_tied(leaves)
        for leaf in leaves:
            leaf["memory_bytes"] = leaf["output_bytes"] + (0 if "tied" in leaf else leaf["weight_bytes"])
        groups = [self._module(path) for path in containers]
        self._memory_of_groups(groups, leaves)
        return [self._end(kind, leaves) for kind in (INPUT, OUTPUT, CACHE) if kind in used] + groups + leaves

    def _above(self, node: str) -> list[str]:
        """The modules that a node lies in, the innermost first; lists of modules are left out."""
        info = self._infos.get(node)
        path = info.parent if info else self._flow.parents.get(node)
        chain = []
        while path:
            if path not in self._lists:
                chain.append(path)
            path = self._infos[path].parent
        return chain

    def _module(self, path: str) -> dict[str, Any]:
        info = self._infos[path]
        total = self._modules.get(traced_path(self._built, path), _Sum())
        output = self._item.trace.outputs().get(path)
        return self._node(path, info.name, "module", total) | {
            "class": info.class_name,
            "parameters": info.parameters,
            "weight_bytes": info.weight_bytes,
            "output_bytes": (output.nbytes or 0) if output else 0,
            "output_shape": list(output.shape) if output and output.shape is not None else None,
        }

    def _leaf(self, node: str) -> dict[str, Any]:
        tensors = self._handed_on.get(node, [])
        handed_on = {"output_bytes": sum(t.nbytes for t in tensors)}
        if node in self._infos:
            return self._module(node) | handed_on
        kind = "cache" if node.endswith("#cache") else "op"
        # Weights of a module that has parts (experts, a state matrix) are in no leaf module: they are where they are read.
        weights = self._flow.weights.get(node, {}).values()
        largest = tensors[0] if tensors else next(reversed(self._flow.written.get(node, {}).values()), None)
        return (
            self._node(node, self._flow.labels[node], kind, self._operations[node])
            | {
                "parameters": sum(_elements(t) for t in weights),
                "weight_bytes": sum(t.nbytes for t in weights),
                "output_shape": list(largest.shape) if largest else None,
            }
            | handed_on
        )

    def _node(self, path: str, label: str, kind: str, total: _Sum) -> dict[str, Any]:
        place = _place(self._built, path.split("#")[0])
        return {
            "id": path,
            "parent": next(iter(self._above(path)), None),
            "label": label,
            "class": "",
            "kind": kind,
            "fold": path,
            "repeat": sum(1 for f in place[0].first if f == place[1]) if place else 1,
            "parameters": 0,
            "weight_bytes": 0,
            "flops": total.flops,
            "bytes": total.read + total.written,
            "time_s": total.time if self._item.timings is not None else None,
            "bound": total.bound(),
            "memory_bytes": 0,
            "output_bytes": 0,
            "output_shape": None,
            "measured_s": None,
        }

    def _end(self, kind: str, leaves: list[dict[str, Any]]) -> dict[str, Any]:
        """Input, output, or the cache; the cache holds what no cache node of a module has (keys and values of the encoder)."""
        node = self._node(kind, kind, kind, _Sum()) | {"time_s": None}
        if kind == INPUT:
            node["output_bytes"] = node["memory_bytes"] = sum(t.nbytes for t in self._handed_on.get(INPUT, []))
        elif kind == CACHE:
            elsewhere = sum(leaf["repeat"] * leaf["memory_bytes"] for leaf in leaves if leaf["kind"] == "cache")
            node["memory_bytes"] = max(0, self._item.trace.cache_bytes - elsewhere)
        return node

    def _operation_sums(self) -> dict[str, _Sum]:
        sums: dict[str, _Sum] = defaultdict(_Sum)
        for node, work, time in zip(self._flow.node_of_call, self._item.works, timings_of(self._item), strict=True):
            sums[node].add(work, time, 1)
        return sums

    def _mark_tied(self, leaves: list[dict[str, Any]]) -> None:
        """``tied``: the node that reads the same weights first, for one whose weights are all another's already."""
        first: dict[int, str] = {}
        for leaf in leaves:
            weights = self._flow.weights.get(leaf["id"], {})
            owners = {first.setdefault(uid, leaf["id"]) for uid in weights}
            if weights and leaf["id"] not in owners:
                leaf["tied"] = next(first[uid] for uid in weights)

    @staticmethod
    def _memory_of_groups(groups: list[dict[str, Any]], leaves: list[dict[str, Any]]) -> None:
        by_id = {group["id"]: group for group in groups}
        for group in groups:
            group["memory_bytes"] = group["weight_bytes"]
        for leaf in leaves:
            above = by_id.get(leaf["parent"])
            while above is not None:
                above["memory_bytes"] += leaf["output_bytes"] * leaf["repeat"] // above["repeat"]
                above = by_id.get(above["parent"])


def _elements(tensor: Shaped) -> int:
    return tensor.nbytes // tensor.itemsize
