"""From the pages to the layers: a model is uploaded, deployed and asked through the portal, Google's real client library, the stand-in and the
real serving container; its profile comes back."""

from __future__ import annotations

import json
import threading

import pytest

from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.models import Connection, Deployment
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.executor import execute
from llmcompare.runs.models import Run
from profiling.remote.packed import unpack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("container")]

ENVIRONMENT = "LLMCOMPARE_DTYPE=fp32\nLLMCOMPARE_THREADS=1"


def deployed_through_the_pages(hand, client, storage) -> Deployment:
    """Every form that a user fills in, from nothing to a deployment that is ready."""
    from tests.profiling.tokenised import make_tokenised

    make_tokenised(storage / "tiny")
    values = {"name": "E2E", "project": "project-alpha", "region": "us-central1"}
    client.post("/cloud/new/", values | {"credential_kind": "token", "credential": "token-alpha"})
    connection = Connection.objects.get()
    hand.read(connection)
    base = f"/cloud/{connection.public_id}/"
    model = {"name": "tiny", "image": "llmcompare/serving:1", "artifact_uri": "gs://local/tiny"}
    routes = {"port": "8080", "health_route": "/health", "predict_route": "/predict", "environment": ENVIRONMENT}
    client.post(base + "upload/", model | routes)
    hand.work()
    hand.read(connection)
    assert "tiny" in client.get(base).content.decode()
    wanted = {"source": "model", "model": connection.models_found[0]["id"], "name": "e2e", "dedicated": "on"}
    wanted |= {"machine_type": "g2-standard-4", "replicas": "1", "lease_hours": "1", "idle_minutes": "30"}
    confirm = client.post(base + "deploy/", wanted)
    page = client.post(base + "deploy/", wanted | {"price": confirm.context["price"], "typed": "e2e"})
    hand.work(steps=3000)
    deployment = Deployment.objects.get()
    assert deployment.state == "ready", deployment.error
    assert "ready" in client.get(page["Location"]).content.decode()
    return deployment


def test_from_the_pages_to_the_layers_and_back_to_nothing(hand, owner_client):
    deployment = deployed_through_the_pages(hand, owner_client, hand.vertex.storage)
    with open_cloud(deployment.connection) as cloud:
        endpoint = cloud.endpoint(deployment.endpoint_name)
        body = {"instances": [{"prompt": "what is the capital"}], "parameters": {"max_tokens": 4, "profile": True}}
        answer = cloud.raw(endpoint, body, timeout_s=240)["predictions"][0]
    assert answer["usage"]["completion_tokens"] >= 1
    document = unpack(answer["profile"])
    assert document["kind"] == "measure"
    assert "layers.0" in json.dumps(document["modules"])

    # The same as a run: seen from here, and with what the container measured in itself, drawn by the page of the run.
    endpoint = Endpoint.objects.get()
    asked = {"kind": "endpoint", "endpoint": endpoint.public_id, "prompt": "what is the capital", "output_tokens": "4"}
    asked |= {"warmup": "0", "visibility": "private", "idempotency_key": "e2e", "profile": "on", "send": "single"}
    launched = owner_client.post("/runs/new/", asked | {"input_tokens": "5"})
    assert launched.status_code == 302, launched.context["form"].errors
    page = launched["Location"]
    run = Run.objects.get()
    execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert (run.state, run.error) == ("done", "")
    kept = run.document.data
    assert kept["served"]["kind"] == "measure"
    html = owner_client.get(page).content.decode()
    assert "layers.0" in html
    assert "network + gateway" in html.lower()
    deployment.refresh_from_db()
    assert deployment.used_at is not None
    assert "token-alpha" not in html + json.dumps(kept)

    owner_client.post(f"/cloud/deployments/{deployment.public_id}/stop/")
    hand.work()
    assert hand.endpoints() == []
    assert Endpoint.objects.get().deleted_at is not None
