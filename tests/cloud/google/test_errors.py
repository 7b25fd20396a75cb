"""Whatever goes wrong between here and Google ends in one kind of error, with a sentence that says what to do and no token in it."""

from __future__ import annotations

import logging
import pickle
import socket
import traceback

import pytest

from llmcompare.cloud.google.connection import Connection
from llmcompare.cloud.google.credentials import credentials
from llmcompare.cloud.google.errors import CloudError, by_status, from_answer, quotas, translated
from llmcompare.cloud.google.resources import Container
from tests.cloud.google.conftest import ECHO, deployed, made
from tests.standins.vertex.fixture import REGION

#: status, what Google says, our code, words of our sentence
ANSWERS = [
    (401, "Request had invalid authentication credentials.", "credentials", "does not accept the credentials"),
    (403, "Permission 'aiplatform.models.list' denied.", "forbidden", "Permission 'aiplatform.models.list' denied"),
    (404, "The Endpoint does not exist.", "not_found", "no such resource"),
    (409, "There are other operations running.", "conflict", "other operations running"),
    (
        429,
        "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_minute.",
        "rate",
        "limit of requests",
    ),
    (
        429,
        "The following quotas are exceeded: CustomModelServingL4GPUsPerProjectPerRegion",
        "quota",
        "CustomModelServingL4GPUs",
    ),
    (429, "Resource has been exhausted (e.g. check quota).", "quota", "take another region"),
    (500, "Internal error encountered.", "failed", "failed (status 500)"),
    (503, "The service is currently unavailable.", "unavailable", "not ready"),
    (503, "The service is temporarily unavailable.", "unavailable", "not ready"),
    (503, "Machine type temporarily unavailable.", "no_machines", "another machine or region"),
    (504, "Deadline exceeded.", "deadline", "longer than the service waits"),
    (400, "Invalid value at 'endpoint'.", "invalid", "Google refused the request"),
    (400, "Endpoint doesn't have any deployed models.", "precondition", "deployed models"),
]


@pytest.mark.parametrize(("status", "said", "code", "words"), ANSWERS)
def test_what_google_answers_to_a_generated_client(alpha, vertex, status, said, code, words):
    if status == 504:
        words = "Google did not do this in time"  # no answer of a model: fewer tokens would not help
    vertex.fail("ListModels", status, said, times=5)
    with pytest.raises(CloudError) as error:
        alpha.list_models()
    assert (error.value.code, words in error.value.sentence) == (code, True), error.value.sentence


@pytest.mark.parametrize(("status", "said", "code", "words"), ANSWERS)
def test_what_google_answers_to_a_request_for_a_model(alpha, vertex, status, said, code, words):
    endpoint = deployed(alpha)
    for method, ask in (
        ("RawPredict", lambda: alpha.raw(endpoint, {})),
        ("StreamRawPredict", lambda: list(alpha.raw_stream(endpoint, {"stream": True}))),
    ):
        vertex.fail(method, status, said, times=1 if status != 401 else 5)
        with pytest.raises(CloudError) as error:
            ask()
        assert (error.value.code, words in error.value.sentence) == (code, True), error.value.sentence


def test_the_service_says_when_to_come_again(alpha, vertex):
    vertex.fail("ListModels", 429, "Too many requests.", retry_after=7)
    with pytest.raises(CloudError, match="Wait 7 s") as error:
        alpha.list_models()
    assert (error.value.code, error.value.retry_after_s, error.value.again) == ("rate", 7, True)
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}
    vertex.fail("ListModels", 429, "Too many requests.", details=[info])
    assert by_status(429, "Too many requests.", None, [info]).retry_after_s == 12


def test_a_wrong_token_is_said_to_be_one_and_is_in_no_traceback(vertex):
    secret = "ya29.secret-token-of-somebody"
    with Connection("project-alpha", REGION, credentials("token", secret), vertex.base, instance="here") as wrong:
        for call in (wrong.list_models, wrong.list_endpoints, lambda: wrong.create_endpoint("one")):
            with pytest.raises(CloudError) as error:
                call()
            assert error.value.code == "credentials"
            assert "Check them" in error.value.sentence
            text = "".join(traceback.format_exception(error.value))
            assert secret not in text + repr(error.value) + str(error.value.to_json())


def test_no_token_is_in_the_log_however_much_is_logged(alpha, caplog):
    endpoint = deployed(alpha)
    with caplog.at_level(logging.DEBUG):
        alpha.list_models()
        alpha.raw(endpoint, {"messages": []})
        list(alpha.raw_stream(endpoint, {"stream": True}))
        with pytest.raises(CloudError):
            alpha.raw(endpoint, {"refuse": 400})
    assert caplog.records, "nothing was logged, so this shows nothing"
    assert alpha.bearer() not in caplog.text


def test_errors_go_from_process_to_process():
    error = pickle.loads(pickle.dumps(CloudError("rate", "Wait.", 3.0)))
    assert (error.code, error.sentence, error.retry_after_s) == ("rate", "Wait.", 3.0)


def test_an_endpoint_without_models_is_said_so(alpha):
    endpoint = alpha.endpoint(made(alpha, alpha.create_endpoint("empty"))["name"])
    with pytest.raises(CloudError, match="deployed") as error:
        alpha.raw(endpoint, {})
    assert error.value.code == "precondition"


def test_streams_need_a_dedicated_endpoint(alpha):
    endpoint = deployed(alpha, dedicated=False)
    with pytest.raises(CloudError, match="dedicated endpoints only"):
        list(alpha.raw_stream(endpoint, {"stream": True}))


