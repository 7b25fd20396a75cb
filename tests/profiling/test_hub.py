"""Models of the Hub, by the real client against a stand-in on this machine: commits, sizes, digests, resuming, and every refusal."""

from __future__ import annotations

import json
import shutil

import pytest

from profiling import hub
from profiling.failures import EngineError
from profiling.folders import used
from profiling.spec import SpecError
from tests.profiling.folders import make_model_folder
from tests.profiling.hub_server import COMMIT, OTHER, running
from tests.profiling.tiny import LLAMA

LIMIT = 10**9


@pytest.fixture
def files(tmp_path):
    folder = make_model_folder(tmp_path / "source", tensors={"w": [1024, 1024]})
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    return content | {
        "tokenizer.json": b"{}",
        "pytorch_model.bin": b"pickle",
        "modeling_tiny.py": b"import os",
        "README.md": b"read me",
        "onnx/model.safetensors": b"other",
    }


@pytest.fixture
def server(files):
    with running(files) as server:
        yield server


def fetched(server) -> set[str]:
    return {path.rpartition("/")[2] for method, path, _ in server.requests if method == "GET" and "/api/" not in path}


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT])
def test_any_revision_becomes_the_commit_that_it_stands_for(server, revision):
    seen = hub.look("org/tiny", revision, server.address)
    assert (seen.commit, seen.architecture, seen.problem) == (COMMIT, "LlamaForCausalLM", "")
    assert seen.name == f"org/tiny@{COMMIT[:12]}"
    assert seen.config["hidden_size"] == LLAMA["hidden_size"]
    assert set(seen.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert fetched(server) == {"config.json"}  # an estimate needs no weights


def test_a_download_has_the_files_of_the_commit_and_no_others(server, files, tmp_path):
    seen = hub.look("org/tiny", None, server.address)
    told = []
    target = tmp_path / "data" / "hub" / "org--tiny" / COMMIT
    marker = hub.download(seen, target, server.address, LIMIT, lambda *said: told.append(said))
    assert {path.name for path in target.iterdir()} == {*seen.files, hub.MARKER}
    assert (target / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert marker["commit"] == COMMIT
    assert used(tmp_path / "data" / "hub", target).digest == marker["digest"]
    assert any(stage == "download" and 0 < fraction < 1 for stage, fraction, _ in told)
    before = len(server.requests)
    hub.download(seen, target, server.address, LIMIT)
    assert len(server.requests) == before  # once is enough
    assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in server.requests if "/resolve/" in path)


def begins(server) -> list[int]:
    """At which bytes the answers with the large file began."""
    asked = [ranged for method, path, ranged in server.requests if path.startswith("/cdn/") and method == "GET"]
    return [int(ranged.removeprefix("bytes=").split("-")[0]) if ranged else 0 for ranged in asked]


def test_a_connection_that_is_cut_goes_on_where_it_was(server, files, tmp_path):
    seen = hub.look("org/tiny", None, server.address)
    server.cuts = [2_500_000]
    hub.download(seen, tmp_path / "hub" / "tiny", server.address, LIMIT)
    assert begins(server) == [0, 2 * hub.CHUNK_BYTES]
    assert (tmp_path / "hub" / "tiny" / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_download_that_failed_is_gone_on_with_by_the_next(server, files, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    seen = hub.look("org/tiny", None, server.address)
    target = tmp_path / "hub" / "tiny"
    server.cuts = [2_500_000, *[0] * 10]
    with pytest.raises(EngineError, match="cannot be reached, or the connection was cut"):
        hub.download(seen, target, server.address, LIMIT)
    assert not target.exists()
    server.cuts.clear()
    server.requests.clear()
    hub.download(seen, target, server.address, LIMIT)
    assert begins(server) == [2 * hub.CHUNK_BYTES]
    assert (target / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_content_that_is_not_what_the_hub_said_is_thrown_away(server, files, tmp_path):
    seen = hub.look("org/tiny", None, server.address)
    server.wrong = bytes(len(files["model.safetensors"]))
    with pytest.raises(EngineError, match="SHA-256"):
        hub.download(seen, tmp_path / "hub" / "tiny", server.address, LIMIT)
    server.wrong = None
    hub.download(seen, tmp_path / "hub" / "tiny", server.address, LIMIT)


def test_size_is_held_against_the_limit_and_the_disk_before_anything_is_fetched(server, tmp_path, monkeypatch):
    seen = hub.look("org/tiny", None, server.address)
    server.requests.clear()
    with pytest.raises(EngineError, match="at most"):
        hub.download(seen, tmp_path / "hub" / "tiny", server.address, 1000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    with pytest.raises(EngineError, match="free on the disk"):
        hub.download(seen, tmp_path / "hub" / "tiny", server.address, LIMIT)
    assert server.requests == []


def test_shards_are_those_of_the_index(server, files):
    files.pop("model.safetensors")
    files["stray.safetensors"] = b"x"
    files["model-00001-of-00001.safetensors"] = b"x" * 10
    index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    server.files = files
    seen = hub.look("org/tiny", None, server.address)
    assert [name for name in seen.files if "safetensors" in name] == [
        "model.safetensors.index.json",
        "model-00001-of-00001.safetensors",
    ]
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"w": "../x.safetensors"}}).encode()
    assert "is not there" in hub.look("org/tiny", None, server.address).problem


def test_what_cannot_be_measured_can_still_be_estimated(server, files, tmp_path):
    server.files = {name: content for name, content in files.items() if name != "model.safetensors"}
    seen = hub.look("org/tiny", None, server.address)
    assert "no safetensors" in seen.problem
    assert seen.config["num_hidden_layers"] == 2
    with pytest.raises(EngineError, match="no safetensors"):
        hub.download(seen, tmp_path / "x", server.address, LIMIT)
    server.files = files | {"config.json": json.dumps(LLAMA | {"quantization_config": {"bits": 4}}).encode()}
    assert "quantised" in hub.look("org/tiny", None, server.address).problem


@pytest.mark.parametrize(
    ("repo", "revision", "change", "words"),
    [
        ("org/absent", None, {}, "no public model org/absent"),
        ("org/tiny", "no-such-branch", {}, "has no revision no-such-branch"),
        ("org/tiny", OTHER, {}, "has no revision"),
        ("org/tiny", None, {"gated": True}, "accepted its terms"),
        ("org/tiny", None, {"down": True}, "status 503"),
        ("org/tiny", None, {"files": {"README.md": b""}}, "no config.json"),
        ("org/tiny", None, {"files": {"config.json": b"{"}}, "not JSON"),
    ],
)
def test_every_refusal_is_a_sentence(server, repo, revision, change, words):
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(EngineError, match=words) as caught:
        hub.look(repo, revision, server.address)
    assert caught.value.field == "hub"


def test_a_model_with_code_of_its_own_is_refused(server, files):
    server.files = files | {
        "config.json": json.dumps(LLAMA | {"auto_map": {"AutoModel": "modeling_tiny.Evil"}}).encode()
    }
    with pytest.raises(SpecError, match="code of its own"):
        hub.look("org/tiny", None, server.address)


def test_a_hub_that_is_not_there_is_said_so():
    with pytest.raises(EngineError, match="cannot be reached"):
        hub.look("org/tiny", None, "http://127.0.0.1:9")


@pytest.mark.parametrize(
    "text",
    ["tiny", "", "org/", "https://x/y/z", "../x/y", "org/a..b", "org/x@", "o/r@a b", "a/b@c\n@d", "org/" + "x" * 200],
)
def test_an_id_is_an_organisation_and_a_name(text):
    with pytest.raises(SpecError, match="organisation/name"):
        hub.parse(text)


def test_ids_and_revisions():
    assert hub.parse(" org/tiny-1.5B ") == ("org/tiny-1.5B", None)
    assert hub.parse("org/tiny@refs/pr/1") == ("org/tiny", "refs/pr/1")
    assert hub.parse(f"org/tiny@{COMMIT}") == ("org/tiny", COMMIT)


def test_it_is_off_unless_it_is_turned_on(monkeypatch):
    for value in ("", "off", "0", "no"):
        monkeypatch.setenv("LLMCOMPARE_HUB", value)
        with pytest.raises(EngineError, match="LLMCOMPARE_HUB=on"):
            hub.ask("hub_look", repo="org/tiny", revision=None)


@pytest.fixture
def real(tmp_path):
    """A model that can be run, as the Hub has it."""
    from tests.profiling.tokenised import make_tokenised

    make_tokenised(tmp_path / "real")
    with running({path.name: path.read_bytes() for path in (tmp_path / "real").iterdir()}) as server:
        yield server


@pytest.mark.slow
def test_the_command_line_measures_a_model_of_the_hub(real, tmp_path, monkeypatch, capsys):
    from profiling.cli import main

    for name, value in {"HUB": "on", "DATA": str(tmp_path / "data")}.items():
        monkeypatch.setenv(f"LLMCOMPARE_{name}", value)
    monkeypatch.setenv("HF_ENDPOINT", real.address)
    options = [
        "--processes",
        "1",
        "--no-ceilings",
        "--dtype",
        "fp32",
        "--output",
        "3",
        "--json",
        str(tmp_path / "run.json"),
    ]
    assert main(["measure", "--hub", "org/tiny@v1", "--prompt", "what is the capital", *options]) == 0
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["output"]["input_tokens"] == [4]
    assert (document["model"]["source"], document["model"]["weights"]) == ("hub", "local")
    assert COMMIT in document["model"]["weights_note"]
    assert len(document["model"]["weights_digest"]) == 64
    assert (tmp_path / "data" / "hub" / "org--tiny" / COMMIT / "model.safetensors").is_file()


@pytest.mark.slow
def test_an_estimate_fetches_the_configuration_only(real, monkeypatch, capsys):
    from profiling.cli import main

    monkeypatch.setenv("LLMCOMPARE_HUB", "on")
    monkeypatch.setenv("HF_ENDPOINT", real.address)
    assert main(["estimate", "--hub", "org/tiny", "-d", "nvidia-h100-sxm5-80gb", "--input", "16"]) == 0
    assert f"org/tiny@{COMMIT[:12]}" in capsys.readouterr().out
    assert fetched(real) == {"config.json"}
    monkeypatch.setenv("LLMCOMPARE_HUB", "off")
    assert main(["estimate", "--hub", "org/tiny", "-d", "nvidia-h100-sxm5-80gb"]) != 0
    assert "LLMCOMPARE_HUB=on" in capsys.readouterr().err
