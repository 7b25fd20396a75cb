"""The check of replay against a measurement judges both stages, and says both figures."""

from __future__ import annotations

import pytest

from benchmarks.gpu_replay import check, compared
from profiling.spec import ModelSpec, Workload
from tests.profiling import tiny


def prediction(prefill, decode, bound="host"):
    parts = {"own_s": 0.001, "interpolated_s": 0.0, "glue_s": 0.01, "bound": bound, "unknown_operators": []}
    return {
        "metrics": {"ttft": {"value": prefill}, "tpot": {"value": decode}},
        "stages": {"prefill": parts, "decode": parts},
    }


def measured(prefill, decode):
    return {"metrics": {"ttft": {"value": prefill}, "decode_time_per_step": {"value": decode}}}


@pytest.mark.parametrize(
    ("predicted", "good"),
    [((0.02, 0.01), True), ((0.024, 0.008), True), ((0.02, 0.0126), False), ((0.014, 0.01), False)],
)
def test_both_stages_have_to_agree(predicted, good):
    found, said, document = compared(prediction(*predicted), measured(0.02, 0.01))
    assert found is good
    assert document["errors"]["decode"] == pytest.approx(predicted[1] / 0.01 - 1)
    assert "prefill: predicted" in said
    assert "measured 20" in said
    assert "the host's time" in said


def test_what_is_missing_does_not_agree():
    good, said, document = compared(
        prediction(None, 0.01)
        | {"stages": {"prefill": {"unknown_operators": ["sdpa"]}, "decode": prediction(1, 1)["stages"]["decode"]}},
        {"metrics": {"ttft": {"value": 0.02}}},
    )
    assert not good
    assert "prefill: not predicted, for want of sdpa" in said
    assert "decode: predicted 10" in said
    assert "not measured" in said
    assert document["errors"] == {"prefill": None, "decode": None}


@pytest.mark.slow
def test_it_runs_on_the_processor():
    model, workload = ModelSpec(name="tiny", config=tiny.LLAMA), Workload(input_tokens=9, output_tokens=5, dtype="fp32")
    _, said, document = check(model, workload, measured(0.02, 0.01) | {"environment": {"device": "cpu"}})
    assert document["host"]["device"] == "cpu"
    assert document["stages"]["prefill"]["combined"] == "sum"
    assert said.count("predicted") == 2
