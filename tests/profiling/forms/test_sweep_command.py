"""``python -m profiling sweep``: what goes in, what comes out, and what is said when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiling.cli import main
from profiling.cli.sweep import parse_values
from profiling.forms import store
from profiling.spec import SpecError
from tests.profiling.documents import ROOT
from tests.profiling.tiny import LLAMA

H100 = "nvidia-h100-sxm5-80gb"
H200 = "nvidia-h200-sxm-141gb"
#: The default lengths exceed the positions of the model below.
LENGTHS = ("--input-tokens", "16", "--output-tokens", "4")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A configuration of 128 positions."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return str(folder / "config.json")


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("forms"))


@pytest.fixture
def run(model, forms, tmp_path, capsys):
    """Run the command; returns (exit status, rows of the table, what was said)."""

    def call(*arguments: str, devices: str = H100, target: str | None = "table.csv"):
        command = ["sweep", "--config", model, "-d", devices, "--forms", forms, *LENGTHS, *arguments]
        file = tmp_path / target if target else None
        status = main(command + (["--file", str(file)] if file else []))
        said = capsys.readouterr()
        rows = list(csv.DictReader(file.open())) if file and file.suffix == ".csv" and file.exists() else []
        return status, rows, said

    return call


# --- values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7", [7]),
        ("1,2,4", [1, 2, 4]),
        ("1..8", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("128..8192*2", [128, 256, 512, 1024, 2048, 4096, 8192]),
        ("1..10*3", [1, 3, 9]),
        ("128..640+256", [128, 384, 640]),
        ("3..3", [3]),
        ("1,1..3, 2", [1, 2, 3]),
    ],
)
def test_values_are_lists_and_ranges(text, values):
    assert parse_values("batch_size", text) == values


@pytest.mark.parametrize(
    "text",
    ["", "x", "1.5", "1..", "..8", "8..1", "1..8*1", "0..8*2", "1..8+0", "1..8-1", "1..99999999", "1e3", "-1..3"],
)
def test_what_is_no_value_is_refused_on_the_option(text):
    with pytest.raises(SpecError) as caught:
        parse_values("batch_size", text)
    assert caught.value.field == "batch_size"


def test_a_range_that_multiplies_ends_however_large_its_last_number():
    assert len(parse_values("batch_size", f"1..{10**30}*2")) == 100


def test_words_and_fractions_keep_their_type():
    assert parse_values("weights_dtype", "none,int4") == [None, "int4"]
    assert parse_values("draft_acceptance", "0.5,none") == [0.5, None]
    assert parse_values("execution", "eager,fused") == ["eager", "fused"]


# --- grids ----------------------------------------------------------------------------------------------------------------


def test_a_grid_has_every_combination_on_every_device(run):
    status, rows, said = run(
        "--batch", "1..4*2", "--input-tokens", "16,32", "--weights-dtype", "bf16,int4", devices=f"{H100},{H200}"
    )
    assert status == 0
    assert said.err == ""
    keys = [(r["hardware"], r["batch_size"], r["input_tokens"], r["weights_dtype"]) for r in rows]
    assert len(keys) == len(set(keys)) == 2 * 3 * 2 * 2
    assert {r["method"] for r in rows} == {"closed form"}
    assert all(float(r["e2e_s"]) > float(r["ttft_s"]) > 0 for r in rows)


def test_the_three_formats_say_the_same(run, tmp_path):
    import pyarrow.parquet

    options = ("--batch", "1,3", "--input-tokens", "20,500")
    _, rows, _ = run(*options)
    assert run(*options, target="table.json")[0] == run(*options, target="table.parquet")[0] == 0
    listed = json.loads((tmp_path / "table.json").read_text())
    table = pyarrow.parquet.read_table(tmp_path / "table.parquet")
    assert table.to_pylist() == listed
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in listed] == rows
    assert table.schema.field("e2e_s").type == "double"
    assert table.schema.field("batch_size").type == "int64"
    assert [row["e2e_s"] is None for row in listed] == [False, True, False, True]  # the model has 128 positions


def test_without_a_file_the_table_is_all_of_standard_output(run):
    status, _, said = run("--batch", "1,2", target=None, devices=H100)
    assert status == 0
    assert len(list(csv.DictReader(said.out.splitlines()))) == 2
    status, _, said = run("--batch", "1,2", "--format", "json", target=None)
    assert [row["batch_size"] for row in json.loads(said.out)] == [1, 2]


# --- points that make no sense -----------------------------------------------------------------------------------------------


def test_points_beyond_the_context_keep_their_rows_with_the_reason(run):
    status, rows, said = run("--input-tokens", "64,129,126")
    assert status == 0
    assert "2 of 3 points have no result" in said.err
    assert [bool(row["error"]) for row in rows] == [False, True, True]
    assert rows[1]["error"].startswith("input_tokens: 129 input tokens are more than this model takes: at most 128")
    assert rows[2]["error"].startswith("output_tokens:")
    assert rows[1]["e2e_s"] == rows[1]["method"] == ""
    assert rows[0]["e2e_s"]


def test_a_sweep_without_any_result_fails(run):
    status, rows, said = run("--input-tokens", "1000,2000")
    assert status == 1
    assert all(row["error"] for row in rows)
    assert "2 of 2 points have no result" in said.err


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--batch", "0,2", "batch_size"),
        ("--weights-dtype", "int5,int4", "weights_dtype"),
        ("--tp", "512,1", "tensor_parallel"),
    ],
)
def test_one_bad_value_among_others_costs_its_own_rows(run, option, value, field):
    _, rows, _ = run(option, value)
    assert rows[0]["error"].startswith(f"{field}: ")
    assert rows[1]["error"] == ""
    assert rows[1]["e2e_s"]


# --- files of points ------------------------------------------------------------------------------------------------------------


def test_points_of_a_csv_file_have_the_names_of_the_options(run, tmp_path):
    points = tmp_path / "points.csv"
    points.write_text(f"batch,input-tokens,weights_dtype,hardware\n1,16,,{H100}\n4,32,int4,{H200}\n2,,,{H100}\n")
    status, rows, _ = run("--points", str(points), "--input-tokens", "50", devices=f"{H100},{H200}")
    assert status == 0
    assert [(r["hardware"], r["batch_size"], r["input_tokens"]) for r in rows] == [
        (H100, "1", "16"),
        (H200, "4", "32"),
        (H100, "2", "50"),
    ]
    assert [r["weights_dtype"] for r in rows] == ["", "int4", ""]
    assert float(rows[1]["weights_bytes"]) < float(rows[0]["weights_bytes"])


def test_points_of_a_json_file_run_on_every_device_where_they_name_none(run, tmp_path):
    points = tmp_path / "points.json"
    points.write_text(json.dumps([{"batch_size": 2, "input_tokens": 16}, {"batch_size": 3, "hardware": H200}]))
    status, rows, _ = run("--points", str(points), devices=f"{H100},{H200}")
    assert status == 0
    assert [(r["hardware"], r["batch_size"]) for r in rows] == [(H100, "2"), (H200, "2"), (H200, "3")]


def test_a_file_that_a_spreadsheet_wrote_is_read(run, tmp_path):
    """With a byte order mark, Windows line ends, spaces, a last empty line."""
    points = tmp_path / "points.csv"
    points.write_bytes(b"\xef\xbb\xbfbatch_size, input_tokens\r\n2, 16\r\n\r\n")
    status, rows, said = run("--points", str(points))
    assert (status, said.err) == (0, "")
    assert [(r["batch_size"], r["input_tokens"]) for r in rows] == [("2", "16")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.csv", b"batch\n1\nx\n", "line 3: batch_size: 'x' is no whole number"),
        ("p.csv", b"batch\n1\n1.5\n", "line 3: batch_size: '1.5' is no whole number"),
        ("p.csv", b"batch,colour\n1,red\n", "line 2: there is no option 'colour'"),
        ("p.csv", b"batch,input\n1,2,3\n", "line 2"),
        ("p.csv", b"", "has no points"),
        ("p.csv", b"batch,input\n", "has no points"),
        ("p.csv", b"batch\n\xff\xfe\n", "cannot be read"),
        ("p.json", b"{", "is no JSON"),
        ("p.json", b'{"batch": 1}', "must hold a list of objects"),
        ("p.json", b"[1, 2]", "must hold a list of objects"),
        ("p.json", b"[]", "has no points"),
        ("p.json", b'[{"batch": 1}, {"batch": "many"}]', "batch_size: 'many' is no whole number"),
        ("p.json", b'[{"batch": [1, 2]}]', "batch_size"),
        ("p.json", b'[{"batch": 1.5}]', "batch_size: '1.5' is no whole number"),
        ("p.json", b'[{"batch": true}]', "batch_size"),
        ("p.json", b"[" * 100_000, "is no JSON"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(run, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    status, rows, output = run("--points", str(tmp_path / name))
    assert status == 2
    assert rows == []
    assert said in output.err
    assert "Traceback" not in output.err


def test_a_device_that_is_not_of_the_sweep_costs_its_own_row(run, tmp_path):
    (tmp_path / "p.csv").write_text(f"batch,hardware\n1,{H100}\n2,abacus\n")
    status, rows, _ = run("--points", str(tmp_path / "p.csv"))
    assert status == 0
    assert [bool(r["error"]) for r in rows] == [False, True]
    assert "'abacus'" in rows[1]["error"]


# --- options ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batch", "two"), "batch_size: 'two' is no whole number"),
        (("--batch", "1..99999999"), "more than 1,000,000 values"),
        (("--batch", "1..3000", "--input-tokens", "1..3000"), "The grid has 9,000,000 points"),
        (("--hardware", "abacus"), "No devices match 'abacus'"),
        (("--points", "nowhere.csv"), "nowhere.csv cannot be read"),
        (("--file", "table.txt"), "'table.txt' ends in none of .csv, .json, .parquet"),
        (("--format", "parquet"), "name a file with --file"),
        (("--draft-acceptance", "often"), "draft_acceptance: 'often' is no number"),
    ],
)
def test_a_bad_option_is_named(run, arguments, said):
    status, _, output = run(*arguments, target=None)
    assert status == 2
    assert said in output.err
    assert output.out == ""


def test_an_unknown_option_ends_with_the_usage(run):
    with pytest.raises(SystemExit) as caught:
        run("--colour", "red")
    assert caught.value.code == 2


def test_several_values_beside_a_file_of_points_are_refused(run, tmp_path):
    (tmp_path / "p.csv").write_text("batch\n1\n")
    status, _, said = run("--points", str(tmp_path / "p.csv"), "--input-tokens", "1,2")
    assert status == 2
    assert "input_tokens: With --points, an option has one value" in said.err


def test_a_file_that_cannot_be_written_is_named(run, tmp_path):
    status, _, said = run(target="nowhere/table.csv")
    assert status not in (0, 1)
    assert "nowhere" in said.err
    assert "Traceback" not in said.err


def test_a_folder_of_forms_that_cannot_be_used_costs_time_only(run, tmp_path):
    (tmp_path / "file").write_text("")
    store._READ.clear()
    status, rows, _ = run("--forms", str(tmp_path / "file"))
    assert status == 0
    assert rows[0]["method"] == "closed form"


# --- pipes --------------------------------------------------------------------------------------------------------------------------


def piped(model: str, forms: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "profiling", "sweep", "--config", model, "-d", H100, "--forms", forms]
    return [*command, *LENGTHS, *arguments]


def test_a_pipe_gets_the_table_and_no_progress_bar(run, model, forms):
    run("--batch", "1,2")
    done = subprocess.run(piped(model, forms, "--batch", "1,2"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert len(list(csv.DictReader(done.stdout.splitlines()))) == 2
    assert done.stderr == ""


def test_a_pipe_that_closes_early_ends_the_command_quietly(run, model, forms):
    run("--batch", "1,2")
    command = piped(model, forms, "--batch", "1..20000", "--input-tokens", "9")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("hardware,")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() in (0, 1, 141)


def everything(parent: int) -> str:
    """What is written to a terminal until nobody holds it any more. Read as it comes: a full terminal stops its writer."""
    parts = []
    with open(parent, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(4096)
            except OSError:  # how Linux tells the end
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode()


def test_a_terminal_shows_how_far_it_is(run, model, forms):
    import pty
    import termios

    run("--batch", "1,2")
    parent, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        piped(model, forms, "--batch", "1..50", "--weights-dtype", "bf16,int4"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = everything(parent)
        assert process.wait() == 0
    assert "100" in shown
    assert "point" in shown


def test_forms_are_kept_where_they_are_asked_to_be(run, tmp_path):
    run("--forms", str(tmp_path / "kept"))
    assert [p.suffix for p in Path(tmp_path / "kept").iterdir()] == [".json"]
