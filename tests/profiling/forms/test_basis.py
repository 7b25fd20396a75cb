"""Polynomials over batch and lengths: exact whatever the numbers, fractions included."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.forms.basis import VARIABLES, Solver, at, features, monomials, value

BASES = [
    monomials(["tokens"], batched=False),
    monomials(["tokens"], batched=True),
    monomials(["tokens", "chunks"], batched=False),
    monomials(["context", "source"], batched=True),
]


def points_for(basis, seed: int) -> list[dict[str, int]]:
    """As many points as monomials that determine the coefficients: powers of different primes are in general position."""
    return [
        {name: (prime + seed) ** i + i for name, prime in zip(VARIABLES, (2, 3, 5, 7, 11), strict=True)}
        for i in range(1, len(basis) + 1)
    ]


def test_a_basis_has_every_product_of_two_lengths_once():
    plain = monomials(["tokens", "chunks"], batched=False)
    assert len(plain) == len(set(plain)) == 6  # 1, t, c, t², tc, c²
    assert all(m[0] == 0 for m in plain)
    batched = monomials(["tokens", "chunks"], batched=True)
    assert len(batched) == len(set(batched)) == 12
    assert max(sum(m[1:]) for m in batched) == 2
    assert monomials([], batched=True) == ((0, 0, 0, 0, 0), (1, 0, 0, 0, 0))


@pytest.mark.parametrize("basis", BASES, ids=len)
@given(data=st.data())
def test_the_solver_finds_the_coefficients_that_made_the_values(basis, data):
    """Also where they are thirds or larger than a float can hold exactly."""
    numbers = st.one_of(st.integers(-(10**30), 10**30), st.fractions(max_denominator=97))
    wanted = data.draw(st.lists(numbers, min_size=len(basis), max_size=len(basis)))
    scale = 1
    for number in wanted:
        scale *= Fraction(number).denominator
    points = points_for(basis, data.draw(st.integers(0, 5)))
    values = [at(wanted, basis, p) * scale for p in points]
    found = Solver(basis, points)([int(v) for v in values])
    assert list(found) == [w * scale for w in wanted]


@given(st.lists(st.integers(0, 10**18), min_size=6, max_size=6))
def test_the_polynomial_goes_through_every_value_exactly(values):
    basis = monomials(["tokens"], batched=True)
    points = [{"batch": b, "tokens": t} for b in (2, 3) for t in (1, 9, 21)]
    coefficients = Solver(basis, points)(values)
    assert [at(coefficients, basis, p) for p in points] == values
    # Whole coefficients are whole numbers, so that what is stored is what was meant.
    assert all(isinstance(c, int) or c.denominator > 1 for c in coefficients)


def test_half_of_a_product_is_a_fraction_and_gives_whole_values():
    """Pairs below a diagonal: t (t + 1) / 2."""
    basis = monomials(["tokens"], batched=False)
    points = [{"tokens": t} for t in (1, 9, 21)]
    coefficients = Solver(basis, points)([t * (t + 1) // 2 for t in (1, 9, 21)])
    assert coefficients == (0, Fraction(1, 2), Fraction(1, 2))
    assert at(coefficients, basis, {"tokens": 10**15 + 1}) == (10**15 + 1) * (10**15 + 2) // 2


@pytest.mark.parametrize(
    "points",
    [
        [{"tokens": 3}, {"tokens": 3}, {"tokens": 9}],
        [{"tokens": 1, "chunks": 1}] * 6,
    ],
    ids=["a point twice", "all the same"],
)
def test_points_that_determine_nothing_are_refused(points):
    with pytest.raises(ZeroDivisionError):
        Solver(monomials(list(points[0]), batched=False), points)


@given(
    st.integers(1, 65536),
    st.lists(st.integers(1, 1 << 20), min_size=4, max_size=4),
    st.integers(0, len(BASES) - 1),
)
def test_features_of_many_points_are_those_of_each(batch, lengths, number):
    names = dict(zip(VARIABLES[1:], lengths, strict=True))
    point = {"batch": batch, **names}
    columns = features(BASES[number], {name: np.array([v, v + 1]) for name, v in point.items()}, 2)
    for place in (0, 1):
        here = {name: v + place for name, v in point.items()}
        assert columns[:, place].tolist() == pytest.approx([value(m, here) for m in BASES[number]], rel=1e-15)
