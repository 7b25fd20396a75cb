"""Step detection on seeded synthetic series with known steps: found where they are, and not found where none is."""

from __future__ import annotations

import numpy as np
import pytest

from llmcompare.history.steps import MOST_POINTS, steps

SERIES = 200


def noisy(seed: int, *stretches: tuple[int, float], spread: float = 0.02) -> list[float]:
    """Log-normal values around the level of each stretch (``length, level``)."""
    random = np.random.default_rng(seed)
    return [float(level * np.exp(random.normal(0, spread))) for length, level in stretches for _ in range(length)]


@pytest.mark.parametrize("length", [10, 40])
@pytest.mark.parametrize("spread", [0.02, 0.10])
def test_false_alarms_stay_below_two_per_cent(length, spread):
    alarms = sum(bool(steps(noisy(seed, (length, 1.0), spread=spread))) for seed in range(SERIES))
    assert alarms <= 0.02 * SERIES, alarms


@pytest.mark.parametrize(
    ("before", "after", "level", "spread", "least"),
    [(15, 15, 1.10, 0.02, 0.99), (15, 15, 0.90, 0.02, 0.99), (20, 5, 1.20, 0.05, 0.95), (8, 8, 1.20, 0.02, 0.95)],
)
def test_known_steps_are_found_at_their_place(before, after, level, spread, least):
    hits = 0
    for seed in range(100):
        found = steps(noisy(seed, (before, 1.0), (after, level), spread=spread))
        hits += len(found) == 1 and abs(found[0].at - before) <= 1
    assert hits / 100 >= least, hits


def test_two_steps_are_two_and_say_how_large_they_are():
    values = noisy(3, (20, 1.0), (20, 1.5), (20, 1.2))
    found = steps(values)
    assert [step.at for step in found] == [20, 40]
    assert found[0].change_pct == pytest.approx(50, abs=2)
    assert found[1].change_pct == pytest.approx(-20, abs=2)
    assert all(step.p <= 0.01 for step in found)


def test_one_outlier_is_no_step():
    values = noisy(1, (30, 1.0))
    values[15] = 40.0
    assert steps(values) == []


def test_a_certain_but_small_difference_is_no_step():
    assert steps(noisy(1, (40, 1.0), (40, 1.03), spread=0.003)) == []


def test_the_same_values_always_give_the_same_steps():
    values = noisy(5, (12, 1.0), (12, 1.2), spread=0.08)
    assert steps(values) == steps(values)


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0] * 5, [1.0] * 50, [0.0] * 20, [-1.0, 1.0] * 10, [float("nan")] * 20, [float("inf")] * 20]
)
def test_what_has_no_step_or_no_logarithm_has_none(values):
    assert steps(values) == []


def test_no_stretch_reaches_over_a_known_change():
    values = noisy(2, (15, 1.0), (15, 1.5))
    assert [step.at for step in steps(values)] == [15]
    assert steps(values, breaks=[15]) == []


def test_long_series_are_searched_at_their_end_only():
    values = noisy(4, (100, 1.0), (MOST_POINTS - 50, 1.0), (50, 1.3))
    assert [step.at for step in steps(values)] == [50 + MOST_POINTS]
