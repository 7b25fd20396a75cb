"""What a run document takes over from a prediction by replay."""

from __future__ import annotations

import pytest

from profiling.replay.section import METRICS, run_metrics, section
from profiling.units import DEFINITIONS


def prediction(output_tokens=5, **metrics):
    found = {key: dict(zip(("value", "low", "high"), values, strict=True)) for key, values in metrics.items()}
    rest = ("stages", "shapes", "not_replayed", "conditions", "cap_bytes", "duration_s")
    host = {"fingerprint": "f", "torch": "2", "threads": 1, "device": "cpu"}
    return {"metrics": found, "workload": {"output_tokens": output_tokens}, "host": host} | {key: {} for key in rest}


def test_figures_have_names_and_definitions_of_their_own():
    found = run_metrics(prediction(ttft=(1.0, 0.9, 1.2), tpot=(0.1, 0.09, 0.2)))
    assert set(found) == {"replay_ttft", "replay_tpot", "replay_e2e_latency"}
    assert set(found) <= set(METRICS)
    for key, entry in found.items():
        assert (entry["origin"], entry["unit"], entry["method"]) == ("estimated", "s", "operator replay")
        assert entry["definition"] == f"{key}/1"
        assert "no pass of the model ran" in DEFINITIONS[entry["definition"]].formula


def test_the_end_is_the_first_token_and_a_step_for_every_other():
    found = run_metrics(prediction(ttft=(1.0, 0.9, 1.2), tpot=(0.1, 0.09, 0.2)))["replay_e2e_latency"]
    assert (found["value"], found["low"], found["high"]) == pytest.approx((1.4, 1.26, 2.0))
    alone = run_metrics(prediction(1, ttft=(1.0, 0.9, 1.2)))
    assert alone["replay_e2e_latency"]["value"] == 1.0
    assert "replay_tpot" not in alone


def test_what_is_unknown_stays_unknown_to_the_end():
    nothing = (None, None, None)
    found = run_metrics(prediction(ttft=(1.0, 0.9, 1.2), tpot=nothing))
    assert found["replay_ttft"]["value"] == 1.0
    assert found["replay_tpot"]["value"] is None
    assert found["replay_e2e_latency"]["value"] is None
    assert run_metrics(prediction(ttft=nothing, tpot=(0.1, 0.1, 0.1)))["replay_e2e_latency"]["value"] is None


def test_an_encoder_has_its_pass_alone():
    assert set(run_metrics(prediction(0, encode_time=(1.0, 1.0, 1.0)))) == {"replay_encode_time"}


def test_the_section_says_what_its_times_belong_to():
    assert {"fingerprint", "torch", "threads", "device"} <= set(section(prediction(ttft=(1.0, 1.0, 1.0))))
