"""Terms of a piece as matrices, with the formats and the devices of a workload applied. Standard library and numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from profiling.demand import CHANNELS, Routing, expert_share, rows_of_expert
from profiling.forms.basis import VARIABLES, features
from profiling.forms.terms import Piece, StageForm, Term
from profiling.parallel import Plan, shard
from profiling.precision import Precision, reprecise

_CONTEXT = VARIABLES.index("context")


@dataclass(frozen=True, eq=False)
class Share:
    """A column beyond the polynomials: the part (0–1) of a mixture's experts that a step reads. ``tokens``: coefficients."""

    routing: Routing
    tokens: np.ndarray

    def at(self, x: np.ndarray, convention: str, replicas: int) -> np.ndarray:
        """Values over points whose polynomials' features are ``x``; tokens of ``replicas`` meet at the experts."""
        experts, top_k = self.routing.experts, self.routing.top_k
        if convention == "all":
            return np.ones(x.shape[1])
        if convention == "topk":
            return np.full(x.shape[1], min(1.0, top_k / experts))
        tokens = replicas * (self.tokens @ x)
        return -np.expm1(tokens * np.log1p(-min(1.0 - 1e-15, top_k / experts)))


@dataclass(frozen=True, eq=False)
class Matrices:
    """Some terms of a piece, one row each, one column per feature. Totals over all operators of a term; ``network`` and ``calls`` of
    all terms together. ``flops`` run at the rate of ``dtype``, ``low_flops`` at that of the format of quantised products. Tokens of
    ``replicas`` meet at the experts, of whose weights a step reads what ``convention`` says."""

    terms: tuple[Term, ...]
    flops: np.ndarray
    low_flops: np.ndarray
    elementwise: np.ndarray
    moved: np.ndarray
    network: np.ndarray
    calls: np.ndarray
    replicas: int = 1
    convention: str = "uniform"

    @cached_property
    def has_low(self) -> bool:
        """Does any product run at the rate of the format of quantised layers?"""
        return bool(self.low_flops.any())

    @cached_property
    def stacked(self) -> np.ndarray:
        """What the peaks limit, side by side: ``flops``, ``low_flops`` where there are any, ``elementwise``."""
        return np.hstack([self.flops, *([self.low_flops] if self.has_low else []), self.elementwise])

    @cached_property
    def sends(self) -> bool:
        """Is anything sent between devices?"""
        return bool(self.network.any())

    @classmethod
    def of(cls, terms: Sequence[Term], columns: int, dtype: str, replicas: int, convention: str) -> Matrices:
        def stacked(rows: list[Any]) -> np.ndarray:
            return np.array(rows, dtype=np.float64).reshape(len(rows), columns)

        low = [t.compute_dtype not in ("", dtype) for t in terms]
        nothing = np.zeros(columns)
        return cls(
            terms=tuple(terms),
            flops=stacked([nothing if is_low else t.flops for t, is_low in zip(terms, low, strict=True)]),
            low_flops=stacked([t.flops if is_low else nothing for t, is_low in zip(terms, low, strict=True)]),
            elementwise=stacked([t.elementwise_flops for t in terms]),
            moved=stacked([t.bytes_moved for t in terms]),
            network=stacked([t.network for t in terms]).sum(axis=0),
            calls=stacked([t.calls for t in terms]).sum(axis=0),
            replicas=replicas,
            convention=convention,
        )


