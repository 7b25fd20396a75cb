"""The OpenAI routes of the real serving container, reached the way Vertex AI passes them on: ``invoke`` at a dedicated endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from llmcompare.cloud import uploads
from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.models import Deployment
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.executor import execute
from llmcompare.runs.services import launch_endpoint_run
from profiling.remote.packed import unpack
from tests.profiling.tokenised import make_tokenised

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("container")]
ENVIRONMENT = {"LLMCOMPARE_DTYPE": "fp32", "LLMCOMPARE_THREADS": "1"}
QUESTION = "what is the capital of france"


@pytest.fixture
def deployment(hand, connection) -> Deployment:
    """The container as it is, with every route of it open and no predict route."""
    make_tokenised(hand.vertex.storage / "tiny")
    uploads.upload(
        connection=connection,
        by=connection.owner,
        name="tiny",
        image="llmcompare/serving:1",
        artifact_uri="gs://local/tiny",
        environment=ENVIRONMENT,
        invoke=True,
    )
    hand.work()
    [model] = hand.read(connection).models_found
    made = hand.ask(connection, model=model["id"], name="invoked")
    hand.work(steps=3000)
    made.refresh_from_db()
    assert made.state == "ready", made.error
    return made


def events(response) -> Iterator[dict | str]:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    for line in response.iter_lines():
        text = line.decode().removeprefix("data: ")
        if text:
            yield text if text == "[DONE]" else json.loads(text)


def test_the_openai_routes_of_the_real_container_answer_through_invoke(deployment):
    with open_cloud(deployment.connection) as cloud:
        endpoint = cloud.endpoint(deployment.endpoint_name)

        def send(route: str, stream: bool = False, **body):
            url = cloud.invoke_url(endpoint, route)
            return cloud.http.post(url, json=body | ({"stream": True} if stream else {}), stream=stream, timeout=240)

        asked = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8, "ignore_eos": True}
        whole = send("/v1/chat/completions", **asked)
        assert whole.status_code == 200, whole.text
        answer = whole.json()
        assert (answer["object"], answer["usage"]["completion_tokens"]) == ("chat.completion", 8)

        ours = {"llmcompare": {"profile": True}, "stream_options": {"include_usage": True}}
        *chunks, usage, profile, end = events(send("/v1/chat/completions", stream=True, **asked, **ours))
        assert end == "[DONE]"
        said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert said == answer["choices"][0]["message"]["content"], "the same words, in pieces"
        assert len(chunks) > 3
        assert usage["usage"]["completion_tokens"] == 8
        server, document = profile["llmcompare"]["server"], unpack(profile["llmcompare"]["profile"])
        assert 0 < server["ttft_s"] < server["e2e_s"]
        assert (document["kind"], document["workload"]["output_tokens"]) == ("measure", 8)
        assert "layers.0" in json.dumps(document["modules"])

        text = send("/v1/completions", prompt=QUESTION, max_tokens=4).json()
        assert text["object"] == "text_completion"
        *parts, end = events(send("/v1/completions", stream=True, prompt=QUESTION, max_tokens=4))
        assert "".join(part["choices"][0]["text"] for part in parts) == text["choices"][0]["text"]

        wrong = send("/v1/chat/completions", messages=[])
        assert wrong.status_code == 400
        assert "messages" in wrong.text
        # An open model has no predict route: what is asked there never reaches the container.
        with pytest.raises(CloudError, match="not both"):
            cloud.raw(endpoint, {"instances": [{"prompt": QUESTION}]})


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_run_of_the_portal_reaches_a_model_without_a_predict_route(deployment, owner, monkeypatch, api):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)
    Endpoint.objects.filter(pk=deployment.endpoint_id).update(api=api)
    workload = {"prompt": QUESTION, "output_tokens": 4, "warmup": 0, "time_limit_s": 240.0}
    endpoint = Endpoint.objects.get(pk=deployment.endpoint_id)
    run = launch_endpoint_run(owner=owner, endpoint=endpoint, workload=workload, profile=True)
    execute(run_id=run.pk, worker="test:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert (run.state, run.error) == ("done", "")
    document = run.document.data
    assert (document["load"]["served"], document["failures"]) == (1, [])
    assert document["served"]["kind"] == "measure"
    assert "token-alpha" not in json.dumps(document)
