"""CSV files: safe in a spreadsheet, faithful to the numbers."""

import csv
import io

import pytest
from django.core.exceptions import BadRequest
from hypothesis import given
from hypothesis import strategies as st

from llmcompare.common.csv import FORMULA_STARTS, CsvFormat, csv_chunks, safe_cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_text_that_a_spreadsheet_would_run_is_defused(text):
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize(("value", "cell"), [(-1.5, "-1.5"), (-3, "-3"), (0.1, "0.1"), (2**60, str(2**60))])
def test_numbers_stay_numbers(value, cell):
    assert safe_cell(value) == cell


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_unknown_is_an_empty_cell(value):
    assert safe_cell(value) == ""


def test_decimal_comma_for_numbers_only():
    assert safe_cell(1.5, ",") == "1,5"
    assert safe_cell("1.5", ",") == "1.5"


def test_options_come_from_the_query():
    assert CsvFormat.from_query({}) == CsvFormat(",", ".")
    assert CsvFormat.from_query({"delimiter": ";", "decimal": ","}) == CsvFormat(";", ",")
    assert CsvFormat.from_query({"delimiter": "tab"}).delimiter == "\t"


@pytest.mark.parametrize("query", [{"delimiter": "x"}, {"decimal": "x"}, {"decimal": ","}])
def test_options_that_make_no_sense_are_refused(query):
    with pytest.raises(BadRequest):
        CsvFormat.from_query(query)


cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)
)


@given(st.lists(st.lists(cells, min_size=3, max_size=3), max_size=30), st.sampled_from([",", ";", "\t"]))
def test_whatever_goes_in_comes_back(rows, delimiter):
    text = "".join(csv_chunks(["a", "b", "c"], rows, CsvFormat(delimiter)))
    assert text.startswith("\ufeff")
    read = list(csv.reader(io.StringIO(text[1:], newline=""), delimiter=delimiter))
    assert read[0] == ["a", "b", "c"]
    assert len(read) == len(rows) + 1
    for before, after in zip(rows, read[1:], strict=True):
        for value, cell in zip(before, after, strict=True):
            if isinstance(value, bool):
                assert cell == str(value).lower()
            elif isinstance(value, (int, float)):
                assert type(value)(cell) == value
            elif value is None:
                assert cell == ""
            else:
                assert not cell.startswith(FORMULA_STARTS)
                assert cell.removeprefix("'") == value.replace("\x00", "").removeprefix("'")
