"""``python -m profiling estimate --config FILE … --json``: the figures of the reference cases, where a script looks for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiling.cli import main
from tests.profiling.documents import ROOT, catalogue

DATA = json.loads((ROOT / "tests/data/reference_cases.json").read_text())
CASES = {case["id"]: case for case in DATA["cases"]}


@pytest.fixture
def ask(tmp_path, capsys):
    """Options → the document that the command prints; ``case``: whose configuration the file has."""

    def run(case: dict[str, Any], **options: Any) -> dict[str, Any]:
        path = tmp_path / "config.json"
        model_type = catalogue()[case["id"]]["model_type"]
        path.write_text(
            json.dumps({"model_type": model_type, "architectures": [case["model_class"]], **case["config_kwargs"]})
        )
        flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        command = ["estimate", "--config", str(path), "--hardware", "nvidia-h100-sxm5-80gb"]
        assert main([*command, "--dtype", "bf16", *flags, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_there_are_twelve_cases():
    assert len(CASES) == 12


@pytest.mark.parametrize("name", CASES)
def test_the_command_prints_the_figures_of_every_reference_case(ask, name):
    case = CASES[name]
    for point in case["prefill"]:
        shape = {"batch": point["batch"], "input_tokens": point["seq"]}
        # An encoder-decoder's cases run the decoder over as many tokens.
        shape |= {"decoder_tokens": point["seq"]} if case["kind"] == "encdec" else {}
        for logits, key in (("all", "flops_full_logits"), ("last", "flops_last_logits")):
            if point.get(key) is None:
                continue
            document = ask(case, **shape, output_tokens=0, logits=logits)
            stage = document["stages"]["encode" if case["kind"] == "encoder" else "prefill"]
            assert stage["flops"] == point[key], (point["seq"], logits)
        assert document["model"]["parameters"] == case["parameters"]
        assert 0 < document["model"]["active_parameters"] <= case["parameters"]
        assert document["model"]["weight_bytes"] >= 2 * case["parameters"]
        assert document["unknown_operators"] == []
        memory, sizes = document["memory"], document["memory"]["estimate"]
        wanted = ("weights_bytes", "kv_cache_bytes", "activation_peak_bytes", "total_bytes", "capacity_bytes", "fits")
        assert {n: memory[n] for n in wanted} == {n: sizes[n] for n in wanted}
        assert memory["capacity_bytes"] == 80 * 10**9
        if case["kind"] == "decoder":
            assert document["kv_cache_bytes_per_token"] == point["batch"] * case["kv_cache"]["bytes_per_token"]
            assert document["cache_bytes"] == case["kv_cache"]["hf_cache_bytes"][str(point["seq"])]
            assert document["state_bytes"] == 0
    for point in case.get("decode") or ():
        if case["kind"] == "encdec":
            continue  # its cases have as many tokens of source as of context
        limit = document["model"]["max_context"]
        if limit and point["context"] + 2 > limit:
            continue  # counted without weights at a position that the model does not have
        document = ask(case, batch=point["batch"], input_tokens=point["context"], output_tokens=2)
        assert document["model"]["kind"] == case["kind"]
        step = document["stages"]["decode"]
        assert (step["context"], step["flops"]) == (point["context"], point["flops"])
        assert step["arithmetic_intensity"] == pytest.approx(step["flops"] / step["bytes"])
        assert step["latency_s"] > 0
        assert step["bound"] in ("compute", "memory")


def test_a_state_space_model_has_a_state_and_no_cache(ask):
    document = ask(CASES["mamba-130m"], batch=2, input_tokens=64, output_tokens=4)
    layers, inner, state, kernel = 24, 1536, 16, 4
    assert (document["cache_bytes"], document["kv_cache_bytes_per_token"]) == (0, None)
    assert document["state_bytes"] == document["memory"]["state_bytes"] >= 2 * layers * inner * (state + kernel) * 2
