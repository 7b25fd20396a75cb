"""Two tenants at once in one process, each with a token and a project of its own."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Container
from tests.cloud.google.conftest import deployed, made, tenant


def life(vertex, name: str, start: threading.Barrier) -> list[str]:
    """Everything once, in step with the other tenant."""
    seen = []
    with tenant(vertex, name) as connection:
        start.wait()
        for _turn in range(3):
            endpoint = deployed(connection, Container("tests/echo:1", environment={"ECHO_TEXT": name}))
            seen.append(connection.raw(endpoint, {"messages": []})["choices"][0]["message"]["content"])
            seen += [line for line in connection.raw_stream(endpoint, {"stream": True}) if name in line][:1]
            [one] = endpoint.deployed
            made(connection, connection.undeploy(endpoint.name, one.id))
            made(connection, connection.delete_endpoint(endpoint.name))
            made(connection, connection.delete_model(one.model))
        assert connection.bearer() == f"token-{name}"
    return seen


def test_two_tenants_work_at_once_and_see_nothing_of_each_other(vertex):
    start, environment = threading.Barrier(4), dict(os.environ)
    names = ["alpha", "beta", "alpha", "beta"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: life(vertex, name, start), names))
    for name, seen in zip(names, found, strict=True):
        assert len(seen) == 6
        assert all(name in text for text in seen)
    paths = {
        (project, path.split("/projects/")[1].split("/")[0])
        for _m, path, project, _s in vertex.requests()
        if "/projects/" in path
    }
    assert paths == {("project-alpha", "project-alpha"), ("project-beta", "project-beta")}
    assert {status for *_rest, status in vertex.requests()} == {200}
    assert dict(os.environ) == environment


def test_a_tenant_cannot_ask_about_the_others_things(alpha, beta):
    made(alpha, alpha.create_endpoint("alpha's"))
    assert beta.list_endpoints() == []
    stolen = deployed(alpha)
    with pytest.raises(CloudError) as error:
        beta.raw(stolen, {"messages": []})
    assert error.value.code == "not_found"


def test_a_token_for_another_project_is_forbidden(vertex, settings):
    from llmcompare.cloud.google.connection import Connection
    from llmcompare.cloud.google.credentials import credentials

    with (
        Connection(
            "project-beta", "us-central1", credentials("token", "token-alpha"), vertex.base, instance="here"
        ) as wrong,
        pytest.raises(CloudError, match="may not do this") as error,
    ):
        wrong.list_endpoints()
    assert error.value.code == "forbidden"
