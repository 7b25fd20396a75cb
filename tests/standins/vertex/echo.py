"""A container without a model, for tests of everything around one: it answers with what it was asked. What it does is in its environment:
``ECHO_DIE`` lines to write before it ends, ``ECHO_TEXT`` its answer, ``ECHO_WAIT_S`` seconds that an answer takes, ``ECHO_WORD_S`` seconds
before each word of a stream."""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = os.environ.get("ECHO_TEXT", "one two three")
WORD_S = float(os.environ.get("ECHO_WORD_S", "0"))
WAIT_S = float(os.environ.get("ECHO_WAIT_S", "0"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._whole(200, {"status": "ready", "model": "echo"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        time.sleep(WAIT_S)
        if "refuse" in body:
            return self._whole(int(body["refuse"]), {"error": {"message": "The container does not want this."}})
        if body.get("big"):
            return self._whole(200, {"big": "x" * int(body["big"])})
        if "instances" in body:
            return self._whole(200, {"predictions": [{"text": TEXT, "asked": one} for one in body["instances"]]})
        if body.get("stream"):
            return self._stream()
        choice = {"message": {"content": TEXT}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": len(TEXT.split())}
        return self._whole(200, {"choices": [choice], "usage": usage, "route": self.path, "asked": body})

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in TEXT.split():
            time.sleep(WORD_S)
            self._event({"choices": [{"delta": {"content": word + " "}, "finish_reason": None}]})
        usage = {"prompt_tokens": 3, "completion_tokens": len(TEXT.split())}
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, found: dict) -> None:
        self._chunk(f"data: {json.dumps(found)}\n\n".encode())

    def _chunk(self, part: bytes) -> None:
        self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")

    def _whole(self, status: int, found: dict) -> None:
        content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    if "ECHO_DIE" in os.environ:
        sys.exit(os.environ["ECHO_DIE"])
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
