"""The data of a closed form: terms, pieces, stages, and what a model is beside them. Standard library and numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from profiling.demand import CHANNELS, STATIC, Demand, Routing, expert_share, rows_of_expert
from profiling.forms.basis import Monomial, Number, at, value

#: Changes when stored forms of before can no longer be read.
FORMAT = 5


class NoForm(ValueError):
    """No closed form holds here; the text says why. The answer then takes a trace."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Term(Demand):
    """Operators of one role that ask for the same: each channel holds the coefficients of their sum over a piece's basis.

    ``rows`` are those of one operator. ``calls``: how many operators (coefficients too: loops over chunks run more often for more
    tokens). Where ``routing`` is given, ``expert_bytes`` are the weights of all experts of one operator's call and ``tokens`` of the
    routing are unknown: coefficients in ``routed_tokens``. ``exact`` keeps whole numbers beside the float64 channels.
    """

    role: str
    name: str
    calls: np.ndarray
    routed_tokens: np.ndarray | None = None
    expert_bytes: float = 0.0
    exact: Mapping[str, tuple[Number, ...]]

    @property
    def totals(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, name) for name in CHANNELS)


@dataclass(frozen=True, eq=False)
class Piece:
    """Where one set of polynomials holds: ``batch`` 1, or from 2 on; each variable of ``ranges`` within (first, last), included.

    ``chunk``: tokens per chunk where the chunks are a variable. ``cache``: bytes of the cache after the pass. ``peaks``: the activation
    peak is the largest of these polynomials.
    """

    batched: bool
    ranges: Mapping[str, tuple[int, int]]
    chunk: int | None
    basis: tuple[Monomial, ...]
    terms: tuple[Term, ...]
    cache: tuple[Number, ...]
    peaks: tuple[tuple[Number, ...], ...]

    @cached_property
    def sparse(self) -> tuple[dict[str, list[tuple[int, Number]]], ...]:
        """Of each term, the coefficients that are not 0 by channel, each with the position of its monomial: most are 0."""
        nonzero = (
            {name: [(i, c) for i, c in enumerate(numbers) if c] for name, numbers in term.exact.items()}
            for term in self.terms
        )
        return tuple({name: pairs for name, pairs in item.items() if pairs} for item in nonzero)

    def holds(self, point: Mapping[str, int]) -> bool:
        return (point["batch"] > 1) == self.batched and all(
            low <= point[name] <= high for name, (low, high) in self.ranges.items()
        )

    def complete(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The point with its number of chunks."""
        return {**point, "chunks": -(-point["tokens"] // self.chunk)} if self.chunk else dict(point)


@dataclass(frozen=True, eq=False)
class StageForm:
    """A stage over all its pieces. ``constants``: variables that are the same at every point (one token per decode step)."""

    stage: str
    constants: Mapping[str, int]
    pieces: tuple[Piece, ...]
    unknown: tuple[str, ...]

    def piece(self, point: Mapping[str, int]) -> Piece:
        """The piece that holds at a point; raises :class:`NoForm`."""
        for piece in self.pieces:
            if piece.holds(point):
                return piece
        raise NoForm(f"No closed form covers {', '.join(f'{k} {v:,}' for k, v in point.items())} in {self.stage}.")


@dataclass(frozen=True, eq=False)
class ModelForm:
    """All closed forms of a model under one set of conventions. ``facts``: what the model is (see ``make``), JSON values."""

    key: Mapping[str, Any]
    facts: Mapping[str, Any]
    stages: Mapping[str, StageForm]


# --- one point, exactly -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PointTerm(Demand):
    """A term at one point: totals of all its operators."""

    role: str
    name: str
    calls: int


def point_terms(form: StageForm, point: Mapping[str, int], experts: str = "uniform") -> list[PointTerm]:
    """Every term at one point, in whole numbers (weights of routed experts: expected values)."""
    point = {**form.constants, **point}
    piece = form.piece(point)
    point = piece.complete(point)
    powers = [value(monomial, point) for monomial in piece.basis]  # once for all terms
    result = []
    for term, numbers in zip(piece.terms, piece.sparse, strict=True):
        values: dict[str, Any] = dict.fromkeys(CHANNELS, 0)
        for name, coefficients in numbers.items():
            values[name] = _plain(sum([c * powers[i] for i, c in coefficients]))
        calls, tokens = int(values.pop("calls", 0)), int(values.pop("routed_tokens", 0))
        routing = None
        if term.routing is not None:
            routing = replace(term.routing, tokens=tokens)
            values["weight_read"] = calls * round(term.expert_bytes * expert_share(routing, experts))
            values["rows"] = rows_of_expert(routing, experts)
        result.append(
            PointTerm(
                role=term.role,
                name=term.name,
                calls=calls,
                routing=routing,
                **{name: getattr(term, name) for name in STATIC},
                **values,
            )
        )
    return result


def cache_bytes(form: StageForm, point: Mapping[str, int]) -> int:
    """Bytes of the cache after the pass at one point."""
    point = {**form.constants, **point}
    piece = form.piece(point)
    return int(at(piece.cache, piece.basis, piece.complete(point)))


def activation_peak(form: StageForm, point: Mapping[str, int]) -> int:
    """Most bytes of activations alive at one moment of the pass at one point."""
    point = {**form.constants, **point}
    piece = form.piece(point)
    full = piece.complete(point)
    return int(max((at(p, piece.basis, full) for p in piece.peaks), default=0))


def _plain(number: Number) -> float:
    return int(number) if isinstance(number, int) or number.denominator == 1 else float(number)


# --- JSON ---------------------------------------------------------------------------------------------------------------


def to_json(form: ModelForm) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "key": dict(form.key),
        "facts": dict(form.facts),
        "stages": {
            name: {
                "constants": dict(stage.constants),
                "unknown": list(stage.unknown),
                "pieces": [_piece_to_json(piece) for piece in stage.pieces],
            }
            for name, stage in form.stages.items()
        },
    }


def from_json(data: Mapping[str, Any]) -> ModelForm:
    """Raises :class:`NoForm` when it was written in another format."""
    if data.get("format") != FORMAT:
        raise NoForm("The closed form was stored by another version.")
    stages = {
        name: StageForm(
            stage=name,
            constants=stage["constants"],
            pieces=tuple(_piece_from_json(piece) for piece in stage["pieces"]),
            unknown=tuple(stage["unknown"]),
        )
        for name, stage in data["stages"].items()
    }
    return ModelForm(data["key"], data["facts"], stages)


def _piece_to_json(piece: Piece) -> dict[str, Any]:
    return {
        "batched": piece.batched,
        "ranges": {name: list(r) for name, r in piece.ranges.items()},
        "chunk": piece.chunk,
        "basis": [list(m) for m in piece.basis],
        "terms": [_term_to_json(term) for term in piece.terms],
        "cache": _numbers_to_json(piece.cache),
        "peaks": [_numbers_to_json(p) for p in piece.peaks],
    }


def _piece_from_json(data: Mapping[str, Any]) -> Piece:
    return Piece(
        batched=data["batched"],
        ranges={name: (r[0], r[1]) for name, r in data["ranges"].items()},
        chunk=data["chunk"],
        basis=tuple(tuple(m) for m in data["basis"]),
        terms=tuple(_term_from_json(t) for t in data["terms"]),
        cache=_numbers_from_json(data["cache"]),
        peaks=tuple(_numbers_from_json(p) for p in data["peaks"]),
    )


_STATIC = ("role", "name", *STATIC)


def _term_to_json(term: Term) -> dict[str, Any]:
    routing = term.routing
    return {
        **{name: getattr(term, name) for name in _STATIC},
        "exact": {name: _numbers_to_json(c) for name, c in term.exact.items() if any(c)},
        "routing": [routing.experts, routing.top_k] if routing else None,
        "expert_bytes": term.expert_bytes,
    }


def _term_from_json(data: Mapping[str, Any]) -> Term:
    exact = {name: _numbers_from_json(c) for name, c in data["exact"].items()}
    length = len(next(iter(exact.values())))
    routing = Routing(data["routing"][0], data["routing"][1], 0) if data["routing"] else None
    names = [*CHANNELS, "calls", *(["routed_tokens"] if routing else [])]
    return term(
        {name: exact.get(name, (0,) * length) for name in names},
        routing=routing,
        expert_bytes=data["expert_bytes"],
        **{name: data[name] for name in _STATIC},
    )


def term(exact: Mapping[str, tuple[Number, ...]], **static: Any) -> Term:
    """A term from its whole-number coefficients by channel (and ``calls``, ``routed_tokens``)."""
    arrays: dict[str, Any] = {name: np.array([float(c) for c in coefficients]) for name, coefficients in exact.items()}
    return Term(exact=dict(exact), **arrays, **static)


def _numbers_to_json(numbers: Sequence[Number]) -> list[int | str]:
    return [int(n) if isinstance(n, int) or n.denominator == 1 else f"{n.numerator}/{n.denominator}" for n in numbers]


def _numbers_from_json(numbers: Iterable[int | str]) -> tuple[Number, ...]:
    return tuple(n if isinstance(n, int) else Fraction(n) for n in numbers)
