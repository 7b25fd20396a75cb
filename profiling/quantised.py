"""Which weights of a model a quantisation scheme applies to, and what the model weighs with them stored in it.

Usual practice: the matrices of linear layers inside the blocks, experts among them. Embeddings, the LM head (tied to them or not),
norms, biases, convolutions and routers of mixtures stay in the workload's ``dtype``; so does what a model keeps in another format
itself. Decided from the trace: a matrix is what a matrix product reads as a weight. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from profiling.precision import Precision, Scheme
from profiling.recording import Call, Shaped

if TYPE_CHECKING:
    from profiling.build import Built
    from profiling.execution import Work


@dataclass(frozen=True, slots=True)
class Matrix:
    """One weight that a scheme applies to: ``parameters`` in rows of ``in_features``, ``times`` over in the complete model.

    ``uid`` of its storage in the trace; ``path``: the module whose product reads it.
    """

    uid: int
    path: str
    parameters: int
    in_features: int
    times: int


def mark_quantised(works: Sequence[Work], built: Built) -> list[Work]:
    """``works`` with ``quantised``, ``quantised_share`` and ``in_features`` set on the operators whose weights a scheme applies to."""
    chosen = _chooser(works, built)
    return [_marked(work, chosen(work.call)) for work in works]


def _marked(work: Work, found: Sequence[tuple[Shaped, int]]) -> Work:
    if not found:
        return work
    whole = sum(nbytes for _, nbytes, source in work.call.reads if source == "weight")
    share = sum(t.nbytes for t, _ in found) / whole
    return replace(work, quantised=True, quantised_share=share, in_features=found[0][1])


def matrices(works: Sequence[Work], built: Built) -> list[Matrix]:
    """The weights of a pass that a scheme applies to, each once, however many operators read it."""
    chosen = _chooser(works, built)
    found: dict[int, Matrix] = {}
    for work in works:
        for tensor, in_features in chosen(work.call):
            parameters = tensor.nbytes // tensor.itemsize
            known = found.get(tensor.uid)
            if known is None or known.parameters < parameters:
                found[tensor.uid] = Matrix(tensor.uid, work.call.path, parameters, in_features, work.times)
    return list(found.values())


def _chooser(works: Iterable[Work], built: Built) -> Callable[[Call], list[tuple[Shaped, int]]]:
    """call → (weight, its input features) for each weight in it that a scheme applies to."""
    blocks = tuple(f"{fold.path}." for fold in built.folds)
    mixtures = {place for work in works if (place := _mixture(work.call)) is not None}

    def choose(call: Call) -> list[tuple[Shaped, int]]:
        if call.op_class not in ("matmul", "experts") or not call.path.startswith(blocks):
            return []
        found = []
        last = len(call.inputs) - 1
        for position, tensor in enumerate(call.inputs):
            if tensor.source != "weight" or len(tensor.shape) < 2 or tensor.itemsize != built.dtype.itemsize:
                continue
            rows, columns = tensor.shape[-2:]
            inner, outer = (rows, columns) if position == last else (columns, rows)  # right or left of the product
            routes = any(call.path.startswith(module) and outer in (1, experts) for module, experts in mixtures)
            if not routes:
                found.append((tensor, inner))
        return found

    return choose


def _mixture(call: Call) -> tuple[str, int] | None:
    """(the module around a mixture's experts and their router, number of experts) of a product with all experts' weights."""
    for tensor in call.inputs:
        if tensor.source == "weight" and len(tensor.shape) == 3 and call.op_class in ("matmul", "experts"):
            experts, rows, columns = tensor.shape
            if experts > 1 and tensor.nbytes == experts * rows * columns * tensor.itemsize:
                return call.path.rpartition(".")[0] + ".", experts
    return None


# --- what the model weighs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights as they are stored. ``others``: of those that no scheme applies to, in the workload's ``dtype``."""

    found: tuple[Matrix, ...]
    others: int
    base_bytes: int

    def quantised(self, scheme: Scheme | None) -> int:
        """Bytes of the matrices in ``scheme``, scales and zero points included; None: in ``dtype``."""
        return sum(m.times * self.matrix(m, scheme) for m in self.found)

    def matrix(self, m: Matrix, scheme: Scheme | None) -> int:
        """Of one of them."""
        if scheme is None:
            return m.parameters * self.base_bytes
        return round(scheme.stored_bytes(m.parameters, m.in_features))

    def total(self, scheme: Scheme | None) -> int:
        return self.others + self.quantised(scheme)


def weights(works: Sequence[Work], built: Built) -> Weights:
    """The weights of a model as the pass ``works`` (its longest: prefill or encode) reads them."""
    found = tuple(matrices(works, built))
    size = built.dtype.itemsize
    return Weights(found, built.weight_bytes - sum(m.times * m.parameters * size for m in found), size)


def as_stored(built: Built, held: Weights, scheme: Scheme | None) -> Built:
    """``built`` with the bytes of its modules' weights as ``scheme`` stores them."""
    if scheme is None:
        return built
    saved: dict[str, int] = {}
    for m in held.found:
        fewer = held.matrix(m, None) - held.matrix(m, scheme)
        path = m.path
        while True:
            inside = any(path.startswith(f"{fold.path}.") for fold in built.folds)
            saved[path] = saved.get(path, 0) + (fewer if inside else m.times * fewer)
            if not path:
                break
            path = path.rpartition(".")[0]
    modules = []
    for info in built.modules:
        fewer = saved.get(_traced(built, info.path), 0)
        modules.append(replace(info, weight_bytes=info.weight_bytes - fewer) if fewer else info)
    return replace(built, modules=tuple(modules), weight_bytes=held.total(scheme))


def _traced(built: Built, path: str) -> str:
    """The path of the block that was traced in place of the one in which ``path`` lies."""
    for fold in built.folds:
        if path.startswith(f"{fold.path}."):
            index, *inner = path[len(fold.path) + 1 :].split(".")
            return ".".join([fold.path, str(fold.kinds[int(index)]), *inner])
    return path


def widened_bytes(works: Iterable[Work], precision: Precision) -> int:
    """Largest copy in ``dtype`` that eager execution makes of stored weights or of a layer's cache; fused makes none.

    ``works`` are marked and in ``dtype``.
    """
    if not precision.eager:
        return 0
    largest = 0.0
    for work in works:
        if precision.weights and not precision.activations and work.quantised:
            largest = max(largest, work.weight_read * work.quantised_share)
        if precision.cache and work.cache_vector and not work.appends:
            largest = max(largest, work.cache_read)
    return round(largest)
