"""Operators timed by a real worker process: on the machine of its queue, beside no measurement, with a table that outlives the worker."""

from __future__ import annotations

import json

import pytest

from profiling.host import detect
from profiling.replay.table import file_name
from tests.chaos.harness import Portal, await_that, gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WORKLOAD = {"dtype": "fp32", "input_tokens": 16, "output_tokens": 8, "threads": 1}


@pytest.fixture
def portal(tmp_path):
    # Nobody is lost here, so nobody need be found soon.
    with Portal(tmp_path, hosts=("chaos",), settings={"LLMCOMPARE_LEASE_S": "60"}) as portal:
        yield portal


def replay(portal) -> int:
    return portal.call("launch", kind="estimate", host="chaos", workload=WORKLOAD, replay=True)["ids"][0]


def tables(portal) -> list:
    return sorted((portal.folder / "data" / "replay").glob("*.json"))


def test_a_worker_times_operators_one_run_at_a_time_and_the_next_worker_knows_them(portal):
    worker = portal.start_worker()
    measured, replayed = portal.measure(2), replay(portal)
    row = portal.await_state(replayed, "done", "failed", timeout_s=240)
    assert (row["state"], row["error"]) == ("done", ""), worker.log
    assert row["worker"] == worker.name
    assert portal.row(measured)["state"] == "done", "the measurement came first and was over before"

    document = portal.call("document", run_id=replayed)
    assert document["kind"] == "estimate"
    for key in ("replay_ttft", "replay_tpot", "replay_e2e_latency"):
        assert document["metrics"][key]["value"] > 0
        assert document["metrics"][key]["origin"] == "estimated"
    assert document["replay"]["shapes"]["timed_now"] > 20
    assert document["replay"]["threads"] == 1
    kept = document["replay"]["table"]["kept"]
    assert bool(tables(portal)) is kept, "what is kept is what the document says"

    # Whether this machine was quiet, the test cannot choose: with a busy one nothing is kept, and the next worker begins anew.
    worker.stop()
    other = portal.start_worker()
    again = replay(portal)
    assert portal.await_state(again, "done", "failed", timeout_s=240)["state"] == "done", other.log
    shapes = portal.call("document", run_id=again)["replay"]["shapes"]
    assert (shapes["from_table"] > 20) is kept
    assert portal.call("kept", run_id=again)["documents"] == 1


def test_a_damaged_table_costs_the_run_nothing_but_time(portal):
    damaged = portal.folder / "data" / "replay" / file_name(detect()["fingerprint"], 1)
    damaged.parent.mkdir()
    damaged.write_text('{"schema": "llmcompare-replay-table", "rows": [1e')
    portal.start_worker()
    run = replay(portal)
    row = portal.await_state(run, "done", "failed", timeout_s=240)
    assert (row["state"], row["error"]) == ("done", "")
    document = portal.call("document", run_id=run)
    assert "replay_table_damaged" in {warning["code"] for warning in document["warnings"]}
    assert document["replay"]["shapes"]["from_table"] == 0
    assert document["metrics"]["replay_ttft"]["value"] > 0
    assert str(portal.folder) not in json.dumps(document)
    assert damaged.with_suffix(".damaged").exists()


def test_cancelling_ends_the_engine_within_seconds(portal):
    worker = portal.start_worker()
    # Its products take longer to time than it takes to cancel.
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 4,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
    }
    portal.call("add_model", slug="wide", config=config)
    long = WORKLOAD | {"input_tokens": 240}
    run = portal.call("launch", kind="estimate", host="chaos", workload=long, replay=True, model="wide")["ids"][0]
    await_that(lambda: portal.row(run)["stage"] == "replay", "operators are timed", 120)
    engines = worker.engines()
    portal.call("cancel", run_id=run)
    assert portal.await_state(run, "cancelled", "done", timeout_s=20)["state"] == "cancelled"
    await_that(lambda: gone([e for e in engines if e not in worker.engines()]), "its engine is gone", 20)
    later = portal.estimate()[0]
    assert portal.await_state(later, "done", "failed")["state"] == "done"
