"""Folders with models: what is found under a root, what is refused and why, and that a digest notices a change."""

from __future__ import annotations

import json
import os
import struct

import pytest

from profiling import folders
from profiling.spec import SpecError
from tests.profiling.folders import make_model_folder, write_safetensors
from tests.profiling.tiny import LLAMA


def problems(root) -> dict[str, str]:
    return {one.path: one.problem for one in folders.listing(root).models}


def test_a_folder_with_config_and_safetensors_can_be_used(tmp_path):
    make_model_folder(tmp_path / "team" / "tiny")
    (tmp_path / "team" / "notes.md").write_text("no model")
    (found,) = folders.listing(tmp_path).models
    assert (found.path, found.name, found.problem, found.stored) == ("team/tiny", "tiny", "", "F32")
    assert found.bytes == (tmp_path / "team/tiny/model.safetensors").stat().st_size
    assert found.config["hidden_size"] == LLAMA["hidden_size"]


def test_the_digest_notices_a_change_of_config_weights_or_tokenizer(tmp_path):
    folder = make_model_folder(tmp_path / "tiny")
    seen = {folders.look(tmp_path, "tiny").digest}
    (folder / "config.json").write_text(json.dumps(LLAMA | {"rms_norm_eps": 1e-5}))
    seen.add(folders.look(tmp_path, "tiny").digest)
    write_safetensors(folder / "model.safetensors", {"w": [8, 4]})
    seen.add(folders.look(tmp_path, "tiny").digest)
    (folder / "tokenizer.json").write_text("{}")
    seen.add(folders.look(tmp_path, "tiny").digest)
    assert len(seen) == 4
    assert folders.look(tmp_path, "tiny").digest in seen


def test_pickles_code_quantised_broken_and_incomplete_models_are_refused_with_the_reason(tmp_path):
    pickled = make_model_folder(tmp_path / "pickled", weights=False)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04")
    make_model_folder(tmp_path / "code", config={"auto_map": {"AutoModel": "modeling.Evil"}})
    tokenizer = make_model_folder(tmp_path / "tokenizer_code")
    (tokenizer / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.Evil", null]}}')
    make_model_folder(tmp_path / "quantised", config={"quantization_config": {"quant_method": "gptq"}})
    cut = make_model_folder(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    shards = make_model_folder(tmp_path / "shards", weights=False)
    (shards / folders.INDEX).write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    outside = make_model_folder(tmp_path / "shards_outside", weights=False)
    (outside / folders.INDEX).write_text(json.dumps({"weight_map": {"a": "../tokenizer_code/model.safetensors"}}))
    (make_model_folder(tmp_path / "text") / "model.safetensors").write_bytes(struct.pack("<Q", 5) + b"hello")
    odd = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, "four"]}}).encode()
    (make_model_folder(tmp_path / "odd") / "model.safetensors").write_bytes(struct.pack("<Q", len(odd)) + odd)
    (make_model_folder(tmp_path / "big") / "config.json").write_text(json.dumps({"x": "y" * folders.CONFIG_BYTES}))
    make_model_folder(tmp_path / "fp8", tensors={"w": ("F8_E4M3", [4, 4])})
    make_model_folder(tmp_path / "unknown", config={"model_type": "never_heard_of"})
    found = problems(tmp_path)
    for path, words in {
        "pickled": "pytorch_model.bin",
        "code": "code of its own",
        "tokenizer_code": "code of its own",
        "quantised": "quantised",
        "cut": "not whole",
        "shards": "model-1.safetensors is missing",
        "shards_outside": "does not say which files",
        "text": "not a safetensors file",
        "odd": "not a safetensors file",
        "big": "more than",
        "fp8": "F8_E4M3",
        "unknown": "never_heard_of",
    }.items():
        assert words in found.pop(path), path
    assert found == {}


def test_links_that_leave_the_root_are_refused_and_those_inside_are_followed(tmp_path):
    outside = make_model_folder(tmp_path / "outside")
    root = tmp_path / "root"
    blobs = root / "blobs"
    blobs.mkdir(parents=True)
    inside = make_model_folder(root / "models--org--name" / "snapshots" / ("a" * 40), weights=False)
    write_safetensors(blobs / "0123", {"w": [4, 4]})
    (inside / "model.safetensors").symlink_to(blobs / "0123")
    leaving = make_model_folder(root / "leaving", weights=False)
    (leaving / "model.safetensors").symlink_to(outside / "model.safetensors")
    tokenizer = make_model_folder(root / "leaving_tokenizer")
    (tokenizer / "tokenizer.json").symlink_to("/etc/hostname")
    (root / "linked_folder").symlink_to(outside)
    found = {one.name: one.problem for one in folders.listing(root).models}
    assert found.pop("org/name@aaaaaaaaaaaa") == ""
    assert "link that leads out" in found.pop("leaving")
    assert "link that leads out" in found.pop("leaving_tokenizer")
    assert found == {}
    for path in ("linked_folder", "../outside", "/etc", "leaving/../../outside", "no\x00thing", "absent"):
        with pytest.raises(SpecError):
            folders.inside(root, path)
        assert folders.look(root, path).problem


def test_a_folder_that_becomes_a_link_out_after_it_was_listed_is_refused_when_it_is_used(tmp_path):
    root = tmp_path / "root"
    folder = make_model_folder(root / "tiny")
    outside = make_model_folder(tmp_path / "outside")
    assert folders.used(root, folder).problem == ""
    os.rename(folder, root / "moved")
    folder.symlink_to(outside)
    with pytest.raises(SpecError, match="outside its root"):
        folders.used(root, folder)


def test_roots_are_whole_paths_of_folders_and_never_the_whole_file_system(tmp_path):
    assert folders.real_root(str(tmp_path)) == tmp_path.resolve()
    (tmp_path / "file").write_text("")
    for text in ("models", "", "/", "/..", str(tmp_path / "file"), str(tmp_path / "absent"), "/tmp\x00"):
        with pytest.raises(SpecError):
            folders.real_root(text)


def test_a_large_tree_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MAX_FOUND", 3)
    for number in range(5):
        make_model_folder(tmp_path / f"m{number}")
    found = folders.listing(tmp_path)
    assert (len(found.models), found.cut) == (3, True)
