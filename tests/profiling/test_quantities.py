"""Numbers as pages and command line write them: nothing is rounded to zero, nothing unknown becomes a number."""

from __future__ import annotations

import pytest

from profiling.quantities import count, datasheet, percent, say, show, signed_percent


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (1.0, "s", "1 s"),
        (0.9999, "s", "1 s"),
        (4.2e-9, "s", "4.2 ns"),
        (75.25, "s", "75.2 s"),
        (80e9, "B", "80 GB"),
        (999_999, "B", "1 MB"),
        (141107412992, "B", "141 GB"),
        (512, "B", "512 B"),
        (70783162384384, "FLOP", "70.8 TFLOP"),
        (989e12, "FLOP/s", "989 TFLOP/s"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (1234.5, "token/s", "1,234 token/s"),
        (0.421, "1", "42.1 %"),
        (0, "s", "0 s"),
        (0, "B", "0 B"),
        (0.5, "FLOP/B", "0.5 FLOP/B"),
    ],
)
def test_values_have_three_digits_and_a_unit(value, unit, text):
    assert plain(show(value, unit)) == text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "12", True])
def test_what_is_not_a_number_is_unknown(value):
    assert show(value, "s") == count(value) == percent(value) == signed_percent(value) == "unknown"


def test_counts_and_percentages():
    assert [plain(count(n)) for n in (7, 9_999, 134_515_008, 70_553_706_496)] == ["7", "9,999", "135 M", "70.6 B"]
    assert plain(percent(0.0004)) == "< 0.1 %"
    assert plain(percent(0)) == "0.0 %"
    assert plain(signed_percent(-38.52)) == "−38.5 %"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (0, "0.0 %"),
        (0.04, "0.0 %"),
        (-0.04, "0.0 %"),
        (-0.06, "−0.1 %"),
        (999.9, "+999.9 %"),
        (999.96, "+1,000 %"),
        (1000, "+1,000 %"),
        (1000.1, "× 11"),
        (2350, "× 24.5"),
        (12345678.9, "× 123 k"),
        (99_900.0, "× 1 k"),
        (2e11, "× 2 G"),
        (3e28, "× 3.0e+26"),
        (-1234.5, "−1,234 %"),
    ],
)
def test_a_change_of_more_than_a_thousand_per_cent_is_a_factor(change, text):
    """×: how many times the base it is, so 1 more than the change."""
    assert plain(signed_percent(change)) == text


@pytest.mark.parametrize(
    ("share", "text"), [(9.994, "999.4 %"), (10, "1,000 %"), (12.34, "× 12.3"), (98765, "× 98.8 k")]
)
def test_a_share_of_more_than_a_thousand_per_cent_is_a_factor(share, text):
    assert plain(percent(share)) == text


def test_a_datasheet_keeps_its_own_digits_and_its_largest_prefix():
    assert plain(datasheet(989_400_000_000_000, "FLOP/s")) == "989.4 TFLOP/s"
    assert plain(datasheet(3.35e12, "B/s", largest="G")) == "3,350 GB/s"
    assert plain(datasheet(50_331_648, "B", largest="G")) == "50.3316 MB"
    assert plain(datasheet(700, "W", largest="")) == "700 W"
    assert datasheet(None, "W") == "unknown"


def test_sentences_have_ordinary_spaces():
    assert say(5e9, "B") == "5 GB"
    assert say(None, "B") == "unknown"
