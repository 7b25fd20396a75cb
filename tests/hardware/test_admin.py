"""Hardware in the admin: checked figures, honest confidence after an edit, nothing that the catalogue would bring back."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from hardware.models import Hardware
from hardware.services import is_edited, load_catalogue, register_host, store_ceilings
from tests.factories import make_hardware
from tests.hardware.test_hosts import CEILING, DETECTED


@pytest.fixture
def l4(db):
    load_catalogue()
    return Hardware.objects.get(slug="nvidia-l4-24gb")


def admin_form(hardware, **values):
    fields = ["slug", "name", "vendor", "kind", "year", "memory_bytes", "memory_bandwidth", "cache_bytes", "tdp_w"]
    data = {name: getattr(hardware, name) for name in fields}
    data |= {
        "interconnect_bandwidth": hardware.interconnect_bandwidth,
        "note": hardware.note,
        "source": hardware.source,
    }
    data |= {"compiled_on": "2026-11-23", "peak_flops": json.dumps(hardware.peak_flops)}
    data |= {"confidence": json.dumps(hardware.confidence), "disagreements": json.dumps(hardware.disagreements)}
    return {key: "" if value is None else value for key, value in (data | values).items()}


def change(client, hardware, **values):
    return client.post(reverse("admin:hardware_hardware_change", args=[hardware.pk]), admin_form(hardware, **values))


def test_saving_without_a_change_is_no_edit(staff_client, l4):
    assert change(staff_client, l4).status_code == 302
    l4.refresh_from_db()
    assert not is_edited(l4)


def test_an_edited_figure_loses_the_sources_of_the_old_one_and_survives_a_load(staff_client, l4):
    assert change(staff_client, l4, memory_bandwidth="310000000000").status_code == 302
    load_catalogue()
    l4.refresh_from_db()
    assert l4.memory_bandwidth == 3.1e11
    assert l4.source == "catalogue"
    assert is_edited(l4)
    assert l4.confidence["memory_bandwidth"] == {"status": "unconfirmed", "sources": ["entered by staff"]}
    assert l4.confidence["memory_bytes"]["status"] == "confirmed"
    html = staff_client.get(reverse("hardware:detail", args=[l4.slug])).content.decode()
    assert "edited here" in html


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "Enter an object"),
        ('{"fp12": 1}', "is no format"),
        ('{"fp16": "fast"}', "above 0"),
        ('{"fp16": -1}', "above 0"),
        ('{"fp16": 0}', "above 0"),
        ('{"fp16": true}', "above 0"),
        ('{"fp16": NaN}', "above 0"),
        ("{", "valid JSON"),
    ],
)
def test_peak_rates_are_checked_at_their_field(staff_client, l4, text, says):
    page = change(staff_client, l4, peak_flops=text)
    assert page.status_code == 200
    assert says in page.context["adminform"].form.errors["peak_flops"][0]
    assert Hardware.objects.get(pk=l4.pk).peak_flops == l4.peak_flops


def test_null_is_a_rate_that_is_not_known(staff_client, l4):
    assert change(staff_client, l4, peak_flops='{"fp16": 1.21e14, "bf16": null}').status_code == 302
    l4.refresh_from_db()
    assert l4.peak_flops == {"fp16": 1.21e14, "bf16": None}


def test_a_catalogue_entry_cannot_be_deleted_but_an_admins_own_can(staff_client, l4):
    assert (
        staff_client.post(reverse("admin:hardware_hardware_delete", args=[l4.pk]), {"post": "yes"}).status_code == 403
    )
    own = make_hardware()
    assert (
        staff_client.post(reverse("admin:hardware_hardware_delete", args=[own.pk]), {"post": "yes"}).status_code == 302
    )
    assert set(Hardware.objects.filter(pk__in=[l4.pk, own.pk])) == {l4}


def test_private_devices_do_not_show_in_the_admin(staff_client, owner):
    mine = make_hardware(source="private", owner=owner, name="Secret device")
    html = staff_client.get(reverse("admin:hardware_hardware_changelist")).content.decode()
    assert "Secret device" not in html
    assert (
        staff_client.get(reverse("admin:hardware_hardware_change", args=[mine.pk])).status_code == 302
    )  # to the index


def test_hosts_and_ceilings_are_there_to_look_at(staff_client, db):
    host = register_host(detected=DETECTED, queue="hw.box")
    store_ceilings(host=host, rows=[CEILING])
    for name in ("hardware_host", "hardware_ceiling", "hardware_hardware"):
        assert staff_client.get(reverse(f"admin:{name}_changelist")).status_code == 200
    page = staff_client.get(reverse("admin:hardware_host_change", args=[host.pk])).content.decode()
    assert 'name="_save"' not in page
    assert staff_client.get(reverse("admin:hardware_host_add")).status_code == 403


def test_the_list_takes_a_fixed_number_of_queries(staff_client, l4, django_assert_max_num_queries):
    with django_assert_max_num_queries(8):
        staff_client.get(reverse("admin:hardware_hardware_changelist"))
