"""Registered folders: who may name them, what is shown, taking a model from one, and that it is checked again when it is used."""

from __future__ import annotations

import json

import pytest

from llmcompare.catalog import folders, services
from llmcompare.catalog.models import Folder, LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.runs import executor
from llmcompare.runs.exports import shown_spec
from profiling.client import EngineError
from tests.factories import TINY_LLAMA, make_host, make_run
from tests.profiling.folders import make_model_folder, write_safetensors

PAGE = "/models/folders/"


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch):
    monkeypatch.setattr(services, "facts_or_refusal", lambda spec: None)


@pytest.fixture
def root(tmp_path):
    make_model_folder(tmp_path / "root" / "tiny")
    pickled = make_model_folder(tmp_path / "root" / "pickled", weights=False)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80")
    return (tmp_path / "root").resolve()


@pytest.fixture
def folder(db, root):
    return Folder.objects.create(slug="team", name="Team models", path=str(root))


def test_only_staff_register_folders_and_what_is_none_is_said_at_the_path(staff_client, owner_client, db, root):
    address = "/admin/catalog/folder/add/"
    assert owner_client.get(address).status_code in (302, 403)
    values = {"name": "Team", "slug": "team", "holds": "models", "active": "on"}
    for path, words in {"models": "whole path", "/no/such": "no such folder", "/": "whole file system"}.items():
        html = staff_client.post(address, values | {"path": path}).content.decode()
        assert words in html
    link = root.parent / "link"
    link.symlink_to(root)
    assert staff_client.post(address, values | {"path": str(link)}).status_code == 302
    assert Folder.objects.get().path == str(root)  # the real path, not the link


def test_the_page_shows_what_was_found_and_why_something_cannot_be_used(owner_client, folder, root):
    html = owner_client.get(PAGE).content.decode()
    assert "Team models" in html
    assert "Use it" in html
    assert "pytorch_model.bin" in html
    assert "can run code" in html
    assert str(root) not in html  # where it lies on the server is for staff


def test_its_exports_have_the_same_rows(owner_client, folder):
    rows = owner_client.get("/models/folders.json").json()["models"]
    assert {row["path"]: row["usable"] for row in rows} == {"pickled": False, "tiny": True}
    assert b"pytorch_model.bin" in owner_client.get("/models/folders.csv").getvalue()


def test_whoever_takes_a_model_makes_it_for_everybody_and_only_once(owner_client, stranger_client, folder, root):
    response = owner_client.post(f"{PAGE}team/use/", {"path": "tiny"})
    model = LanguageModel.objects.get(source="folder")
    assert response["Location"] == f"/models/{model.slug}/"
    stranger_client.post(f"{PAGE}team/use/", {"path": "./tiny/../tiny"})
    assert LanguageModel.objects.filter(source="folder").count() == 1
    html = stranger_client.get(f"/models/{model.slug}/").content.decode()
    assert "Team models" in html
    assert model.weights_digest in html
    assert str(root) not in html
    spec = model.to_spec()
    assert (spec.weights, spec.weights_path, spec.weights_root) == ("local", str(root / "tiny"), str(root))


@pytest.mark.parametrize("path", ["pickled", "../outside", "/etc", "", "absent", "x" * 500, "a\x00b"])
def test_what_cannot_be_used_is_refused_with_a_sentence(owner_client, folder, root, path):
    make_model_folder(root.parent / "outside")
    response = owner_client.post(f"{PAGE}team/use/", {"path": path}, follow=True)
    assert response.status_code == 200
    assert not LanguageModel.objects.exists()
    assert 'class="alert' in response.content.decode()


def test_the_api_lists_folders_and_takes_models(owner_client, folder):
    (listed,) = owner_client.get("/api/v1/folders/").json()
    assert [(one["path"], bool(one["problem"])) for one in listed["models"]] == [("pickled", True), ("tiny", False)]
    address = "/api/v1/folders/team/models/"
    made = owner_client.post(address, {"path": "tiny"}, content_type="application/json")
    assert made.json()["weights"] == "local"
    assert "weights_path" not in made.json()
    refused = owner_client.post(address, {"path": "pickled"}, content_type="application/json")
    assert refused.status_code == 400
    assert "pytorch_model.bin" in refused.json()["errors"]["path"]


