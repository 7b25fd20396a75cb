"""Runs of endpoints by a real worker process: the key goes through a pipe and nowhere else, and nothing of this machine waits for them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.chaos.harness import Portal, await_that
from tests.runs.endpoint_server import endpoint_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
KEY = "sk-very-secret-0815"


@pytest.fixture
def portal(tmp_path):
    with Portal(tmp_path) as portal:
        yield portal


def seen_from_outside(process: psutil.Process) -> str:
    """What everybody on the machine may read of a process: its arguments and its environment."""
    return " ".join([*process.cmdline(), *process.environ().values()])


def everywhere(folder: Path) -> bytes:
    """Everything that the portal wrote, its database and its broker's messages included."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_load_is_carried_out_and_its_key_is_nowhere(portal, tmp_path):
    worker = portal.start_worker()
    with endpoint_server(KEY) as there:
        load = {"load_mode": "constant", "load_rate": 20, "load_requests": 60}
        run = portal.call("ask_endpoint", base=there.base, key=KEY, load=load)
        await_that(lambda: portal.row(run)["stage"] == "requests", "the load is under way")
        engines = worker.engines()
        assert engines
        for process in [psutil.Process(worker.process.pid), *engines]:
            assert KEY not in seen_from_outside(process)
        row = portal.await_state(run, "done", "failed")
        assert (row["state"], row["error"]) == ("done", "")
        asked = there.requests()
    assert {one["authorization"] for one in asked} == {f"Bearer {KEY}"}
    document = portal.call("document", run_id=run)
    assert document["load"]["served"] == 60
    assert document["metrics"]["endpoint_tpot"]["n"] == 60
    assert KEY not in json.dumps(document)
    assert KEY.encode() not in everywhere(tmp_path)


def test_estimates_do_not_wait_for_a_load_and_a_cancel_closes_its_connections(portal):
    worker = portal.start_worker()
    with endpoint_server(KEY, hold=True) as there:
        load = {"load_mode": "closed", "load_concurrency": 4, "load_requests": 20}
        run = portal.call("ask_endpoint", base=there.base, key=KEY, load=load, warmup=0, time_limit_s=300)
        await_that(lambda: len(there.requests()) == 4, "four users wait for their answers")
        (estimate,) = portal.estimate()
        assert portal.await_state(estimate, "done", "failed")["state"] == "done"
        assert portal.row(run)["state"] == "running"
        portal.call("cancel", run_id=run)
        assert portal.await_state(run, "cancelled", "done", "failed", timeout_s=10)["state"] == "cancelled"
        await_that(
            lambda: not [e for e in worker.engines() if there.base.split(":")[2].split("/")[0] in _ports(e)],
            "its connections are closed",
        )


def _ports(process: psutil.Process) -> set[str]:
    try:
        return {str(one.raddr.port) for one in process.net_connections() if one.raddr}
    except psutil.Error:
        return set()


def test_a_worker_that_is_stopped_gives_its_load_back(portal):
    first = portal.start_worker()
    with endpoint_server(KEY, hold=True) as there:
        run = portal.call("ask_endpoint", base=there.base, key=KEY, load={"load_mode": "closed"}, warmup=0)
        await_that(lambda: there.requests(), "the load is under way")
        os.kill(first.process.pid, signal.SIGTERM)
        first.process.wait(30)
        row = portal.row(run)
        assert (row["state"], row["attempt"]) == ("queued", 0)
