"""The quick estimate before a launch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmcompare.common.errors import WHOLE_FORM, FieldErrors
from llmcompare.runs import preview as module
from llmcompare.runs.preview import preview
from llmcompare.runs.services import launch_run
from profiling.client import EngineError
from tests.factories import make_hardware, make_host, make_model
from tests.runs.documents import estimate_document


class ScriptedChild:
    def __init__(self, answer) -> None:
        self.answer, self.specs = answer, []

    def request(self, op, payload, *, timeout_s):
        assert op == "estimate"
        self.specs.append(payload["spec"])
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def engine(monkeypatch):
    """Replace the warm child: ``engine(answer)`` returns what was asked of it."""
    module.answers.clear()

    def install(answer) -> ScriptedChild:
        child = ScriptedChild(answer)
        monkeypatch.setattr(module, "warm_child", lambda: child)
        return child

    yield install
    module.answers.clear()


def a_host():
    return make_host(hardware=make_hardware(kind="cpu"), details={"ram_bytes": 16 * 10**9})


def test_the_preview_says_memory_and_time(db, engine):
    engine(estimate_document(ttft=0.5, tpot=0.02, e2e=1.1, memory=2 * 10**9))
    shown = preview(model=make_model(), hardware=make_hardware(), workload={})
    assert (shown["total_bytes"], shown["fits"]) == (2 * 10**9, True)
    assert (shown["ttft_s"], shown["tpot_s"], shown["e2e_s"]) == (0.5, 0.02, 1.1)
    assert (shown["ceilings"], shown["expected_wall_s"]) == ("datasheet", None)


def test_the_same_question_is_asked_once(db, engine):
    child = engine(estimate_document())
    model, hardware = make_model(), make_hardware()
    for iterations in (1, 5):
        preview(model=model, hardware=hardware, workload={"iterations": iterations})
    assert len(child.specs) == 1
    preview(model=model, hardware=hardware, workload={"batch_size": 2})
    hardware.memory_bandwidth = 1e12
    hardware.save()
    preview(model=model, hardware=hardware, workload={})
    assert len(child.specs) == 3, "other inputs, also edited ones, are another question"


def test_a_measurement_takes_its_iterations_and_warm_up(db, engine):
    engine(estimate_document(e2e=2.0))
    host = a_host()
    asked = {"kind": "measure", "model": make_model(), "hardware": None, "host": host}
    asked["workload"] = {"iterations": 4, "warmup": 1}
    assert preview(**asked)["expected_wall_s"] == 3 * 10.0
    assert preview(**asked, protocol={"processes": 1})["expected_wall_s"] == 10.0
    assert preview(**asked, protocol={"processes": 2, "min_seconds": 60})["expected_wall_s"] == 2 * 62.0


def test_a_load_is_part_of_the_time_of_a_measurement(db, engine):
    """2 s an iteration: one iteration in one process, then the requests."""
    document = estimate_document()
    document["metrics"]["e2e_latency"]["value"] = 2.0
    engine(document)
    asked = {"kind": "measure", "model": make_model(), "hardware": None, "host": a_host(), "protocol": {"processes": 1}}
    asked["workload"] = {"iterations": 1, "warmup": 0, "batch_size": 4}

    def seconds(**load) -> float:
        return preview(**asked, load={f"load_{name}": value for name, value in load.items()})["expected_wall_s"] - 2.0

    assert seconds() == 0
    assert seconds(mode="closed", concurrency=2, requests=10) == 5 * 2.0, "two users fill two of four places"
    assert seconds(mode="closed", concurrency=8, requests=10) == 3 * 2.0
    assert seconds(mode="closed", requests=100, seconds=10) == 12.0, "no user sends later than that"
    assert seconds(mode="poisson", rate=1, requests=60) == 62.0, "arrivals take longer than the work"
    assert seconds(mode="poisson", rate=100, requests=400) == 100 * 2.0, "they wait"


def test_a_measurement_whose_activations_do_not_fit_is_refused_with_the_parts(db, engine, owner):
    document = estimate_document(memory=10**9)
    document["memory"]["estimate"] |= {"activation_peak_bytes": 19 * 10**9, "total_bytes": 20 * 10**9}
    engine(document)
    model, host = make_model(), a_host()
    for ask in (
        lambda: preview(kind="measure", model=model, hardware=None, host=host, workload={}),
        lambda: launch_run(owner=owner, kind="measure", model=model, host=host, workload={}),
    ):
        with pytest.raises(FieldErrors) as caught:
            ask()
        for part in ("20 GB", "weights 1 GB", "activations 19 GB", "16 GB"):
            assert part in caught.value.errors["model"]
    assert preview(model=model, hardware=make_hardware(), workload={})


@pytest.mark.parametrize(("field", "shown_at"), [("dtype", "dtype"), ("config", "model"), (None, WHOLE_FORM)])
def test_what_the_engine_refuses_is_said_at_its_field(db, engine, field, shown_at):
    engine(EngineError(phase="trace", kind="spec", field=field, message="That cannot be."))
    with pytest.raises(FieldErrors) as caught:
        preview(model=make_model(), hardware=make_hardware(), workload={})
    assert caught.value.errors == {shown_at: "That cannot be."}


def test_wrong_input_does_not_reach_the_engine(db, engine):
    child = engine(estimate_document())
    with pytest.raises(FieldErrors) as caught:
        preview(model=make_model(), hardware=make_hardware(), workload={"batch_size": 0})
    assert set(caught.value.errors) == {"batch_size"}
    assert child.specs == []


def test_a_real_engine_answers_and_the_web_process_imports_no_torch(db):
    module.answers.clear()
    shown = preview(model=make_model(), hardware=make_hardware(), workload={"dtype": "bf16"})
    assert shown["fits"] is True
    assert 0 < shown["ttft_s"] < shown["e2e_s"]
    assert shown["weights_bytes"] > 0
    program = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'llmcompare.settings'; django.setup();"
        "import llmcompare.runs.preview, llmcompare.runs.tasks;"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
