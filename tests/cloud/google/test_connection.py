"""Everything that a connection does, by Google's generated clients against the stand-in."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from django.utils import timezone

from llmcompare.cloud.google import labels
from llmcompare.cloud.google.connection import Connection
from llmcompare.cloud.google.credentials import credentials
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Container, Machine
from tests.cloud.google.conftest import ECHO, L4, deployed, finished, made, tenant
from tests.standins.vertex.fixture import REGION

WRITES = (
    "UploadModel",
    "DeleteModel",
    "CreateEndpoint",
    "UpdateEndpoint",
    "DeleteEndpoint",
    "DeployModel",
    "UndeployModel",
)


def test_a_model_is_uploaded_deployed_asked_undeployed_and_deleted(alpha, vertex):
    container = Container(
        "tests/echo:1",
        environment={"ECHO_TEXT": "four words of answer"},
        deployment_timeout_s=600,
        shared_memory_mb=64,
    )
    model = made(alpha, alpha.upload_model("my model", container, "gs://bucket/folder", {"purpose": "test"}))["model"]
    endpoint = made(alpha, alpha.create_endpoint("my endpoint", timeout_s=1800))["name"]
    machine = Machine("a2-highgpu-1g", "NVIDIA_TESLA_A100", 1, spot=True)
    made(alpha, alpha.deploy(endpoint, model, machine, display_name="first"))

    found = alpha.model(model)
    assert (found.display_name, found.image, found.artifact_uri) == ("my model", "tests/echo:1", "gs://bucket/folder")
    assert found.labels == {"managed-by": "llmcompare", "llmcompare-instance": "here", "purpose": "test"}
    seen = alpha.endpoint(endpoint)
    assert (seen.dedicated, seen.timeout_s, seen.ours) == (True, 1800, True)
    [one] = seen.deployed
    assert one.machine == Machine("a2-highgpu-1g", "NVIDIA_TESLA_A100", 1, max_replicas=1, spot=True)
    assert (one.traffic, one.display_name, one.model) == (100, "first", model)
    assert abs((timezone.now() - datetime.fromisoformat(one.created)).total_seconds()) < 60

    answer = alpha.raw(seen, {"messages": [{"role": "user", "content": "hello"}]})
    assert answer["choices"][0]["message"]["content"] == "four words of answer"
    lines = [line for line in alpha.raw_stream(seen, {"messages": [], "stream": True}) if line]
    words = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") for line in lines[:-1]]
    assert words == ["four ", "words ", "of ", "answer ", None]
    assert lines[-1] == "data: [DONE]"

    pid = vertex.state()["containers"][one.id]
    made(alpha, alpha.undeploy(endpoint, one.id))
    assert vertex.state()["containers"] == {}, f"process {pid} should have ended"
    made(alpha, alpha.delete_endpoint(endpoint))
    made(alpha, alpha.delete_model(model))
    assert (alpha.list_endpoints(), alpha.list_models()) == ([], [])


def test_a_stream_comes_as_the_container_sends_it(alpha):
    """What waits on the way would falsify every time that is measured of a stream."""
    endpoint = deployed(
        alpha, Container("tests/echo:1", environment={"ECHO_WORD_S": "0.2", "ECHO_TEXT": "a b c d e f"})
    )
    times = [time.monotonic() for line in alpha.raw_stream(endpoint, {"stream": True}) if "content" in line]
    assert len(times) == 6
    assert times[-1] - times[0] > 0.8


def test_plain_data_leaves_the_package_as_json(alpha):
    json.dumps(deployed(alpha).to_json())
    json.dumps([one.to_json() for one in alpha.list_models()])
    json.dumps(finished(alpha, alpha.create_endpoint("one")).to_json())


def test_lists_are_read_over_all_pages(alpha):
    for number in range(5):
        made(alpha, alpha.create_endpoint(f"endpoint {number}"))
        made(alpha, alpha.upload_model(f"model {number}", ECHO))
    assert {one.display_name for one in alpha.list_endpoints()} == {f"endpoint {n}" for n in range(5)}
    assert {one.display_name for one in alpha.list_models()} == {f"model {n}" for n in range(5)}


def test_a_list_that_breaks_off_is_none(alpha, vertex):
    """Whoever looks for what is left over must not take half a list for all there is."""
    for number in range(5):
        made(alpha, alpha.create_endpoint(f"endpoint {number}"))
    vertex.fail("ListEndpoints", 503, "Try later.")
    with pytest.raises(CloudError, match="not ready"):
        alpha.list_endpoints()


def test_two_models_share_an_endpoint(alpha):
    endpoint = deployed(alpha, Container("tests/echo:1", environment={"ECHO_TEXT": "old"}))
    model = made(alpha, alpha.upload_model("new", Container("tests/echo:1", environment={"ECHO_TEXT": "new"})))["model"]
    [old] = endpoint.deployed
    made(alpha, alpha.deploy(endpoint.name, model, L4, traffic={"0": 30, old.id: 70}))
    shares = {one.id: one.traffic for one in alpha.endpoint(endpoint.name).deployed}
    new = next(key for key in shares if key != old.id)
    assert shares == {old.id: 70, new: 30}
    answers = [alpha.raw(endpoint, {"messages": []})["choices"][0]["message"]["content"] for _ in range(100)]
    assert (answers.count("old"), answers.count("new")) == (70, 30)

    changed = alpha.set_traffic(endpoint.name, {old.id: 0, new: 100})
    assert {one.id: one.traffic for one in changed.deployed} == {old.id: 0, new: 100}
    made(alpha, alpha.undeploy(endpoint.name, old.id))
    assert [(one.id, one.traffic) for one in alpha.endpoint(endpoint.name).deployed] == [(new, 100)]


def test_what_is_left_gets_the_traffic_of_what_is_undeployed(alpha):
    endpoint = deployed(alpha)
    model = endpoint.deployed[0].model
    first = endpoint.deployed[0].id
    made(alpha, alpha.deploy(endpoint.name, model, L4, traffic={"0": 50, first: 50}))
    second = next(one.id for one in alpha.endpoint(endpoint.name).deployed if one.id != first)
    made(alpha, alpha.undeploy(endpoint.name, first))
    assert [(one.id, one.traffic) for one in alpha.endpoint(endpoint.name).deployed] == [(second, 100)]


def test_the_only_one_with_traffic_hands_it_on_when_it_is_undeployed(alpha):
    endpoint = deployed(alpha)
    [first] = endpoint.deployed
    made(alpha, alpha.deploy(endpoint.name, first.model, L4, traffic={"0": 0, first.id: 100}))
    second = next(one.id for one in alpha.endpoint(endpoint.name).deployed if one.id != first.id)
    made(alpha, alpha.undeploy(endpoint.name, first.id))
    assert [(one.id, one.traffic) for one in alpha.endpoint(endpoint.name).deployed] == [(second, 100)]


@pytest.mark.parametrize("traffic", [{"1": 50}, {"1": 150, "2": -50}])
def test_traffic_that_is_not_100_percent_is_refused_here(alpha, vertex, traffic):
    with pytest.raises(CloudError, match="add up to 100"):
        alpha.set_traffic("endpoints/1", traffic)
    assert vertex.requests() == []


def test_tpu_machines_have_a_topology_and_no_accelerator(alpha):
    model = made(alpha, alpha.upload_model("on a TPU", ECHO))["model"]
    name = made(alpha, alpha.create_endpoint("one"))["name"]
    made(alpha, alpha.deploy(name, model, Machine("ct5lp-hightpu-1t", tpu_topology="1x1")))
    [one] = alpha.endpoint(name).deployed
    assert one.machine == Machine("ct5lp-hightpu-1t", tpu_topology="1x1", max_replicas=1)


def test_an_accelerator_that_google_does_not_have_is_named(alpha):
    model = made(alpha, alpha.upload_model("one", ECHO))["model"]
    name = made(alpha, alpha.create_endpoint("one"))["name"]
    with pytest.raises(CloudError, match="no accelerator named NVIDIA_VOODOO"):
        alpha.deploy(name, model, Machine("g2-standard-4", "NVIDIA_VOODOO", 1))


def test_routes_of_a_container_are_reached_through_invoke(alpha):
    endpoint = deployed(alpha, Container("tests/echo:1", invoke=True))
    url = alpha.invoke_url(endpoint, "/v1/chat/completions")
    answer = alpha.http.post(url, json={"messages": [], "model": "m"}, timeout=30)
    assert answer.json()["route"] == "/v1/chat/completions"
    for route in ("v1/models", "/../../secret", "/v1/é"):
        with pytest.raises(CloudError):
            alpha.invoke_url(endpoint, route)


def test_a_dedicated_endpoint_is_asked_at_its_own_host(vertex):
    with tenant(vertex, "alpha", host_for=lambda dns: f"{vertex.base}/dedicated/{dns}") as alpha:
        endpoint = deployed(alpha)
        assert alpha.raw_url(endpoint).startswith(f"{vertex.base}/dedicated/{endpoint.dns}/v1/projects/project-alpha/")
        assert alpha.raw_url(endpoint, stream=True).endswith(f"/endpoints/{endpoint.id}:streamRawPredict")
        assert alpha.raw(endpoint, {"messages": []})["choices"]
        shared = deployed(alpha, dedicated=False)
        assert alpha.raw_url(shared).startswith(f"{vertex.base}/v1/")
        assert alpha.raw(shared, {"messages": []})["choices"]


def test_without_another_base_requests_go_to_google_over_https():
    with Connection("project-alpha", "europe-west4", credentials("token", "t"), instance="here") as real:
        assert real.base == "https://europe-west4-aiplatform.googleapis.com"
        assert real.host_for("1.europe-west4-2.prediction.vertexai.goog").startswith("https://1.europe-west4-2.")
    for base in ("http://example.com", "http://10.0.0.1:80", "ftp://127.0.0.1"):
        with pytest.raises(CloudError, match="must be https"):
            Connection("project-alpha", REGION, credentials("token", "t"), base, instance="here")


# --- nothing without our label is touched ---


@pytest.fixture
def foreign(vertex):
    """An endpoint and a model that somebody else made, one of another installation of the portal, and names of them."""
    place = {"project": "project-alpha", "region": REGION}
    other = labels.labels("elsewhere")
    return {
        "plain": vertex.control("endpoint", **place, resource={"displayName": "theirs"})["name"],
        "other": vertex.control("endpoint", **place, resource={"displayName": "another portal's", "labels": other})[
            "name"
        ],
        "almost": vertex.control(
            "endpoint", **place, resource={"displayName": "only half", "labels": {"managed-by": "llmcompare"}}
        )["name"],
        "model": vertex.control("model", **place, resource={"displayName": "their model"})["name"],
    }


def test_lists_say_what_is_ours(alpha, foreign):
    made(alpha, alpha.create_endpoint("mine"))
    made(alpha, alpha.upload_model("mine", ECHO))
    assert {one.display_name for one in alpha.list_endpoints() if one.ours} == {"mine"}
    assert {one.display_name for one in alpha.list_endpoints(ours_only=True)} == {"mine"}
    assert {one.display_name for one in alpha.list_models(ours_only=True)} == {"mine"}
    assert len(alpha.list_endpoints()) == 4


def test_what_is_not_ours_is_never_changed(alpha, foreign, vertex):
    model = made(alpha, alpha.upload_model("mine", ECHO))["model"]
    before, state = len(vertex.requests(*WRITES)), vertex.state()["endpoints"]
    for key in ("plain", "other", "almost"):
        name = foreign[key]
        for change in (
            lambda name=name: alpha.deploy(name, model, L4),
            lambda name=name: alpha.undeploy(name, "1"),
            lambda name=name: alpha.set_traffic(name, {"1": 100}),
            lambda name=name: alpha.delete_endpoint(name),
            lambda name=name: alpha.adopt(name),
        ):
            with pytest.raises(CloudError, match="not made by this portal") as error:
                change()
            assert error.value.code == "not_ours"
    with pytest.raises(CloudError, match="their model was not made by this portal"):
        alpha.delete_model(foreign["model"])
    assert len(vertex.requests(*WRITES)) == before
    assert vertex.state()["endpoints"] == state


def test_an_endpoint_of_somebody_else_may_be_asked_but_not_changed(alpha, foreign):
    found = alpha.endpoint(foreign["plain"])
    assert not found.ours
    assert alpha.raw_url(found).endswith(":rawPredict")


def test_further_labels_cannot_take_ours_away(alpha):
    name = made(alpha, alpha.create_endpoint("one", extra={"managed-by": "me", "llmcompare-instance": "x", "a": "b"}))
    assert alpha.endpoint(name["name"]).labels == labels.labels("here", {"a": "b"})


def test_an_id_of_ours_is_told_from_another_installations():
    mine = labels.resource_id("a")
    assert labels.ours({}, "a", f"projects/1/locations/r/endpoints/{mine}")
    assert not labels.ours({}, "b", mine)
    assert not labels.ours({}, "a", "llmcompare-a-mine")
    assert not labels.ours({}, "a", labels.resource_id("a-0123456789abcdef"))
    assert not labels.ours({"managed-by": "llmcompare", "llmcompare-instance": "b"}, "a", mine)
    for instance in ("", "A", "-a", "a" * 21, "a.b", "a\n"):
        with pytest.raises(ValueError, match="instance"):
            labels.labels(instance)


def test_an_id_of_ours_can_be_known_before_anything_is_made():
    assert labels.resource_id("a", "0123456789abcdef") == "llmcompare-a-0123456789abcdef"
    for mark in ("0123", "0123456789ABCDEF", "../0123456789abc"):
        with pytest.raises(ValueError, match="hexadecimal"):
            labels.resource_id("a", mark)


@pytest.mark.parametrize(
    ("until", "held"), [("", False), ("1999999999", True), ("1000000000", False), ("never", False)]
)
def test_what_somebody_looks_after_themselves_is_held_until_then(until, held):
    now = datetime(2026, 11, 26, tzinfo=UTC)
    assert labels.looked_after({labels.UNTIL: until}, now) is held


# --- names ---


@pytest.mark.parametrize(
    "name",
    [
        "projects/project-beta/locations/europe-west4/endpoints/1",
        "projects/project-alpha/locations/us-central1/models/1",
        "endpoints/1/../../2",
        "endpoints/1:rawPredict",
        "endpoints/1?alt=media",
        "",
    ],
)
def test_a_name_of_another_kind_or_region_is_refused_before_anything_is_sent(alpha, vertex, name):
    with pytest.raises(CloudError) as error:
        alpha.endpoint(name)
    assert error.value.code == "invalid"
    assert vertex.requests() == []


def test_a_name_never_leads_into_another_project(alpha, beta, vertex):
    """The same identity may reach several projects: a name that came from outside must not choose one."""
    theirs = made(beta, beta.create_endpoint("beta's"))["name"]
    with pytest.raises(CloudError) as error:
        alpha.endpoint(theirs)
    assert error.value.code == "not_found"
    assert vertex.requests("GetEndpoint")[-1][1].startswith("/v1/projects/project-alpha/")


@pytest.mark.parametrize(
    ("project", "region"),
    [("Project", REGION), ("a/b-c-d", REGION), ("project-alpha", "moon"), ("project-alpha", "us-central1/../x")],
)
def test_projects_and_regions_that_are_none_are_refused(project, region):
    with pytest.raises(CloudError) as error:
        Connection(project, region, credentials("token", "t"), instance="here")
    assert error.value.code == "invalid"
