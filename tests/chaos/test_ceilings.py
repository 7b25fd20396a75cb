"""The button on the host's page, end to end: pressed in a browser, carried out by a real worker process, seen in the database."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Portal, await_that, gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def portal(tmp_path, request):
    with Portal(tmp_path, hosts=("chaos",), settings=getattr(request, "param", None)) as portal:
        yield portal


def newest(portal) -> dict:
    return portal.call("ceilings", host="chaos")["measurements"][0]


def await_ceilings(portal, *states: str, timeout_s: float = 420) -> dict:
    def look():
        found = newest(portal)
        return found if found["state"] in states else None

    return await_that(look, f"ceilings are {' or '.join(states)}; {newest(portal)}", timeout_s)


# Nobody is lost here, so nobody need be found soon: every kernel of all threads beside other tests may starve a lease of seconds.
@pytest.mark.parametrize("portal", [{"LLMCOMPARE_LEASE_S": "60"}], indirect=True, ids=["long-lease"])
def test_a_press_is_carried_out_by_the_worker_and_never_beside_a_measured_run(portal):
    assert portal.call("press", host="chaos") == 302
    assert newest(portal)["state"] == "queued", "no worker is there yet"
    assert portal.call("press", host="chaos") == 302
    assert len(portal.call("ceilings", host="chaos")["measurements"]) == 1, "a second press does nothing twice"

    worker = portal.start_worker()
    running = await_ceilings(portal, "running", timeout_s=60)
    assert running["worker"] == worker.name
    run = portal.measure(1)
    await_that(lambda: newest(portal)["message"].startswith("Process 1 of 3"), "progress is shown", 120)

    done = await_ceilings(portal, "done", "failed")
    assert (done["state"], done["error"]) == ("done", ""), worker.log
    found = portal.call("ceilings", host="chaos")
    assert found["state"] == "done"
    assert {"read  1", "triad  1", "gemm int8 1"} <= {row.rsplit(" ", 1)[0] for row in found["rows"]}
    assert all(len(detail["values"]) >= 3 for detail in found["details"]), "at least three processes each"
    assert all(detail["versions"]["torch"] and detail["affinity"] for detail in found["details"])
    assert done["outcome"]["accepted"] + done["outcome"]["contended"] == len(found["rows"])

    row = portal.await_state(run, "done", "failed", timeout_s=120)
    assert row["state"] == "done", row
    times = portal.call("when", run_id=run)
    assert any("Waiting" in line for line in times["log"]), times["log"]
    iterations_began = next(i for i, line in enumerate(times["log"]) if "Waiting" in line)
    assert "Done." in times["log"][iterations_began:]
    assert times["finished"] > done["finished"]


def test_one_that_is_cancelled_or_whose_worker_is_killed_leaves_the_machine_free(portal):
    worker = portal.start_worker()
    portal.call("press", host="chaos")
    await_ceilings(portal, "running", timeout_s=60)
    await_that(worker.engines, "the engine is up", 60)
    portal.call("cancel_ceilings", host="chaos")
    assert await_ceilings(portal, "cancelled", timeout_s=30)["error"] == ""

    portal.call("press", host="chaos")
    await_ceilings(portal, "running", timeout_s=60)
    await_that(worker.engines, "the engine is up", 60)
    engines = worker.kill()
    await_that(lambda: gone(engines), "its engines end with it", 20)

    other = portal.start_worker()

    def lost():
        found = portal.call("ceilings", host="chaos")["measurements"]
        return next((m for m in found if m["state"] == "failed"), None)

    assert "was lost" in await_that(lost, f"the lost one has failed\n{other.log}", 60)["error"]
    run = portal.measure(1)

    def ended():
        # A worker that finds its host without rates measures them by itself; one that found the lost measurement still running does not.
        if newest(portal)["state"] in ("queued", "running"):
            portal.call("cancel_ceilings", host="chaos")
        row = portal.row(run)
        return row if row["state"] in ("done", "failed") else None

    assert await_that(ended, "a run on this machine ends", 500)["state"] == "done"
