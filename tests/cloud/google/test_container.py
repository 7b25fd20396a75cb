"""The real serving container, as the stand-in starts it on deploy, asked through Google's clients."""

from __future__ import annotations

import json

import pytest

from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.resources import Container
from tests.cloud.google.conftest import L4, finished, made

ENVIRONMENT = {"LLMCOMPARE_DTYPE": "fp32", "LLMCOMPARE_THREADS": "1"}
SERVING = Container("serving:1", environment=ENVIRONMENT)
#: A container whose model cannot be loaded keeps on saying so: the service gives up after its time.
IMPATIENT = Container("serving:1", environment=ENVIRONMENT, deployment_timeout_s=10)


@pytest.mark.slow
def test_a_model_answers_streams_refuses_and_its_profile_comes_back(alpha, vertex):
    from profiling.remote import packed
    from tests.profiling.tokenised import make_tokenised

    make_tokenised(vertex.storage / "tiny")
    model = made(alpha, alpha.upload_model("tiny", SERVING, "gs://local/tiny"))["model"]
    name = made(alpha, alpha.create_endpoint("tiny"))["name"]
    made(alpha, alpha.deploy(name, model, L4))
    endpoint = alpha.endpoint(name)

    parameters = {"max_tokens": 6, "profile": True, "ignore_eos": True}
    body = {"instances": [{"prompt": "what is the capital"}], "parameters": parameters}
    [prediction] = alpha.raw(endpoint, body, timeout_s=240)["predictions"]
    assert prediction["usage"]["completion_tokens"] == 6
    assert prediction["server"]["e2e_s"] > 0
    assert packed.unpack(prediction["profile"])["kind"] == "measure"

    stream = {"prompt": "what is", "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}}
    lines = list(alpha.raw_stream(endpoint, stream, timeout_s=240))
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert any(json.loads(event).get("usage") for event in events[:-1])

    with pytest.raises(CloudError) as error:
        alpha.raw(endpoint, {"instances": []}, timeout_s=240)
    assert error.value.code == "invalid"


@pytest.mark.slow
def test_a_model_that_is_not_there_is_told_with_the_containers_last_lines(alpha):
    model = made(alpha, alpha.upload_model("gone", IMPATIENT, "gs://local/gone"))["model"]
    name = made(alpha, alpha.create_endpoint("gone"))["name"]
    state = finished(alpha, alpha.deploy(name, model, L4))
    assert state.error is not None
    assert state.error["code"] == "container"
    assert "gone" in state.error["sentence"]
