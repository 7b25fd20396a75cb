"""What flowed where in a recording: nodes that run, and the tensors that each hands on to the next.

Who wrote a storage last is where a reader's edge comes from, so views, residual connections and cache reads come out by
themselves. A node is a leaf module, or an operation (or a few neighbouring ones) of a module that has parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from profiling.recording import Call, Recording, Shaped

INPUT, OUTPUT, CACHE = "input", "output", "cache"
_OWN_NODE = ("attention", "experts", "scan", "matmul", "convolution")
_SAME_VALUES = ("_to_copy", "clone")
#: An addition whose operands lie further apart than this is not searched for a skip connection.
_SEARCHED = 20_000


@dataclass
class Edge:
    """Tensors that ``source`` made and ``target`` read, by storage; of each the largest view that was read."""

    source: str
    target: str
    kind: str
    tensors: dict[int, Shaped] = field(default_factory=dict)


@dataclass
class Flow:
    """Nodes and edges of a recording before folding; nodes in order of first execution.

    ``node_of_call`` is aligned with the calls. ``parents``: module of each node that is an operation, not a leaf module.
    ``written`` and ``weights``: per node the tensors it wrote and the weights it read, by storage.
    """

    node_of_call: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    written: dict[str, dict[int, Shaped]] = field(default_factory=lambda: defaultdict(dict))
    weights: dict[str, dict[int, Shaped]] = field(default_factory=lambda: defaultdict(dict))
    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict)

    def connect(self, source: str, target: str, kind: str, tensor: Shaped) -> None:
        if source != target:
            edge = self.edges.setdefault((source, target, kind), Edge(source, target, kind))
            known = edge.tensors.get(tensor.uid)
            if known is None or known.nbytes < tensor.nbytes:
                edge.tensors[tensor.uid] = tensor

    def handed_on(self) -> dict[str, list[Shaped]]:
        """Per node the tensors that others read of it (or the caller gets), each once and whole, the largest first."""
        found: dict[str, dict[int, Shaped]] = defaultdict(dict)
        for edge in self.edges.values():
            written = self.written.get(edge.source, {})
            for uid, tensor in edge.tensors.items():
                found[edge.source].setdefault(uid, written.get(uid, tensor))
        return {node: sorted(tensors.values(), key=lambda t: -t.nbytes) for node, tensors in found.items()}


@dataclass(frozen=True)
class _Maker:
    node: str
    call: int


def flow(recording: Recording, leaves: Collection[str]) -> Flow:
    """The flow of ``recording``; ``leaves``: paths of the modules without parts, each a node of its own."""
    made = Flow()
    makers: dict[int, _Maker] = {}  # storage → who wrote it last
    skips = _SkipConnections(recording, makers)
    namer = _Namer(made, makers)
    for call in recording.calls:
        skip = None if call.path in leaves else skips.position(call)
        node = call.path if call.path in leaves else namer.name(call, skip, recording.cache_uids)
        made.node_of_call.append(node)
        for position, tensor in enumerate(call.inputs):
            if tensor.source == "weight":
                made.weights[node].setdefault(tensor.uid, tensor)
            if not tensor.nbytes or not call.reads[position][1]:
                continue
            maker = makers.get(tensor.uid)
            if maker is not None:
                kind = "residual" if position == skip else "cache" if maker.node.endswith("#cache") else "data"
                made.connect(maker.node, node, kind, tensor)
            elif tensor.source == "cache":
                made.connect(CACHE, node, "cache", tensor)
            elif tensor.source == "input":
                made.connect(INPUT, node, "data", tensor)
        skips.note(call)
        for position, tensor in enumerate(call.outputs):
            if call.writes[position][1] or call.op_class != "other":
                makers[tensor.uid] = _Maker(node, call.index)
                made.written[node][tensor.uid] = tensor
    _connect_ends(made, recording, makers)
    return made


def _connect_ends(made: Flow, recording: Recording, makers: dict[int, _Maker]) -> None:
    last_written = {t.uid: t for call in recording.calls for t in call.outputs}
    for uid, maker in makers.items():
        if uid in recording.cache_uids:
            made.connect(maker.node, CACHE, "cache", last_written[uid])
        elif uid in recording.result_uids:
            made.connect(maker.node, OUTPUT, "data", last_written[uid])


class _SkipConnections:
    """Finds x in x + f(x): of an addition's two operands the one that the other was computed from."""

    def __init__(self, recording: Recording, makers: dict[int, _Maker]) -> None:
        self._calls = recording.calls
        self._makers = makers
        self._sources: list[tuple[int, ...]] = []  # call → calls that made its inputs

    def note(self, call: Call) -> None:
        self._sources.append(tuple({self._makers[t.uid].call for t in call.inputs if t.uid in self._makers}))

    def position(self, call: Call) -> int | None:
        """Position of the operand that skips ahead, or None where neither stems from the other (two branches that join)."""
        if call.name != "add" or len(call.inputs) != 2:
            return None
        shape = call.outputs[0].shape
        makers = [self._makers.get(t.uid) for t in call.inputs]
        if any(t.shape != shape for t in call.inputs) or makers[0] is None or makers[1] is None:
            return None
        first, second = (self._origin(maker.call) for maker in makers if maker is not None)
        if first == second or makers[0].node == makers[1].node:
            return None
        position, earlier, later = (0, first, second) if first < second else (1, second, first)
        return position if self._stems_from(later, earlier) else None

    def _origin(self, call: int) -> int:
        """The call that made the values: a copy or a change of type on the skipping path is still the same stream."""
        while self._calls[call].name in _SAME_VALUES and len(self._sources[call]) == 1:
            call = self._sources[call][0]
        return call

    def _stems_from(self, later: int, earlier: int) -> bool:
        seen, waiting = {later}, [later]
        while waiting and len(seen) < _SEARCHED:
            for source in self._sources[waiting.pop()]:
                if source == earlier:
                    return True
                if source > earlier and source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return False


