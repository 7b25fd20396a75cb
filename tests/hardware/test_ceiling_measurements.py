"""Asking for new ceilings of a host: once, by those who may, without losing what was accepted before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import IntegrityError
from django.urls import reverse
from django.utils import timezone

from hardware import measurements
from hardware.models import CeilingMeasurement, Host
from hardware.services import register_host, store_ceilings
from tests.hardware.test_hosts import CEILING, DETECTED

State = CeilingMeasurement.State
DETAIL = {"values": [1.5e11, 1.49e11, 1.45e11], "agreed": 3, "undisturbed": 3, "needed": 3, "spread_pct": 3.45}
GOOD = CEILING | {"quality": "ok", "detail": DETAIL}
BAD = CEILING | {"value": 9e10, "quality": "contended", "detail": DETAIL | {"agreed": 1, "spread_pct": 61.0}}


@pytest.fixture
def host(db) -> Host:
    return register_host(detected=DETECTED, queue="hw.box")


@pytest.fixture
def rung(monkeypatch) -> list[str]:
    """Queues that a bell was rung for."""
    bells: list[str] = []
    monkeypatch.setattr(measurements.app, "send_task", lambda name, queue, **options: bells.append(queue))
    return bells


def document(*rows) -> dict:
    return {
        "rows": list(rows),
        "skipped": [{"op_class": "gemm", "dtype": "fp8", "reason": "not implemented"}],
        "versions": {"torch": "2.13.0", "python": "3.11.9", "kernel": "Linux 6.1", "llmcompare": "1"},
        "affinity": [0, 1],
        "env_vars": {},
        "processes": 3,
        "device": "cpu",
        "duration_s": 31.0,
    }


def taken(host, worker="box:1") -> CeilingMeasurement:
    measurement, _ = measurements.ask(host=host)
    assert measurements.claim(measurement=measurement, worker=worker)
    return measurement


def test_asking_twice_does_nothing_twice(host, rung, owner):
    first, new = measurements.ask(host=host, user=owner)
    again, newer = measurements.ask(host=host, user=owner)
    assert (new, newer, first.pk) == (True, False, again.pk)
    assert rung == ["hw.box"]
    with pytest.raises(IntegrityError):
        CeilingMeasurement.objects.create(host=host)


def test_only_one_worker_gets_it(host, rung):
    measurement, _ = measurements.ask(host=host)
    other = CeilingMeasurement.objects.get(pk=measurement.pk)
    assert measurements.claim(measurement=measurement, worker="box:1")
    assert not measurements.claim(measurement=other, worker="box:2")
    assert Host.objects.get().ceilings_state == "measuring"


def test_results_are_kept_with_date_versions_and_affinity(host, rung):
    measurement = taken(host)
    assert measurements.finish(measurement=measurement, document=document(GOOD))
    measurement.refresh_from_db()
    ceiling = host.ceilings.get()
    assert (measurement.state, Host.objects.get().ceilings_state) == (State.DONE, "done")
    assert ceiling.detail["values"] == DETAIL["values"]
    assert (ceiling.detail["versions"]["torch"], ceiling.detail["affinity"]) == ("2.13.0", [0, 1])
    assert (measurement.outcome["accepted"], measurement.outcome["contended"]) == (1, 0)


def test_contended_rates_do_not_replace_accepted_ones_silently(host, rung, staff_client):
    store_ceilings(host=host, rows=[GOOD])
    measurement = taken(host)
    measurements.finish(measurement=measurement, document=document(BAD, BAD | {"threads": 1}))
    values = {(c.threads, c.value, c.quality) for c in host.ceilings.all()}
    assert values == {(2, 1.5e11, "ok"), (1, 9e10, "contended")}
    kept = host.ceilings.get(threads=2)
    assert kept.detail["refused"]["value"] == 9e10
    assert kept.detail["refused"]["spread_pct"] == 61.0
    measurement.refresh_from_db()
    assert measurement.outcome["kept"] == ["gemm fp32 on 2 threads"]
    html = staff_client.get(reverse("hardware:host", args=["box"])).content.decode()
    assert "contended, not taken" in html
    assert "90\u202fGFLOP/s" in html


def test_an_accepted_rate_replaces_an_accepted_one_and_a_contended_one_a_contended_one(host, rung):
    store_ceilings(host=host, rows=[GOOD, BAD | {"threads": 1}])
    store_ceilings(host=host, rows=[GOOD | {"value": 1.4e11}, BAD | {"threads": 1, "value": 8e10}])
    assert {(c.threads, c.value) for c in host.ceilings.all()} == {(2, 1.4e11), (1, 8e10)}
    assert "refused" not in host.ceilings.get(threads=2).detail


def test_a_failed_one_keeps_the_old_rates_and_says_why(host, rung, owner_client):
    store_ceilings(host=host, rows=[GOOD])
    measurement = taken(host)
    measurements.fail(measurement=measurement, message="The machine ran out of memory.")
    assert Host.objects.get().ceilings_state == "done"
    html = owner_client.get(reverse("hardware:host", args=["box"])).content.decode()
    assert "The machine ran out of memory." in html
    assert "The older rates below stay." in html
    assert "150\u202fGFLOP/s" in html


def test_without_old_rates_a_failure_is_a_failure_and_a_cancelled_one_is_missing(host, rung):
    measurements.fail(measurement=taken(host), message="No.")
    assert Host.objects.get().ceilings_state == "failed"
    measurements.end_cancelled(measurement=taken(host))
    assert Host.objects.get().ceilings_state == "missing"


def test_a_worker_that_lost_its_lease_changes_nothing(host, rung):
    measurement = taken(host)
    CeilingMeasurement.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert measurements.recover_lost() == 1
    assert measurements.recover_lost() == 0
    assert not measurements.finish(measurement=measurement, document=document(GOOD))
    assert not measurements.report(measurement=measurement, fraction=0.5, message="late")
    assert not host.ceilings.exists()
    measurement.refresh_from_db()
    assert measurement.state == State.FAILED
    assert "was lost" in measurement.error


def test_a_worker_that_renews_after_the_sweep_has_looked_keeps_its_measurement(host, rung, monkeypatch):
    measurement = taken(host)
    CeilingMeasurement.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    seen = CeilingMeasurement.objects.get(pk=measurement.pk)
    assert measurements.report(measurement=measurement, fraction=0.5, message="still here")
    assert not measurements._take_over(seen)
    assert measurements.finish(measurement=measurement, document=document(GOOD))


def test_cancelling_ends_one_that_waits_and_asks_one_that_runs(host, rung):
    waiting, _ = measurements.ask(host=host)
    measurements.cancel(measurement=waiting)
    assert waiting.state == State.CANCELLED
    running = taken(host)
    measurements.cancel(measurement=running)
    assert (running.state, measurements.cancel_wanted(measurement=running)) == (State.RUNNING, True)


def test_a_host_without_an_engine_cannot_be_asked(db, rung, staff_client):
    host = register_host(detected=DETECTED | {"engine": False, "engine_note": "Not installed."}, queue="hw.box")
    with pytest.raises(ValueError, match="Not installed"):
        measurements.ask(host=host)
    staff_client.post(reverse("hardware:host-ceilings", args=["box"]))
    assert not CeilingMeasurement.objects.exists()


# --- pages ---


def test_staff_have_the_button_and_others_do_not(host, rung, staff_client, owner_client, owner):
    url = reverse("hardware:host", args=["box"])
    assert "Measure now" in staff_client.get(url).content.decode()
    assert "Measure now" not in owner_client.get(url).content.decode()
    assert owner_client.post(reverse("hardware:host-ceilings", args=["box"])).status_code == 404
    owner.user_permissions.add(Permission.objects.get(codename="add_ceilingmeasurement"))
    assert "Measure now" in owner_client.get(url).content.decode()
    assert owner_client.post(reverse("hardware:host-ceilings", args=["box"])).status_code == 302
    assert CeilingMeasurement.objects.get().asked_by == owner


def test_a_second_press_while_one_is_under_way_says_so(host, rung, staff_client):
    url = reverse("hardware:host-ceilings", args=["box"])
    staff_client.post(url, {"quick": "0"})
    page = staff_client.post(url, follow=True).content.decode()
    assert "under way already" in page
    assert CeilingMeasurement.objects.get().quick is False
    assert len(rung) == 1


def test_the_page_shows_how_far_it_is_and_reloads_at_the_end(host, rung, staff_client):
    measurement = taken(host)
    measurements.report(measurement=measurement, fraction=0.42, message="Process 2 of 3: gemm bf16, 2 threads")
    url = reverse("hardware:host-ceilings", args=["box"])
    page = staff_client.get(url, HTTP_HX_REQUEST="true")
    assert "42 %" in page.content.decode()
    assert "Process 2 of 3: gemm bf16" in page.content.decode()
    version = page.context["version"]
    assert staff_client.get(url, {"v": version}, HTTP_HX_REQUEST="true").status_code == 204
    measurements.finish(measurement=measurement, document=document(GOOD))
    assert staff_client.get(url, {"v": version}, HTTP_HX_REQUEST="true").headers["HX-Refresh"] == "true"


def test_waiting_says_whether_a_worker_is_there(host, rung, staff_client):
    measurements.ask(host=host)
    url = reverse("hardware:host", args=["box"])
    assert "as soon as the machine is free" in staff_client.get(url).content.decode()
    Host.objects.update(seen=timezone.now() - timedelta(hours=1))
    assert "No worker of this host is online" in staff_client.get(url).content.decode()


def test_roofs_need_a_product_and_a_stream_and_show_what_disagrees(host, owner_client):
    stream = {"op_class": "triad", "dtype": "", "threads": 2, "value": 3e10, "unit": "B/s", "median": 2.9e10}
    store_ceilings(host=host, rows=[GOOD, BAD | {"dtype": "bf16"}, BAD | {"threads": 1}, stream])
    roofs = owner_client.get(reverse("hardware:host", args=["box"])).context["roofs"]
    assert [(roof["dtype"], roof["threads"], roof["accepted"]) for roof in roofs] == [
        ("fp32", 2, True),
        ("bf16", 2, False),
    ]
    assert roofs[0]["ridge"] == pytest.approx(5.0)
    assert roofs[0]["bandwidth_from"] == "triad"


# --- API ---


def test_the_api_gives_rows_and_takes_the_wish_of_staff(host, rung, staff_client, owner_client):
    store_ceilings(host=host, rows=[GOOD])
    url = "/api/v1/hosts/box/ceilings/"
    body = owner_client.get(url).json()
    assert (body["rows"][0]["value"], body["measurement"]) == (1.5e11, None)
    assert owner_client.post(url, {}, content_type="application/json").status_code == 403
    assert staff_client.post(url, {"quick": False}, content_type="application/json").status_code == 202
    again = staff_client.post(url, {}, content_type="application/json")
    assert (again.status_code, again.json()["measurement"]["state"]) == (200, "queued")
    assert staff_client.post(url, {"quik": 1}, content_type="application/json").status_code == 400
    assert owner_client.get("/api/v1/hosts/none/ceilings/").status_code == 404
