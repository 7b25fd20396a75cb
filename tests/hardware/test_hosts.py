"""Hosts: what a worker detected becomes a row, and measured ceilings become the roof of its runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from hardware.models import Hardware, Host
from hardware.services import (
    host_spec,
    load_catalogue,
    register_host,
    set_ceilings_state,
    store_ceilings,
    touch_host,
)
from profiling.spec import digest

DETECTED = {
    "name": "box",
    "cpu": {"model": "AMD EPYC", "vendor": "AMD", "isa": ["avx2"], "caches": {"L3": 33_554_432}},
    "cores_physical": 2,
    "cores_logical": 4,
    "ram_bytes": 25_769_803_776,
    "cache_bytes": 33_554_432,
    "accelerators": [],
    "engine": True,
    "engine_note": "",
    "fingerprint": "a" * 64,
}
H200 = {"name": "NVIDIA H200", "kind": "gpu", "vendor": "NVIDIA", "memory_bytes": 150_754_820_096, "mig": False}
CEILING = {"op_class": "gemm", "dtype": "fp32", "threads": 2, "value": 1.5e11, "unit": "FLOP/s", "median": 1.4e11}


def test_an_unknown_processor_gets_an_entry_with_what_was_detected_and_nothing_else(db):
    load_catalogue()
    host = register_host(detected=DETECTED, queue="hw.box")
    entry = host.hardware
    assert (host.slug, host.queue, host.has_engine, host.ceilings_state) == ("box", "hw.box", True, "missing")
    assert (entry.source, entry.kind, entry.memory_bytes, entry.cache_bytes) == (
        "detected",
        "cpu",
        25_769_803_776,
        33_554_432,
    )
    assert entry.memory_bandwidth is None
    assert entry.peak_flops == {}
    assert "2 physical and 4 logical cores" in entry.note
    assert entry.confidence["memory_bytes"]["status"] == "measured"
    assert str(entry).count("AMD") == 1


def test_a_known_accelerator_is_its_catalogue_entry(db):
    load_catalogue()
    host = register_host(detected=DETECTED | {"accelerators": [H200]}, queue="hw.gpu-box")
    assert host.hardware.slug == "nvidia-h200-sxm-141gb"
    # The datasheet says 141 GB; the driver of this very device says what a run can really have.
    spec = host_spec(host)
    assert spec.memory_bytes == 150_754_820_096
    assert spec.confidence["memory_bytes"] == "measured"
    assert spec.peak_flops["bf16"] == 989_400_000_000_000


def test_private_hardware_never_becomes_the_hardware_of_a_host(db, owner):
    Hardware.objects.create(slug="mine", name="H200", vendor="NVIDIA", kind="gpu", source="private", owner=owner)
    host = register_host(detected=DETECTED | {"accelerators": [H200 | {"name": "H200"}]}, queue="hw.x")
    assert host.hardware.source == "detected"


def test_registering_again_renews_the_same_row(db):
    first = register_host(detected=DETECTED, queue="hw.box")
    store_ceilings(host=first, rows=[CEILING])
    again = register_host(detected=DETECTED, queue="hw.box")
    assert again.pk == first.pk
    assert Host.objects.count() == Hardware.objects.count() == 1
    assert again.ceilings_state == "done"
    assert again.ceilings.count() == 1


def test_ceilings_of_another_machine_are_forgotten(db):
    host = register_host(detected=DETECTED, queue="hw.box")
    store_ceilings(host=host, rows=[CEILING])
    host = register_host(detected=DETECTED | {"fingerprint": "b" * 64}, queue="hw.box")
    assert host.ceilings_state == "missing"
    assert not host.ceilings.exists()


def test_a_new_measurement_takes_the_place_of_the_old_one(db):
    host = register_host(detected=DETECTED, queue="hw.box")
    copy = {"op_class": "copy", "threads": 2, "value": 2e10, "unit": "B/s", "bytes": 268_435_456}
    store_ceilings(host=host, rows=[CEILING, CEILING | {"threads": 1, "value": 8e10}, copy])
    store_ceilings(host=host, rows=[CEILING | {"value": 1.6e11}])
    values = {(c.op_class, c.dtype, c.threads): c.value for c in host.ceilings.all()}
    assert values == {("gemm", "fp32", 1): 8e10, ("gemm", "fp32", 2): 1.6e11, ("copy", "", 2): 2e10}
    assert host.ceilings.get(op_class="copy").detail == {"bytes": 268_435_456}
    host.refresh_from_db()
    assert host.ceilings_state == "done"


def test_a_bad_row_stores_nothing(db):
    host = register_host(detected=DETECTED, queue="hw.box")
    with pytest.raises(KeyError):
        store_ceilings(host=host, rows=[CEILING, {"op_class": "copy"}])
    assert not host.ceilings.exists()


def test_no_ceilings_at_all_is_a_failure(db):
    host = register_host(detected=DETECTED, queue="hw.box")
    store_ceilings(host=host, rows=[])
    assert Host.objects.get().ceilings_state == "failed"


def test_ceilings_state_takes_known_words_only(db):
    host = register_host(detected=DETECTED, queue="hw.box")
    set_ceilings_state(host=host, state="measuring")
    assert Host.objects.get().ceilings_state == "measuring"
    with pytest.raises(ValueError, match="No such state"):
        set_ceilings_state(host=host, state="maybe")


def test_the_measured_roof_of_a_processor_goes_into_the_spec(db):
    host = register_host(detected=DETECTED, queue="hw.box")
    store_ceilings(host=host, rows=[CEILING])
    spec = host_spec(host)
    assert spec.peak_flops == {}
    assert spec.memory_bytes == 25_769_803_776
    assert [(c["op_class"], c["dtype"], c["value"]) for c in spec.ceilings] == [("gemm", "fp32", 1.5e11)]
    assert len(digest(spec.to_json())) == 64  # plain JSON, so a run can freeze it


def test_a_sign_of_life_brings_a_host_back_online(db):
    host = register_host(detected=DETECTED, queue="hw.box")
    Host.objects.update(seen=timezone.now() - timedelta(hours=1))
    assert not Host.objects.online().exists()
    touch_host(host=host)
    assert Host.objects.online().exists()
