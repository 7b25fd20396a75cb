"""Files of a model out of Cloud Storage: Google's real client against a small server that speaks its JSON API."""

from __future__ import annotations

import base64
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
import pytest

from profiling.failures import EngineError
from serving import models, scratch, storage
from serving.settings import Settings
from tests.profiling.folders import make_model_folder

ROOT = Path(__file__).resolve().parents[2]


class Bucket:
    """Objects by name. ``broken``: names whose content is cut on its way."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.broken, self.status = files, set(), 200
        self.fetched: list[str] = []

    def entry(self, name: str) -> dict:
        data = self.files[name]
        digest = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        return {"name": name, "bucket": "bucket", "size": str(len(data)), "crc32c": digest}

    def listing(self, prefix: str) -> list[dict]:
        names = [name for name in self.files if name.startswith(prefix) and "/" not in name.removeprefix(prefix)]
        return [self.entry(name) for name in sorted(names)]


@contextmanager
def serving(bucket: Bucket):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            if bucket.status != 200:
                self.answer(json.dumps({"error": {"code": bucket.status, "message": "no permission"}}).encode())
            elif parts.path.startswith("/download/"):
                name = unquote(parts.path.rsplit("/o/", 1)[1])
                bucket.fetched.append(name)
                data = bucket.files[name]
                self.answer(data[:-1] + b"?" if name in bucket.broken else data, name)
            else:
                found = bucket.listing(parse_qs(parts.query).get("prefix", [""])[0])
                self.answer(json.dumps({"kind": "storage#objects", "items": found}).encode())

        def answer(self, data, name=None):
            self.send_response(bucket.status)
            self.send_header("Content-Length", str(len(data)))
            if name is not None:
                self.send_header("X-Goog-Hash", f"crc32c={bucket.entry(name)['crc32c']}")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    folder = make_model_folder(tmp_path / "made")
    files = {f"models/tiny/{path.name}": path.read_bytes() for path in folder.iterdir()}
    files |= {
        "models/tiny/tokenizer.json": b"{}",
        "models/tiny/pytorch_model.bin": b"pickle",
        "models/tiny/modeling_evil.py": b"import os",
        "models/tiny/..hidden.json": b"{}",
        "models/tiny/checkpoints/model.safetensors": b"other",
        "models/other/config.json": b"{}",
    }
    found = Bucket(files)
    with serving(found) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        yield found


def test_a_model_is_fetched_and_nothing_else_of_its_folder(bucket):
    told = []
    found = models.source(Settings(storage_uri="gs://bucket/models/tiny"), lambda *progress: told.append(progress[2]))
    wanted = {"config.json", "model.safetensors", "tokenizer.json"}
    assert {name.rsplit("/", 1)[1] for name in bucket.fetched} == wanted
    assert (found.model.name, found.model.weights) == ("tiny", "local")
    assert any("model.safetensors" in message for message in told)


def test_what_does_not_arrive_whole_is_not_used(bucket, tmp_path):
    bucket.broken.add("models/tiny/model.safetensors")
    with pytest.raises(EngineError, match=r"model.safetensors of gs://bucket/models/tiny could not be fetched"):
        storage.fetch("gs://bucket/models/tiny", tmp_path, 10**9, lambda *progress: None)


@pytest.fixture
def full_disk(monkeypatch):
    """Where files of models are written: no room, after the first bytes of one. ``room`` makes some."""
    from google.cloud.storage import Blob

    real, disk = Blob.download_to_filename, SimpleNamespace(room=False)

    def write(blob, filename, *arguments, **options):
        real(blob, filename, *arguments, **options)
        if not disk.room and filename.endswith(".safetensors"):
            with open(filename, "r+b") as file:
                file.truncate(10)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)

    monkeypatch.setattr(Blob, "download_to_filename", write)
    return disk


def test_a_disk_that_becomes_full_is_named_and_the_next_start_finds_it_as_it_was(
    bucket, tmp_path, monkeypatch, full_disk
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    settings = Settings(storage_uri="gs://bucket/models/tiny")
    with pytest.raises(EngineError, match=r"disk of this machine became full while model.safetensors") as refused:
        models.source(settings)
    assert "removed" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert list((tmp_path / "temporary").iterdir()) == [], "neither half a file nor the whole ones before it"
    full_disk.room = True
    found = models.source(settings)
    assert (Path(found.model.weights_path) / "model.safetensors").read_bytes() == bucket.files[
        "models/tiny/model.safetensors"
    ]


def test_a_device_without_room_says_so_itself(bucket, tmp_path):
    """The write itself fails, as the system makes it fail."""
    (tmp_path / "model.safetensors").symlink_to("/dev/full")
    with pytest.raises(EngineError, match="became full"):
        storage.fetch("gs://bucket/models/tiny", tmp_path, 10**9, lambda *progress: None)
    assert list(tmp_path.iterdir()) == [tmp_path / "made"], "the bucket's own files alone"


def test_a_model_half_fetched_by_a_process_that_was_killed_is_removed_and_one_in_use_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = f"""
import tempfile; tempfile.tempdir = {str(tmp_path)!r}
from serving import scratch
(scratch.make() / "half.safetensors").write_bytes(b"x" * 1000)
print("made", flush=True)
input()
"""
    (tmp_path / "llmcompare-model-file").write_text("not a folder")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "llmcompare-model-link").symlink_to(tmp_path / "elsewhere")
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "made\n"
        (its,) = [path.parent for path in tmp_path.glob("*/half.safetensors")]
        own = scratch.make()
        assert (its / "half.safetensors").exists(), "a process that runs has it"
        other.kill()
    third = scratch.make()
    assert not its.exists()
    assert own.is_dir(), "that of this process"
    assert (tmp_path / "elsewhere").is_dir()
    scratch.remove(own)
    scratch.remove(third)
    kept = {"llmcompare-model-file", "elsewhere", "llmcompare-model-link"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_too_large_a_model_is_refused_before_it_is_fetched(bucket, tmp_path):
    with pytest.raises(EngineError, match="LLMCOMPARE_MAX_MODEL_BYTES"):
        storage.fetch("gs://bucket/models/tiny", tmp_path, 10, lambda *progress: None)
    assert bucket.fetched == []


def test_an_empty_folder_and_a_missing_permission_are_told_apart(bucket, tmp_path):
    with pytest.raises(EngineError, match="no files of a model"):
        storage.fetch("gs://bucket/nothing", tmp_path, 10**9, lambda *progress: None)
    bucket.status = 403
    with pytest.raises(EngineError, match=r"cannot be listed.*Forbidden"):
        storage.fetch("gs://bucket/models/tiny", tmp_path, 10**9, lambda *progress: None)


@pytest.mark.parametrize(
    "uri", ["gs://", "gs://b", "gs://UPPER/x", "gs://bucket/../x", "gs://bucket\\x/y", "s3://bucket/x"]
)
def test_other_addresses_are_refused(uri):
    with pytest.raises(EngineError, match="not an address in Cloud Storage"):
        storage.parse(uri)


def test_folders_and_buckets_alone():
    assert storage.parse("gs://bucket") == ("bucket", "")
    assert storage.parse("gs://bucket/") == ("bucket", "")
    assert storage.parse("gs://bucket/a/b/") == ("bucket", "a/b/")
