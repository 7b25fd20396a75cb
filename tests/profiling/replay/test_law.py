"""Shapes that were never timed: a law that holds is found again, and where it does not hold the answer says by how much it may be off."""

from __future__ import annotations

import random

import pytest

from profiling.replay.law import Law, Shape


def shapes(count, seed=0):
    draw = random.Random(seed)
    for _ in range(count):
        rows, k, n = (2 ** draw.uniform(low, high) for low, high in ((0, 9), (6, 12), (6, 12)))
        yield Shape(2 * rows * k * n, 0, 4 * k * n, 4 * rows * (k + n), rows)


def seconds(shape):
    return 3e-6 + shape.flops / 5e10 + shape.cold_bytes / 1e10 + shape.hot_bytes / 4e10


def test_a_law_that_holds_is_recovered():
    known = list(shapes(25))
    law = Law(known, [seconds(shape) for shape in known])
    assert law.spread == pytest.approx(1, abs=0.02)
    for shape in shapes(20, seed=1):
        assert law.at(shape).seconds == pytest.approx(seconds(shape), rel=0.02)


def test_known_shapes_are_met_exactly_even_where_no_law_holds():
    known = list(shapes(25))
    draw = random.Random(2)
    times = [seconds(shape) * draw.uniform(0.5, 2) for shape in known]
    law = Law(known, times)
    for shape, time in zip(known, times, strict=True):
        assert law.at(shape).seconds == pytest.approx(time, rel=1e-3)


def test_the_uncertainty_is_what_the_law_misses_known_shapes_by():
    known = list(shapes(40))
    draw = random.Random(3)
    tight = Law(known, [seconds(shape) * draw.uniform(0.97, 1.03) for shape in known]).spread
    wide = Law(known, [seconds(shape) * draw.uniform(0.5, 2) for shape in known])
    assert tight < 1.12 < 1.4 < wide.spread
    new = list(shapes(60, seed=4))
    inside = sum(
        1 / wide.spread <= wide.at(shape).seconds / (seconds(shape) * draw.uniform(0.5, 2)) <= wide.spread
        for shape in new
    )
    assert inside >= 0.75 * len(new)


def test_beyond_the_timed_shapes_is_called_so():
    known = list(shapes(25))
    law = Law(known, [seconds(shape) for shape in known])
    largest = max(known, key=lambda shape: shape.flops)
    assert not law.at(largest).extrapolated
    far = Shape(10 * largest.flops, 0, 10 * largest.cold_bytes, 10 * largest.hot_bytes, 10 * largest.rows)
    assert law.at(far).extrapolated


def test_too_few_shapes_are_no_law():
    with pytest.raises(ValueError, match="too few"):
        Law(list(shapes(1)), [1.0])


def test_two_shapes_scale_with_their_work_and_say_that_they_may_be_off_twofold():
    known = [Shape(0, 1e6, 0, 1e6, 64), Shape(0, 4e6, 0, 4e6, 64)]
    law = Law(known, [1e-3, 4e-3])
    assert law.at(Shape(0, 2e6, 0, 2e6, 64)).seconds == pytest.approx(2e-3, rel=0.05)
    assert law.spread == 2