@pytest.mark.parametrize(("dedicated", "most"), [(False, 1_500_000), (True, 10_000_000)])
def test_what_is_too_large_either_way_is_told_with_the_limit(alpha, dedicated, most):
    endpoint = deployed(alpha, dedicated=dedicated)
    assert len(alpha.raw(endpoint, {"big": most - 1000})["big"]) == most - 1000
    with pytest.raises(
        CloudError, match=r"answer was larger than the endpoint passes on: 1\.5 MB if it is shared, 10 MB"
    ) as error:
        alpha.raw(endpoint, {"big": most + 1000})
    assert error.value.code == "too_large"
    with pytest.raises(CloudError, match="request is larger than the endpoint takes") as error:
        alpha.raw(endpoint, {"text": "x" * most})
    assert error.value.code == "too_large"


def test_an_answer_that_the_service_cannot_pass_on(alpha, vertex):
    endpoint = deployed(alpha)
    vertex.control("oversize", method="RawPredict", bytes=20_000_000)
    with pytest.raises(CloudError, match="Received at least 20000000 bytes"):
        alpha.raw(endpoint, {})


def test_an_answer_that_takes_too_long(alpha, vertex):
    endpoint = deployed(alpha, Container("tests/echo:1", environment={"ECHO_WAIT_S": "30"}), dedicated=False)
    vertex.control("limits", shared_s=0.2)
    with pytest.raises(CloudError, match="60 s on shared endpoints") as error:
        alpha.raw(endpoint, {})
    assert (error.value.code, error.value.again) == ("deadline", True)
    vertex.control("limits", shared_s=60)
    with pytest.raises(CloudError) as error:
        alpha.raw(endpoint, {}, timeout_s=0.2)
    assert error.value.code == "deadline"


@pytest.mark.parametrize("bytes_", [0, 1, 100])
def test_an_answer_that_breaks_off(alpha, vertex, bytes_):
    endpoint = deployed(alpha)
    vertex.control("cut", method="StreamRawPredict", bytes=bytes_)
    with pytest.raises(CloudError, match="broke off before the answer was complete") as error:
        list(alpha.raw_stream(endpoint, {"stream": True}))
    assert error.value.code == "cut"
    vertex.control("cut", method="RawPredict", bytes=bytes_)
    with pytest.raises(CloudError, match="broke off") as error:
        alpha.raw(endpoint, {})
    assert error.value.code == "cut"


def test_a_container_that_dies_while_it_serves(alpha, vertex):
    endpoint = deployed(alpha)
    vertex.control("kill", deployed=endpoint.deployed[0].id)
    with pytest.raises(CloudError, match="may have crashed") as error:
        alpha.raw(endpoint, {})
    assert error.value.code == "unavailable"


def test_what_the_container_refuses_comes_through(alpha):
    endpoint = deployed(alpha)
    with pytest.raises(CloudError, match="The container does not want this") as error:
        alpha.raw(endpoint, {"refuse": 400})
    assert error.value.code == "invalid"


def test_a_service_that_is_not_there():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with Connection("project-alpha", REGION, credentials("token", "t"), base, instance="here") as away:
        for call in (away.list_models, lambda: away.operation("operations/1"), lambda: away.upload_model("m", ECHO)):
            with pytest.raises(CloudError, match="cannot be reached") as error:
                call()
            assert (error.value.code, error.value.again) == ("unreachable", True)


def test_errors_of_other_shapes_than_googles():
    assert from_answer(500, b"\xff\xfe not json").code == "failed"
    assert "text of it" in from_answer(400, '{"error": "text of it"}').sentence
    assert from_answer(429, '[{"error": {"message": "Too many requests."}}]', "3").retry_after_s == 3
    assert from_answer(502, "").sentence == "Google's service failed (status 502)."
    assert len(from_answer(400, '{"error": {"message": "%s"}}' % ("x" * 50_000)).sentence) < 600
    hostile = from_answer(400, '{"error": {"message": "a\\u001b[31m\\nb\\u202e"}}').sentence
    assert hostile.isprintable()


def test_what_is_no_error_of_google_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), translated():
        _ = 1 / 0


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("The following quotas are exceeded: A-b_c, D", ["A-b_c", "D"]),
        ("Quota exceeded for quota metric 'x.googleapis.com/y' and limit z", ["x.googleapis.com/y"]),
        ("Quota exceeded for aiplatform.googleapis.com/a_b with base model: c.", ["aiplatform.googleapis.com/a_b"]),
        ("Resource has been exhausted (e.g. check quota).", []),
    ],
)
def test_names_of_quotas(message, names):
    assert quotas(message) == names


def test_quota_of_the_details_is_named():
    details = [{"metadata": {"quota_metric": "aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus"}}]
    error = by_status(429, "Quota exceeded.", None, details)
    assert error.code == "quota"
    assert "custom_model_serving_nvidia_l4_gpus" in error.sentence


def test_a_login_that_google_could_not_check_is_no_wrong_login():
    from google.auth.exceptions import RefreshError

    for retryable, code in ((True, "unavailable"), (False, "credentials")):
        with pytest.raises(CloudError) as error, translated():
            raise RefreshError("no token", retryable=retryable)
        assert error.value.code == code


def test_a_service_that_does_not_answer_in_time_is_told_from_a_model_that_does_not():
    import requests

    for of_model, words in ((False, "did not do this in time"), (True, "60 s on shared endpoints")):
        with pytest.raises(CloudError, match=words) as error, translated(of_model=of_model):
            raise requests.ReadTimeout("Read timed out.")
        assert error.value.code == "deadline"
