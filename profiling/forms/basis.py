"""Monomials over the variables of a forward pass, and polynomials fitted to them exactly. Standard library and numpy only.

FLOPs and bytes of an operator are products of lengths of its tensors. Each length is a sum of the variables below, so costs
are polynomials of degree 2 in the sequence variables, times a straight line in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

#: Sequences; tokens processed per sequence; tokens in its cache; tokens of its source (encoder-decoder); chunks of the tokens.
VARIABLES = ("batch", "tokens", "context", "source", "chunks")

#: Exponents of the variables, in their order.
Monomial = tuple[int, ...]

#: A coefficient: whole where it can be, so that values are exact.
Number = int | Fraction


def monomials(names: Sequence[str], *, batched: bool) -> tuple[Monomial, ...]:
    """1, v and v·w for all ``names`` of sequence variables, each also times the batch where it is a variable."""
    single = [VARIABLES.index(name) for name in names]
    chosen: list[tuple[int, ...]] = [()] + [(i,) for i in single] + list(combinations_with_replacement(single, 2))
    plain = [tuple(c.count(i) for i in range(len(VARIABLES))) for c in chosen]
    if not batched:
        return tuple(plain)
    return tuple(plain) + tuple((1, *m[1:]) for m in plain)


def value(monomial: Monomial, point: Mapping[str, int]) -> int:
    """The monomial at a point, exactly. Variables that the point lacks must have exponent 0."""
    result = 1
    for name, power in zip(VARIABLES, monomial, strict=True):
        if power:
            result *= point[name] ** power
    return result


def features(basis: Sequence[Monomial], point: Mapping[str, Any], size: int) -> np.ndarray:
    """Values of ``basis`` at many points, shape (monomials, ``size``), float64. ``point``: arrays (or numbers) by variable."""
    result = np.ones((len(basis), size))
    for row, monomial in zip(result, basis, strict=True):
        for name, power in zip(VARIABLES, monomial, strict=True):
            for _ in range(power):
                row *= point[name]
    return result


class Solver:
    """Coefficients of polynomials over ``basis`` from their values at as many points. Exact rational arithmetic.

    Raises :class:`ZeroDivisionError` when the points do not determine the coefficients.
    """

    def __init__(self, basis: Sequence[Monomial], points: Sequence[Mapping[str, int]]) -> None:
        self.basis = tuple(basis)
        self._inverse, self._divisor = _inverse([[value(m, p) for m in basis] for p in points])

    def __call__(self, values: Sequence[int]) -> tuple[Number, ...]:
        if not any(values):
            return (0,) * len(self.basis)
        sums = (sum(a * v for a, v in zip(row, values, strict=True)) for row in self._inverse)
        return tuple(s // self._divisor if s % self._divisor == 0 else Fraction(s, self._divisor) for s in sums)


def _inverse(matrix: list[list[int]]) -> tuple[list[list[int]], int]:
    """The inverse of a matrix of whole numbers, as whole numbers over one common divisor (Gauss–Jordan elimination)."""
    n = len(matrix)
    rows = [[Fraction(x) for x in row] + [Fraction(int(i == j)) for j in range(n)] for i, row in enumerate(matrix)]
    for column in range(n):
        pivot = next((r for r in range(column, n) if rows[r][column]), None)
        if pivot is None:
            raise ZeroDivisionError("the points do not determine the coefficients")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column][column]
        rows[column] = [x / lead for x in rows[column]]
        for r in range(n):
            if r != column and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [x - factor * y for x, y in zip(rows[r], rows[column], strict=True)]
    inverse = [row[n:] for row in rows]
    divisor = math.lcm(*(x.denominator for row in inverse for x in row))
    return [[int(x * divisor) for x in row] for row in inverse], divisor


def at(coefficients: Sequence[Number], basis: Sequence[Monomial], point: Mapping[str, int]) -> Number:
    """The polynomial at a point, exactly."""
    return sum((c * value(m, point) for c, m in zip(coefficients, basis, strict=True) if c), 0)
