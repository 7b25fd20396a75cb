"""Predictions: sums of what was timed, what follows for models that never ran, and what stays unknown."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import asdict, replace

import pytest
import torch

from profiling.cli import main
from profiling.replay import run, table
from profiling.replay.predict import Laws, glue_key
from profiling.replay.shapes import Caches, operators
from profiling.replay.table import Glue, Row, Table
from profiling.replay.twin import traced
from profiling.spec import ModelSpec, SpecError, Workload
from tests.profiling import tiny

WORKLOAD = Workload(input_tokens=9, output_tokens=5, dtype="fp32")
WIDER = ModelSpec(
    name="wider", config=tiny.LLAMA | {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 5}
)


def empty():
    return Table("this-host", torch.__version__, 1)


@pytest.fixture(scope="module")
def grown():
    found = empty()
    documents = run.replay(tiny.MODEL, [WORKLOAD, replace(WORKLOAD, input_tokens=17)], found, budget_s=0.001)
    return found, documents


def test_a_prediction_is_the_sum_of_its_operators_and_the_glue(grown):
    found, (document, _) = grown
    traces = traced(tiny.MODEL, WORKLOAD, ["prefill", "decode"])
    for stage, metric in (("prefill", "ttft"), ("decode", "tpot")):
        parts, value = document["stages"][stage], document["metrics"][metric]
        alone = sum(
            item.count * found.rows[item.key].seconds
            for item in operators(traces[stage], run.caches_of(torch.device("cpu")))
        )
        glue = found.glue[glue_key(tiny.MODEL, stage, "fp32", "sdpa")].seconds
        assert parts["own_s"] == pytest.approx(alone)
        assert parts["glue_s"] == glue > 0
        assert parts["glue_from"] == "twin"
        assert value["value"] == pytest.approx(alone + glue)
        assert (value["unit"], value["origin"], value["method"]) == ("s", "estimated", "operator replay")
        assert value["low"] == value["high"] == pytest.approx(value["value"])
        assert parts["operators"]["own"] > 10
        assert parts["calls"] == sum(traces[stage].times)


def test_a_stored_table_answers_for_a_model_that_never_ran(grown, monkeypatch):
    found = Table.from_json(json.loads(json.dumps(grown[0].to_json())))
    monkeypatch.setattr(run.Bench, "time", lambda *_: pytest.fail("something was timed"))
    (document,) = run.replay(WIDER, [WORKLOAD], found, timed=False)
    for stage, metric in (("prefill", "ttft"), ("decode", "tpot")):
        parts, value = document["stages"][stage], document["metrics"][metric]
        assert parts["operators"]["interpolated"] + parts["operators"]["extrapolated"] > 0
        assert parts["interpolated_s"] > 0
        assert parts["unknown_operators"] == []
        assert parts["glue_from"] == "other models"
        assert 0 <= value["low"] < value["value"] < value["high"]
        assert any(part["from"] in ("interpolated", "extrapolated") for part in parts["largest"])


def test_an_operator_that_nothing_is_known_of_is_named_and_leaves_no_time(grown):
    found = Table.from_json(grown[0].to_json())
    found.rows = {key: row for key, row in found.rows.items() if row.op_class != "attention"}
    (document,) = run.replay(tiny.MODEL, [WORKLOAD], found, timed=False)
    for stage, metric in (("prefill", "ttft"), ("decode", "tpot")):
        assert document["metrics"][metric]["value"] is None
        assert document["metrics"][metric]["low"] is None
        assert document["stages"][stage]["unknown_operators"] == ["sdpa"]
        assert document["stages"][stage]["known_s"] > 0


def test_an_empty_table_knows_nothing():
    (document,) = run.replay(tiny.MODEL, [WORKLOAD], empty(), timed=False)
    assert document["metrics"]["ttft"]["value"] is None
    assert document["stages"]["prefill"]["glue_from"] == "unknown"
    assert "mm" in document["stages"]["prefill"]["unknown_operators"]


def test_what_is_above_the_cap_is_interpolated_and_said(grown):
    found = Table.from_json(grown[0].to_json())
    (document,) = run.replay(WIDER, [WORKLOAD], found, cap_bytes=30_000, budget_s=0.001)
    parts = document["stages"]["prefill"]
    assert parts["operators"]["interpolated"] + parts["operators"]["extrapolated"] > 0
    assert any("more than the 30,000 allowed here" in item["reason"] for item in document["not_replayed"])
    assert document["metrics"]["ttft"]["value"] > 0


def test_what_the_table_has_is_not_timed_again(grown, monkeypatch):
    found = Table.from_json(grown[0].to_json())
    monkeypatch.setattr(run.Bench, "time", lambda *_: pytest.fail("something was timed"))
    (document,) = run.replay(tiny.MODEL, [WORKLOAD], found)
    assert document["metrics"] == grown[1][0]["metrics"]


def test_leaving_a_model_out_leaves_what_others_share_with_it(grown):
    found = Table.from_json(grown[0].to_json())
    key = next(iter(found.rows))
    found.rows[key] = replace(found.rows[key], models=("Tiny", "another"))
    left = found.without(["Tiny"])
    assert list(left.rows) == [key]
    assert left.glue == {}


def test_an_undisturbed_row_is_not_replaced_by_a_contended_one(grown):
    found = empty()
    row = replace(next(iter(grown[0].rows.values())), quality="ok", models=("a",))
    found.add(row)
    found.add(replace(row, seconds=9.0, quality="contended", models=("b",)))
    assert found.rows[row.key].seconds == row.seconds
    assert found.rows[row.key].models == ("a", "b")


def test_laws_are_of_one_format(grown):
    item = next(
        item
        for item in operators(traced(tiny.MODEL, WORKLOAD, ["prefill"])["prefill"], Caches(1 << 30))
        if item.name == "mm"
    )
    laws = Laws(grown[0])
    assert laws.at(item) is not None
    assert laws.at(replace(item, dtype="bfloat16")) is None


class TestFile:
    def test_round_trip(self, grown, tmp_path):
        table.write(grown[0], tmp_path / "deep" / "t.json")
        assert table.read(tmp_path / "deep" / "t.json", "this-host", torch.__version__, 1) == grown[0]
        assert [file.name for file in (tmp_path / "deep").iterdir()] == ["t.json"]

    @pytest.mark.parametrize(
        ("identity", "said"),
        [
            (("elsewhere", torch.__version__, 1), "another host"),
            (("this-host", "1.0", 1), "torch version"),
            (("this-host", torch.__version__, 2), "number of threads"),
        ],
    )
    def test_times_of_another_host_are_refused(self, grown, tmp_path, identity, said):
        table.write(grown[0], tmp_path / "t.json")
        with pytest.raises(SpecError, match=said):
            table.read(tmp_path / "t.json", *identity)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}'])
    def test_what_is_no_table_is_refused(self, tmp_path, text):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(SpecError, match="table"):
            table.read(tmp_path / "t.json", "this-host", torch.__version__, 1)

    def test_no_file_is_an_empty_table(self, tmp_path):
        assert table.read(tmp_path / "t.json", "h", "2", 1) == Table("h", "2", 1)

    def test_rows_and_glue_survive_as_they_are(self):
        row = Row("k", "mm", "matmul", "float32", 1, 2, 3, 4, 5, 0.5, 0.4, 7, "ok", ("a",), "2026-01-01")
        found = Table("h", "2", 1, {"k": row}, {"g": Glue("g", "decode", "a", "fp32", 0.1, 0.01, "2026-01-01")})
        assert asdict(Table.from_json(json.loads(json.dumps(found.to_json()))).rows["k"]) == asdict(row)


def test_from_the_command_line(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(tiny.LLAMA))
    command = ["replay", "--config", str(tmp_path), "--dtype", "fp32", "--input-tokens", "9", "--output-tokens", "5"]
    command += ["--table", str(tmp_path / "table.json"), "--threads", "1"]
    assert main([*command, "--stored"]) == 0
    assert "unknown, at least" in capsys.readouterr().out
    assert not (tmp_path / "table.json").exists()

    assert main([*command, "--json", str(tmp_path / "out.json")]) == 0
    said = capsys.readouterr().out
    assert "Time to first token" in said
    assert "operators timed as they are" in said
    assert "of its narrow twin" in said
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["schema"] == "llmcompare-replay"
    assert 0 < document["metrics"]["tpot"]["value"] < 1

    assert main([*command, "--stored", "--json", "-"]) == 0
    stored = json.loads(capsys.readouterr().out)
    assert stored["metrics"]["tpot"]["value"] == document["metrics"]["tpot"]["value"]

    assert main([*command, "--threads", "0"]) == 2
    assert "threads" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_loses_neither_the_table_nor_the_prediction(tmp_path, capsys):
    """A real file system of 200 kB that fills up between two replays."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        (tmp_path / "config.json").write_text(json.dumps(tiny.LLAMA))
        path = small / "table.json"
        command = ["replay", "--config", str(tmp_path), "--dtype", "fp32", "--output-tokens", "2", "--threads", "1"]
        command += ["--table", str(path)]
        assert main([*command, "--input-tokens", "9"]) == 0
        capsys.readouterr()
        before = path.read_bytes()
        with (small / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 4096)
        assert main([*command, "--input-tokens", "11", "--json", str(small / "out.json")]) == 1
        said = capsys.readouterr()
        assert "Time to first token" in said.out, "what was timed is said all the same"
        assert f"error: table: {path} cannot be written" in said.err
        assert "No space left" in said.err
        assert f"error: json: {small / 'out.json'} cannot be written" in said.err
        assert "Traceback" not in said.err
        assert path.read_bytes() == before
        assert {item.name for item in small.iterdir()} <= {"filler", "table.json", "out.json"}, "no half-written table"
        # The table still answers, and grows again once there is room.
        assert main([*command, "--input-tokens", "9", "--stored"]) == 0
        (small / "filler").unlink()
        assert main([*command, "--input-tokens", "11"]) == 0
        assert path.stat().st_size > len(before)
    finally:
        subprocess.run(["umount", str(small)], check=True)
