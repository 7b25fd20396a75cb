"""The kind of a model that nobody names: a ``config.json`` on the command line, from the Hub, or uploaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from profiling.cli import main
from profiling.config_schema import PATH, collect_kinds
from profiling.kinds import kind_of
from tests.profiling.documents import ROOT, catalogue


@pytest.mark.parametrize("model_id", sorted(catalogue()))
def test_every_catalogue_model_is_of_the_kind_that_it_is_listed_with(model_id):
    """Without ``--kind`` each was taken for a decoder: encoders got a prefill and decode steps, T5 an unreadable refusal."""
    entry = catalogue()[model_id]
    config = {"model_type": entry["model_type"], **entry["config_kwargs"]}
    assert kind_of({**config, "architectures": [entry["model_class"]]}) == entry["kind"]
    assert kind_of(config) == entry["kind"]
    assert kind_of({}, entry["model_class"]) in ("decoder", "encoder", "vision")  # of no type


@pytest.mark.parametrize(
    ("model_type", "architecture", "kind"),
    [
        ("bert", "BertForMaskedLM", "encoder"),
        ("bert", "BertLMHeadModel", "decoder"),
        ("roberta", "RobertaForSequenceClassification", "encoder"),
        ("t5", "T5EncoderModel", "encoder"),
        ("bart", "BartForCausalLM", "decoder"),
        ("llama", "LlamaForSequenceClassification", "decoder"),
        ("mamba2", "Mamba2ForCausalLM", "ssm"),
        ("llava", "LlavaForConditionalGeneration", "decoder"),
        ("voxtral", "VoxtralForConditionalGeneration", "decoder"),
        ("qwen2_vl", "Qwen2VLForConditionalGeneration", "decoder"),
        ("whisper", "WhisperForConditionalGeneration", "audio"),
        ("whisper", "WhisperForCausalLM", "decoder"),
        ("vit", "ViTModel", "vision"),
        ("of_a_plug_in", "OwnForCausalLM", "decoder"),
        (3, ["no name"], "decoder"),
    ],
)
def test_the_class_decides_before_the_type(model_type, architecture, kind):
    assert kind_of({"model_type": model_type, "architectures": [architecture]}) == kind
    if isinstance(architecture, str):
        assert kind_of({"model_type": model_type}, architecture) == kind


def test_the_file_has_the_kinds_of_the_installed_transformers():
    assert json.loads(PATH.read_text())["kinds"] == collect_kinds()


def test_kinds_are_told_without_torch():
    code = "import sys; from profiling.kinds import kind_of; assert kind_of({'model_type': 't5'}) == 'encdec'; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_type_without_a_class_of_its_kind_is_refused_in_a_sentence(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llava"}))
    assert main(["estimate", "--config", str(path), "--hardware", "nvidia-h100-sxm5-80gb"]) == 2
    said = capsys.readouterr().err
    assert 'transformers has none of this kind (decoder) for the model type "llava"' in said
    assert "None" not in said
