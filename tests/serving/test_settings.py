"""The container's variables, and the model that they name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from profiling.failures import EngineError
from profiling.spec import SpecError
from serving import models
from serving.settings import SettingError, Settings
from tests.profiling.folders import make_model_folder


def test_vertex_ai_s_variables_and_the_defaults():
    found = Settings.of({"AIP_STORAGE_URI": "gs://b/m", "AIP_HTTP_PORT": "9000", "AIP_HEALTH_ROUTE": "/v1/e/1/m/2"})
    assert (found.port, found.health_route, found.predict_route, found.bind) == (
        9000,
        "/v1/e/1/m/2",
        "/predict",
        "127.0.0.1",
    )
    assert Settings.of({"LLMCOMPARE_MODEL": "gpt2"}) == Settings(model="gpt2")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"LLMCOMPARE_MODEL": ""}, "Nothing says which model"),
        ({"AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT must be a whole number"),
        ({"AIP_HTTP_PORT": "70000"}, "AIP_HTTP_PORT"),
        ({"AIP_PREDICT_ROUTE": "predict"}, "AIP_PREDICT_ROUTE must be a path"),
        ({"LLMCOMPARE_DTYPE": "int4"}, "LLMCOMPARE_DTYPE must be one of fp32, bf16, fp16"),
        ({"LLMCOMPARE_MAX_ANSWER_BYTES": "10"}, "LLMCOMPARE_MAX_ANSWER_BYTES"),
        ({"LLMCOMPARE_MAX_WAITING": "-1"}, "LLMCOMPARE_MAX_WAITING"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(changes, says):
    with pytest.raises(SettingError, match=says):
        Settings.of({"LLMCOMPARE_MODEL": "gpt2"} | changes)


def test_a_folder_by_path_or_address(tmp_path):
    folder = make_model_folder(tmp_path / "my model")
    for uri in (str(folder), folder.as_uri()):
        found = models.source(Settings(storage_uri=uri)).model
        assert (found.name, found.weights, found.weights_path, found.kind) == (
            "my model",
            "local",
            str(folder),
            "decoder",
        )
        assert found.weights_digest
    assert models.source(Settings(model=str(folder))).model.weights == "local"


def test_random_weights_need_no_weights(tmp_path):
    folder = make_model_folder(tmp_path / "shape")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(SpecError, match="no safetensors"):
        models.source(Settings(model=str(folder)))
    assert models.source(Settings(model=str(folder), random_weights=True)).model.weights == "random"
    named = models.source(Settings(model="gpt2", random_weights=True))
    assert (named.model.weights, named.model.kind, named.tokenizer_folder) == ("random", "decoder", None)
    with pytest.raises(SpecError, match="LLMCOMPARE_RANDOM_WEIGHTS"):
        models.source(Settings(model="gpt2"))
    with pytest.raises(SpecError, match="no-such-model"):
        models.source(Settings(model="no-such-model"))


def test_what_cannot_be_served_is_said(tmp_path):
    with pytest.raises(EngineError, match="There is no folder"):
        models.source(Settings(storage_uri=str(tmp_path / "nowhere")))
    with pytest.raises(EngineError, match="gs://bucket/folder was expected"):
        models.source(Settings(storage_uri="https://example.com/model"))
    with pytest.raises(EngineError, match="not an address in Cloud Storage"):
        models.source(Settings(storage_uri="gs://b/../etc"))
    bert = make_model_folder(tmp_path / "bert", config={"architectures": ["BertModel"], "model_type": "bert"})
    with pytest.raises(SpecError, match="writes no text"):
        models.source(Settings(model=str(bert)))


def test_the_container_imports_nothing_of_the_portal_and_google_s_client_only_when_it_is_needed():
    code = """
import json, sys
import serving.__main__, serving.app, serving.models, profiling.resident
heavy = ("django", "celery", "llmcompare", "hardware", "google.cloud.storage", "google.auth")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert json.loads(done.stdout) == [], done.stderr
