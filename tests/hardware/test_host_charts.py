"""The charts of a host's page have the numbers of the JSON at the same address."""

from __future__ import annotations

import json

import pytest

from hardware.services import register_host, store_ceilings
from tests.hardware.test_pages import DETECTED

SHARED = {"threads": 2, "median": None}
ROWS = [
    {"op_class": "gemm", "dtype": "fp32", "value": 6e10, "unit": "FLOP/s"},
    {"op_class": "gemm-sustained", "dtype": "bf16", "value": 2e11, "unit": "FLOP/s", "quality": "contended"},
    {"op_class": "copy", "dtype": "fp32", "value": 2e10, "unit": "B/s"},
    {"op_class": "gemv-1MiB-4096", "dtype": "fp32", "value": 20e9, "unit": "B/s", "bytes": 1 << 20, "inner": 4096},
    {"op_class": "gemv-16MiB-4096", "dtype": "fp32", "value": 23e9, "unit": "B/s", "bytes": 16 << 20, "inner": 4096},
    {"op_class": "skinny-8-1MiB-768", "dtype": "fp32", "value": 48e9, "unit": "FLOP/s", "bytes": 1 << 20, "inner": 768},
    {"op_class": "skinny-8-16MiB-768", "dtype": "fp32", "value": 40e9, "unit": "FLOP/s", "bytes": 16 << 20, "inner": 768},
]  # fmt: skip


@pytest.fixture
def host(db):
    made = register_host(detected=DETECTED, queue="hw.box")
    store_ceilings(host=made, rows=[SHARED | row for row in ROWS])
    return made


def drawn(page: str, name: str) -> list[dict]:
    text = page.partition(f'<script id="{name}" type="application/json">')[2].partition("</script>")[0]
    return json.loads(text)["data"]


def test_roofs_and_products_are_those_of_the_json(owner_client, host):
    page = owner_client.get(f"/hardware/hosts/{host.slug}/").content.decode()
    told = owner_client.get(f"/hardware/hosts/{host.slug}.json").json()
    roofs = drawn(page, "roofs-figure")
    assert [max(trace["y"]) for trace in roofs] == [roof["peak"] for roof in told["roofs"]]
    for trace, roof in zip(roofs, told["roofs"], strict=True):
        assert trace["y"][0] == pytest.approx(roof["bandwidth"] * trace["x"][0])
        assert (trace["line"]["dash"] == "dot") is not roof["accepted"]
    products = drawn(page, "sizes-figure")
    assert [(t["x"], t["y"]) for t in products] == [
        ([p["bytes"] for p in curve["points"]], [p["rate"] for p in curve["points"]]) for curve in told["products"]
    ]
    assert {row["op_class"]: row["value"] for row in told["ceilings"]} == {
        row["op_class"]: row["value"] for row in ROWS
    }


def test_the_json_asks_for_a_login_and_knows_no_other_hosts(anonymous_client, owner_client, host):
    assert anonymous_client.get(f"/hardware/hosts/{host.slug}.json").status_code == 302
    assert owner_client.get("/hardware/hosts/nothing.json").status_code == 404
