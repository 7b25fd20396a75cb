"""Long operations: asked about by name, from wherever; and how they fail."""

from __future__ import annotations

import pytest

from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Container
from tests.cloud.google.conftest import ECHO, L4, ask_elsewhere, finished, made


def test_an_operation_is_asked_about_by_its_name_from_another_process(alpha, vertex, tmp_path):
    model = made(alpha, alpha.upload_model("one", ECHO))["model"]
    endpoint = made(alpha, alpha.create_endpoint("one"))["name"]
    with vertex.held("DeployModel") as release:
        name = alpha.deploy(endpoint, model, L4)
        alpha.close()  # whoever began it has gone
        under_way = ask_elsewhere(vertex, name, tmp_path)
        assert (under_way["done"], under_way["error"], under_way["response"]) == (False, None, None)
        assert under_way["started"]
        release()
        finished(alpha, name)
    ended = ask_elsewhere(vertex, name, tmp_path)
    assert ended["done"]
    assert ended["response"]["deployedModel"]["model"] == model


def test_operations_that_no_route_of_the_client_knows_are_found_at_the_documented_one(alpha, vertex):
    name = alpha.create_endpoint("one")
    finished(alpha, name)
    vertex.fail("GetOperation", 404, "Not found.")  # below /ui/
    state = alpha.operation(name)
    assert state.done
    assert [path.split("/")[1] for _m, path, _p, _s in vertex.requests("GetOperation")[-2:]] == ["ui", "v1"]


def test_an_operation_that_does_not_exist_is_said_so(alpha):
    with pytest.raises(CloudError) as error:
        alpha.operation("projects/project-alpha/locations/us-central1/operations/1")
    assert error.value.code == "not_found"


def test_a_container_that_dies_is_told_with_its_last_lines(alpha, vertex):
    why = "Loading weights\nTraceback (most recent call last):\nRuntimeError: CUDA out of memory"
    model = made(alpha, alpha.upload_model("bad", Container("tests/echo:1", environment={"ECHO_DIE": why})))["model"]
    endpoint = made(alpha, alpha.create_endpoint("one"))["name"]
    state = finished(alpha, alpha.deploy(endpoint, model, L4))
    assert state.error["code"] == "container"
    assert state.error["sentence"].startswith("The container did not become ready. Its last lines: ")
    assert state.error["sentence"].endswith("RuntimeError: CUDA out of memory")
    assert state.response is None
    assert alpha.endpoint(endpoint).deployed == ()
    made(alpha, alpha.delete_endpoint(endpoint))  # the empty endpoint can be cleaned up


def test_without_the_right_to_read_logs_the_reason_is_what_the_service_says(alpha, vertex):
    model = made(alpha, alpha.upload_model("bad", Container("tests/echo:1", environment={"ECHO_DIE": "why"})))["model"]
    endpoint = made(alpha, alpha.create_endpoint("one"))["name"]
    name = alpha.deploy(endpoint, model, L4)
    vertex.fail("ListLogEntries", 403, "Permission denied on logs.", times=100)
    state = finished(alpha, name)
    assert state.error["code"] == "container"
    assert "Model server exited unexpectedly" in state.error["sentence"]


@pytest.mark.parametrize(
    ("code", "message", "kind", "words"),
    [
        (
            8,
            "The following quotas are exceeded: CustomModelServingL4GPUsPerProjectPerRegion",
            "quota",
            ["CustomModelServingL4GPUsPerProjectPerRegion", "region"],
        ),
        (8, "The region does not have sufficient resources for the request.", "no_machines", ["region"]),
        (
            14,
            "Machine type temporarily unavailable, please deploy with a different machine type.",
            "no_machines",
            ["machine"],
        ),
        (9, "Model server never became ready.", "container", ["never became ready"]),
        (7, "Permission denied on the bucket.", "forbidden", ["Permission denied on the bucket"]),
        (4, "Deployment took too long.", "deadline", ["Google did not do this in time", "Deployment took too long"]),
        (13, "INTERNAL", "failed", ["failed"]),
    ],
)
def test_an_operation_that_fails_says_what_to_do(alpha, vertex, code, message, kind, words):
    model = made(alpha, alpha.upload_model("one", ECHO))["model"]
    endpoint = made(alpha, alpha.create_endpoint("one"))["name"]
    vertex.fail_operation("DeployModel", code, message)
    state = finished(alpha, alpha.deploy(endpoint, model, L4))
    assert state.error["code"] == kind
    assert all(word in state.error["sentence"] for word in words), state.error["sentence"]