def test_models_of_a_folder_that_is_switched_off_are_gone_for_everybody(owner, owner_client, folder):
    model = folders.use_model(folder=folder, path="tiny")
    Folder.objects.update(active=False)
    assert not LanguageModel.objects.visible_to(owner).exists()
    assert owner_client.get(f"/models/{model.slug}/").status_code == 404
    assert "Team models" not in owner_client.get(PAGE).content.decode()
    with pytest.raises(FieldErrors):
        folders.use_model(folder=Folder.objects.get(), path="tiny")


def test_changed_files_are_noticed_before_a_run_and_taken_again(folder, root):
    model = folders.use_model(folder=folder, path="tiny")
    assert folders.problem_of(model) == ""
    write_safetensors(root / "tiny" / "model.safetensors", {"w": [8, 8]})
    assert "have changed" in folders.problem_of(model)
    again = folders.use_model(folder=folder, path="tiny")
    assert again.pk == model.pk
    assert folders.problem_of(again) == ""


def test_a_root_that_was_replaced_by_a_link_is_refused(folder, root, owner_client):
    root.rename(root.parent / "moved")
    root.symlink_to(root.parent / "moved")
    assert "replaced by a link" in owner_client.get(PAGE).content.decode()
    with pytest.raises(FieldErrors, match="replaced by a link"):
        folders.use_model(folder=folder, path="tiny")


def test_a_run_that_waited_while_its_folder_was_switched_off_fails_with_the_reason(owner, folder):
    import threading

    model = folders.use_model(folder=folder, path="tiny")
    run = make_run(owner, model=model, kind="measure", host=make_host())
    Folder.objects.update(active=False)
    executor.execute(run_id=run.pk, worker="w", shutdown=threading.Event())
    run.refresh_from_db()
    assert (run.state, run.error_phase) == ("failed", "load")
    assert "not used any more" in run.error


def test_where_the_files_lie_is_in_no_export(owner, folder, root):
    run = make_run(owner, model=folders.use_model(folder=folder, path="tiny"))
    assert str(root) in json.dumps(run.spec)
    assert str(root) not in json.dumps(shown_spec(run))


def test_a_gguf_file_becomes_a_model_with_the_configuration_that_the_engine_reads(
    owner_client, folder, root, monkeypatch
):
    (root / "tiny.gguf").write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(64))
    asked = []

    class Engine:
        def request(self, op, payload, **options):
            asked.append((op, payload))
            return {"config": TINY_LLAMA, "architecture": "LlamaForCausalLM", "stored": "Q4_K, F32", "parameters": 9}

    monkeypatch.setattr(folders, "warm_child", lambda: Engine())
    response = owner_client.post(f"{PAGE}team/use/", {"path": "tiny.gguf"})
    model = LanguageModel.objects.get(source="folder")
    assert response["Location"] == f"/models/{model.slug}/"
    assert asked == [("gguf", {"source": str(root / "tiny.gguf")})]
    assert (model.name, model.weights_note) == ("tiny", "dequantised from GGUF (Q4_K, F32)")
    assert model.to_spec().weights_path == str(root / "tiny.gguf")


def test_a_gguf_file_that_the_engine_cannot_read_is_refused_with_its_words(owner_client, folder, root, monkeypatch):
    (root / "odd.gguf").write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(64))

    class Engine:
        def request(self, op, payload, **options):
            raise EngineError(phase="load", kind="unsupported", message="architecture mumba is not supported")

    monkeypatch.setattr(folders, "warm_child", lambda: Engine())
    page = owner_client.post(f"{PAGE}team/use/", {"path": "odd.gguf"}, follow=True).content.decode()
    assert "mumba is not supported" in page
    assert not LanguageModel.objects.exists()
