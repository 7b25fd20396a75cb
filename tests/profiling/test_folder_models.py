"""Models of registered folders are checked again when they are loaded."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from profiling import folders, loading
from profiling.build import resolve
from profiling.failures import EngineError
from profiling.spec import ModelSpec
from tests.profiling.tiny import LLAMA, MODEL, WORKLOAD

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root").resolve()
    config, model_class = resolve(MODEL)
    torch.manual_seed(0)
    model_class(config).save_pretrained(root / "tiny")
    return root


@pytest.fixture
def model(root) -> ModelSpec:
    found = folders.look(root, "tiny")
    assert found.problem == ""
    place = {"weights_path": str(root / "tiny"), "weights_root": str(root), "weights_digest": found.digest}
    return ModelSpec(name="Tiny", config=LLAMA, source="folder", weights="local", **place)


def test_a_model_of_a_registered_folder_is_loaded_with_its_values(model, root):
    loaded = loading.load(model, WORKLOAD, CPU)
    from safetensors.torch import load_file

    stored = load_file(root / "tiny" / "model.safetensors")
    assert torch.equal(loaded.state_dict()["model.norm.weight"], stored["model.norm.weight"])


@pytest.mark.parametrize("change", ["digest", "moved_out", "other_root"])
def test_it_is_refused_when_it_is_not_what_the_run_was_asked_for_with(model, root, tmp_path, change):
    if change == "digest":
        model, words = replace(model, weights_digest="0" * 64), "were changed since"
    elif change == "other_root":
        model, words = replace(model, weights_root=str(tmp_path)), "outside its root"
    else:
        (tmp_path / "root").mkdir()
        os.symlink(root / "tiny", tmp_path / "root" / "tiny")
        place = {"weights_root": str(tmp_path / "root"), "weights_path": str(tmp_path / "root" / "tiny")}
        model, words = replace(model, **place), "outside its root"
    with pytest.raises(EngineError, match=words) as caught:
        loading.load(model, WORKLOAD, CPU)
    assert (caught.value.phase, caught.value.field) == ("load", "model")
