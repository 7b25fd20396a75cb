"""Hardware pages: lists, details with confidence, hosts, private devices, exports."""

from __future__ import annotations

import csv
import io

import pytest
from django.urls import reverse

from hardware.models import Hardware
from hardware.services import host_spec, load_catalogue, register_host, store_ceilings
from profiling.quantities import show
from tests.factories import make_hardware, make_run
from tests.hardware.test_hosts import CEILING, DETECTED

LIST = "/hardware/"


@pytest.fixture
def catalogue(db):
    load_catalogue()


def names(page) -> list[str]:
    return [hardware.name for hardware in page.context["page"].object_list]


def test_the_list_is_searched_narrowed_and_sorted_by_the_address(owner_client, catalogue):
    assert names(owner_client.get(LIST, {"q": "nvidia h100"})) == [
        "H100 NVL 94GB",
        "H100 PCIe 80GB",
        "H100 SXM5 80GB",
    ]
    assert {h.vendor for h in owner_client.get(LIST, {"vendor": "Google"}).context["page"]} == {"Google"}
    assert len(names(owner_client.get(LIST, {"kind": "cpu"}))) == 4
    assert names(owner_client.get(LIST, {"sort": "memory"}))[0] == "M3 Ultra (80-core GPU)"
    fastest = owner_client.get(LIST, {"sort": "peak"}).context["page"].object_list
    assert [h.name for h in fastest][:3] == ["Instinct MI355X 288GB", "GB200 (per GPU)", "GB300 (per GPU)"]


def test_devices_without_the_figure_come_last_when_it_sorts(owner_client, catalogue):
    devices = list(owner_client.get(LIST, {"sort": "peak", "page": 2}).context["page"].object_list)
    known = [d.peak_flops["bf16"] or d.peak_flops["fp16"] for d in devices]
    assert known == sorted((k for k in known if k), reverse=True) + [None] * known.count(None)
    assert known.count(None) == 3  # one desktop CPU and two phone NPUs
    memory = [d.memory_bytes for d in owner_client.get(LIST, {"sort": "memory", "page": 2}).context["page"].object_list]
    assert memory[-4:] == [None] * 4


def test_an_unknown_filter_value_is_said_and_left_out(owner_client, catalogue):
    page = owner_client.get(LIST, {"kind": "toaster", "page": "x"})
    assert page.context["page"].paginator.count == 89
    assert "toaster" in page.content.decode()


def test_the_list_takes_a_fixed_number_of_queries(owner_client, catalogue, django_assert_num_queries):
    owner_client.get(LIST)
    with django_assert_num_queries(6):  # session, user, count, rows, vendors, hosts
        owner_client.get(LIST)
    register_host(detected=DETECTED, queue="hw.a")
    register_host(detected=DETECTED, queue="hw.b")
    with django_assert_num_queries(6):
        owner_client.get(LIST)


def test_an_empty_list_says_what_to_do(owner_client):
    html = owner_client.get(LIST).content.decode()
    assert "Nothing matches" in html
    assert reverse("hardware:new") in html


def test_figures_keep_the_digits_of_the_datasheet_and_unknown_is_said(owner_client, catalogue):
    html = owner_client.get("/hardware/nvidia-h100-sxm5-80gb/").content.decode()
    for text in ("989.4\u202fTFLOP/s", "80\u202fGB", "3,350\u202fGB/s", "1,978.9\u202fTOP/s", "700\u202fW", "unknown"):
        assert text in html
    assert "confirmed by 8" in html
    assert "unconfirmed" in html
    assert "hahnyuan/LLM-Viewer: 3,072\u202fGB/s" in html  # who says otherwise
    assert "2026-11-23" in html
    assert "295 FLOP/byte" in html  # ridge point of bf16: 989.4e12 / 3350e9


def test_a_device_without_bandwidth_or_peaks_has_no_roofline(owner_client, db):
    make_hardware(slug="bare", memory_bytes=None, memory_bandwidth=None, peak_flops={})
    html = owner_client.get("/hardware/bare/").content.decode()
    assert "No roofline from the datasheet" in html


