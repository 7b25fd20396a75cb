"""What a worker does when it starts for the first time on a machine."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Portal, await_that

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MODEL = "smollm2-135m-instruct"


@pytest.fixture
def portal(tmp_path):
    with Portal(tmp_path, hosts=()) as portal:
        portal.manage("load_catalogue")
        yield portal


def test_a_new_machine_is_prepared_while_it_already_takes_estimates(portal):
    worker = portal.start_worker()
    estimate = portal.estimate()[0]
    assert portal.await_state(estimate, "done", "failed")["state"] == "done"

    def prepared():
        state = portal.call("prepared", host="chaos", model=MODEL)
        return state if state["ceilings"] in ("done", "failed") and state["weights"] != "preparing" else None

    state = await_that(prepared, "ceilings are measured and weights converted", 600)
    assert (state["ceilings"], state["weights"]) == ("done", "local"), worker.log
    assert state["rates"]["gemm fp32"] > 1e9, "FLOP/s"
    assert state["hardware"]

    workload = {
        "dtype": "fp32",
        "prompt": "What is the capital of France?",
        "output_tokens": 16,
        "iterations": 1,
        "warmup": 0,
    }
    run = portal.call("launch", kind="measure", host="chaos", model=MODEL, workload=workload)["ids"][0]
    row = portal.await_state(run, "done", "failed", timeout_s=400)
    assert (row["state"], row["error"]) == ("done", "")
    document = portal.call("document", run_id=run)
    assert "Paris" in document["output"]["texts"][0]
    assert document["model"]["weights"] == "local"
    assert any(estimate["level"] == "measured" for estimate in document["estimates"])
