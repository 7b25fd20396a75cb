"""What workers do to runs: claim, lease, fence, finish, sweep."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.runs import lifecycle, sweep
from llmcompare.runs.models import Run, RunDocument, RunMetric
from llmcompare.runs.services import cancel_run, delete_run
from llmcompare.runs.worker import was_away
from tests.factories import make_host, make_run
from tests.runs.documents import estimate_document


@pytest.fixture
def bells(monkeypatch):
    """Ids of the runs that the sweep rang for."""
    rung = []
    monkeypatch.setattr(sweep, "ring", lambda run: rung.append(run.pk))
    monkeypatch.setattr(sweep, "send", lambda run: rung.append(run.pk) or True)
    return rung


def claimed(owner, worker="host-a:1", **fields) -> Run:
    run = lifecycle.claim(run_id=make_run(owner, **fields).pk, worker=worker)
    assert run is not None
    return run


def let_expire(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_claim_succeeds_once(owner):
    run = make_run(owner)
    first = lifecycle.claim(run_id=run.pk, worker="host-a:1")
    assert lifecycle.claim(run_id=run.pk, worker="host-b:1") is None
    assert (first.state, first.attempt, first.worker) == ("running", 1, "host-a:1")
    assert first.lease_until > timezone.now()
    assert first.started is not None


@pytest.mark.parametrize("end", [cancel_run, delete_run])
def test_a_run_that_is_not_wanted_any_more_cannot_be_claimed(owner, end):
    run = end(run=make_run(owner))
    assert lifecycle.claim(run_id=run.pk, worker="host-a:1") is None


def test_finishing_stores_results_and_state_together(owner):
    run = claimed(owner)
    assert lifecycle.finish(run=run, document=estimate_document(ttft=0.5))
    run.refresh_from_db()
    assert (run.state, run.progress, run.ttft_s, run.claim, run.lease_until) == ("done", 1, 0.5, None, None)
    assert run.finished is not None
    assert run.document.data["metrics"]["ttft"]["value"] == 0.5
    assert run.metrics.count() == 4


def test_a_document_that_is_none_changes_nothing(owner):
    run = claimed(owner)
    with pytest.raises(KeyError):
        lifecycle.finish(run=run, document={"metrics": {}})
    run.refresh_from_db()
    assert run.state == "running"
    assert not RunDocument.objects.exists()


def test_the_fence_keeps_a_worker_that_lost_its_lease_from_writing(owner, bells):
    frozen = claimed(owner)
    let_expire(frozen)
    sweep.sweep()
    other = lifecycle.claim(run_id=frozen.pk, worker="host-b:1")
    events = frozen.events.count()

    assert lifecycle.renew(run=frozen) is False
    assert lifecycle.report(run=frozen, stage="decode", fraction=0.5, message="x") is False
    assert lifecycle.log(run=frozen, message="x") is False
    assert lifecycle.cancel_wanted(run=frozen) is None
    assert lifecycle.fail(run=frozen, phase="decode", message="x", partial={"a": 1}) is False
    assert lifecycle.put_back(run=frozen) is False
    assert lifecycle.end_cancelled(run=frozen) is False
    assert lifecycle.finish(run=frozen, document=estimate_document()) is False
    assert frozen.events.count() == events
    assert not RunDocument.objects.exists()

    assert lifecycle.finish(run=other, document=estimate_document())
    assert lifecycle.finish(run=frozen, document=estimate_document()) is False
    assert RunDocument.objects.count() == 1
    assert RunMetric.objects.count() == 4
    assert Run.objects.get().attempt == 2


def test_progress_and_log_renew_the_lease(owner):
    run = claimed(owner)
    for write in (
        lambda: lifecycle.renew(run=run),
        lambda: lifecycle.report(run=run, stage="load", fraction=7, message="Loading"),
        lambda: lifecycle.log(run=run, message="Loading"),
    ):
        let_expire(run)
        assert write()
        assert not Run.objects.expired().exists()
    run.refresh_from_db()
    assert (run.stage, run.progress, run.message) == ("load", 1, "Loading")


def test_a_failure_keeps_its_message_without_paths_and_what_was_computed(owner):
    run = claimed(owner)
    assert lifecycle.fail(
        run=run, phase="decode", message="cannot open /srv/secret/place/model.bin", partial={"metrics": {}}
    )
    run.refresh_from_db()
    assert (run.state, run.error_phase, run.error) == ("failed", "decode", "cannot open model.bin")
    assert run.document.data == {"metrics": {}}
    assert run.events.last().level == "error"


def test_what_a_run_shows_of_its_work_has_no_paths(owner):
    run = claimed(owner)
    lifecycle.report(run=run, stage="load", fraction=0.1, message="Loading /srv/secret/place/model.bin")
    lifecycle.log(run=run, message="Loading /srv/secret/place/model.bin")
    run.refresh_from_db()
    assert run.message == run.events.last().message == "Loading model.bin"


def test_putting_back_costs_no_attempt(owner):
    run = claimed(owner)
    assert lifecycle.put_back(run=run)
    run.refresh_from_db()
    assert (run.state, run.attempt, run.claim, run.started) == ("queued", 0, None, None)


@pytest.mark.parametrize("put_back", [lifecycle.put_back, lifecycle.put_back_lost])
@pytest.mark.parametrize("end", [cancel_run, delete_run])
def test_what_is_cancelled_while_its_worker_stops_ends_and_does_not_wait_for_ever(owner, put_back, end):
    """A worker that stops, or a sweep, may not have seen the wish yet; nobody takes a run that waits and is not wanted."""
    run = claimed(owner)
    end(run=run)
    assert put_back(run=run) is False
    run.refresh_from_db()
    assert (run.state, run.claim) == ("cancelled", None)
    assert run.finished is not None
    assert not Run.objects.filter(owner=owner).active().exists()


def test_the_sweep_leaves_runs_with_a_lease_alone(owner, bells):
    run = claimed(owner)
    assert sweep.sweep() == sweep.Swept()
    run.refresh_from_db()
    assert run.state == "running"


def test_the_sweep_puts_a_lost_run_back_and_rings(owner, bells):
    run = claimed(owner)
    let_expire(run)
    assert sweep.sweep() == sweep.Swept(put_back=1)
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("queued", 1)
    assert bells == [run.pk]
    assert sweep.sweep().put_back == 0


def test_a_worker_that_renews_after_the_sweep_has_looked_keeps_its_run(owner, bells, monkeypatch):
    """The sweep read the row as expired; before it writes, the worker (held up by a busy database) renews."""
    run = claimed(owner)
    let_expire(run)
    seen = Run.objects.get(pk=run.pk)
    monkeypatch.setattr(type(Run.objects.all()), "expired", lambda self: [seen])
    assert lifecycle.renew(run=run)
    assert sweep.sweep() == sweep.Swept()
    assert lifecycle.finish(run=run, document=estimate_document())


def test_two_sweepers_bring_a_lost_run_on_its_way_once(owner, bells):
    run = claimed(owner)
    let_expire(run)
    first, second = Run.objects.get(pk=run.pk), Run.objects.get(pk=run.pk)
    assert lifecycle.take_over(run=first)
    assert not lifecycle.take_over(run=second)
    assert lifecycle.cancel_wanted(run=run) is None, "whoever had it is told"
    assert lifecycle.put_back_lost(run=first)


@pytest.mark.parametrize(("seconds", "away"), [(5, False), (30, False), (36, True), (3600, True)])
def test_a_machine_that_slept_leaves_out_a_round_of_the_sweep(settings, seconds, away):
    """Its own leases ended while it slept; those who hold them wake up beside the sweep."""
    settings.RUN_SWEEP_S, settings.RUN_LEASE_S = 5, 60
    assert was_away(1000.0, 1000.0 + seconds) is away


def test_after_three_lost_workers_a_run_fails_with_a_sentence(owner, bells):
    run = make_run(owner)
    for _ in range(3):
        let_expire(lifecycle.claim(run_id=run.pk, worker="host-a:1"))
        sweep.sweep()
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("failed", 3)
    assert "lost 3 times" in run.error
    assert "host-a" in run.error
    assert lifecycle.claim(run_id=run.pk, worker="host-a:1") is None


def test_a_cancelled_run_whose_worker_was_lost_is_cancelled(owner, bells):
    run = claimed(owner)
    cancel_run(run=run)
    let_expire(run)
    assert sweep.sweep() == sweep.Swept(cancelled=1)
    assert Run.objects.get().state == "cancelled"


@pytest.mark.parametrize("wish", [{"cancel_requested": True}, {"deleted_at": timezone.now()}])
def test_a_run_that_an_earlier_version_left_waiting_unwanted_is_ended(owner, bells, wish):
    """Nobody takes it, so it would count as under way for ever."""
    run, other = make_run(owner), make_run(owner)
    Run.objects.filter(pk=run.pk).update(**wish)
    assert sweep.sweep() == sweep.Swept(cancelled=1)
    run.refresh_from_db()
    assert (run.state, run.events.last().stage) == ("cancelled", "cancelled")
    assert run.finished is not None
    assert list(Run.objects.active()) == [other]
    assert sweep.sweep() == sweep.Swept()


def test_a_lost_bell_is_rung_again_once_while_an_idle_worker_listens(owner, bells):
    run = make_run(owner)
    assert sweep.sweep().rung == 0, "nobody listens: bells would pile up"
    make_host(slug="host-a")
    assert sweep.sweep().rung == 1
    assert sweep.sweep().rung == 0, "this bell is fresh"
    assert bells == [run.pk]


def test_no_bell_is_rung_for_workers_that_are_busy_or_serve_other_queues(owner, bells):
    make_host(slug="host-a")
    claimed(owner, worker="host-a:1")
    make_run(owner)
    assert sweep.sweep().rung == 0, "host-a is busy"
    make_host(slug="host-b", details={"queues": ["hw.host-b"]})
    assert sweep.sweep().rung == 0, "host-b takes no estimates"
    make_host(slug="host-c", seen=timezone.now() - timedelta(hours=1))
    assert sweep.sweep().rung == 0, "host-c is offline"
