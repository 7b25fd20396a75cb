"""The whole way: a model deployed from the portal through Google's clients onto the real serving container, asked by a run whose page then
shows what came back from inside of it."""

from __future__ import annotations

import json
import threading
import time

import pytest

from llmcompare.cloud import uploads
from llmcompare.cloud.models import Operation
from llmcompare.runs.executor import execute
from llmcompare.runs.services import launch_endpoint_run
from tests.conftest import client_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TOKENS, DEPLOY_S = 6, 240


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)


def tiny(vertex) -> str:
    """A model with weights and a tokenizer in what the stand-in takes for a bucket."""
    from tests.profiling.tokenised import make_tokenised

    make_tokenised(vertex.storage / "tiny")
    return "gs://local/tiny"


def patiently(hand) -> None:
    """The steps of a deployment whose container needs its time to load a model."""
    end = time.monotonic() + DEPLOY_S
    while Operation.objects.active().exists():
        assert time.monotonic() < end, "the deployment did not end"
        hand.step()
        time.sleep(0.2)


def test_layers_memory_and_both_clocks_of_a_deployed_model_are_on_the_page_of_its_run(hand, connection, owner):
    uploads.upload(
        connection=connection, by=owner, name="tiny", image="tests/serving:1", artifact_uri=tiny(hand.vertex)
    )
    hand.work()
    [model] = hand.read(connection).models_found
    deployment = hand.ask(connection, model=model["id"], name="tiny-endpoint")
    patiently(hand)
    deployment.refresh_from_db()
    assert deployment.state == "ready", deployment.error
    endpoint = deployment.endpoint
    assert (endpoint.kind, endpoint.owner) == ("vertex", owner)

    workload = {"prompt": "what is the capital of france", "output_tokens": TOKENS, "warmup": 1, "time_limit_s": 240.0}
    load = {"load_mode": "closed", "load_concurrency": 2, "load_requests": 4}
    run = launch_endpoint_run(owner=owner, endpoint=endpoint, workload=workload, load=load)
    execute(run_id=run.pk, worker="test:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert (run.state, run.error) == ("done", "")

    document = run.document.data
    assert (document["load"]["served"], document["failures"]) == (4, [])
    assert document["served"]["kind"] == "measure"
    assert "token-alpha" not in json.dumps(document)
    clocks = {figure: (here, server) for figure, here, server, _difference in document["clocks"]["rows"]}
    assert set(clocks) == {"ttft", "tpot", "e2e"}
    assert 0 < clocks["e2e"][1] < clocks["e2e"][0], "the server's share of a request is less than all of it"

    browser = client_for(owner)
    page = browser.get(f"/runs/{run.public_id}/").content.decode()
    assert "From the server itself." in page
    assert "Network + gateway" in page
    assert 'id="network-graph"' in page
    graph = browser.get(f"/runs/{run.public_id}/graph.json?stage=prefill")
    assert graph.status_code == 200
    for name in ("self_attn", "mlp", "lm_head"):
        assert name in graph.content.decode()
        assert name in page
