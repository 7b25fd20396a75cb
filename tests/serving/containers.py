"""The container as it runs: a process of its own on a free port. Nothing is faked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_S = 120


class Container:
    def __init__(self, process: subprocess.Popen, port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=240)

    def health(self) -> httpx.Response | None:
        """None: nothing listens yet."""
        try:
            return self.http.get("/health")
        except httpx.TransportError:
            return None

    def until(self, wanted) -> httpx.Response:
        """The first answer of health that ``wanted`` takes."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            answer = self.health()
            if answer is not None and wanted(answer):
                return answer
            time.sleep(0.05)
        raise AssertionError(f"not within {START_S} s; exit status {self.process.poll()}: {self.log.read_text()}")

    def ready(self) -> httpx.Response:
        return self.until(lambda answer: answer.status_code == 200)

    def predict(self, *prompts: str, **parameters) -> dict:
        body = {"instances": [{"prompt": prompt} for prompt in prompts], "parameters": parameters}
        answer = self.http.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self, path: str = "/v1/chat/completions", **body) -> list[tuple[float, dict | str]]:
        """Time of arrival and content of each event of a stream."""
        found = []
        with self.http.stream("POST", path, json=body | {"stream": True}) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    text = line.removeprefix("data: ")
                    found.append((time.perf_counter(), text if text == "[DONE]" else json.loads(text)))
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(folder: Path, command: Sequence[str] = ("-m", "serving"), **variables: str) -> Iterator[Container]:
    """``folder``: for its log. ``command``: what Python is to run."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "container.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "LLMCOMPARE_"))}
    environment = kept | {"PYTHONPATH": str(ROOT), "AIP_HTTP_PORT": str(port), "LLMCOMPARE_DTYPE": "fp32"} | variables
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    found = Container(process, port, log)
    try:
        yield found
    finally:
        found.http.close()
        if process.poll() is None:
            process.kill()
        process.wait()
