"""GGUF files: the same numbers as the same model in safetensors, dequantised as the format says, and honest about it."""

from __future__ import annotations

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize

from profiling import folders, loading
from profiling.failures import EngineError
from profiling.gguf_files import describe_gguf, load_gguf
from profiling.measure import measure
from profiling.spec import ModelSpec
from tests.profiling.gguf_files import CONFIG, tiny_model, write_gguf
from tests.profiling.tiny import HOST, WORKLOAD

CPU = torch.device("cpu")
IDS = torch.tensor([[1, 5, 9, 33, 7]])
Q8 = gguf.GGMLQuantizationType.Q8_0


def spec_of(path, **changes) -> ModelSpec:
    said = describe_gguf(str(path))
    place = {"weights": "local", "weights_path": str(path), "weights_note": folders.gguf_note(said["stored"])}
    return ModelSpec(name="Tiny", config=said["config"], architecture=said["architecture"], **place, **changes)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


@pytest.fixture(scope="module")
def original():
    return tiny_model()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, original):
    path = tmp_path_factory.mktemp("gguf") / "tiny-f32.gguf"
    write_gguf(path, original)
    return path


def test_the_configuration_is_that_of_the_model(plain):
    said = describe_gguf(str(plain))
    assert (said["architecture"], said["stored"]) == ("LlamaForCausalLM", "F32")
    for key in (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "rms_norm_eps",
    ):
        assert said["config"][key] == CONFIG[key], key
    assert said["config"]["tie_word_embeddings"] is True


def test_an_unquantised_file_gives_the_logits_of_the_same_safetensors_model(plain, original, tmp_path):
    original.save_pretrained(tmp_path)
    safetensors = ModelSpec(name="Tiny", config=CONFIG, weights="local", weights_path=str(tmp_path))
    expected = logits(loading.load(safetensors, WORKLOAD, CPU))
    found = logits(loading.load(spec_of(plain), WORKLOAD, CPU))
    assert torch.equal(found, expected)


def test_a_quantised_file_gives_the_logits_of_its_dequantised_values(tmp_path, original):
    path = tmp_path / "tiny-q8.gguf"
    write_gguf(path, original, Q8)
    rounded = tiny_model()
    with torch.no_grad():
        for value in rounded.parameters():
            if value.ndim > 1:
                value.copy_(torch.from_numpy(dequantize(quantize(np.ascontiguousarray(value.numpy()), Q8), Q8)))
    found = logits(loading.load(spec_of(path), WORKLOAD, CPU))
    assert torch.allclose(found, logits(rounded), atol=1e-6)
    assert not torch.allclose(found, logits(original), atol=1e-6)
    assert spec_of(path).weights_note == "dequantised from GGUF (Q8_0, F32)"


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_weights_are_in_the_asked_data_type(plain, dtype):
    loaded = loading.load(spec_of(plain), replace(WORKLOAD, dtype=dtype), CPU)
    assert {value.dtype for value in loaded.parameters()} == {loading.TORCH_DTYPES[dtype]}


def test_a_measurement_reads_a_prompt_and_says_what_ran(tmp_path, original):
    path = tmp_path / "tiny-q8.gguf"
    write_gguf(path, original, Q8)
    document = measure(spec_of(path), HOST, replace(WORKLOAD, prompt="what is the capital of france", output_tokens=3))
    assert document["output"]["input_tokens"] == [31]  # two marks of the beginning, 29 characters
    (said,) = [w["message"] for w in document["warnings"] if w["code"] == "dequantised"]
    assert "dequantised to fp32" in said
    parameters = document["model"]["parameters"]
    assert document["model"]["weight_bytes"] == 4 * parameters  # of what ran, not of the file


@pytest.mark.parametrize("kind", ["text", "cut", "architecture", "tensor"])
def test_what_cannot_be_followed_is_refused_with_the_file_named(plain, tmp_path, kind):
    path = tmp_path / "odd.gguf"
    content = plain.read_bytes()
    if kind == "text":
        content = b"GGUF" + b"no such thing" * 10
    elif kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "architecture":
        content = content.replace(b"llama", b"mumba")
    path.write_bytes(content)
    if kind == "tensor":
        other = tiny_model()
        other.model.layers = other.model.layers[:1]
        write_gguf(path, other)
    with pytest.raises(EngineError, match=r"odd\.gguf"):
        loading.load(spec_of(path), WORKLOAD, CPU)


def test_it_is_found_in_a_folder_and_its_digest_notices_another_tokenizer_or_size(plain, tmp_path):
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "tiny.gguf"
    path.write_bytes(plain.read_bytes())
    (found,) = folders.listing(tmp_path).models
    assert (found.path, found.name, found.format, found.problem) == ("models/tiny.gguf", "tiny", "gguf", "")
    path.write_bytes(plain.read_bytes().replace(b"<extra7>", b"<extra_>"))
    assert folders.look(tmp_path, found.path).digest != found.digest
    path.write_bytes(b"GGUF" + bytes(2))
    assert "not a GGUF file" in folders.look(tmp_path, found.path).problem


def test_loading_keeps_no_second_copy(plain):
    config, model_class = loading.resolve(spec_of(plain))
    model = load_gguf(str(plain), config, model_class, torch.float32, "sdpa")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
