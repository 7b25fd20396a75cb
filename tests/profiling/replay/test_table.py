"""A table of timed operators as a file: what is damaged is refused, never read as a number."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from profiling.replay.table import Glue, Row, Table, read, write
from profiling.spec import SpecError

ROW = Row(
    "k", "addmm", "matmul", "fp32", 10, 0, 100, 10, 1, 2e-5, 1.9e-5, 7, "ok", ("tiny",), "2026-11-26T10:00:00+00:00"
)
GLUE = Glue("g", "decode", "tiny", "fp32", 1e-4, 1e-6, "2026-11-26T10:00:00+00:00")


@pytest.fixture
def path(tmp_path):
    table = Table("this-host", "2.13.0", 1, {"k": ROW}, {"g": GLUE})
    write(table, tmp_path / "table.json")
    return tmp_path / "table.json"


def opened(path):
    return read(path, "this-host", "2.13.0", 1)


def change(path, what):
    data = json.loads(path.read_text())
    what(data)
    path.write_text(json.dumps(data))


def test_a_table_is_read_as_it_was_written(path):
    assert opened(path).rows == {"k": ROW}
    assert opened(path).glue == {"g": GLUE}


def test_a_number_that_was_changed_in_the_file_is_noticed(path):
    change(path, lambda data: data["rows"][0].update(seconds=3e-5))
    with pytest.raises(SpecError, match="digest"):
        opened(path)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("rows", "seconds", "2e-5"),
        ("rows", "seconds", -1.0),
        ("rows", "seconds", 0),
        ("rows", "seconds", float("nan")),
        ("rows", "best", float("inf")),
        ("rows", "best", True),
        ("rows", "flops", -1),
        ("rows", "flops", 1.5),
        ("rows", "key", None),
        ("glue", "seconds", float("nan")),
        ("glue", "per_call", -1e-6),
    ],
)
def test_what_cannot_have_been_timed_is_refused_in_a_table_without_a_digest_too(path, where, name, value):
    def damage(data):
        del data["sha256"]
        data[where][0][name] = value

    change(path, damage)
    with pytest.raises(SpecError, match=name):
        opened(path)


def test_a_table_of_before_there_were_digests_is_still_read(path):
    change(path, lambda data: data.pop("sha256"))
    assert opened(path).rows == {"k": ROW}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"rows": 3}', b"\xff\xfe\x00", b"[" * 100_000])
def test_garbage_is_refused_with_the_field_table(path, content):
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        opened(path)
    assert caught.value.field == "table"


def test_disturbed_operators_are_left_out():
    disturbed = replace(ROW, key="d", quality="contended")
    table = Table("h", "t", 1, {"k": ROW, "d": disturbed}, {"g": GLUE})
    assert table.undisturbed().rows == {"k": ROW}
    assert table.undisturbed().glue == {"g": GLUE}
    assert set(table.rows) == {"k", "d"}, "the table itself stays as it is"
