"""Runs survive what happens to workers: real worker processes, real engines, real brokers and databases, and kill -9.

Each case runs on SQLite with the filesystem broker and on PostgreSQL with Redis. The lease is a few seconds instead of a minute.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.chaos.harness import LEASE_S, Portal, await_that, gone
from tests.services import free_port, new_database, unavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["embedded", "servers"])
def portal(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        urls = {}
        if request.param == "servers":
            postgres, redis = request.getfixturevalue("postgres_url"), request.getfixturevalue("redis_url")
            urls["database_url"] = stack.enter_context(new_database(postgres))
            # A Redis database of our own: other tests may use the same server and the same queue names.
            urls["broker_url"] = urlunsplit(urlsplit(redis)._replace(path="/11"))
        yield stack.enter_context(Portal(folder, **urls))


@pytest.fixture(autouse=True)
def _no_worker_is_left(portal):
    yield
    portal.stop_workers()


def assert_results_once(portal: Portal, run_id: int) -> None:
    kept = portal.call("kept", run_id=run_id)
    assert (kept["documents"], kept["done"], kept["twice"]) == (1, 1, 0), kept
    assert kept["metrics"] > 3


def test_kill_9_of_the_worker_loses_nothing(portal):
    worker = portal.start_worker()
    run = portal.measure(seconds=6)
    portal.await_work(run, worker)
    engines = worker.kill()
    assert engines, "the worker had an engine process"
    await_that(lambda: gone(engines), "no engine outlives its worker", 3)
    assert portal.row(run)["state"] == "running", "nobody knows yet"

    portal.start_worker()
    row = portal.await_state(run, "done", "failed")
    assert (row["state"], row["attempt"], row["error"]) == ("done", 2, "")
    assert_results_once(portal, run)


def test_kill_9_of_the_engine_fails_the_run_within_two_seconds_with_a_reason(portal):
    worker = portal.start_worker()
    run = portal.measure(seconds=30)
    portal.await_work(run, worker)
    killed = time.monotonic()
    for engine in worker.engines():
        engine.kill()
    row = portal.await_state(run, "failed", timeout_s=10)
    assert time.monotonic() - killed < 2
    assert "killed (signal 9)" in row["error"]
    assert "memory" in row["error"]
    assert row["error_phase"] == "iterations"

    estimate = portal.estimate()[0]
    assert portal.await_state(estimate, "done", "failed")["state"] == "done", "the worker goes on with a new engine"


def test_sigterm_puts_the_run_back_and_costs_no_attempt(portal):
    worker = portal.start_worker()
    run = portal.measure(seconds=6)
    portal.await_work(run, worker)
    engines = worker.engines()
    worker.signal(signal.SIGTERM)
    worker.process.wait(10)
    row = portal.row(run)
    assert (row["state"], row["attempt"], row["claim"]) == ("queued", 0, None)
    assert gone(engines)

    portal.start_worker()
    row = portal.await_state(run, "done", "failed")
    assert (row["state"], row["attempt"]) == ("done", 1)
    assert_results_once(portal, run)


def test_cancelling_ends_the_engine_at_once(portal):
    worker = portal.start_worker()
    run = portal.measure(seconds=60)
    portal.await_work(run, worker)
    measuring = [engine for engine in worker.engines() if "--warm" not in engine.cmdline()]
    portal.call("cancel", run_id=run)
    portal.await_state(run, "cancelled", timeout_s=3)
    await_that(lambda: gone(measuring), "the measuring engine is gone", 2)


def test_a_worker_that_was_frozen_past_its_lease_changes_nothing(portal):
    frozen = portal.start_worker()
    run = portal.measure(seconds=8)
    portal.await_work(run, frozen)
    frozen.signal(signal.SIGSTOP)
    other = portal.start_worker()
    row = portal.await_state(run, "done", "failed")
    assert (row["state"], row["attempt"], row["worker"]) == ("done", 2, other.name)

    frozen.signal(signal.SIGCONT)
    await_that(lambda: "another worker has the run" in frozen.log, "the thawed worker notices", 20)
    assert portal.row(run) == row
    assert_results_once(portal, run)
    other.stop()
    estimate = portal.estimate()[0]
    assert portal.await_state(estimate, "done", "failed")["worker"] == frozen.name, "and it works on"


def test_a_run_that_kills_its_worker_fails_after_three_attempts(portal):
    run = None
    for attempt in (1, 2, 3):
        worker = portal.start_worker()
        run = run or portal.measure(seconds=60)
        row = portal.await_work(run, worker)
        assert row["attempt"] == attempt
        worker.kill()
    portal.start_worker()
    row = portal.await_state(run, "failed", timeout_s=LEASE_S + 20)
    assert row["attempt"] == 3
    assert "lost 3 times" in row["error"]
    assert portal.call("kept", run_id=run)["documents"] == 0


def test_two_workers_share_the_runs_and_none_runs_twice(portal):
    portal.start_worker()
    portal.start_worker("second")
    runs = portal.estimate(count=16)
    rows = [portal.await_state(run, "done", "failed") for run in runs]
    assert [row["state"] for row in rows] == ["done"] * 16
    assert {row["attempt"] for row in rows} == {1}
    assert len({row["worker"] for row in rows}) == 2
    for run in runs:
        assert portal.call("kept", run_id=run)["begun"] == 1
        assert_results_once(portal, run)


def test_lost_bells_are_rung_again(portal, request):
    """The messages are gone, the rows are there: that is enough."""
    runs = portal.estimate(count=3)
    lose_all_messages(portal)
    portal.start_worker()
    assert {portal.await_state(run, "done", "failed")["state"] for run in runs} == {"done"}


def lose_all_messages(portal: Portal) -> None:
    broker = portal.environment["BROKER_URL"]
    if broker:
        import redis

        redis.Redis.from_url(broker).flushdb()
    else:
        for message in (portal.folder / "data" / "broker" / "queue").iterdir():
            message.unlink()


@pytest.mark.parametrize("portal", ["servers"], indirect=True)  # the filesystem broker has no server to be down
def test_a_broker_that_is_down_delays_runs_and_fails_no_request(portal, tmp_path):
    """Redis is down when a run is launched, first before there is a worker, then under a worker that has to find it again."""
    program = shutil.which("redis-server")
    if program is None:
        unavailable("Redis", "redis-server", "LLMCOMPARE_TEST_BROKER_URL")
    port = free_port()

    def start_redis() -> subprocess.Popen:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        server = subprocess.Popen([program, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
        stack.callback(server.wait, 20)
        stack.callback(server.kill)
        return server

    def launch_without_broker() -> int:
        launched = down.call("launch", kind="estimate", workload={})
        assert launched["slowest_s"] < 3
        assert down.row(launched["ids"][0])["state"] == "queued"
        return launched["ids"][0]

    with ExitStack() as stack:
        down = stack.enter_context(Portal(tmp_path, broker_url=f"redis://127.0.0.1:{port}/0"))
        run = launch_without_broker()
        server = start_redis()
        down.start_worker()
        assert down.await_state(run, "done", "failed")["state"] == "done"

        server.kill()
        server.wait(20)
        run = launch_without_broker()
        start_redis()
        assert down.await_state(run, "done", "failed")["state"] == "done"
