"""The life of a stored form: asked once, made by one worker under a lease, found by everybody with the same configuration."""

from __future__ import annotations

import json
import threading
import zlib
from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.common.errors import QuotaExceeded
from llmcompare.explore import making, prepared
from llmcompare.explore.carrying import carry_out
from llmcompare.explore.models import StoredForm
from profiling.client import EngineError
from profiling.spec import Workload
from tests.explore.conftest import EngineHere
from tests.factories import make_model

WORKLOAD = Workload()


def ask(user, model, workload=WORKLOAD):
    return making.ask(user=user, model=model.to_spec(), workload=workload, kernel_threads=None)


def test_two_users_with_the_same_configuration_wait_for_one_form(owner, stranger):
    mine = make_model(source="upload", owner=owner)
    theirs = make_model(source="upload", owner=stranger)
    first, second = ask(owner, mine), ask(stranger, theirs)
    assert first.pk == second.pk
    assert StoredForm.objects.count() == 1
    assert second.asked_by == owner


def test_batch_lengths_and_formats_need_no_form_of_their_own(owner, model):
    first = ask(owner, model)
    assert (
        ask(owner, model, Workload(batch_size=64, input_tokens=9, weights_dtype="int4", kv_dtype="fp8")).pk == first.pk
    )
    assert ask(owner, model, Workload(tensor_parallel=2)).pk != first.pk
    assert ask(owner, model, Workload(dtype="fp32")).pk != first.pk


def test_a_made_form_is_kept_compressed_without_what_was_asked(owner, model, form):
    data = json.loads(zlib.decompress(bytes(form.data)))
    assert data["facts"]["layers"] == 2
    assert form.request is None
    assert form.made_with["torch"]
    assert form.claim is None


def test_the_form_of_another_engine_version_is_not_used(owner, model, form, monkeypatch):
    import profiling

    monkeypatch.setattr(profiling, "__version__", "99.0")
    from profiling.forms import keys

    keys.versions.cache_clear()
    try:
        again = ask(owner, model)
    finally:
        keys.versions.cache_clear()
    assert again.pk != form.pk
    assert again.state == "queued"


def test_damaged_data_is_a_form_to_be_made_again_and_no_fault(form):
    StoredForm.objects.filter(pk=form.pk).update(data=b"no zlib")
    assert prepared.evaluator_of(form, WORKLOAD) is None


def test_only_one_worker_takes_a_form(owner, model):
    form = ask(owner, model)
    assert making.claim(form_id=form.pk, worker="a:1") is not None
    assert making.claim(form_id=form.pk, worker="b:1") is None


def test_a_worker_that_lost_its_lease_changes_nothing(owner, model):
    form = ask(owner, model)
    slow = making.claim(form_id=form.pk, worker="a:1")
    StoredForm.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    making.sweep()
    quick = making.claim(form_id=form.pk, worker="b:1")
    assert not making.finish(form=slow, answer={"no_form": "too late"})
    assert making.report(form=quick, fraction=0.5, message="at work")
    assert StoredForm.objects.get().state == "running"


def test_a_form_that_loses_every_worker_is_given_up_with_the_reason(owner, model):
    form = ask(owner, model)
    for _ in range(StoredForm.MAX_ATTEMPTS):
        assert making.claim(form_id=form.pk, worker="a:1") is not None
        StoredForm.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        making.sweep()
    form.refresh_from_db()
    assert form.state == "failed"
    assert "lost 3 times" in form.reason
    assert ask(owner, model).state == "queued", "it can be tried again"


@pytest.mark.parametrize("when", ["waiting", "running"])
def test_cancelling(owner, model, when):
    form = ask(owner, model)
    if when == "waiting":
        making.cancel(form=form)
    else:

        class Cancelled:
            def request(self, op, payload, *, should_stop, **how):
                making.cancel(form=form)
                assert should_stop()
                raise EngineError(phase="form", kind="cancelled", message="The run was cancelled.")

        carry_out(form_id=form.pk, worker="a:1", shutdown=threading.Event(), engine=Cancelled())
    form.refresh_from_db()
    assert form.state == "cancelled"


def test_a_shutdown_puts_it_back_and_costs_no_attempt(owner, model):
    form, shutdown = ask(owner, model), threading.Event()

    class Stopped:
        def request(self, op, payload, *, should_stop, **how):
            shutdown.set()
            assert should_stop()
            raise EngineError(phase="form", kind="cancelled", message="stopped")

    carry_out(form_id=form.pk, worker="a:1", shutdown=shutdown, engine=Stopped())
    form.refresh_from_db()
    assert (form.state, form.attempt) == ("queued", 0)


def test_a_fault_of_the_engine_fails_with_its_words_and_no_paths(owner, model):
    form = ask(owner, model)

    class Broken:
        def request(self, op, payload, **how):
            raise EngineError(phase="form", kind="internal", message="It broke in /home/somebody/secret/place.py.")

    carry_out(form_id=form.pk, worker="a:1", shutdown=threading.Event(), engine=Broken())
    form.refresh_from_db()
    assert form.state == "failed"
    assert "It broke" in form.reason
    assert "/home" not in form.reason


def test_a_model_without_a_form_is_remembered(owner, model):
    form = ask(owner, model)

    class None_:
        def request(self, op, payload, **how):
            return {"no_form": "No polynomial holds."}

    carry_out(form_id=form.pk, worker="a:1", shutdown=threading.Event(), engine=None_())
    engine = EngineHere()
    assert ask(owner, model).state == "none"
    assert engine.asked == 0


def test_one_user_cannot_fill_the_queue(owner, stranger, model):
    for degree in range(1, making.MAX_ACTIVE + 1):
        ask(owner, model, Workload(prefix_tokens=degree))
    with pytest.raises(QuotaExceeded):
        ask(owner, model, Workload(prefix_tokens=100))
    assert ask(stranger, model, Workload(prefix_tokens=100)).state == "queued"


def test_what_was_used_longest_ago_is_forgotten_first(owner, model, form):
    other = StoredForm.objects.create(digest="b" * 64, key={}, state="none", finished=timezone.now())
    StoredForm.objects.filter(pk=other.pk).update(used=timezone.now() - timedelta(days=9))
    waiting = StoredForm.objects.create(digest="c" * 64, key={}, request={})
    assert making.forget_oldest(most=1) == 1
    assert set(StoredForm.objects.values_list("pk", flat=True)) == {form.pk, waiting.pk}


def test_lost_bells_are_rung_again(owner, model, monkeypatch):
    form = ask(owner, model)
    rung = []
    monkeypatch.setattr(making.app, "send_task", lambda name, args, **how: rung.append((name, args)))
    making.sweep()
    assert rung == [], "it was rung a moment ago"
    StoredForm.objects.update(rung_at=timezone.now() - timedelta(minutes=5))
    making.sweep()
    assert rung == [(making.TASK, [form.pk])]