def test_the_page_shows_only_runs_that_one_may_see(owner, owner_client, stranger_client, catalogue):
    hardware = Hardware.objects.get(slug="nvidia-l4-24gb")
    make_run(owner, hardware=hardware, title="My secret run")
    address = reverse("hardware:detail", args=[hardware.slug])
    assert "My secret run" in owner_client.get(address).content.decode()
    html = stranger_client.get(address).content.decode()
    assert "My secret run" not in html
    assert "No runs on it yet" in html


def test_the_host_page_shows_what_was_detected_and_its_ceilings(owner_client, db):
    host = register_host(detected=DETECTED, queue="hw.box")
    html = owner_client.get("/hardware/hosts/box/").content.decode()
    assert "AMD EPYC" in html
    assert "Not measured yet" in html
    assert "online" in html
    store_ceilings(host=host, rows=[CEILING])
    html = owner_client.get("/hardware/hosts/box/").content.decode()
    assert "150\u202fGFLOP/s" in html
    assert "140\u202fGFLOP/s" in html


def test_products_by_shape_are_a_figure_and_a_table_of_the_same_numbers(owner_client, db):
    host = register_host(detected=DETECTED, queue="hw.box")
    shared = {"dtype": "fp32", "threads": 2, "median": None}
    rows = [
        {"op_class": "gemv", "value": 25e9, "unit": "B/s", "bytes": 128 << 20, "inner": 4096},
        {"op_class": "gemv-1MiB-4096", "value": 20e9, "unit": "B/s", "bytes": 1 << 20, "inner": 4096},
        {"op_class": "gemv-16MiB-4096", "value": 23e9, "unit": "B/s", "bytes": 16 << 20, "inner": 4096},
        {"op_class": "skinny-8-1MiB-768", "value": 48e9, "unit": "FLOP/s", "bytes": 1_047_552, "inner": 768},
        {"op_class": "skinny-8-16MiB-768", "value": 40e9, "unit": "FLOP/s", "bytes": 16 << 20, "inner": 768},
    ]
    rows[2]["quality"] = "contended"
    store_ceilings(host=host, rows=[shared | row for row in rows])
    response = owner_client.get(f"/hardware/hosts/{host.slug}/")
    curves = response.context["products"]
    assert [(c["rows"], c["inner"], len(c["points"])) for c in curves] == [(1, 4096, 3), (8, 768, 2)]
    # 48 GFLOP/s on 8 rows are 3 G weights a second, of 4 bytes each.
    assert curves[1]["points"][0]["rate"] == pytest.approx(12e9)
    drawn = response.context["product_figure"]["data"]
    assert [list(trace["y"]) for trace in drawn] == [[p["rate"] for p in curve["points"]] for curve in curves]
    assert drawn[0]["marker"]["symbol"] == ["circle", "circle-open", "circle"]
    page = response.content.decode()
    assert "Products with few rows" in page
    for curve in curves:
        for point in curve["points"]:
            assert show(point["rate"], "B/s") in page
    assert [row["op_class"] for row in response.context["ceilings"]] == ["gemv"], "the others have their own table"
    sent = {row["op_class"]: row for row in host_spec(host).ceilings}
    assert (sent["gemv-1MiB-4096"]["bytes"], sent["gemv-1MiB-4096"]["inner"]) == (1 << 20, 4096)


@pytest.mark.parametrize("address", ["/hardware/nothing/", "/hardware/hosts/nothing/", "/hardware/nothing.json"])
def test_what_is_not_there_is_a_404(owner_client, address):
    assert owner_client.get(address).status_code == 404


@pytest.mark.parametrize(
    "address", [LIST, "/hardware/new/", "/hardware/x/", "/hardware/hardware.csv", "/hardware/hosts/x/"]
)
def test_everything_asks_for_a_login(anonymous_client, address):
    answer = anonymous_client.get(address)
    assert answer.status_code == 302
    assert answer.url.startswith("/accounts/login/")


# --- exports ---