@dataclass(frozen=True, eq=False)
class PreparedPiece:
    """A piece under a workload. ``copies``: bytes of each copy in ``dtype`` that is made of what is stored otherwise. ``steady``: terms whose load is the same at every context, ``growing``: the others."""

    piece: Piece
    shares: tuple[Share, ...]
    convention: str
    replicas: int
    steady: Matrices
    growing: Matrices
    cache: np.ndarray
    peaks: np.ndarray
    copies: np.ndarray

    def features(self, point: Mapping[str, Any], size: int) -> np.ndarray:
        """Columns of all matrices at ``size`` points, shape (columns, ``size``)."""
        if self.piece.chunk:
            point = {**point, "chunks": -(-point["tokens"] // self.piece.chunk)}
        x = features(self.piece.basis, point, size)
        if not self.shares:
            return x
        return np.vstack([x, *(s.at(x, self.convention, self.replicas) for s in self.shares)])

    def holds(self, point: Mapping[str, Any], names: Sequence[str], size: int) -> np.ndarray:
        """At which of the points the piece holds, going by the batch and the variables ``names``."""
        held = np.broadcast_to((point["batch"] > 1) == self.piece.batched, (size,)).copy()
        for name in names:
            low, high = self.piece.ranges.get(name, (0, None))
            held &= point[name] >= low
            if high is not None:
                held &= point[name] <= high
        return held


def prepare(form: StageForm, precision: Precision, plan: Plan, experts: str) -> list[PreparedPiece]:
    """The pieces of a stage, with every term in the formats of ``precision`` and as the device with the most has it."""
    return [_prepared(piece, precision, plan, experts) for piece in form.pieces]


def _prepared(piece: Piece, precision: Precision, plan: Plan, experts: str) -> PreparedPiece:
    shares: list[Share] = []
    keys: dict[tuple[Any, ...], int] = {}
    for term in piece.terms:
        if term.routing is not None and term.routed_tokens is not None and _key(term) not in keys:
            keys[_key(term)] = len(shares)
            shares.append(Share(term.routing, term.routed_tokens))
    columns = len(piece.basis) + len(shares)
    whole = [_widened(term, keys, columns) for term in piece.terms]
    terms = [_applied(term, precision, plan) for term in whole]
    copies = [c for term in whole for c in _copies(_shared(term, plan), precision)]
    grows = np.array([m[_CONTEXT] > 0 for m in piece.basis] + [False] * len(shares))
    # In one array: tests of single rows would take longer than all else here.
    channels = np.array([[getattr(term, name) for name in CHANNELS] for term in terms])
    by_term = channels.reshape(len(terms), len(CHANNELS), columns)[:, :, grows]
    growing = np.any(by_term, axis=(1, 2)).tolist()
    pad = np.zeros(len(shares))

    def matrices(some: Sequence[Term]) -> Matrices:
        return Matrices.of(some, columns, precision.dtype, plan.gathered, experts)

    return PreparedPiece(
        piece=piece,
        shares=tuple(shares),
        convention=experts,
        replicas=plan.gathered,
        steady=matrices(_merged([t for t, g in zip(terms, growing, strict=True) if not g])),
        growing=matrices([t for t, g in zip(terms, growing, strict=True) if g]),
        cache=np.concatenate([[float(c) for c in piece.cache], pad]),
        copies=np.array(copies).reshape(len(copies), columns),
        peaks=np.array([[*map(float, p), *pad] for p in piece.peaks]).reshape(len(piece.peaks), columns),
    )


def _key(term: Term) -> tuple[Any, ...]:
    return (term.routing, term.exact["routed_tokens"])


def _widened(term: Term, keys: Mapping[tuple[Any, ...], int], columns: int) -> Term:
    """The term with columns for the shares; what its experts' weights take is in the column of its own."""
    pad = np.zeros(columns - len(term.flops))
    arrays: dict[str, Any] = {name: np.concatenate([getattr(term, name), pad]) for name in (*CHANNELS, "calls")}
    if term.routing is not None:
        arrays["weight_read"][len(term.flops) + keys[_key(term)]] = term.calls[0] * term.expert_bytes
    return replace(term, **arrays)


def _applied(term: Term, precision: Precision, plan: Plan) -> Term:
    """As :func:`profiling.options.operators` does it: devices first, then the formats of what each of them has."""
    found = reprecise(_shared(term, plan), precision, precision.base_bytes)
    if found.flops.any() or found.elementwise_flops.any() or found.bytes_moved.any():
        return found
    # It may send, but no kernel of its own is launched (profiling.roofline.timing).
    return replace(found, calls=0 * found.calls)


def _shared(term: Term, plan: Plan) -> Term:
    """What the device with the most has of it. How replicas share experts is in the column of their share already."""
    if plan.gathered == 1:
        return shard(term, plan)
    return replace(shard(replace(term, routing=None), plan), routing=term.routing)


def _copies(term: Term, precision: Precision) -> list[np.ndarray]:
    """Of one operator, as :func:`profiling.quantised.widened_bytes` counts them; ``term`` is in ``dtype``."""
    calls = term.calls[0]
    if not precision.eager or not calls:
        return []
    found = []
    if precision.weights and not precision.activations and term.quantised:
        found.append(term.weight_read * (term.quantised_share / calls))
    if precision.cache and term.cache_vector and not term.appends:
        found.append(term.cache_read / calls)
    return found


def _merged(terms: Sequence[Term]) -> list[Term]:
    """Terms with the same ratio of all channels take the same time in sum, however many operators that is: one row for all.

    So do those that compute nothing: only the bandwidth limits them, wherever the point is.
    """
    groups: dict[Any, Term] = {}
    for term in terms:
        scale = term.calls[0]
        key: tuple[Any, ...] = (term.op_class, term.compute_dtype, term.inner, term.quantised, term.rows.tobytes())
        if term.flops.any() or term.elementwise_flops.any():
            if not scale or np.any(term.calls[1:]):
                groups[id(term)] = term
                continue
            arrays = [getattr(term, name) for name in CHANNELS if name not in ("rows", "network")]
            key += tuple((a / scale).tobytes() for a in arrays)
        known = groups.get(key)
        if known is None:
            groups[key] = term
            continue
        names = [name for name in (*CHANNELS, "calls") if name != "rows"]
        groups[key] = replace(known, **{name: getattr(known, name) + getattr(term, name) for name in names})
    return list(groups.values())


def rows_at(term: Term, x: np.ndarray, replicas: int, convention: str) -> np.ndarray:
    """Rows of one operator of a term at many points; of a routed product, of one expert's share, where tokens of ``replicas`` meet."""
    if term.routing is None or term.routed_tokens is None:
        return term.rows @ x
    tokens = tokens_at(term.routed_tokens, x)
    experts, top_k = term.routing.experts, term.routing.top_k
    distinct, place = np.unique(tokens, return_inverse=True)
    each = [rows_of_expert(Routing(experts, top_k, int(some)), convention) for some in distinct.tolist()]
    rows = np.array(each, dtype=np.float64)[place]
    if replicas == 1:
        return rows

    def share(some: float) -> float:
        return expert_share(Routing(experts, top_k, round(some)), convention)

    # As profiling.parallel.shard has it: more rows for each of the experts that are read then.
    return rows * replicas * np.array([share(t) / share(t * replicas) if t else 1.0 for t in tokens.tolist()])


def tokens_at(tokens: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Tokens that one operator sends to its experts, at many points; ``tokens``: coefficients."""
    return np.round(tokens @ x[: len(tokens)])


def weights_at(term: Term, x: np.ndarray, flops: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Elements of the weights in one operator of a term at many points (:func:`profiling.demand.weights_in_product`). ``flops``: of all
    its operators, ``rows``: of one."""
    if not term.inner:
        return np.zeros_like(rows)
    if term.routing is not None and term.routed_tokens is not None:
        rows = (term.routed_tokens @ x[: len(term.routed_tokens)]) * (term.routing.top_k * term.routed_share)
    whole = 2.0 * rows * (term.calls @ x)
    return np.round(np.divide(flops, whole, out=np.zeros_like(flops), where=whole > 0))
