"""A look from asking for it to what it left behind, with a real server; workers that stop, are lost, or are beaten to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.common.errors import FieldErrors, QuotaExceeded
from llmcompare.endpoints import carrying, crypto, probing, services
from llmcompare.endpoints.models import PrivateNetwork, Probe
from llmcompare.endpoints.services import Draft
from tests.endpoints.servers import running
from tests.factories import make_endpoint
from tests.layout.test_project import ROOT

KEY = "sk-not-to-be-seen"
pytestmark = pytest.mark.django_db


@pytest.fixture
def lab(db):
    return PrivateNetwork.objects.create(name="lab", network="127.0.0.0/8")


def carry_out(probe: Probe, shutdown: threading.Event | None = None) -> Probe:
    carrying.carry_out(probe_id=probe.pk, worker="here:1", shutdown=shutdown or threading.Event())
    probe.refresh_from_db()
    return probe


def test_a_look_leaves_behind_what_the_server_can_do(owner, lab, bells):
    with running() as (base, requests):
        endpoint = make_endpoint(owner, url=base, model="small", key=KEY, private=True)
        probe = probing.ask(endpoint=endpoint, user=owner)
        assert (probe.state, bells) == ("queued", [1])
        assert carry_out(probe).state == "done"
    endpoint.refresh_from_db()
    assert endpoint.probe["models"] == ["big", "small"]
    assert endpoint.probe["abilities"]["api"] == "chat"
    assert timezone.now() - endpoint.probed_at < timedelta(minutes=1)
    assert {request.headers["authorization"] for request in requests} == {f"Bearer {KEY}"}


def test_a_private_address_of_somebody_else_is_not_connected_to(owner, lab):
    """Stored past the form, it is refused where the connection would be made."""
    with running() as (base, requests):
        endpoint = make_endpoint(owner, url=base)
        carry_out(probing.ask(endpoint=endpoint, user=owner))
    endpoint.refresh_from_db()
    assert "private or reserved" in endpoint.probe["problem"]
    assert requests == []


def test_one_look_at_a_time_and_so_many_for_one_user(owner, monkeypatch):
    endpoint, other = make_endpoint(owner), make_endpoint(owner)
    monkeypatch.setattr(probing, "MAX_ACTIVE", 1)
    assert probing.ask(endpoint=endpoint, user=owner) == probing.ask(endpoint=endpoint, user=owner)
    with pytest.raises(QuotaExceeded):
        probing.ask(endpoint=other, user=owner)


def test_a_deployment_is_not_looked_at(owner):
    with pytest.raises(FieldErrors):
        probing.ask(endpoint=make_endpoint(owner, kind="vertex"), user=owner)


def test_a_key_that_cannot_be_read_ends_the_look_in_a_sentence(owner, settings):
    endpoint = make_endpoint(owner, key=KEY)
    settings.FIELD_KEYS = [crypto.new_field_key()]
    probe = carry_out(probing.ask(endpoint=endpoint, user=owner))
    assert (probe.state, probe.error) == ("failed", crypto.LOST)


def test_what_is_found_of_an_endpoint_that_changed_meanwhile_is_dropped(owner):
    endpoint = make_endpoint(owner)
    probe = probing.claim(probe_id=probing.ask(endpoint=endpoint, user=owner).pk, worker="here")
    services.update(endpoint=endpoint, by=owner, draft=Draft(name="x", url=endpoint.url, model="other"))
    assert probing.finish(probe=probe, found={"models": ["of the other one"]})
    endpoint.refresh_from_db()
    assert endpoint.probe is None
    assert probing.newest(endpoint).state == "done"


def test_two_workers_do_not_look_at_the_same(owner):
    probe = probing.ask(endpoint=make_endpoint(owner), user=owner)
    first = probing.claim(probe_id=probe.pk, worker="one")
    assert probing.claim(probe_id=probe.pk, worker="two") is None
    first.claim = "somebody else's"
    assert not probing.report(probe=first, fraction=0.5, message="…")
    assert not probing.finish(probe=first, found={})


def test_a_lost_worker_costs_an_attempt(owner):
    probe = probing.ask(endpoint=make_endpoint(owner), user=owner)
    for state in ("queued", "failed"):
        assert probing.claim(probe_id=probe.pk, worker="one")
        probing.sweep()
        probe.refresh_from_db()
        assert probe.state == "running", "its time is not over"
        Probe.objects.filter(pk=probe.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        probing.sweep()
        probe.refresh_from_db()
        assert probe.state == state
    assert probe.error == probing.LOST


def test_a_look_ends_before_its_worker_counts_as_lost():
    assert carrying.looking.LIMIT_S + 20 < probing.LEASE_S


def test_the_web_process_has_no_client_for_other_servers():
    """None of its pages opens a connection: it does not even load what could, nor what reads keys."""
    code = "import sys, django; django.setup(); import llmcompare.endpoints.views; print({'httpx', 'cryptography'} & set(sys.modules))"
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "llmcompare.settings"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_a_worker_that_stops_puts_the_look_back(owner, lab):
    shutdown, asked = threading.Event(), threading.Event()

    async def silent(request):
        asked.set()
        shutdown.set()
        await request.closed.wait()

    with running(silent) as (base, _):
        endpoint = make_endpoint(owner, url=base, private=True)
        probe = carry_out(probing.ask(endpoint=endpoint, user=owner), shutdown)
        assert asked.is_set()
    assert (probe.state, probe.attempt) == ("queued", 0)


def test_a_fault_of_ours_ends_the_look_and_its_log_names_no_key(owner, monkeypatch, caplog):
    def fault(*_args, **_options):
        raise RuntimeError(f"with {KEY} in it")

    monkeypatch.setattr(carrying.looking, "look", fault)
    probe = carry_out(probing.ask(endpoint=make_endpoint(owner, key=KEY), user=owner))
    assert (probe.state, probe.error) == ("failed", probing.FAULT)
    assert "RuntimeError" in caplog.text
    assert KEY not in caplog.text


def test_only_the_last_looks_are_kept(owner, monkeypatch):
    monkeypatch.setattr(probing, "KEPT", 2)
    endpoint = make_endpoint(owner)
    for _ in range(4):
        probe = probing.claim(probe_id=probing.ask(endpoint=endpoint, user=owner).pk, worker="here")
        probing.finish(probe=probe, found={})
    assert Probe.objects.filter(endpoint=endpoint).count() == 2


def test_the_worker_s_threads_take_what_waits_once_and_outlive_faults(monkeypatch):
    """Rung for, they look at once; a silent server keeps the others from nothing; shutdown ends them."""
    from llmcompare.endpoints import tasks

    shutdown, wanted, silent = threading.Event(), threading.Event(), threading.Event()
    taken, all_taken, looked = [], threading.Event(), threading.Semaphore(0)
    waiting = iter([RuntimeError("no database"), [1, 2], [1, 2, 3]])

    def what_waits():
        looked.release()
        found = next(waiting, [1])
        if isinstance(found, Exception):
            raise found
        return found

    def carry_out(*, probe_id, worker, shutdown):
        taken.append(probe_id)
        if probe_id == 3:
            all_taken.set()
            raise RuntimeError("a fault")
        silent.wait(20)

    monkeypatch.setattr(tasks.probing, "wanted", what_waits)
    monkeypatch.setattr(tasks.probing, "sweep", lambda: None)
    monkeypatch.setattr(tasks, "carry_out", carry_out)
    monkeypatch.setattr(tasks, "connections", type("None_", (), {"close_all": staticmethod(lambda: None)}))
    thread = threading.Thread(target=tasks.keep_looking, args=[shutdown, wanted], daemon=True)
    thread.start()
    for _ in range(4):
        assert looked.acquire(timeout=10)
        wanted.set()
    assert all_taken.wait(10)
    shutdown.set()
    silent.set()
    wanted.set()
    thread.join(10)
    assert not thread.is_alive()
    assert sorted(taken) == [1, 2, 3]


def test_what_is_found_under_another_rule_of_networks_is_dropped(owner):
    """An administrator took the endpoint out of the private network while it was looked at."""
    endpoint = make_endpoint(owner, private=True)
    probe = probing.claim(probe_id=probing.ask(endpoint=endpoint, user=owner).pk, worker="here")
    type(endpoint).objects.filter(pk=endpoint.pk).update(private=False)
    assert probing.finish(probe=probe, found={"models": ["of the inside"]})
    endpoint.refresh_from_db()
    assert endpoint.probe is None
