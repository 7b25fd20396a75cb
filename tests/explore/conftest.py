"""A tiny model with its closed form, made once by the engine of this process and stored as a worker stores it."""

from __future__ import annotations

import json
import threading

import pytest

from llmcompare.explore import making, prepared
from llmcompare.explore.carrying import carry_out
from profiling.spec import ModelSpec, Workload
from tests.factories import make_hardware, make_model

_answers: dict[str, dict] = {}


class EngineHere:
    """The child's operation ``form`` in this process; what was made once is remembered for the whole session."""

    def __init__(self) -> None:
        self.asked = 0

    def request(self, op, payload, *, on_progress, should_stop, timeout_s):
        from profiling.child import OPERATIONS, Reporter

        self.asked += 1
        key = json.dumps([payload["model"]["config"], payload["workload"]], sort_keys=True)
        if key not in _answers:
            _answers[key] = OPERATIONS[op](payload, Reporter(lambda message: None, 1))
        on_progress("fit", 0.5, "Fitting closed forms")
        assert not should_stop()
        return json.loads(json.dumps(_answers[key]))


@pytest.fixture(autouse=True)
def _nothing_remembered():
    prepared.clear()
    yield
    prepared.clear()


@pytest.fixture
def model(db):
    return make_model(slug="tiny", name="Tiny")


@pytest.fixture
def device(db):
    # Small enough for some points not to fit.
    return make_hardware(slug="small-device", name="Small", memory_bytes=1_500_000)


@pytest.fixture
def other_device(db):
    return make_hardware(slug="large-device", name="Large", memory_bandwidth=4e12)


def make(user, model, **workload):
    """Ask for a form and carry it out; returns its row."""
    spec: ModelSpec = model.to_spec()
    form = making.ask(user=user, model=spec, workload=Workload(**workload), kernel_threads=None)
    carry_out(form_id=form.pk, worker="here:1", shutdown=threading.Event(), engine=EngineHere())
    form.refresh_from_db()
    assert form.state == "ready", form.reason
    return form


@pytest.fixture
def form(owner, model):
    return make(owner, model)
