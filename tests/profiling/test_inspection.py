"""Facts about models, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from profiling.cli import main
from profiling.inspection import inspect_model
from profiling.spec import ModelSpec, SpecError
from tests.profiling.documents import ROOT, catalogue, catalogue_model


@pytest.mark.parametrize("model_id", sorted(catalogue()))
def test_facts_agree_with_the_catalogue(model_id):
    entry = catalogue()[model_id]
    facts = inspect_model(catalogue_model(model_id))
    assert facts["parameters"] == entry["parameters"]
    assert facts["max_context"] == entry["max_context"]
    assert facts["model_type"] == entry["model_type"]
    assert facts["weight_bytes"]["bf16"] * 2 == facts["weight_bytes"]["fp32"]
    assert facts["active_parameters"] <= facts["parameters"]
    assert (facts["kv_cache_bytes_per_token"] is None) == (entry["kind"] in ("encoder", "vision", "ssm"))


def test_a_class_is_found_where_the_configuration_names_none():
    facts = inspect_model(
        ModelSpec(name="plain", config={"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2})
    )
    assert facts["architecture"] == "GPT2LMHeadModel"
    assert facts["layers"] == 2


@pytest.mark.parametrize(("model_type", "kind"), [("deberta", "encoder"), ("fnet", "encoder"), ("xlnet", "decoder")])
def test_classes_that_fail_in_bf16_are_inspected_in_fp32(model_type, kind):
    small = {"num_hidden_layers": 2, "n_layer": 2, "hidden_size": 64, "d_model": 64, "n_head": 4, "d_inner": 128}
    small |= {"num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 512}
    facts = inspect_model(ModelSpec(name=model_type, config={"model_type": model_type, **small}, kind=kind))
    assert facts["dtype"] == "fp32"
    assert "in bf16 the class itself fails" in facts["note"]
    assert "The forward pass of" in facts["note"]
    assert facts["weight_bytes"]["fp32"] == 4 * facts["parameters"]
    assert facts["weight_bytes"]["bf16"] == 2 * facts["parameters"]


def test_what_fails_in_both_is_said_of_bf16():
    plain = inspect_model(
        ModelSpec(name="plain", config={"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2})
    )
    assert (plain["dtype"], plain["note"]) == ("bf16", None)
    with pytest.raises(SpecError, match="vocab_size"):
        inspect_model(ModelSpec(name="bad", config={"model_type": "gpt2", "vocab_size": -1}))


def test_estimate_command_writes_a_document(tmp_path, capsys):
    target = tmp_path / "run.json"
    options = ["--input", "32", "--output", "4", "--json", str(target)]
    assert main(["estimate", "-m", "gpt2", "-d", "H100 SXM5 80GB", *options]) == 0
    text = capsys.readouterr().out
    assert "Time to first token" in text
    assert "124,439,808 parameters" in text
    document = json.loads(target.read_text())
    assert document["kind"] == "estimate"
    assert document["workload"]["input_tokens"] == 32


def test_estimate_command_takes_files(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2}))
    device = tmp_path / "device.json"
    device.write_text(json.dumps({"name": "Mine", "memory_bandwidth": 1e11, "peak_flops": {"bf16": 1e12}}))
    assert main(["estimate", "-m", str(tmp_path), "-d", str(device), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["hardware"]["name"] == "Mine"


def test_a_literal_infinity_is_read_as_transformers_does(tmp_path, capsys):
    small = '{"model_type": "mamba2", "num_heads": 4, "hidden_size": 32, "head_dim": 16, "num_hidden_layers": 2, "n_groups": 1'
    path = tmp_path / "config.json"
    printed = []
    for limit in ("[0.0, Infinity]", '[0.0, {"__float__": "Infinity"}]'):
        path.write_text(f'{small}, "time_step_limit": {limit}}}')
        assert main(["trace", "-m", str(path), "--input-tokens", "8"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    path.write_text(f'{small}, "time_step_limit": [0.0, NaN]}}')
    assert main(["trace", "-m", str(path)]) == 2
    assert "NaN is not a number" in capsys.readouterr().err


def test_trace_command_lists_operators(capsys):
    assert main(["trace", "-m", "gpt2", "--stage", "decode", "--context", "128"]) == 0
    assert "total: 251,819,520 FLOP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["estimate", "-m", "no-such", "-d", "H100 SXM5"], "no-such"),
        (["estimate", "-m", "gpt2", "-d", "H100"], "3 devices match"),
        (["estimate", "-m", "gpt2", "-d", "H100 SXM5", "--input", "0"], "input_tokens"),
        (["trace", "-m", "bert-base-uncased", "--stage", "decode"], "no stage decode"),
        (["trace", "-m", "gpt2", "--batch", "0"], "batch"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options, part, capsys):
    assert main(options) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1


def test_help_is_quick_and_names_every_command():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "profiling", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    assert "estimate" in result.stdout
    assert "trace" in result.stdout
    assert "torch" not in result.stderr.replace("torch._", "")
