"""The module table: identical blocks fold into one row with the sums of all, and the page stays light."""

from __future__ import annotations

import pytest

from llmcompare.runs import layertable
from tests.run_page import documents


def test_identical_blocks_are_one_row_with_their_sums():
    rows = layertable.fold(documents.estimate(layers=80)["modules"], "prefill")
    assert list(rows) == ["", "layers", "layers.0", "layers.0.attn", "layers.0.norm", "layers.0.mlp", "lm_head"]
    assert rows["layers.0"].repeat == 80
    assert rows["layers.0.mlp"].repeat == 1
    assert rows["layers.0.mlp"].sums["flops"] == 80 * 4e9
    assert rows["layers.0.mlp"].sums["calls"] == 80
    assert sum(rows[c].sums["estimate_s"] for c in rows[""].children) == pytest.approx(rows[""].sums["estimate_s"])


def test_share_is_of_the_measured_time_when_there_is_one():
    rows = layertable.fold(documents.measured(layers=2)["modules"], "decode")
    assert rows[""].share == 1
    assert rows["lm_head"].share == pytest.approx(4e-4 / (2 * 6e-4 + 4e-4))


def test_rows_of_closed_modules_are_hidden_and_sorting_keeps_levels():
    rows = layertable.fold(documents.estimate()["modules"], "prefill")
    assert [r.path for r in layertable.visible_rows(rows, open_ids={""})[0]] == ["", "layers", "lm_head"]
    opened = {"", "layers", "layers.0"}
    by_flops = layertable.visible_rows(rows, open_ids=opened, sort="flops")[0]
    assert [r.path for r in by_flops][3:6] == ["layers.0.mlp", "layers.0.attn", "layers.0.norm"]
    assert [r.depth for r in by_flops] == [0, 1, 2, 3, 3, 3, 1]


def test_searching_finds_what_is_closed_with_everything_above():
    rows = layertable.fold(documents.estimate()["modules"], "prefill")
    found, _ = layertable.visible_rows(rows, open_ids=set(), find="MLP")
    assert [r.path for r in found] == ["", "layers", "layers.0", "layers.0.mlp"]
    assert layertable.visible_rows(rows, open_ids=set(), find="nothing like it")[0] == []


def test_a_huge_model_is_cut_and_says_how_many_rows_are_missing():
    columns = ["stage", "path", "parent", "fold", "estimate_s"]
    table = {"columns": columns, "rows": [["prefill", "", None, "", 1.0]]}
    table["rows"] += [["prefill", f"m{n}", "", f"m{n}", 0.001] for n in range(1000)]
    shown, cut = layertable.visible_rows(layertable.fold(table, "prefill"), open_ids={""})
    assert (len(shown), cut) == (300, 701)


def test_folded_children_are_found_whichever_way_the_document_names_them():
    """The fold of layers.1.mlp may name itself or layers.0.mlp; both mean the same row."""
    document = documents.estimate(layers=3)
    table = document["modules"]
    path, fold = table["columns"].index("path"), table["columns"].index("fold")
    for row in table["rows"]:
        if row[path].startswith("layers.") and row[path].count(".") == 2:
            row[fold] = "layers.0." + row[path].split(".")[2]
    assert layertable.fold(table, "prefill")["layers.0.mlp"].sums["flops"] == 3 * 4e9
