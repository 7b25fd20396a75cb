"""Text and metrics of a measured run, waited for."""

import threading

import pytest
from django.utils import timezone

from llmcompare.api.views import inference
from llmcompare.runs.models import Run, RunDocument, RunMetric
from tests.factories import make_model

ASK = {"model": "tiny", "prompt": "What is the capital of France?", "max_output_tokens": 8, "wait": 0}


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.preview.check_memory", lambda inputs: None)


@pytest.fixture
def model(db):
    return make_model(slug="tiny", name="Tiny", weights="local", weights_path="/data/weights/tiny")


@pytest.fixture
def finish(monkeypatch):
    """Do to the run what a worker would, at the first pause between two looks at the row."""

    def at_first_pause(act):
        monkeypatch.setattr(inference.time, "sleep", lambda seconds: act(Run.objects.get()))

    return at_first_pause


def done(run):
    document = {"model": {"weights": "local"}, "output": {"texts": ["Paris."]}}
    RunDocument.objects.create(run=run, data=document)
    RunMetric.objects.create(run=run, key="ttft", origin="measured", value=0.5, unit="s", definition="ttft/1")
    Run.objects.update(state="done", finished=timezone.now())


@pytest.mark.usefixtures("model", "host")
def test_the_text_comes_with_its_metrics(owner_api, finish):
    finish(done)
    answer = owner_api.send("inference/", ASK | {"wait": 30})
    assert answer.status_code == 200, answer.json()
    body = answer.json()
    assert (body["text"], body["state"], body["weights"]) == ("Paris.", "done", "local")
    assert body["metrics"] == [{"key": "ttft", "origin": "measured", "value": 0.5, "unit": "s", "definition": "ttft/1"}]
    run = Run.objects.get(public_id=body["run"])
    workload = run.spec["workload"]
    assert (run.kind, run.host.slug) == ("measure", "here")
    assert (workload["prompt"], workload["output_tokens"], workload["iterations"]) == (ASK["prompt"], 8, 1)
    assert workload["dtype"] == "fp32"


@pytest.mark.usefixtures("model", "host")
def test_what_takes_longer_is_a_202_with_the_address(owner_api):
    answer = owner_api.send("inference/", ASK)
    assert answer.status_code == 202
    assert answer.json()["text"] is None
    assert answer["Location"].endswith(f"/api/v1/runs/{answer.json()['run']}/")


@pytest.mark.usefixtures("model", "host")
def test_only_so_many_requests_wait_at_a_time(owner_api, monkeypatch):
    monkeypatch.setattr(inference, "_waiting", threading.BoundedSemaphore(1))
    inference._waiting.acquire()
    monkeypatch.setattr(inference.time, "sleep", lambda seconds: pytest.fail("waited"))
    assert owner_api.send("inference/", ASK | {"wait": 60}).status_code == 202


@pytest.mark.usefixtures("model", "host")
def test_a_failed_run_says_why(owner_api, finish):
    finish(lambda run: Run.objects.update(state="failed", error="The engine was killed; out of memory?"))
    answer = owner_api.send("inference/", ASK | {"wait": 30})
    assert answer.status_code == 422
    assert answer.json()["code"] == "run_failed"
    assert answer.json()["message"] == "The engine was killed; out of memory?"


@pytest.mark.usefixtures("model")
def test_without_a_worker_there_is_no_inference(owner_api):
    answer = owner_api.send("inference/", ASK)
    assert answer.status_code == 400
    assert "worker" in answer.json()["errors"]["host"]
    assert not Run.objects.exists()


@pytest.mark.usefixtures("model", "host")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 1000}, "max_output_tokens"),  # the model has 256 of context
        ({"wait": 61}, "wait"),
        ({"model": "nobody"}, "model"),
        ({"host": "nowhere"}, "host"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_bad_input_is_named_by_the_operations_own_fields(owner_api, change, field):
    answer = owner_api.send("inference/", ASK | change)
    assert answer.status_code == 400
    assert set(answer.json()["errors"]) == {field}


@pytest.mark.usefixtures("host")
def test_an_encoder_generates_nothing(owner_api):
    make_model(slug="tiny", kind="encoder")
    assert "encoder" in owner_api.send("inference/", ASK).json()["errors"]["model"]


@pytest.mark.usefixtures("host")
def test_a_model_without_real_weights_reads_no_prompt(owner_api):
    make_model(slug="tiny")
    assert "real weights" in owner_api.send("inference/", ASK).json()["errors"]["prompt"]
