"""Measurements that go wrong in ways of their own: each ends as a failed run that says where and why, and the worker takes the next."""

from __future__ import annotations

import re
import resource
import signal

import psutil
import pytest

from profiling.host import cores
from tests.chaos.harness import Portal, await_that, gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: The embeddings are multiplied to infinity: what comes out is no number.
NAN = {
    "model_type": "granite",
    "architectures": ["GraniteForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 500,
    "embedding_multiplier": 1e39,
    "max_position_embeddings": 512,
}


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    with Portal(tmp_path_factory.mktemp("failures"), hosts=("chaos",)) as portal:
        yield portal


@pytest.fixture(scope="module")
def worker(portal):
    return portal.start_worker()


@pytest.fixture(autouse=True)
def the_worker_takes_the_next(portal, worker):
    yield
    run = portal.measure(seconds=0.1)
    assert portal.await_state(run, "done", "failed")["state"] == "done", worker.log


def launched(portal, model: str = "tiny", processes: int = 1, frozen: dict | None = None, **workload) -> int:
    workload = {"dtype": "fp32", "input_tokens": 16, "output_tokens": 8, "iterations": 2} | workload
    asked = {"kind": "measure", "host": "chaos", "model": model, "workload": workload, "processes": processes}
    asked |= {"frozen": frozen} if frozen else {}
    return portal.call("launch", **asked)["ids"][0]


@pytest.mark.skipif(cores()[0] < 2, reason="two ranks need two cores")
def test_a_measurement_on_several_devices_one_of_which_is_lost(portal, worker):
    """Processes stand for devices here. The first run goes well, in the second one of them is killed."""
    well = portal.await_state(launched(portal, tensor_parallel=2), "done", "failed")
    assert (well["state"], well["error"]) == ("done", "")

    run = launched(portal, tensor_parallel=2, iterations=5000)
    portal.await_work(run, worker)
    engines = worker.engines()
    ranks = [child for engine in engines for child in engine.children() if "profiling.rank" in child.cmdline()]
    assert len(ranks) == 1
    ranks[0].kill()
    row = portal.await_state(run, "failed", "done")
    assert (row["state"], row["error_phase"]) == ("failed", "iterations")
    assert "On device 2 of 2" in row["error"]
    await_that(lambda: gone(ranks), "no rank is left", 20)


def test_a_model_that_computes_no_numbers(portal, worker):
    portal.call("add_model", slug="nan", config=NAN)
    row = portal.await_state(launched(portal, "nan"), "failed", "done")
    assert (row["state"], row["error_phase"]) == ("failed", "prefill")
    assert "NaN or infinity in fp32" in row["error"]


def test_a_format_that_cannot_be_measured(portal, worker):
    row = portal.await_state(launched(portal, frozen={"dtype": "fp8"}), "failed", "done")
    assert row["state"] == "failed"
    assert row["error_phase"]
    assert "Choose one of fp32, bf16, fp16" in row["error"]


def test_a_model_that_hangs_ends_at_its_time_limit_and_keeps_what_was_measured(portal, worker):
    run = launched(portal, iterations=10_000, output_tokens=32, time_limit_s=25)
    portal.await_work(run, worker)
    engine = max(worker.engines(), key=lambda process: process.create_time())  # the other one waits for estimates

    await_that(
        lambda: re.match(r"Iteration ([3-9]|\d\d)", portal.row(run)["message"]), "two iterations were measured", 20
    )
    engine.send_signal(signal.SIGSTOP)
    row = portal.await_state(run, "failed", "done", timeout_s=60)
    assert (row["state"], row["error_phase"]) == ("failed", "iterations")
    assert "time limit of 25 s was reached" in row["error"]
    await_that(lambda: gone([engine]), "the stopped engine is gone")
    document = portal.call("document", run_id=run)
    assert document["metrics"]["ttft"]["n"] >= 2
    assert document["warnings"][-1]["code"] == "incomplete"


def test_memory_that_runs_out_while_it_computes(portal, worker):
    """What a run needs fits, but the system gives less: processes of the worker may not have more address space than this."""
    process = psutil.Process(worker.process.pid)
    before = process.rlimit(resource.RLIMIT_AS)
    process.rlimit(resource.RLIMIT_AS, (5 * 10**9, before[1]))
    try:
        run = launched(portal, batch_size=30_000, input_tokens=128, output_tokens=2, iterations=1, warmup=0)
        row = portal.await_state(run, "failed", "done", timeout_s=120)
    finally:
        process.rlimit(resource.RLIMIT_AS, before)
    assert row["state"] == "failed"
    assert "ran out of memory" in row["error"], row["error"]
    assert row["error_phase"] in ("warmup", "load", "prefill")


def test_one_of_several_processes_that_is_killed(portal, worker):
    run = launched(portal, processes=3, iterations=40, output_tokens=32)
    portal.await_work(run, worker)
    second = await_that(
        lambda: "Process 2 of 3" in "".join(portal.call("kept", run_id=run)["log"]) and worker.engines(),
        "the second process is there",
    )
    for engine in second:
        engine.kill()
    row = portal.await_state(run, "failed", "done", timeout_s=60)
    assert row["state"] == "failed"
    assert "killed (signal 9)" in row["error"]
    document = portal.call("document", run_id=run)
    assert document["processes"][0]["complete"] is True
    assert document["metrics"]["ttft"]["n"] >= 40
