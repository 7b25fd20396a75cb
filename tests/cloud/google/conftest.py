"""Connections of two tenants to a stand-in of Vertex AI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmcompare.cloud.google.connection import Connection
from llmcompare.cloud.google.credentials import credentials
from llmcompare.cloud.google.resources import Container, Endpoint, Machine, OperationState
from tests.standins.vertex.fixture import REGION, TOKENS, VertexStandIn, vertex, vertex_process  # noqa: F401

ROOT = Path(__file__).resolve().parents[3]
ECHO = Container("tests/echo:1")
L4 = Machine("g2-standard-12", "NVIDIA_L4", 1)
POLL_S, MOST_S = 0.02, 240.0
ASK = """
import json, sys
import django
django.setup()
from llmcompare.cloud.google.connection import Connection
from llmcompare.cloud.google.credentials import credentials
base, region, name = sys.argv[1:]
with Connection("project-alpha", region, credentials("token", "token-alpha"), base, instance="here") as connection:
    print(json.dumps(connection.operation(name).to_json()))
"""


def finished(connection: Connection, name: str) -> OperationState:
    """Ask about an operation until it is done, as a worker does."""
    end = time.monotonic() + MOST_S
    while not (state := connection.operation(name)).done:
        assert time.monotonic() < end, f"{name} did not end"
        time.sleep(POLL_S)
    return state


def made(connection: Connection, name: str) -> dict:
    state = finished(connection, name)
    assert state.error is None, state.error
    return dict(state.response or {})


def deployed(connection: Connection, container: Container = ECHO, **options) -> Endpoint:
    """An endpoint on which ``container`` answers."""
    model = made(connection, connection.upload_model("a model", container))["model"]
    name = made(connection, connection.create_endpoint("an endpoint", **options))["name"]
    made(connection, connection.deploy(name, model, L4))
    return connection.endpoint(name)


def ask_elsewhere(vertex: VertexStandIn, name: str, folder: Path) -> dict:  # noqa: F811
    """How an operation stands, asked by another process that knows nothing but the name."""
    own = {
        "DJANGO_SETTINGS_MODULE": "llmcompare.settings",
        "LLMCOMPARE_DATA": str(folder),
        "LLMCOMPARE_CLOUD_TEST_TOKENS": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK, vertex.base, REGION, name],
        cwd=ROOT,
        env=os.environ | own,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _test_tokens(settings):
    settings.CLOUD_TEST_TOKENS = True


def tenant(vertex: VertexStandIn, name: str, instance: str = "here", **options) -> Connection:  # noqa: F811
    token = f"token-{name}"
    return Connection(TOKENS[token], REGION, credentials("token", token), vertex.base, instance=instance, **options)


@pytest.fixture
def alpha(vertex) -> Iterator[Connection]:  # noqa: F811
    with tenant(vertex, "alpha") as found:
        yield found


@pytest.fixture
def beta(vertex) -> Iterator[Connection]:  # noqa: F811
    with tenant(vertex, "beta") as found:
        yield found
