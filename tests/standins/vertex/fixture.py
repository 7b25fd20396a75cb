"""The stand-in for tests: one process for all of a worker's tests, emptied after each.

``from tests.standins.vertex.fixture import vertex, vertex_process  # noqa: F401`` in a conftest gives both fixtures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: Bearer token → project. Two tenants.
TOKENS = {"token-alpha": "project-alpha", "token-beta": "project-beta"}
REGION = "us-central1"
START_S = 120


@dataclass
class VertexStandIn:
    """``base``: for ``LLMCOMPARE_VERTEX_BASE`` and ``Connection(base=…)``. ``storage``: what ``gs://local/`` is."""

    base: str
    storage: Path
    process: subprocess.Popen

    def control(self, name: str, **body: Any) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.base}/control/{name}", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def fail(self, method: str, status: int, message: str, **more: Any) -> None:
        self.control("fail", method=method, status=status, message=message, **more)

    def fail_operation(self, method: str, code: int, message: str) -> None:
        self.control("fail_operation", method=method, code=code, message=message)

    def requests(self, *methods: str) -> list[tuple[str, str, str, int]]:
        """What was asked of the service: (method, path, project, status)."""
        rows = [tuple(row) for row in self.control("requests")["requests"]]
        return [row for row in rows if not methods or row[0] in methods]

    def state(self) -> dict[str, Any]:
        return self.control("state")

    @contextmanager
    def held(self, method: str) -> Iterator[Callable[[], None]]:
        """Operations of ``method`` wait until the block ends, or until what it gives is called."""

        def release() -> None:
            self.control("release", method=method)

        self.control("hold", method=method)
        try:
            yield release
        finally:
            release()


@contextmanager
def running(storage: Path) -> Iterator[VertexStandIn]:
    """A stand-in of its own. Its containers end with it."""
    tokens = [f"--token={token}={project}" for token, project in TOKENS.items()]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.standins.vertex",
            "--port=0",
            "--until-stdin-ends",
            f"--storage={storage}",
            *tokens,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        base = process.stdout.readline().strip()
        assert base.startswith("http://"), "the stand-in of Vertex AI did not start"
        yield VertexStandIn(base, storage, process)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def vertex_process(tmp_path_factory) -> Iterator[VertexStandIn]:
    with running(tmp_path_factory.mktemp("vertex-storage")) as found:
        yield found


@pytest.fixture
def vertex(vertex_process) -> Iterator[VertexStandIn]:
    yield vertex_process
    vertex_process.control("reset")