def test_exports_follow_the_filters_of_the_list(owner_client, catalogue):
    answer = owner_client.get("/hardware/hardware.csv", {"q": "nvidia t4"})
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert [row["slug"] for row in rows] == ["nvidia-t4-16gb"]
    assert rows[0]["peak_fp16_per_s"] == "65000000000000"
    assert rows[0]["peak_bf16_per_s"] == ""  # unknown is empty, not 0
    assert rows[0]["unconfirmed"] == "interconnect_bandwidth peak_flops.fp16 peak_flops.int8"
    data = owner_client.get("/hardware/hardware.json", {"kind": "cpu"}).json()
    assert {row["kind"] for row in data["hardware"]} == {"cpu"}
    one = owner_client.get("/hardware/nvidia-t4-16gb.json").json()
    assert one["peak_flops"]["bf16"] is None


# --- private devices ---


def private_form(**values):
    return {"name": "Twice the bandwidth", "kind": "gpu", "memory_gb": "80", "bandwidth_gb_s": "6700"} | values


def test_a_copy_with_other_figures_keeps_the_confidence_of_those_that_did_not_change(owner, owner_client, catalogue):
    address = reverse("hardware:new") + "?copy=nvidia-h100-sxm5-80gb"
    form = owner_client.get(address).context["form"]
    values = {field.name: field.value() for field in form if field.value() is not None}
    assert values["peak_bf16"] == "989.4"
    answer = owner_client.post(address, values | {"name": "H100 x 2", "bandwidth_gb_s": "6700"})
    mine = Hardware.objects.get(owner=owner)
    assert answer.url == reverse("hardware:detail", args=[mine.slug])
    source = Hardware.objects.get(slug="nvidia-h100-sxm5-80gb")
    assert mine.memory_bandwidth == 6_700_000_000_000
    assert mine.peak_flops == source.peak_flops
    assert mine.confidence["memory_bandwidth"] == {"status": "unconfirmed", "sources": ["entered by owner"]}
    assert mine.confidence["peak_flops.bf16"] == source.confidence["peak_flops.bf16"]
    assert mine.disagreements == []  # they were about the bandwidth that is no more


def test_private_devices_exist_for_their_owner_only(owner_client, stranger_client, staff_client, catalogue):
    owner_client.post(reverse("hardware:new"), private_form())
    mine = Hardware.objects.get(source="private")
    assert owner_client.get(reverse("hardware:detail", args=[mine.slug])).status_code == 200
    for other in (stranger_client, staff_client):
        for name in ("detail", "detail-json", "delete"):
            assert other.get(reverse(f"hardware:{name}", args=[mine.slug])).status_code == 404
        assert other.post(reverse("hardware:delete", args=[mine.slug])).status_code == 404
        assert other.get(reverse("hardware:new"), {"copy": mine.slug}).status_code == 404
        assert "Twice the bandwidth" not in other.get(LIST, {"q": "twice"}).content.decode()
        assert mine.slug not in other.get("/hardware/hardware.json").content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("bandwidth_gb_s", "0"),
        ("memory_gb", "-3"),
        ("peak_bf16", "fast"),
        ("kind", "toaster"),
        ("tdp", "NaN"),
    ],
)
def test_bad_figures_are_said_at_their_field_and_nothing_is_lost(owner_client, db, field, value):
    page = owner_client.post(reverse("hardware:new"), private_form(note="keep me") | {field: value})
    assert list(page.context["form"].errors) == [field]
    assert "keep me" in page.content.decode()
    assert not Hardware.objects.exists()


def test_only_the_owner_deletes_a_device_and_is_asked_first(owner, owner_client, catalogue):
    owner_client.post(reverse("hardware:new"), private_form())
    mine = Hardware.objects.get(source="private")
    run = make_run(owner, hardware=mine)
    address = reverse("hardware:delete", args=[mine.slug])
    assert "cannot be undone" in owner_client.get(address).content.decode()
    assert Hardware.objects.filter(pk=mine.pk).exists()
    owner_client.post(address)
    assert not Hardware.objects.filter(pk=mine.pk).exists()
    run.refresh_from_db()
    assert run.spec["hardware"]["memory_bandwidth"] == 6_700_000_000_000


def test_catalogue_entries_cannot_be_deleted_from_the_pages(staff_client, catalogue):
    assert staff_client.post(reverse("hardware:delete", args=["nvidia-l4-24gb"])).status_code == 404


def test_long_names_do_not_break_the_page(owner_client, db):
    make_hardware(slug="long", name="N" * 120)
    assert "text-break" in owner_client.get("/hardware/long/").content.decode()