class _Namer:
    """Names operations that no leaf module stands for. Neighbouring small operations of one module share a node."""

    def __init__(self, made: Flow, makers: dict[int, _Maker]) -> None:
        self._flow = made
        self._makers = makers
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._run: tuple[str, str, int] | None = None
        self._node = ""

    def name(self, call: Call, skip: int | None, cache: frozenset[int]) -> str:
        if _fills_cache(call, cache):
            return self._single(call, "cache")
        if call.op_class in _OWN_NODE:
            return self._new(call, call.name)
        label = call.label.strip("_")
        if skip is not None and not label:
            return self._new(call, "add")
        if not self._continues(call):
            self._node = self._new(call, label or call.name)
        self._run = (call.path, call.label, call.index)
        return self._node

    def _continues(self, call: Call) -> bool:
        """Does the call belong to the node before it: the same function, or in ``forward`` itself one that goes on with its result?"""
        if self._run is None or self._run != (call.path, call.label, call.index - 1):
            return False
        makers = (self._makers.get(t.uid) for t in call.inputs)
        return bool(call.label) or any(maker is not None and maker.node == self._node for maker in makers)

    def _new(self, call: Call, label: str) -> str:
        self._run = None
        self._counts[call.path, label] += 1
        count = self._counts[call.path, label]
        node = f"{call.path}#{label}" if count == 1 else f"{call.path}#{label}_{count}"
        self._flow.labels[node] = label
        self._flow.parents[node] = call.path
        return node

    def _single(self, call: Call, label: str) -> str:
        """One node per module, however often the operation runs (keys, then values)."""
        self._run = None
        node = f"{call.path}#{label}"
        self._flow.labels[node] = label
        self._flow.parents[node] = call.path
        return node


def _fills_cache(call: Call, cache: frozenset[int]) -> bool:
    if call.op_class != "copy":
        return False
    return call.label.startswith("update") or (
        call.name in ("cat", "copy") and all(t.uid in cache for t in call.outputs)
    )
