"""Sweeps and the closed forms under them: the same figures as estimates, without torch once a form is stored."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace

import pytest

from profiling.build import build
from profiling.cli import main
from profiling.estimate import estimate
from profiling.execution import works
from profiling.forms.make import make_form
from profiling.forms.store import FormStore
from profiling.forms.terms import NoForm, activation_peak, cache_bytes, point_terms
from profiling.passes import Pass, trace
from profiling.spec import Workload
from profiling.sweep import from_document, sweep
from tests.profiling.documents import ROOT, catalogue_model, device

H100 = replace(device("H100 SXM5 80GB"), interconnect_bandwidth=900e9)
CHANNELS = ("flops", "elementwise_flops", "weight_read", "cache_read", "other_read", "cache_written", "other_written")


@pytest.mark.parametrize("model_id", ["gpt2", "gemma-3-1b", "deepseek-v2-lite", "mamba-130m"])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_form_equals_a_direct_trace_of_the_full_model(model_id, batch):
    model = catalogue_model(model_id)
    workload = Workload()
    form = make_form(model, workload)
    full = build(model, "bf16", fold=False)
    for stage, tokens, context in (("prefill", 777, 0), ("prefill", 3, 0), ("decode", 1, 511), ("decode", 1, 800)):
        item = trace(full, Pass(stage, batch, tokens, context))
        point = {"batch": batch, "tokens": tokens, "context": context, "source": 0}
        terms = point_terms(form.stages[stage], point)
        direct = works(item, workload.counting)
        for channel in CHANNELS:
            seen = sum(w.times * getattr(w, channel) for w in direct)
            slack = 0 if channel != "weight_read" else sum(w.times for w in direct if w.routing)
            assert abs(sum(getattr(t, channel) for t in terms) - seen) <= slack, (stage, channel)
        assert cache_bytes(form.stages[stage], point) == item.cache_bytes
        assert activation_peak(form.stages[stage], point) == item.recording.activation_peak


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"execution": "fused", "weights_dtype": "int4", "kv_dtype": "fp8"},
        {"weights_dtype": "int8"},
        {"tensor_parallel": 2, "weights_dtype": "fp8", "activation_dtype": "fp8"},
        {"draft_tokens": 3, "draft_acceptance": 0.7},
    ],
)
def test_a_sweep_gives_the_figures_of_estimates(options, tmp_path):
    model = catalogue_model("tinyllama-1.1b")
    points = [{"batch_size": b, "input_tokens": s, "output_tokens": n} for b, s, n in ((1, 100, 20), (3, 777, 500))]
    table = sweep(model, [H100], points, Workload(**options), store=FormStore(tmp_path))
    for row, point in zip(table.rows(), points, strict=True):
        assert row["error"] is None
        assert row["method"] == "closed form"
        expected = from_document(estimate(model, H100, Workload(**options, **point)))
        for name, value in expected.items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-8)), name
        assert sum(row[f"{p}_share"] for p in ("compute", "memory", "overhead", "network")) == pytest.approx(1)


def test_stored_forms_answer_without_torch(tmp_path):
    target, forms = tmp_path / "table.csv", tmp_path / "forms"
    command = ["sweep", "-m", "gpt2", "-d", "nvidia-h100-sxm5-80gb", "--batch", "1..8*2", "--input-tokens", "64,2000"]
    command += ["--file", str(target), "--forms", str(forms)]
    assert main(command) == 0
    rows = list(csv.DictReader(target.open()))
    assert len(rows) == 8
    assert all(("at most 1,024" in row["error"]) == (row["input_tokens"] == "2000") for row in rows)
    code = (
        "import sys; from profiling.cli import main\n"
        f"assert main({command!r}) == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert list(csv.DictReader(target.open())) == rows


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "x"], "'x' is no whole number"),
        (["--batch", "8..1"], "8..1+1 is no range"),
        (["--file", "table.txt"], "ends in none of"),
    ],
)
def test_bad_values_are_named(arguments, said, capsys):
    assert main(["sweep", "-m", "gpt2", "-d", "nvidia-h100-sxm5-80gb", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_file_is_made_again(tmp_path):
    model, store = catalogue_model("gpt2"), FormStore(tmp_path)
    form = make_form(model, Workload())
    store.put(form)
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    assert FormStore(tmp_path / "other").get(dict(form.key)) is None
    from profiling.forms import store as module

    module._READ.clear()
    assert store.get(dict(form.key)) is None


def test_what_an_estimate_warns_of_stands_beside_the_points_of_a_sweep(tmp_path):
    """Heads that do not divide evenly, a format that the device does not multiply in, and a point without either."""
    model, old = catalogue_model("tinyllama-1.1b"), device("A100 SXM4 80GB")
    points = [{}, {"tensor_parallel": 3}, {"weights_dtype": "fp8", "activation_dtype": "fp8"}]
    table = sweep(model, [old], points, Workload(batch_size=2), store=FormStore(tmp_path))
    for row, point in zip(table.rows(), points, strict=True):
        document = estimate(model, old, Workload(batch_size=2, **point))
        wanted = [w["message"] for w in document["warnings"] if w["code"] not in ("does_not_fit", "capacity_unknown")]
        assert row["method"] == "closed form"
        assert (row["notes"] or "") == " ".join(wanted)
        assert bool(wanted) == bool(point)


@pytest.mark.parametrize("options", [{}, {"draft_tokens": 3, "draft_acceptance": 0.7}, {"tensor_parallel": 2}], ids=str)
def test_points_that_are_traced_have_the_shares_of_closed_forms(options, tmp_path):
    """They were left empty: a model without a form had no answer to what limits it."""

    def none(*_):
        raise NoForm("None for this test.")

    model, points = (
        catalogue_model("tinyllama-1.1b"),
        [{"batch_size": 3, "input_tokens": 90, "output_tokens": n} for n in (1, 40)],
    )
    formed, traced = (
        list(sweep(model, [H100], points, Workload(**options), store=FormStore(tmp_path / str(n)), make=make).rows())
        for n, make in enumerate((None, none))
    )
    shares = [f"{part}_share" for part in ("compute", "memory", "overhead", "network")]
    for row, other in zip(traced, formed, strict=True):
        assert (row["method"], other["method"]) == ("trace", "closed form")
        assert [row[name] for name in shares] == pytest.approx([other[name] for name in shares], rel=1e-9)
        assert sum(row[name] for name in shares) == pytest.approx(1)
    unknown = replace(H100, memory_bandwidth=None)
    (row,) = sweep(model, [unknown], points[:1], Workload(**options), store=FormStore(tmp_path / "x"), make=none).rows()
    assert [row[name] for name in shares] == [None] * 4
