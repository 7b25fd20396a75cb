"""Statistics against values worked out by hand, and the rules for showing nothing."""

from __future__ import annotations

import random

import pytest

from profiling.statistics import bootstrap_ci, is_steady, needed_for, summarise, trend


def test_summary_of_known_values():
    summary = summarise([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (summary["n"], summary["median"], summary["min"], summary["max"]) == (5, 3.0, 1.0, 5.0)
    assert (summary["q1"], summary["q3"]) == (2.0, 4.0)
    assert summary["cv"] == pytest.approx(2.5**0.5 / 3)


def test_one_value_has_no_spread():
    summary = summarise([2.0])
    assert summary["cv"] is None
    assert summary["ci95"] is None
    with pytest.raises(ValueError, match="no values"):
        summarise([])


@pytest.mark.parametrize(("percentile", "needed"), [(90, 50), (95, 100), (99, 500)])
def test_percentiles_appear_only_with_enough_samples(percentile, needed):
    assert needed_for(percentile) == needed
    assert f"p{percentile}" not in summarise([1.0] * (needed - 1))
    values = [float(value) for value in range(needed)]
    assert summarise(values)[f"p{percentile}"] == pytest.approx((needed - 1) * percentile / 100)


def test_the_interval_of_the_median_covers_it_about_as_often_as_it_says():
    source = random.Random(1)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_ci([source.gauss(10, 1) for _ in range(25)])
        covered += low <= 10 <= high
    assert 0.88 <= covered / 200 <= 1.0
    assert bootstrap_ci([1.0, 2.0, 3.0, 4.0]) is None
    assert bootstrap_ci([1.0] * 10) == [1.0, 1.0]
    assert bootstrap_ci([3.0, 1.0, 2.0, 5.0, 4.0]) == bootstrap_ci([3.0, 1.0, 2.0, 5.0, 4.0])


def test_a_trend_is_seen_and_noise_is_not_one():
    change, significant = trend([10.0, 11.0, 12.0, 13.0, 14.0])
    assert change == pytest.approx(5 / 12)
    assert significant
    assert trend([1.0, 2.0, 3.0]) is None
    assert is_steady([1.0, 2.0]) is None
    assert is_steady([100.0, 101.0, 99.0, 100.5, 99.5, 100.0, 101.0, 99.0]) is True
    assert is_steady([100.0, 110.0, 120.0, 130.0, 140.0, 150.0, 160.0, 170.0]) is False
    assert is_steady([200.0, 150.0, 120.0, 105.0, 100.0, 101.0, 99.0, 100.0]) is True, "only the later half counts"
