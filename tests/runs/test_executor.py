"""Carrying out a run: outcomes with a scripted engine, and with a real engine process."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import OperationalError
from django.urls import reverse
from django.utils import timezone, translation

from llmcompare.common.saying import said
from llmcompare.runs import executor, lifecycle, watch
from llmcompare.runs.executor import MAX_LOG_LINES, Watch, execute, quiet_machine
from llmcompare.runs.models import Run
from llmcompare.runs.services import cancel_run
from profiling.client import EngineChild, EngineError
from tests.factories import make_run
from tests.run_page.documents import measured
from tests.runs.documents import estimate_document


class ScriptedEngine:
    """An engine whose request does what a test says, with the options that the executor passed."""

    def __init__(self, script) -> None:
        self.script, self.asked, self.broken = script, [], None

    def request(self, op, payload, *, on_progress, on_log, should_stop, timeout_s):
        self.asked.append((op, payload, timeout_s))
        self.on_progress, self.on_log, self.should_stop = on_progress, on_log, should_stop
        try:
            return self.script(self)
        except AssertionError as error:
            # The executor would take it for a fault of its own and fail the run: the test must see it.
            self.broken = error
            raise


@pytest.fixture
def bells(monkeypatch):
    rung = []
    monkeypatch.setattr(executor, "ring", lambda run: rung.append(run.pk))
    return rung


@pytest.fixture
def eager_watch(monkeypatch):
    """Looks at the row every time instead of twice a second."""
    monkeypatch.setattr(watch, "LOOK_S", 0)


def carry_out(run, script, shutdown=None) -> ScriptedEngine:
    engine = ScriptedEngine(script)

    @contextmanager
    def open_engine(run, watch):
        yield engine

    execute(run_id=run.pk, worker="host-a:1", shutdown=shutdown or threading.Event(), open_engine=open_engine)
    if engine.broken:
        raise engine.broken
    run.refresh_from_db()
    return engine


def run_page(run) -> str:
    return reverse("runs:detail", args=[run.public_id])


def stopped(engine) -> None:
    """What a real engine does when it is told to stop."""
    assert engine.should_stop()
    raise EngineError(phase="decode", kind="cancelled", message="The run was cancelled.")


def test_a_refused_input_is_named_with_what_may_stand_there(owner, owner_client):
    """In a form the sentence stands at its field; on the page of a run nothing else says what it is about."""

    def refuse(engine):
        raise EngineError(phase="start", kind="spec", field="dtype", message="Choose one of fp32, bf16, fp16.")

    run = make_run(owner)
    carry_out(run, refuse)
    assert run.error == "The input “dtype” cannot be used. Choose one of fp32, bf16, fp16."
    with translation.override("zh-hans"):
        shown = said(run.error)
    assert shown.startswith("无法使用输入“数据类型”")
    assert "Choose" not in shown


def test_a_load_that_failed_on_a_host_is_no_matter_of_an_endpoint(owner, owner_client):
    run = make_run(owner, kind="measure", document=measured(), state="failed", error_phase="requests", error="Killed.")
    page = owner_client.get(run_page(run)).content.decode()
    assert "Send fewer or shorter requests" in page
    assert "Look at the endpoint" not in page


def test_a_run_is_done_with_its_results_progress_and_log(owner):
    run = make_run(owner, workload={"time_limit_s": 60.0})

    def script(engine):
        engine.on_progress("trace", 0.5, "Tracing the model")
        engine.on_log("warning", "something odd in /opt/a/b/c.py")
        return estimate_document()

    engine = carry_out(run, script)
    assert engine.asked == [("estimate", {"spec": run.spec}, 60.0)]
    assert (run.state, run.attempt, run.ttft_s) == ("done", 1, 0.5)
    log = [(event.level, event.stage, event.message) for event in run.events.all()]
    assert ("info", "trace", "Tracing the model") in log
    assert ("warning", "trace", "something odd in c.py") in log


def test_the_time_limit_of_the_installation_is_the_upper_bound(owner, settings):
    settings.MAX_RUN_SECONDS = 10
    run = make_run(owner)
    assert carry_out(run, lambda engine: estimate_document()).asked[0][2] == 10


def test_a_run_that_somebody_else_has_is_left_alone(owner):
    run = make_run(owner)
    lifecycle.claim(run_id=run.pk, worker="host-b:1")
    assert carry_out(run, lambda engine: estimate_document()).asked == []
    assert run.worker == "host-b:1"


def test_an_engine_error_fails_the_run_and_keeps_what_was_computed(owner):
    def script(engine):
        raise EngineError(phase="load", kind="memory", message="Too large.", partial={"metrics": {"ttft": 1}})

    run = make_run(owner)
    carry_out(run, script)
    assert (run.state, run.error_phase, run.error) == ("failed", "load", "Too large.")
    assert run.document.data["metrics"] == {"ttft": 1}


def test_a_fault_of_the_worker_fails_the_run(owner):
    run = make_run(owner)
    carry_out(run, lambda engine: 1 / 0)
    assert run.state == "failed"
    assert "ZeroDivisionError" in run.error


def test_a_result_that_is_no_document_fails_the_run(owner):
    run = make_run(owner)
    carry_out(run, lambda engine: {"metrics": {}})
    assert (run.state, run.error_phase) == ("failed", "result")


def test_a_result_that_the_database_refuses_fails_the_run_instead_of_repeating_it(owner):
    document = estimate_document()
    document["metrics"]["ttft"]["definition"] = None
    run = make_run(owner)
    carry_out(run, lambda engine: document)
    assert (run.state, run.error_phase) == ("failed", "result")


def test_results_wait_for_a_database_that_is_away_for_a_moment(owner, monkeypatch):
    finish, calls = lifecycle.finish, []

    def flaky(**values):
        calls.append(values)
        if len(calls) < 3:
            raise OperationalError("the server went away")
        return finish(**values)

    monkeypatch.setattr(lifecycle, "finish", flaky)
    monkeypatch.setattr(executor, "close_old_connections", lambda: None)
    run = make_run(owner)
    carry_out(run, lambda engine: estimate_document())
    assert (run.state, len(calls)) == ("done", 3)


def test_cancelling_stops_the_engine(owner, eager_watch):
    run = make_run(owner)

    def script(engine):
        assert not engine.should_stop()
        cancel_run(run=run)
        stopped(engine)

    carry_out(run, script)
    assert run.state == "cancelled"


def test_shutdown_puts_the_run_back_without_an_attempt_and_rings(owner, bells):
    shutdown, run = threading.Event(), make_run(owner)

    def script(engine):
        shutdown.set()
        stopped(engine)

    carry_out(run, script, shutdown)
    assert (run.state, run.attempt) == ("queued", 0)
    assert bells == [run.pk]


def test_a_worker_that_stops_takes_no_more_runs(owner):
    shutdown, run = threading.Event(), make_run(owner)
    shutdown.set()
    assert carry_out(run, lambda engine: estimate_document(), shutdown).asked == []
    assert run.state == "queued"


def test_a_lost_lease_stops_the_engine_and_writes_nothing(owner, eager_watch):
    run = make_run(owner)

    def script(engine):
        Run.objects.filter(pk=run.pk).update(claim="somebody-else")
        stopped(engine)

    carry_out(run, script)
    assert (run.state, run.claim, run.error) == ("running", "somebody-else", "")


def test_a_result_that_comes_after_the_lease_was_lost_is_dropped(owner):
    run = make_run(owner)

    def script(engine):
        Run.objects.filter(pk=run.pk).update(claim="somebody-else")
        return estimate_document()

    carry_out(run, script)
    assert (run.state, run.claim, run.ttft_s) == ("running", "somebody-else", None)


def test_a_silent_engine_does_not_let_the_lease_run_out(owner, eager_watch, settings, monkeypatch):
    settings.RUN_LEASE_S = 8
    run = make_run(owner)
    now = [100.0]
    monkeypatch.setattr(executor.time, "monotonic", lambda: now[0])
    watch = Watch(lifecycle.claim(run_id=run.pk, worker="host-a:1"), threading.Event())
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now())
    now[0] += 1
    assert not watch.should_stop()
    assert Run.objects.expired().exists(), "a quarter of the lease has not passed"
    now[0] += 2
    assert not watch.should_stop()
    assert not Run.objects.expired().exists()


def test_without_the_database_a_run_goes_on_until_its_lease_is_over(owner, eager_watch, settings, monkeypatch):
    settings.RUN_LEASE_S = 60
    now = [100.0]
    monkeypatch.setattr(executor.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(executor, "close_old_connections", lambda: None)
    watch = Watch(lifecycle.claim(run_id=make_run(owner).pk, worker="host-a:1"), threading.Event())

    def away(**values):
        raise OperationalError("the server went away")

    monkeypatch.setattr(lifecycle, "cancel_wanted", away)
    now[0] += 59
    assert not watch.should_stop()
    now[0] += 2
    assert watch.should_stop()
    assert watch.reason == "lost"


def test_a_library_that_prints_without_end_does_not_fill_the_database(owner):
    def script(engine):
        for number in range(MAX_LOG_LINES + 100):
            engine.on_log("output", f"line {number}")
        return estimate_document()

    run = make_run(owner)
    carry_out(run, script)
    assert run.events.filter(level="output").count() == MAX_LOG_LINES
    assert run.events.filter(message__contains="The log is cut here").count() == 1


def test_a_measurement_waits_for_one_that_began_earlier_on_the_same_machine(owner, bells):
    earlier, later = (make_run(owner, kind="measure", queue="hw.a") for _ in range(2))
    elsewhere = lifecycle.claim(run_id=make_run(owner, kind="measure", queue="hw.b").pk, worker="host-b:1")
    earlier = lifecycle.claim(run_id=earlier.pk, worker="host-a:1")
    later = lifecycle.claim(run_id=later.pk, worker="host-a:2")
    for run in (earlier, elsewhere):
        with quiet_machine(run, Watch(run, threading.Event())):
            pass

    watch = Watch(later, threading.Event())
    watch.progress = lambda stage, fraction, message: lifecycle.finish(run=earlier, document=estimate_document())
    with quiet_machine(later, watch):
        assert Run.objects.get(pk=earlier.pk).state == "done"


def test_a_measurement_runs_in_the_processes_of_its_protocol(owner, monkeypatch):
    """Fresh ones, one after the other: each is asked with its share of the time limit, and all become one document."""
    asked = []

    class Child:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return None

        def request(self, op, payload, **options):
            asked.append((op, payload["protocol"]["processes"], payload["spec"]["workload"]["time_limit_s"]))
            document = measured()
            document["conditions"]["foreign_cores"] = 0.0
            return document

    monkeypatch.setattr(executor, "EngineChild", Child)
    run = make_run(owner, kind="measure", workload={"time_limit_s": 60.0}, protocol={"processes": 2})
    execute(run_id=run.pk, worker="host-a:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert run.state == "done", run.error
    assert [(op, processes) for op, processes, _ in asked] == [("measure", 2)] * 2
    assert asked[0][2] == pytest.approx(30, rel=0.05)
    assert len(run.document.data["processes"]) == 2


def test_a_measurement_in_turns_has_verdicts(owner, owner_client, monkeypatch):
    asked = []

    class Child:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return None

        def request(self, op, payload, **options):
            asked.append(payload["spec"]["workload"]["threads"])
            document = measured()
            document["conditions"] |= {"foreign_cores": 0.0, "contended": False, "reasons": []}
            return document

    monkeypatch.setattr(executor, "EngineChild", Child)
    base = make_run(owner, kind="measure", workload={"threads": 1})
    run = make_run(owner, kind="measure", workload={"threads": 2}, protocol={"processes": 3})
    run.spec["against"] = base.spec | {"protocol": None, "against": None}
    run.save()
    execute(run_id=run.pk, worker="host-a:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert run.state == "done", run.error
    assert asked == [1, 2, 2, 1, 1, 2]
    assert run.document.data["in_turns"]["verdicts"]["ttft"]["verdict"] == "no difference shown"
    page = owner_client.get(run_page(run)).content.decode()
    assert "ABBAAB" in page
    assert "no difference shown" in page


def test_a_measurement_that_waits_can_be_cancelled(owner):
    first, second = (make_run(owner, kind="measure", queue="hw.a") for _ in range(2))
    lifecycle.claim(run_id=first.pk, worker="host-a:1")
    cancelled = []

    @contextmanager
    def open_engine(run, watch):
        cancelled.append(cancel_run(run=run))
        with quiet_machine(run, watch):
            yield ScriptedEngine(lambda engine: estimate_document())

    execute(run_id=second.pk, worker="host-a:2", shutdown=threading.Event(), open_engine=open_engine)
    assert cancelled
    assert Run.objects.get(pk=second.pk).state == "cancelled"


def test_a_killed_engine_process_fails_the_run_within_two_seconds(owner):
    """With a real engine process: it imports torch, and is killed before it can answer."""
    run = make_run(owner)
    killed_at = []

    @contextmanager
    def open_engine(run, watch):
        with EngineChild(warm=True) as child:
            engine = ScriptedEngine(lambda engine: None)

            def request(op, payload, **options):
                def kill():
                    killed_at.append(time.monotonic())
                    child._process.kill()

                threading.Timer(0.3, kill).start()
                return child.request("ping", {}, **options)

            engine.request = request
            yield engine

    execute(run_id=run.pk, worker="host-a:1", shutdown=threading.Event(), open_engine=open_engine)
    assert time.monotonic() - killed_at[0] < 2
    run.refresh_from_db()
    assert run.state == "failed"
    assert "killed (signal 9)" in run.error
