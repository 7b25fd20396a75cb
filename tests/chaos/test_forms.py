"""Closed forms, which what-if answers stand on: a worker that is killed while it makes one leaves it to the next."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Portal, await_that, gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    with Portal(tmp_path_factory.mktemp("forms"), hosts=("chaos",)) as portal:
        yield portal


def await_form(portal, form: int, *states: str, timeout_s: float = 120) -> dict:
    def look():
        found = portal.call("form", form_id=form)
        return found if found["state"] in states else None

    return await_that(look, f"the form is {' or '.join(states)}: {portal.call('form', form_id=form)}", timeout_s)


def under_way(portal, form: int, worker) -> None:
    """Wait until the worker's engine has the form in hand."""
    await_that(lambda: portal.call("form", form_id=form)["worker"] == worker.name, "the worker has taken the form")
    await_that(worker.engines, "its engine is up")


def test_a_killed_worker_leaves_the_form_to_another_one(portal):
    worker = portal.start_worker()
    form = portal.call("ask_form", model="tiny")
    under_way(portal, form, worker)
    engines = worker.kill()
    assert portal.call("form", form_id=form)["state"] == "running", "it was killed in the middle"
    await_that(lambda: gone(engines), "its engine ends with it", 20)

    other = portal.start_worker()
    found = await_form(portal, form, "ready", "none", "failed")
    assert (found["state"], found["attempt"], found["worker"]) == ("ready", 2, other.name), (found, other.log)
    assert found["size"] > 0
    assert found["claim"] is None
    other.stop()


def test_one_that_is_cancelled_while_its_worker_is_dead_is_not_made(portal):
    portal.call(
        "add_model", slug="other", config={"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2}
    )
    worker = portal.start_worker()
    form = portal.call("ask_form", model="other")
    under_way(portal, form, worker)
    worker.kill()
    portal.call("cancel_form", form_id=form)
    other = portal.start_worker()
    found = await_form(portal, form, "cancelled", "ready", "failed")
    assert (found["state"], found["size"]) == ("cancelled", 0)
    run = portal.estimate()[0]
    assert portal.await_state(run, "done", "failed")["state"] == "done", other.log
