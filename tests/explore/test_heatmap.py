"""Iso-lines, steps of colour and axes."""

from __future__ import annotations

import math

import pytest

from llmcompare.explore.grid import axis, check_cells
from llmcompare.explore.heatmap import round_levels, segments, step_of
from profiling.spec import SpecError


def test_iso_lines_lie_where_the_value_is():
    # value = 2 ** column: level 4 is at column 2, level 8 ** 0.5 halfway between 1 and 2
    values = [[2.0**c for c in range(4)] for _ in range(3)]
    for level, column in ((8**0.5, 1.5), (3.0, math.log2(3))):
        found = list(segments(values, level))
        assert len(found) == 2
        assert all(point[1] == pytest.approx(column) for piece in found for point in piece)


def test_iso_lines_leave_out_what_is_unknown():
    assert list(segments([[1.0, 10.0], [1.0, None]], 3.0)) == []


def test_a_saddle_has_two_pieces():
    assert len(list(segments([[1.0, 10.0], [10.0, 1.0]], 3.0))) == 2


def test_levels_are_round_and_inside():
    assert round_levels(0.9, 60) == [1, 2, 5, 10, 20, 50]
    assert all(3 < level < 4e9 for level in round_levels(3, 4e9))
    assert len(round_levels(1e-6, 1e9)) <= 6


@pytest.mark.parametrize(("value", "step"), [(1, 0), (256, 7), (255, 7), (2, 1), (0, 0)])
def test_steps(value, step):
    assert step_of(value, 1, 256) == step


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", [4]),
        ("1,2 , 8", [1, 2, 8]),
        ("1..16*4", [1, 4, 16]),
        ("128..512+128", [128, 256, 384, 512]),
        ("3..5", [3, 4, 5]),
    ],
)
def test_axis(text, values):
    assert axis("batches", text) == values


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1..",
        "5..1*2",
        "0..8*2",
        "1..9*1",
        "1..999999999+1",
        "-1",
        "1e309",
        "NaN",
        "9" * 5000,
        "1," * 300,
        "1.5",
        ",".join(map(str, range(99))),
    ],
)
def test_axis_refuses(text):
    with pytest.raises(SpecError):
        axis("batches", text)


def test_too_many_cells_get_a_sentence():
    with pytest.raises(SpecError, match="1,600 cells"):
        check_cells(list(range(40)), list(range(40)))
