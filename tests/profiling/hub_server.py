"""A stand-in for the Hub on this machine: model info with sizes and digests, resolve with ETag and commit, redirects of large files,
ranges, errors by code, and connections that are cut. Speaks what ``huggingface_hub`` sends."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT, OTHER = "a1" * 20, "b2" * 20


@dataclass
class StandIn:
    """``files``: of the one repository ``org/tiny``. ``cuts``: bytes after which the next answers with a large file break off.
    ``slow``: large files come in small pieces, until the event is set."""

    files: dict[str, bytes]
    gated: bool = False
    down: bool = False
    cuts: list[int] = field(default_factory=list)
    wrong: bytes | None = None
    slow: threading.Event | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""

    def revisions(self) -> dict[str, str]:
        return {"main": COMMIT, "v1": COMMIT, COMMIT: COMMIT}


def handler_of(hub: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append((self.command, path, self.headers.get("Range")))
            parts = path.strip("/").split("/")
            if hub.down:
                return self._error(503, "", "down")
            if parts[:2] == ["api", "models"]:
                return self._info(parts[2:])
            if parts[0] == "cdn":
                return self._content(parts[-1], body)
            return self._resolve(parts)

        def _info(self, parts: list[str]) -> None:
            if parts[:2] != ["org", "tiny"]:
                return self._error(401, "RepoNotFound", "Invalid username or password.")
            revision = parts[3] if len(parts) > 3 else "main"
            if revision not in hub.revisions():
                return self._error(404, "RevisionNotFound", "Invalid rev id")
            if hub.gated:
                return self._error(403, "GatedRepo", "Access to model org/tiny is restricted")
            siblings = []
            for name, content in hub.files.items():
                entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
                if name.endswith(".safetensors"):
                    sha256 = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
                siblings.append(entry)
            text = json.dumps(
                {"id": "org/tiny", "modelId": "org/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}
            )
            self._send(200, text.encode(), {"Content-Type": "application/json"})

        def _resolve(self, parts: list[str]) -> None:
            revision, name = parts[3], "/".join(parts[4:])
            if revision not in hub.revisions():
                return self._error(404, "RevisionNotFound", "Invalid rev id")
            if name not in hub.files:
                return self._error(404, "EntryNotFound", "Entry not found")
            content = hub.files[name]
            headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if name.endswith(".safetensors"):
                sha256 = hashlib.sha256(content).hexdigest()
                headers |= {
                    "X-Linked-Etag": f'"{sha256}"',
                    "X-Linked-Size": str(len(content)),
                    "Location": f"{hub.address.replace('127.0.0.1', 'localhost')}/cdn/{name}",
                }
                return self._send(302, b"", headers)
            headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
            self._send(200, content, headers, body=self.command == "GET")

        def _content(self, name: str, body: bool) -> None:
            content = hub.wrong if hub.wrong is not None else hub.files[name]
            begin = 0
            if asked := self.headers.get("Range"):
                begin = int(asked.removeprefix("bytes=").split("-")[0])
            part = content[begin:]
            status = 206 if asked else 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if not body:
                return
            if hub.slow is not None:
                self.wfile.write(part[: len(part) // 2])
                self.wfile.flush()
                hub.slow.wait(20)
                part = part[len(part) // 2 :]
            if hub.cuts:
                self.wfile.write(part[: hub.cuts.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.wfile.write(part)

        def _error(self, status: int, code: str, message: str) -> None:
            self._send(
                status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message}
            )

        def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(content)

    return Handler


@contextmanager
def running(files: dict[str, bytes]) -> Iterator[StandIn]:
    hub = StandIn(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
