"""Forms on disk: what is read is what was put there; whatever else lies there, or if nothing can, only costs time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from profiling.demand import Routing
from profiling.forms import store as module
from profiling.forms.basis import at
from profiling.forms.keys import form_key, key_digest
from profiling.forms.make import make_form
from profiling.forms.search import Search
from profiling.forms.store import FormStore, default_folder
from profiling.forms.terms import FORMAT, ModelForm, NoForm, StageForm, from_json, point_terms, to_json
from profiling.spec import ModelSpec, Workload
from profiling.sweep import sweep
from tests.profiling.documents import ROOT
from tests.profiling.forms.synthetic import Fake
from tests.profiling.tiny import HOST, LLAMA

MODEL = ModelSpec("Tiny", LLAMA)
DEVICE = replace(HOST, kind="gpu")
KEY = form_key(MODEL, Workload())


@pytest.fixture(autouse=True)
def _nothing_remembered():
    module._READ.clear()
    yield
    module._READ.clear()


@pytest.fixture(scope="module")
def made() -> ModelForm:
    return make_form(MODEL, Workload())


def triangular() -> ModelForm:
    """A form whose coefficients are halves."""
    fake = Fake(lambda p: p["batch"] * (p["tokens"] * (p["tokens"] + 1) // 2))
    pieces = Search(fake, "tokens", {"context": 0}, (), time.thread_time() + 60).pieces(1, 10**6, (), batched=True)
    assert any(isinstance(c, Fraction) for c in pieces[0].terms[0].exact["flops"])
    return ModelForm(KEY, {"kind": "decoder"}, {"prefill": StageForm("prefill", {"context": 0}, pieces, ())})


def read_again(folder: Path) -> ModelForm | None:
    """As another process would read it."""
    module._READ.clear()
    return FormStore(folder).get(KEY)


# --- round trip ---------------------------------------------------------------------------------------------------------


def test_a_stored_form_is_the_form(made, tmp_path):
    FormStore(tmp_path).put(made)
    again = read_again(tmp_path)
    assert to_json(again) == to_json(made)
    for stage, form in made.stages.items():
        for piece in form.pieces:
            point = {"batch": 7 if piece.batched else 1, **{name: high for name, (_, high) in piece.ranges.items()}}
            assert point_terms(again.stages[stage], point) == point_terms(form, point)


def test_fractions_and_large_numbers_are_exact_after_the_round_trip(tmp_path):
    form = triangular()
    FormStore(tmp_path).put(form)
    (piece,) = read_again(tmp_path).stages["prefill"].pieces
    point = {"batch": 65536, "tokens": 999_999, "context": 0}
    assert sum(at(t.exact["flops"], piece.basis, point) for t in piece.terms) == 65536 * 999_999 * 1_000_000 // 2


def test_routing_survives_the_round_trip():
    form = triangular()
    (piece,) = form.stages["prefill"].pieces
    routed = replace(
        piece.terms[0],
        routing=Routing(8, 2, 0),
        expert_bytes=800,
        exact={**piece.terms[0].exact, "routed_tokens": piece.terms[0].exact["rows"]},
    )
    pieces = (replace(piece, terms=(routed,)),)
    form = replace(form, stages={"prefill": replace(form.stages["prefill"], pieces=pieces)})
    again = from_json(json.loads(json.dumps(to_json(form))))
    point = {"batch": 3, "tokens": 5}
    (term,) = point_terms(again.stages["prefill"], point)
    assert term.weight_read == point_terms(form.stages["prefill"], point)[0].weight_read > 0
    assert term.routing == Routing(8, 2, 3)


# --- what else may lie there ----------------------------------------------------------------------------------------------


def _path(folder: Path) -> Path:
    return folder / f"{key_digest(KEY)}.json"


def _truncated(text: str) -> bytes:
    return text[: len(text) // 2].encode()


def _changed(**values) -> object:
    return lambda text: json.dumps({**json.loads(text), **values}).encode()


def _without_terms(text: str) -> bytes:
    data = json.loads(text)
    data["stages"]["prefill"]["pieces"][0]["terms"][0].pop("exact")
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: b"{",
        lambda text: b"[]",
        lambda text: b"null",
        lambda text: b"\xff\xfe not text",
        lambda text: b"[" * 100_000,
        _truncated,
        _changed(key={"another": "model"}),
        _changed(stages=None),
        _changed(stages={"prefill": {}}),
        _without_terms,
    ],
    ids=[
        "empty",
        "brace",
        "list",
        "null",
        "bytes",
        "deep",
        "truncated",
        "foreign",
        "no-stages",
        "no-pieces",
        "no-terms",
    ],
)
def test_a_damaged_or_foreign_file_is_made_again(damage, made, tmp_path):
    FormStore(tmp_path).put(made)
    path = _path(tmp_path)
    path.write_bytes(damage(path.read_text()))
    assert read_again(tmp_path) is None
    calls = []

    def make(*arguments):
        calls.append(arguments)
        return made

    table = sweep(
        MODEL, [DEVICE], [{"input_tokens": 9}], Workload(output_tokens=3), store=FormStore(tmp_path), make=make
    )
    assert len(calls) == 1
    assert table.columns["error"] == [None]
    assert to_json(read_again(tmp_path)) == to_json(made)  # and the file is whole again


def test_a_form_of_another_format_is_made_again(made, tmp_path):
    """As left behind by another version: its key is another one too, unless only the format of the file changed."""
    FormStore(tmp_path).put(made)
    path = _path(tmp_path)
    path.write_bytes(_changed(format=FORMAT + 1)(path.read_text()))
    module._READ.clear()
    calls = []

    def make(*arguments):
        calls.append(arguments)
        return made

    table = sweep(
        MODEL, [DEVICE], [{"input_tokens": 9}], Workload(output_tokens=3), store=FormStore(tmp_path), make=make
    )
    assert table.columns["method"] == ["closed form"]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("model", "workload"),
    [
        (MODEL, Workload(dtype="fp32")),
        (MODEL, Workload(execution="fused")),
        (MODEL, Workload(causal="halved")),
        (MODEL, Workload(window="windowed")),
        (MODEL, Workload(prefix_tokens=1)),
        (MODEL, Workload(draft_tokens=1)),
        (MODEL, Workload(tensor_parallel=2)),
        (MODEL, Workload(logits="all")),
        (ModelSpec("Tiny", {**LLAMA, "num_hidden_layers": 3}), Workload()),
    ],
)
def test_what_changes_the_traces_is_another_form(model, workload):
    assert key_digest(form_key(model, workload)) != key_digest(KEY)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 9},
        {"input_tokens": 7},
        {"output_tokens": 7},
        {"weights_dtype": "int4"},
        {"kv_dtype": "fp8"},
        {"experts": "all"},
    ],
)
def test_what_the_form_is_evaluated_at_is_not_part_of_its_key(options):
    assert form_key(MODEL, Workload(**options)) == KEY


def test_the_engine_and_the_libraries_that_were_traced_are_part_of_the_key():
    assert {"engine", "torch", "transformers", "format"} <= set(KEY)
    assert all(KEY[name] for name in ("engine", "torch", "transformers"))


# --- models without a form ------------------------------------------------------------------------------------------------


def test_that_there_is_no_form_is_remembered_with_the_reason(tmp_path):
    FormStore(tmp_path).put_reason(KEY, "Its lengths are logarithms.")
    with pytest.raises(NoForm, match="Its lengths are logarithms"):
        read_again(tmp_path)


def test_a_model_without_a_form_is_asked_for_one_once_and_traced(tmp_path):
    calls = []

    def make(*arguments):
        calls.append(arguments)
        raise NoForm("None.")

    for _ in range(2):
        module._READ.clear()
        table = sweep(
            MODEL, [DEVICE], [{"input_tokens": 9}], Workload(output_tokens=3), store=FormStore(tmp_path), make=make
        )
        assert table.columns["method"] == ["trace"]
        assert table.columns["e2e_s"][0] > 0
    assert len(calls) == 1


# --- folders that cannot be used ------------------------------------------------------------------------------------------


def _full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["mkdir", "mkstemp", "write", "replace"])
def test_a_full_disk_or_closed_folder_costs_time_only(broken, made, tmp_path, monkeypatch):
    if broken == "mkdir":
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file" / "forms"  # below a file nothing can be made, whoever asks
    else:
        folder = tmp_path / "forms"
        target = {
            "mkstemp": (module.tempfile, "mkstemp"),
            "write": (module.json, "dump"),
            "replace": (module.os, "replace"),
        }
        monkeypatch.setattr(*target[broken], _full)
    table = sweep(
        MODEL, [DEVICE], [{"input_tokens": 9}], Workload(output_tokens=3), store=FormStore(folder), make=lambda *a: made
    )
    assert table.columns["method"] == ["closed form"]
    monkeypatch.undo()
    if folder.is_dir():
        assert list(folder.iterdir()) == []  # nothing half-written stays behind
    module._READ.clear()
    assert FormStore(folder).get(KEY) is None


def test_a_write_that_is_cut_off_leaves_the_form_of_before(made, tmp_path, monkeypatch):
    FormStore(tmp_path).put(made)
    before = _path(tmp_path).read_bytes()

    def cut_off(data, file, **options):
        file.write('{"key":')
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.json, "dump", cut_off)
    FormStore(tmp_path).put(made)
    assert _path(tmp_path).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_two_processes_that_write_at_once_leave_one_whole_file(made, tmp_path):
    FormStore(tmp_path / "first").put(made)
    text = _path(tmp_path / "first").read_text()
    (tmp_path / "form.json").write_text(text)
    code = (
        "import json, sys; from pathlib import Path\n"
        "from profiling.forms.store import FormStore; from profiling.forms.terms import from_json\n"
        "form = from_json(json.loads(Path(sys.argv[1]).read_text()))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(40): FormStore(Path(sys.argv[2])).put(form)"
    )
    target = tmp_path / "shared"
    command = [sys.executable, "-c", code, str(tmp_path / "form.json"), str(target)]
    writers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    seen = 0
    while any(writer.poll() is None for writer in writers):
        if _path(target).exists():
            assert _path(target).read_text() == text  # never half of one
            seen += 1
    assert [writer.wait() for writer in writers] == [0, 0]
    for writer in writers:
        writer.communicate()
    assert seen
    assert [p.name for p in target.iterdir()] == [_path(target).name]


def test_where_forms_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMCOMPARE_FORMS", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("LLMCOMPARE_FORMS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_folder() == tmp_path / "cache" / "llmcompare" / "forms"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path(os.path.expanduser("~")) / ".cache" / "llmcompare" / "forms"
