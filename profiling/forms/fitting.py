"""One piece of a closed form from samples, and whether it holds at another sample. Exact whole-number arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiling.demand import STATIC, Routing
from profiling.forms.basis import Monomial, Number, Solver, value
from profiling.forms.samples import NUMBERS, Sample, Static, same_operators, summed
from profiling.forms.terms import NoForm, Piece, Term, term

Coefficients = tuple[Number, ...]


@dataclass(frozen=True)
class Fit:
    """Polynomials of every operator. ``total``: the numbers are sums over all operators of a module and name (see ``summed``)."""

    basis: tuple[Monomial, ...]
    total: bool
    like: Sample
    numbers: tuple[tuple[Coefficients, ...], ...]
    alive: tuple[Coefficients, ...]
    cache: Coefficients

    def holds_at(self, point: Mapping[str, int], sample: Sample) -> bool:
        """Does the sample taken at ``point`` follow from the polynomials, in every number?"""
        if self.total:
            sample = summed(sample)
        if not same_operators((self.like, sample)):
            return False
        powers = [value(m, point) for m in self.basis]
        known: dict[Coefficients, Number] = {}

        def at(coefficients: Coefficients) -> Number:
            found = known.get(coefficients)
            if found is None:
                found = known[coefficients] = sum(c * p for c, p in zip(coefficients, powers, strict=True) if c)
            return found

        return (
            at(self.cache) == sample.cache_bytes
            and all(
                at(c) == v
                for row, values in zip(self.numbers, sample.numbers, strict=True)
                for c, v in zip(row, values, strict=True)
            )
            and all(at(c) == v for c, v in zip(self.alive, sample.alive, strict=True))
        )


def fit(basis: Sequence[Monomial], points: Sequence[Mapping[str, int]], samples: Sequence[Sample]) -> Fit:
    """The polynomials through ``samples``, taken at ``points`` (as many as monomials). Raises :class:`NoForm`."""
    total = not same_operators(samples)
    if total:
        samples = [summed(s) for s in samples]
        if not same_operators(samples):
            raise NoForm("Different operators run at different points.")
    try:
        solve = Solver(basis, points)
    except ZeroDivisionError as error:
        raise NoForm("The points do not determine a polynomial.") from error
    known: dict[tuple[int, ...], Coefficients] = {}

    def through(values: tuple[int, ...]) -> Coefficients:
        found = known.get(values)
        if found is None:
            found = known[values] = solve(values)
        return found

    numbers = tuple(
        tuple(through(values) for values in zip(*rows, strict=True))
        for rows in zip(*(s.numbers for s in samples), strict=True)
    )
    return Fit(
        basis=tuple(basis),
        total=total,
        like=samples[0],
        numbers=numbers,
        alive=tuple(through(values) for values in zip(*(s.alive for s in samples), strict=True)),
        cache=through(tuple(s.cache_bytes for s in samples)),
    )


def piece(found: Fit, *, batched: bool, ranges: Mapping[str, tuple[int, int]], chunk: int | None) -> Piece:
    """The fit as a piece: operators that ask for the same are one term."""
    return Piece(
        batched=batched,
        ranges=dict(ranges),
        chunk=chunk,
        basis=found.basis,
        terms=_terms(found),
        cache=found.cache,
        peaks=_upper(found.alive),
    )


def _terms(found: Fit) -> tuple[Term, ...]:
    calls_at = NUMBERS.index("calls")
    groups: dict[tuple[Static, tuple[Coefficients, ...]], list[Coefficients]] = {}
    for static, numbers in zip(found.like.statics, found.numbers, strict=True):
        if not any(any(c) for name, c in zip(NUMBERS, numbers, strict=True) if name not in ("calls", "rows")):
            continue  # asks for nothing
        key = (static, numbers[:calls_at] + numbers[calls_at + 1 :])
        groups.setdefault(key, []).append(numbers[calls_at])
    return tuple(_term(static, numbers, calls, found.total) for (static, numbers), calls in groups.items())


def _term(static: Static, numbers: tuple[Coefficients, ...], each: Sequence[Coefficients], total: bool) -> Term:
    """One term of ``len(each)`` rows with the same numbers, which are of one operator, or ``total``: of all of the row."""
    named = dict(zip((n for n in NUMBERS if n != "calls"), numbers, strict=True))
    tokens = named.pop("routed_tokens")
    calls = tuple(sum(coefficients) for coefficients in zip(*each, strict=True))
    if not total and any(calls[1:]):
        raise NoForm("The number of operators depends on the point.")
    times = len(each) if total else calls[0]
    named = {name: c if name == "rows" else tuple(times * x for x in c) for name, c in named.items()}
    routing = Routing(static.experts, static.top_k, 0) if static.experts else None
    if routing and any(calls[1:]):
        raise NoForm("The number of products with experts depends on the point.")
    exact = {**named, "calls": calls, **({"routed_tokens": tokens} if routing else {})}
    return term(
        exact,
        role=static.role,
        name=static.name,
        **dict(zip(STATIC, static.facts, strict=True)),
        routing=routing,
        expert_bytes=static.expert_bytes,
    )


def _upper(polynomials: Sequence[Coefficients]) -> tuple[Coefficients, ...]:
    """Those that no other one exceeds in every coefficient: variables are never negative, so the others are never the largest."""
    unique = list(dict.fromkeys(polynomials))
    return tuple(
        p
        for p in unique
        if any(p) and not any(q != p and all(b >= a for a, b in zip(p, q, strict=True)) for q in unique)
    )
