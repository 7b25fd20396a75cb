"""Runs of a deployed model when something goes wrong between the container and here: what their owner reads, and what counts as failed."""

from __future__ import annotations

import threading

import pytest

from llmcompare.runs.executor import execute
from llmcompare.runs.services import launch_endpoint_run

#: switch of the stand-in, kind of the failures, words of the sentence
TROUBLE = {
    "credentials": (
        {"status": 401, "message": "Invalid credentials."},
        "http",
        "does not accept the credentials of the connection",
    ),
    "forbidden": (
        {"status": 403, "message": "aiplatform.endpoints.predict denied."},
        "http",
        "may not use this endpoint (status 403): aiplatform.endpoints.predict denied",
    ),
    "gone": ({"status": 404, "message": "The Endpoint does not exist."}, "http", "no such endpoint any more"),
    "quota": (
        {"status": 429, "message": "Quota exceeded for aiplatform.googleapis.com/x."},
        "rate_limit",
        "rate limit or quota is reached (status 429): Quota exceeded for aiplatform.googleapis.com/x",
    ),
    "loading": (
        {"status": 503, "message": "The model server is loading."},
        "http",
        "not ready or overloaded (status 503): The model server is loading",
    ),
    "oversized": (
        {"status": 400, "message": "Response size too large. Received at least 20000000 bytes; max is 10000000."},
        "http",
        "Response size too large",
    ),
}


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)


@pytest.fixture
def endpoint(hand, connection):
    return hand.deploy(connection).endpoint


def carried_out(endpoint):
    workload = {"output_tokens": 3, "warmup": 0, "time_limit_s": 60.0}
    load = {"load_mode": "closed", "load_concurrency": 1, "load_requests": 3}
    run = launch_endpoint_run(owner=endpoint.owner, endpoint=endpoint, workload=workload, load=load, profile=False)
    execute(run_id=run.pk, worker="test:1", shutdown=threading.Event())
    run.refresh_from_db()
    return run


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_run_in_which_every_request_is_refused_says_why(hand, endpoint, trouble):
    switch, kind, words = TROUBLE[trouble]
    hand.vertex.fail("StreamRawPredict", times=50, **switch)
    run = carried_out(endpoint)
    assert run.state == "failed"
    assert words in run.error
    [failure] = run.document.data["failures"]
    assert (failure["kind"], failure["requests"]) == (kind, 3)
    assert words in failure["message"]
    assert "API key" not in run.error
    assert "token-alpha" not in str(run.document.data)


@pytest.mark.slow
def test_a_stream_that_is_cut_fails_one_request_and_not_the_run(hand, endpoint):
    hand.vertex.control("cut", method="StreamRawPredict", bytes=20)
    run = carried_out(endpoint)
    assert run.state == "done"
    assert run.document.data["load"]["served"] == 2
    [failure] = run.document.data["failures"]
    assert failure["kind"] == "cut"
    assert failure["requests"] == 1


@pytest.mark.slow
def test_a_run_of_what_is_not_deployed_any_more_says_so(hand, connection, endpoint):
    endpoint.cloud_deployments.update(state="ended")
    run = carried_out(endpoint)
    assert run.state == "failed"
    assert "not deployed any more" in run.error
