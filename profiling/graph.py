"""The layer graph of a stage: modules and operations as nodes, tensors that really flowed as edges.

Built from a recording: who wrote a storage last is where a reader's edge comes from, so views, residual connections and
cache reads come out by themselves. Blocks that repeat identically appear once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from profiling.build import Built, Fold, block_index
from profiling.recording import Call, Shaped
from profiling.tables import Evaluated, _Sum, module_sums, timings_of, traced_path

INPUT, OUTPUT, CACHE = "input", "output", "cache"
_OWN_NODE = ("attention", "experts", "scan", "matmul", "convolution")


@dataclass
class _Edge:
    source: str
    target: str
    kind: str
    tensors: dict[int, Shaped] = field(default_factory=dict)


@dataclass
class _Flow:
    """Nodes and edges of a recording before folding; nodes in order of first execution."""

    node_of_call: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Shaped] = field(default_factory=dict)
    edges: dict[tuple[str, str, str], _Edge] = field(default_factory=dict)

    def connect(self, source: str, target: str, kind: str, tensor: Shaped) -> None:
        if source != target:
            edge = self.edges.setdefault((source, target, kind), _Edge(source, target, kind))
            edge.tensors[tensor.uid] = tensor


def graph(built: Built, item: Evaluated) -> dict[str, Any]:
    """``{nodes, edges}`` of one stage, as docs/run-document.md describes them."""
    flow = _flow(built, item)
    shown = [node for node in dict.fromkeys(flow.node_of_call) if _shown(built, flow.parents.get(node, node))]
    edges = _folded_edges(built, flow)
    used = {n for e in edges for n in (e["source"], e["target"])}
    return {"nodes": _nodes(built, item, flow, shown, used), "edges": edges}


# --- what flowed where --------------------------------------------------------------------------------------------------


def _flow(built: Built, item: Evaluated) -> _Flow:
    recording = item.trace.recording
    leaves = {m.path for m in built.modules if m.leaf}
    flow = _Flow()
    maker: dict[int, tuple[str, int]] = {}  # storage → (node, index of the call that wrote it last)
    namer = _Namer(flow)
    for call in item.trace.calls:
        node = call.path if call.path in leaves else namer.name(call, maker, recording.cache_uids)
        flow.node_of_call.append(node)
        inside_block = _place(built, call.path) is not None
        skip = _skip_connection(call, maker, node) if inside_block else None
        for position, tensor in enumerate(call.inputs):
            if not tensor.nbytes or not call.reads[position][1]:
                continue
            if tensor.source == "cache" and tensor.uid not in maker:
                flow.connect(CACHE, node, "cache", tensor)
            elif tensor.source == "input" and tensor.uid not in maker:
                flow.connect(INPUT, node, "data", tensor)
            elif tensor.uid in maker:
                source = maker[tensor.uid][0]
                kind = "residual" if position == skip else "cache" if source.endswith("#cache") else "data"
                flow.connect(source, node, kind, tensor)
        for position, tensor in enumerate(call.outputs):
            if call.writes[position][1] or call.op_class != "other":
                maker[tensor.uid] = (node, call.index)
                flow.outputs[node] = tensor
    _connect_ends(flow, item, maker)
    return flow


def _connect_ends(flow: _Flow, item: Evaluated, maker: dict[int, tuple[str, int]]) -> None:
    recording = item.trace.recording
    last_written = {t.uid: t for call in item.trace.calls for t in call.outputs}
    for uid, (node, _) in maker.items():
        if uid in recording.cache_uids:
            flow.connect(node, CACHE, "cache", last_written[uid])
        if uid in recording.result_uids and uid not in recording.cache_uids:
            flow.connect(node, OUTPUT, "data", last_written[uid])


def _skip_connection(call: Call, maker: dict[int, tuple[str, int]], node: str) -> int | None:
    """Position of the input of an addition that was made earlier than the other: the residual stream that skips ahead."""
    if call.name != "add" or len(call.inputs) != 2:
        return None
    a, b = call.inputs
    shape = call.outputs[0].shape
    if a.shape != shape or b.shape != shape or a.uid not in maker or b.uid not in maker:
        return None
    (first, made_first), (second, made_second) = maker[a.uid], maker[b.uid]
    if node in (first, second) or first == second:
        return None
    return 0 if made_first < made_second else 1


class _Namer:
    """Names operations that no leaf module stands for. Neighbouring small operations of one module share a node."""

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._run: tuple[str, str, int] | None = None
        self._node = ""

    def name(self, call: Call, maker: dict[int, tuple[str, int]], cache: frozenset[int]) -> str:
        fills_cache = call.name in ("cat", "copy", "copy_") and all(t.uid in cache for t in call.outputs)
        if fills_cache:
            return self._single(call, "cache", "cache")
        if call.op_class in _OWN_NODE:
            return self._new(call, call.name, call.name)
        if _skip_connection(call, maker, "") is not None and not call.label:
            return self._new(call, "add", "add")
        run = (call.path, call.label)
        if self._run is None or self._run[:2] != run or self._run[2] != call.index - 1:
            self._node = self._new(call, call.label.strip("_") or call.name, call.label.strip("_") or call.name)
        self._run = (*run, call.index)
        return self._node

    def _new(self, call: Call, name: str, label: str) -> str:
        self._run = None
        self._counts[call.path, name] += 1
        count = self._counts[call.path, name]
        node = f"{call.path}#{name}" if count == 1 else f"{call.path}#{name}_{count}"
        self._flow.labels[node] = label
        self._flow.parents[node] = call.path
        return node

    def _single(self, call: Call, name: str, label: str) -> str:
        """One node per module, however often the operation runs (keys, then values)."""
        self._run = None
        node = f"{call.path}#{name}"
        self._flow.labels[node] = label
        self._flow.parents[node] = call.path
        return node


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


def _folded_edges(built: Built, flow: _Flow) -> list[dict[str, Any]]:
    known = set(flow.node_of_call) | {INPUT, OUTPUT, CACHE}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for edge in flow.edges.values():
        source, target, kind = _fold_edge(built, flow, edge)
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


def _fold_edge(built: Built, flow: _Flow, edge: _Edge) -> tuple[str | None, str, str]:
    """The edge between the blocks that are shown; (None, …) for one that a shown edge already stands for."""
    a = _place(built, flow.parents.get(edge.source, edge.source))
    b = _place(built, flow.parents.get(edge.target, edge.target))
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
        leaves_last = i == fold.kept - 1
        source = _renamed(fold, i, source, fold.first[-1] if leaves_last else fold.first[i])
    if b:
        fold, j = b
        target = _renamed(fold, j, target, fold.first[j])
    return source, target, kind


# --- nodes --------------------------------------------------------------------------------------------------------------


def _nodes(built: Built, item: Evaluated, flow: _Flow, shown: list[str], used: set[str]) -> list[dict[str, Any]]:
    infos = {m.path: m for m in built.modules}
    lists = {m.path for m in built.modules if m.class_name in ("ModuleList", "Sequential", "ModuleDict")}
    modules = module_sums(built, item)
    operations = _operation_sums(item, flow)
    known = item.timings is not None

    def parent_of(path: str | None) -> str | None:
        while path is not None and path in lists:
            path = infos[path].parent
        return path or None

    containers: dict[str, None] = {}
    for node in shown:
        path = parent_of(flow.parents.get(node) if node in flow.parents else infos[node].parent)
        chain = []
        while path:
            chain.append(path)
            path = parent_of(infos[path].parent)
        containers.update(dict.fromkeys(reversed(chain)))

    nodes = [_end(kind) for kind in (INPUT, OUTPUT, CACHE) if kind in used]
    for path in [*containers, *shown]:
        info = infos.get(path)
        if info is not None:
            total = modules.get(traced_path(built, path), _Sum())
            output = item.trace.outputs().get(path)
            shape = list(output.shape) if output and output.shape is not None else None
            nodes.append(
                _node(built, path, parent_of(info.parent), info.name, info.class_name, "module", total, known, shape)
                | {
                    "parameters": info.parameters,
                    "weight_bytes": info.weight_bytes,
                    "memory_bytes": info.weight_bytes + ((output.nbytes or 0) if output and info.leaf else 0),
                }
            )
        else:
            total = operations[path]
            tensor = flow.outputs.get(path)
            kind = "cache" if path.endswith("#cache") else "op"
            shape = list(tensor.shape) if tensor else None
            nodes.append(
                _node(built, path, parent_of(flow.parents[path]), flow.labels[path], "", kind, total, known, shape)
                | {"memory_bytes": tensor.nbytes if tensor else 0}
            )
    return nodes


def _operation_sums(item: Evaluated, flow: _Flow) -> dict[str, _Sum]:
    sums: dict[str, _Sum] = defaultdict(_Sum)
    for node, work, time in zip(flow.node_of_call, item.works, timings_of(item), strict=True):
        sums[node].add(work, time, 1)
    return sums


def _end(kind: str) -> dict[str, Any]:
    return {
        "id": kind,
        "parent": None,
        "label": {INPUT: "input", OUTPUT: "output", CACHE: "cache"}[kind],
        "class": "",
        "kind": kind,
        "fold": kind,
        "repeat": 1,
        "parameters": 0,
        "weight_bytes": 0,
        "flops": 0,
        "bytes": 0,
        "time_s": None,
        "bound": None,
        "memory_bytes": 0,
        "output_shape": None,
        "measured_s": None,
    }


def _node(
    built: Built,
    path: str,
    parent: str | None,
    label: str,
    class_name: str,
    kind: str,
    total: _Sum,
    known: bool,
    shape: Any,
) -> dict[str, Any]:
    place = _place(built, path.split("#")[0])
    repeat = sum(1 for f in place[0].first if f == place[1]) if place else 1
    return {
        "id": path,
        "parent": parent,
        "label": label,
        "class": class_name,
        "kind": kind,
        "fold": path,
        "repeat": repeat,
        "parameters": 0,
        "weight_bytes": 0,
        "flops": total.flops,
        "bytes": total.read + total.written,
        "time_s": total.time if known else None,
        "bound": total.bound(),
        "memory_bytes": 0,
        "output_shape": shape,
        "measured_s": None,
    }
