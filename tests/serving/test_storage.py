"""Files of a model out of Cloud Storage: Google's real client against a small server that speaks its JSON API."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
import pytest

from profiling.failures import EngineError
from serving import models, storage
from serving.settings import Settings
from tests.profiling.folders import make_model_folder


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
