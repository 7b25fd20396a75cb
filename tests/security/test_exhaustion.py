"""Inputs that are allowed but made to exhaust: time, numbers beyond a database's range, threads of the web server."""

from __future__ import annotations

import threading
import time

import pytest

from llmcompare.catalog.configs import parse_config
from llmcompare.common.errors import FieldErrors
from llmcompare.runs.results import summarise
from profiling.client import EngineError, WarmChild
from profiling.config_schema import known
from profiling.safety import check_config
from profiling.spec import SpecError
from tests.factories import make_run
from tests.runs.documents import estimate_document
from tests.runs.test_executor import carry_out


def test_many_keys_of_which_one_occurs_twice_are_refused_quickly():
    names = [f"a{number:06d}" for number in range(60_000)]
    text = "{" + ",".join(f'"{name}":0' for name in [*names, names[-1]]) + "}"
    begun = time.process_time()
    with pytest.raises(FieldErrors, match=r"a059999.* occurs twice"):
        parse_config(text, limit=10**6)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("memory", [2**63, 10**30])
def test_more_memory_than_a_column_holds_is_kept_in_the_document_alone(memory, owner):
    assert summarise(estimate_document(memory=memory)).columns["memory_bytes"] is None
    run = make_run(owner)
    carry_out(run, lambda engine: estimate_document(memory=memory, fits=False))
    assert (run.state, run.memory_bytes, run.fits) == ("done", None, False)
    assert run.document.data["memory"]["estimate"]["total_bytes"] == memory


def test_results_that_no_column_can_hold_fail_the_run_at_once(owner):
    """And not after three attempts, each a lease long, with a word about lost workers."""
    run = make_run(owner)
    carry_out(run, lambda engine: estimate_document(ttft=10**400))
    assert (run.state, run.error_phase, run.attempt) == ("failed", "result", 1)
    assert "cannot be stored" in run.error


@pytest.mark.parametrize("key", ["num_labels", "num_hashes", "n_groups", "num_buckets", "n_docs"])
def test_counts_of_anything_are_bounded(key):
    """transformers makes a dictionary of a billion labels before anything else is built: 14 GB, and a minute."""
    config = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 64, "num_hidden_layers": 2}
    assert key in known()[1]
    with pytest.raises(SpecError, match=key):
        check_config(config | {key: 2**50})
    assert check_config(config | {"num_labels": 1000})["num_labels"] == 1000


def test_slow_questions_to_the_engine_do_not_take_every_thread_of_the_web_server():
    warm, begun, go_on = WarmChild(max_waiting=1, crowd_s=0.05), threading.Event(), threading.Event()

    class SlowChild:
        alive, requests, pid = True, 0, 0

        def request(self, op, payload, **options):
            begun.set()
            assert go_on.wait(20)
            return {"op": op}

    warm._ready = SlowChild
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(warm.request("estimate"))) for _ in range(2)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    while warm._places._value:  # until the second one waits
        time.sleep(0.01)
    with pytest.raises(EngineError) as refused:
        warm.request("estimate", timeout_s=60)
    assert refused.value.kind == "busy"
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert answers == [{"op": "estimate"}] * 2
    assert warm.request("inspect") == {"op": "inspect"}  # the places are free again


def test_a_request_whose_time_ran_out_while_it_waited_does_not_end_the_process():
    warm = WarmChild()
    warm._ready = lambda: pytest.fail("asked without time to answer")
    with pytest.raises(EngineError, match="busy"):
        warm.request("estimate", timeout_s=-1)
    with pytest.raises(EngineError, match="busy"):
        warm.request("estimate", timeout_s=-1)


@pytest.mark.parametrize(("kind", "allowed"), [("estimate", 300.0), ("measure", 1800.0)])
def test_an_estimate_cannot_keep_the_worker_for_half_an_hour(kind, allowed, owner, settings):
    settings.MAX_RUN_SECONDS = 1800
    run = make_run(owner, kind=kind, workload={"time_limit_s": 86_400.0})
    assert carry_out(run, lambda engine: estimate_document()).asked[0][2] == allowed
