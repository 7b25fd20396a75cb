"""Operators by module on the run page: identical blocks together, shares of the profiled pass, what was left out, the origin."""

from __future__ import annotations

import pytest
from django.template.loader import render_to_string

from llmcompare.runs.operatortable import operator_table

OPERATORS = [
    ["prefill", "layers.0.mlp", "aten::mm", 1, 0.2, None, 64, [[9, 32], [32, 64]]],
    ["prefill", "layers.1.mlp", "aten::mm", 1, 0.3, None, 64, [[9, 32], [32, 64]]],
    ["prefill", "layers.1.mlp", "aten::silu", 1, 0.1, None, 64, None],
    ["prefill", None, "aten::argmax", 1, 0.05, None, 8, [[1, 128]]],
    ["decode", "layers.0.mlp", "aten::mm", 1, 9.0, None, 64, None],
]
COLUMNS = ["stage", "path", "operator", "calls", "self_cpu_s", "self_device_s", "self_memory_bytes", "input_shapes"]
MODULES = [["prefill", "layers.0.mlp", 1, 0.3, 0.3, 100], ["prefill", "layers.1.mlp", 1, 0.5, 0.5, 28]]


@pytest.fixture
def document() -> dict:
    module_columns = ["stage", "path", "calls", "total_s", "own_s", "memory_delta_bytes"]
    return {
        "profiled": {
            "method": "torch.profiler",
            "stages": {"prefill": {"passes": 1, "total_s": 1.0, "overhead": 0.25, "memory_delta_bytes": 0}},
            "operators": {"columns": COLUMNS, "rows": OPERATORS},
            "modules": {"columns": module_columns, "rows": MODULES},
            "dropped": {"rows": 3, "self_cpu_s": 0.01},
            "copies": [],
        }
    }


def test_blocks_that_are_alike_are_one_group_with_operators_inside(document):
    table = operator_table(document, "prefill")
    group, outside = table["groups"]
    assert (group["name"], group["members"], group["memory"]) == ("layers.*.mlp", 2, "128\u202fB")
    assert [(row["name"], row["share"]) for row in group["operators"]] == [
        ("aten::mm", "50.0\u202f%"),
        ("aten::silu", "10.0\u202f%"),
    ]
    assert group["operators"][0]["shapes"] == "9×32, 32×64"
    assert (outside["name"], outside["memory"]) == ("outside the model", "unknown")


def test_find_narrows_it_and_other_stages_have_none(document):
    assert [group["name"] for group in operator_table(document, "prefill", "argmax")["groups"]] == ["outside the model"]
    assert operator_table(document, "decode") is None
    assert operator_table({}, "prefill") is None


def test_the_page_says_where_the_times_come_from_and_what_is_missing(document):
    html = render_to_string("runs/_profiled.html", {"result": {"profiled": operator_table(document, "prefill")}})
    assert "torch.profiler" in html
    assert "3 rows with the least time are not in the document" in html
    assert "no copies between host and device" in html


def test_device_times_count_where_there_is_a_device(document):
    for row in document["profiled"]["operators"]["rows"]:
        row[5] = 2.0 if row[2] == "aten::silu" else 1.0
    document["profiled"]["copies"] = [{"direction": "host to device", "count": 2, "bytes": 8192, "seconds": 5e-6}]
    table = operator_table(document, "prefill")
    assert table["on_device"]
    assert table["groups"][0]["share"] == "80.0\u202f%", "four of five seconds on the device"
    assert "2 copies host to device" in table["copies"]
