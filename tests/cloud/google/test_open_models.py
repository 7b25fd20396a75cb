"""Model Garden: its list, and deployments that are ours although nothing could be labelled when they were asked for."""

from __future__ import annotations

import pytest

from llmcompare.cloud.google import labels
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Machine
from tests.cloud.google.conftest import ask_elsewhere, finished, made

QWEN = "publishers/qwen/models/qwen3@qwen3-0.6b"


def test_models_that_can_be_deployed_are_listed_with_what_their_publisher_suggests(alpha):
    found = {one.name: one for one in alpha.open_models()}
    assert list(found) == sorted(found)
    assert "publishers/google/models/text-bison@002" not in found  # there is no way to deploy it
    assert found[QWEN].machines == (Machine("g2-standard-12", "NVIDIA_L4", 1),)
    assert [one.name for one in alpha.open_models("Qwen3-0.6B")] == [QWEN]
    assert alpha.open_models('x" OR true') == []


def test_an_open_model_is_deployed_on_an_endpoint_that_becomes_ours(alpha, vertex):
    operation, name = alpha.deploy_open_model(QWEN, "my qwen", machine=Machine("g2-standard-24", "NVIDIA_L4", 2))
    response = made(alpha, operation)
    assert response["endpoint"].rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]
    before = alpha.endpoint(name)
    assert (before.labels, before.ours, before.dedicated) == ({}, True, True)
    assert before.deployed[0].machine == Machine("g2-standard-24", "NVIDIA_L4", 2, max_replicas=1)
    assert alpha.adopt(name).labels == labels.labels("here")
    assert [one.name for one in alpha.list_endpoints(ours_only=True)] == [response["endpoint"]]
    assert alpha.raw(before, {"messages": []})["choices"]
    made(alpha, alpha.undeploy(name, before.deployed[0].id))
    made(alpha, alpha.delete_endpoint(name))
    made(alpha, alpha.delete_model(response["model"]))


def test_its_operation_is_understood_where_only_v1_is_loaded(alpha, vertex, tmp_path):
    """The answer is a message of v1beta1, which a process that only asks does not import."""
    operation, _endpoint = alpha.deploy_open_model(QWEN, "my qwen")
    finished(alpha, operation)
    state = ask_elsewhere(vertex, operation, tmp_path)
    assert state["done"]
    assert state["response"]["publisherModel"] == QWEN


def test_adopting_twice_changes_nothing(alpha, vertex):
    operation, name = alpha.deploy_open_model(QWEN, "my qwen")
    finished(alpha, operation)
    alpha.adopt(name)
    alpha.adopt(name)
    assert len(vertex.requests("UpdateEndpoint")) == 1


def test_a_licence_has_to_be_accepted(alpha):
    name = "publishers/google/models/gemma3@gemma-3-1b-it"
    with pytest.raises(CloudError, match=r"license of .* must be accepted"):
        alpha.deploy_open_model(name, "gemma")
    operation, _endpoint = alpha.deploy_open_model(name, "gemma", accept_eula=True)
    made(alpha, operation)


@pytest.mark.parametrize("name", ["", "qwen", "publishers/a/models/b/../../x", "projects/p/locations/l/models/1"])
def test_names_of_open_models(alpha, vertex, name):
    with pytest.raises(CloudError, match="named as publishers"):
        alpha.deploy_open_model(name, "x")
    assert vertex.requests() == []
