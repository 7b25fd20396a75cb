"""The look-back band: what it stands on, how wide it is, what lies outside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llmcompare.history.lookback import Point, band_of, judged

START = datetime(2026, 1, 1, tzinfo=UTC)


def series(values, **fields) -> list[Point]:
    return [Point(f"run-{at}", START + timedelta(days=at), value, **fields) for at, value in enumerate(values)]


def test_band_is_the_median_with_five_per_cent_when_processes_agree():
    band = band_of(series([1.0, 1.02, 0.98, 1.0]))
    assert (band.centre, band.runs) == (1.0, 4)
    assert (band.low, band.high) == pytest.approx((0.95, 1.05))


def test_band_is_twice_the_deviation_of_processes_when_that_is_more():
    points = [Point("a", START, 1.0, processes=(0.9, 1.0, 1.1)), *series([1.0, 1.0], processes=(0.9, 1.0, 1.1))]
    band = band_of(points)
    # Nine process medians around 1.0, six of them 0.1 away: their MAD is 0.1.
    assert band.mad_pct == pytest.approx(10)
    assert (band.low, band.high) == pytest.approx((0.8, 1.2))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [1.0, None, 1.0], [0.0, 0.0, 0.0]])
def test_too_few_runs_give_no_band(values):
    assert band_of(series(values)) is None


def test_only_the_runs_before_count_and_only_so_many():
    points = judged(series([1.0] * 5 + [2.0] * 5 + [2.0]), better="lower", lookback=5)
    assert points[5].verdict == "worse"
    assert points[5].change_pct == pytest.approx(100)
    assert points[-1].band.centre == 2.0
    assert points[-1].verdict == "inside"


@pytest.mark.parametrize(
    ("value", "better", "verdict"),
    [
        (1.2, "lower", "worse"),
        (0.8, "lower", "better"),
        (1.2, "higher", "better"),
        (0.8, "higher", "worse"),
        (1.2, "", "outside"),
        (1.04, "lower", "inside"),
    ],
)
def test_direction_decides_what_is_worse(value, better, verdict):
    assert judged(series([1.0, 1.0, 1.0, value]), better=better)[-1].verdict == verdict


def test_contended_runs_are_neither_judged_nor_used():
    points = series([1.0, 1.0, 1.0])
    points.append(Point("busy", START, 9.0, accepted=False, why_not="contended"))
    points.append(Point("next", START, 1.0))
    found = judged(points, better="lower")
    assert (found[3].verdict, found[3].change_pct) == ("", pytest.approx(800))
    assert (found[4].band.runs, found[4].band.centre) == (3, 1.0)


def test_an_expected_change_begins_a_new_band():
    points = series([1.0] * 5)
    points += [Point("marked", START, 2.0, expected=True), *series([2.0, 2.0, 2.02])]
    found = judged(points, better="lower")
    assert [j.band for j in found[5:8]] == [None, None, None]
    assert found[8].verdict == "inside"
    # Without the mark the same runs are worse than what was usual.
    assert judged(series([1.0] * 5 + [2.0]), better="lower")[-1].verdict == "worse"
