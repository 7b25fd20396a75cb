"""The stand-in against Google's own high-level library, unmodified: if that works with it, it speaks the protocol. In a process of its own,
since that library's ``init`` is global."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.cloud.google.conftest import ROOT
from tests.standins.vertex.fixture import REGION

WHOLE_LIFE = """
import json, sys
import requests
from google.auth.transport.requests import AuthorizedSession
from google.cloud import aiplatform
from google.oauth2.credentials import Credentials

base, region = sys.argv[1:]
aiplatform.init(project="project-alpha", location=region, credentials=Credentials("token-alpha"), api_endpoint=base, api_transport="rest")
model = aiplatform.Model.upload(
    display_name="by the library", serving_container_image_uri="tests/echo:1", serving_container_predict_route="/predict",
    serving_container_health_route="/health", serving_container_ports=[8080], labels={"a": "b"},
)
endpoint = aiplatform.Endpoint.create(display_name="by the library")
model.deploy(endpoint, machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1, traffic_percentage=100)
answer = endpoint.predict(instances=[{"prompt": "hello", "number": 3}])
found = {
    "predictions": answer.predictions,
    "models": [one.display_name for one in aiplatform.Model.list()],
    "endpoints": [one.display_name for one in aiplatform.Endpoint.list()],
    "deployed": [one.display_name for one in endpoint.list_models()],
    "split": list(endpoint.traffic_split.values()),
}

class Here(requests.adapters.HTTPAdapter):
    def send(self, request, **options):
        request.url = base + "/" + request.url.split("/", 3)[3]
        return super().send(request, **options)

endpoint.authorized_session = AuthorizedSession(Credentials("token-alpha"))
endpoint.authorized_session.mount("https://", Here())
raw = endpoint.raw_predict(body=json.dumps({"messages": []}).encode(), headers={"Content-Type": "application/json"})
found["raw"] = [raw.json()["choices"][0]["message"]["content"], raw.headers["X-Vertex-AI-Model"]]
endpoint.undeploy_all()
endpoint.delete(force=True)
model.delete()
found["left"] = len(aiplatform.Model.list()) + len(aiplatform.Endpoint.list())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_library_itself_lives_a_whole_life_against_the_stand_in(vertex):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WHOLE_LIFE, vertex.base, REGION],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["predictions"] == [{"text": "one two three", "asked": {"prompt": "hello", "number": 3.0}}]
    assert found["models"] == found["endpoints"] == found["deployed"] == ["by the library"]
    assert found["split"] == [100]
    assert found["raw"][0] == "one two three"
    assert "/models/" in found["raw"][1]
    assert found["left"] == 0
