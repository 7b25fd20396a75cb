"""What the page answers: the engine's own numbers, the same in every chart, table and export of one address."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from html.parser import HTMLParser

import pytest

from llmcompare.explore.answers import ROW_HEADER, mark_frontier
from profiling.spec import Workload
from tests.explore.conftest import make
from tests.factories import make_hardware, make_host

QUERY = {
    "model": "tiny",
    "hardware": ["small-device", "large-device"],
    "batch_size": "4",
    "input_tokens": "64",
    "output_tokens": "16",
    "batches": "1..64*4",
    "lengths": "16..512*2",
    "price.small-device": "2.5",
    "power.large-device": "700",
}


@pytest.fixture
def ready(form, device, other_device):
    return form


def document(client, **more):
    response = client.get("/explore.json", QUERY | more)
    assert response.status_code == 200, response.content[:500]
    return response.json()


class Parts(HTMLParser):
    """The values of ``<data>`` by the table twin or section that they are in, and the figures of the charts."""

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[str, list[str]] = {}
        self.figures: dict[str, dict] = {}
        self.section, self._script = "", ""

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "section":
            self.section = attrs.get("aria-labelledby", "")
        if tag == "data":
            self.data.setdefault(self.section, []).append(attrs["value"])
        self._script = attrs.get("id", "") if tag == "script" else ""

    def handle_data(self, data):
        if self._script and self._script != "texts":  # those of the scripts
            self.figures[self._script] = json.loads(data)
            self._script = ""


def page(client, **more) -> Parts:
    response = client.get("/explore/", QUERY | more)
    assert response.status_code == 200
    parts = Parts()
    parts.feed(response.content.decode())
    return parts


def numbers(texts):
    return [float(text) if text else None for text in texts]


# --- the numbers are the engine's ---


def test_the_point_is_what_a_whole_estimate_of_it_says(owner_client, ready, model, device):
    from profiling.estimate import estimate

    workload = Workload(batch_size=4, input_tokens=64, output_tokens=16, kv_dtype="fp8", weights_dtype="int8")
    whole = estimate(model.to_spec(), device.to_spec(), workload)
    found = document(owner_client, kv_dtype="fp8", weights_dtype="int8")["series"][0]
    for name in ("ttft", "tpot", "e2e_latency", "output_throughput", "prefill_throughput", "decode_throughput"):
        assert found["metrics"][name]["value"] == pytest.approx(whole["metrics"][name]["value"], rel=1e-9), name
        assert found["metrics"][name]["unit"] == whole["metrics"][name]["unit"]
        assert found["metrics"][name]["origin"] == "estimated"
    memory = whole["memory"]["estimate"]
    assert found["memory"]["total_bytes"] == memory["total_bytes"]
    assert found["memory"]["fits"] == memory["fits"]
    assert found["stages"]["prefill"]["time_s"] == pytest.approx(whole["stages"]["prefill"]["latency_s"], rel=1e-9)
    assert sum(s["time_s"] for s in found["stages"].values()) == pytest.approx(found["metrics"]["e2e_latency"]["value"])
    assert sum(found["shares"].values()) == pytest.approx(1)


def test_derived_figures_follow_from_the_others(owner_client, ready):
    first, second = document(owner_client)["series"]
    m = {name: item["value"] for name, item in first["metrics"].items()}
    assert m["interactivity"] == pytest.approx(1 / m["tpot"])
    assert m["cost_per_million_tokens"] == pytest.approx(2.5 * m["e2e_latency"] / 3600 / (4 * 16) * 1e6)
    assert m["energy_per_million_tokens"] is None, "no power was entered"
    n = {name: item["value"] for name, item in second["metrics"].items()}
    assert n["energy_per_million_tokens"] == pytest.approx(0.7 * n["e2e_latency"] / 3600 / (4 * 16) * 1e6)
    assert n["cost_per_million_tokens"] is None


def test_factors_change_what_they_name_and_nothing_else(owner_client, ready):
    plain = document(owner_client)["series"][0]
    wide = document(owner_client, x_bandwidth="2")["series"][0]
    assert wide["stages"]["decode"]["parts_s"]["memory"] == pytest.approx(
        plain["stages"]["decode"]["parts_s"]["memory"] / 2, rel=0.05
    )
    assert wide["memory"] == plain["memory"]
    assert "× 2 bandwidth" in wide["label"]
    large = document(owner_client, x_memory="4")["series"][0]
    assert large["memory"]["capacity_bytes"] == 4 * plain["memory"]["capacity_bytes"]
    assert large["metrics"]["tpot"] == plain["metrics"]["tpot"]


def test_several_devices_answer_for_one_of_them_and_for_all(owner_client, owner, model, ready, other_device):
    make_it = Workload(batch_size=4, input_tokens=64, output_tokens=16, tensor_parallel=2)
    other_device.interconnect_bandwidth = 9e11
    other_device.save()
    make(owner, model, **make_it.to_json())
    found = document(owner_client, hardware="large-device", tensor_parallel="2")["series"][0]
    m = {name: item["value"] for name, item in found["metrics"].items()}
    assert found["devices"] == 2
    assert m["device_throughput"] == pytest.approx(m["output_throughput"] / 2)
    assert found["shares"]["network"] > 0


# --- one answer, many views ---


def test_every_chart_and_every_table_twin_has_the_numbers_of_the_json(owner_client, ready):
    told, shown = document(owner_client), page(owner_client)
    curve = shown.figures["curve-data"]["data"]
    assert [t["x"] for t in curve] == [line["x"] for line in told["curves"]["lines"]]
    assert [t["y"] for t in curve] == [line["y"] for line in told["curves"]["lines"]]
    twin = numbers(shown.data["curve-title"])
    lines = [line["y"] for line in told["curves"]["lines"]]
    assert twin == [y for row in zip(*lines, strict=True) for y in row]

    frontier = shown.figures["frontier-data"]["data"]
    points = [[p for p in line["points"] if p["interactivity"] is not None] for line in told["frontier"]["lines"]]
    assert [t["x"] for t in frontier] == [[p["interactivity"] for p in line] for line in points]
    assert [t["y"] for t in frontier] == [[p["device_throughput"] for p in line] for line in points]
    big = [[size > 10 for size in t["marker"]["size"]] for t in frontier]
    assert big == [[p["on_frontier"] for p in line] for line in points]
    flat = [v for line in points for p in line for v in (p["interactivity"], p["device_throughput"])]
    assert numbers(shown.data["frontier-title"]) == flat

    heat = numbers(shown.data["heat-title"])
    assert heat == [v for row in told["heat_map"]["values"] for v in row]

    tiles = numbers(shown.data["shown-title"])[: len(told["series"][0]["metrics"])]
    assert tiles == [m["value"] for m in told["series"][0]["metrics"].values()]
    rows = numbers(shown.data["all-title"])
    for item in told["series"]:
        for name in ("ttft", "tpot", "e2e_latency"):
            assert item["metrics"][name]["value"] in rows


def test_the_heat_maps_tips_say_the_same_and_what_does_not_fit_is_hatched(owner_client, ready):
    told = document(owner_client)["heat_map"]
    text = owner_client.get("/explore/", QUERY).content.decode()
    assert text.count('class="heat-no-fit"') == sum(fits is False for row in told["fits"] for fits in row) > 0
    assert text.count("does not fit</title>") == sum(fits is False for row in told["fits"] for fits in row)
    assert any(fits is True for row in told["fits"] for fits in row)
    # 512 tokens are beyond this model's context: no number, and the reason.
    assert told["values"][0][-1] is None
    assert "at most 256" in told["notes"][0][-1]


def test_the_curves_value_at_the_point_is_the_points(owner_client, ready):
    told = document(owner_client, curve="e2e_s")
    line = told["curves"]["lines"][0]
    assert line["y"][line["x"].index(4)] == told["series"][0]["metrics"]["e2e_latency"]["value"]
    heat = told["heat_map"]
    value = heat["values"][heat["batch_size"].index(4)][heat["lengths"].index(64)]
    assert value == told["series"][0]["metrics"]["e2e_latency"]["value"]


def test_csv_has_every_point_once_in_each_part(owner_client, ready):
    told = document(owner_client)
    text = owner_client.get("/explore.csv", QUERY).getvalue().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == ROW_HEADER
    counts = {name: sum(row["part"] == name for row in rows) for name in ("point", "curve", "frontier", "heat_map")}
    assert counts == {"point": 2, "curve": 8, "frontier": 8, "heat_map": 24}
    point = next(row for row in rows if row["part"] == "point")
    assert float(point["ttft_s"]) == told["series"][0]["metrics"]["ttft"]["value"]
    cells = [row["e2e_s"] for row in rows if row["part"] == "heat_map"]
    assert numbers(cells) == [v for line in told["heat_map"]["values"] for v in line]


def test_figures_are_what_plotly_takes(owner_client, ready):
    import plotly.graph_objects as go

    for name, figure in page(owner_client).figures.items():
        assert go.Figure(figure).data, name  # raises for anything that plotly does not know


def test_the_words_of_the_bound_are_those_of_the_shares(owner_client, ready):
    told = document(owner_client, heat="bound")
    shares = told["series"][0]["shares"]
    assert told["series"][0]["bound"] == max(shares, key=shares.get)
    assert {word for row in told["heat_map"]["values"] for word in row if word} <= set(shares)


# --- honest ---


def test_a_datasheet_is_called_an_optimistic_bound_wherever_its_figures_are(owner_client, ready):
    told = document(owner_client)
    assert [item["optimistic_bound"] for item in told["series"]] == [True, True]
    text = owner_client.get("/explore/", QUERY).content.decode()
    for section in ("shown-title", "all-title", "heat-title", "frontier-data", "curve-data"):
        part = text[text.index(f'"{section}"') :][:6000]
        assert "optimistic bound" in part, section


@pytest.fixture
def measured_host(db, other_device):
    from django.utils import timezone

    host = make_host(slug="machine", name="Machine", hardware=other_device)
    for op_class, unit, value in (("gemm", "FLOP/s", 3e14), ("copy", "B/s", 3e12), ("gemv", "B/s", 3.2e12)):
        host.ceilings.create(op_class=op_class, dtype="bf16", value=value, unit=unit, measured_at=timezone.now())
    return host


def test_on_measured_ceilings_it_is_what_an_estimate_on_that_host_says(owner_client, ready, model, measured_host):
    from django.utils import timezone

    from hardware.services import host_spec
    from profiling.estimate import estimate

    for op_class, unit, value in (
        ("skinny-2", "FLOP/s", 2e12),
        ("skinny-8", "FLOP/s", 5e12),
        ("attention", "FLOP/s", 1e14),
        ("overhead", "s", 2e-6),
    ):
        measured_host.ceilings.create(
            op_class=op_class, dtype="bf16", value=value, unit=unit, measured_at=timezone.now()
        )
    for batch in (1, 2, 5, 64):
        workload = Workload(batch_size=batch, input_tokens=64, output_tokens=16)
        whole = estimate(model.to_spec(), host_spec(measured_host), workload)
        found = document(owner_client, hardware="host:machine", batch_size=str(batch))["series"][0]
        assert found["level"] == "measured"
        for name in ("ttft", "tpot", "e2e_latency"):
            assert found["metrics"][name]["value"] == pytest.approx(whole["metrics"][name]["value"], rel=1e-9), (
                name,
                batch,
            )
        assert found["shares"]["overhead"] > 0


@pytest.mark.parametrize("batch", ["1", "4"])
def test_twice_the_bandwidth_of_a_measured_host_halves_what_waits_for_the_memory(
    owner_client, ready, measured_host, batch
):
    """Rates of products with several rows are FLOP/s, and a decode step waits for the memory all the same."""
    from django.utils import timezone

    for op_class, value in (("skinny-2", 2 * 3e12), ("skinny-8", 8 * 2.5e12), ("skinny-64", 64 * 2e12)):
        measured_host.ceilings.create(
            op_class=op_class, dtype="bf16", value=value, unit="FLOP/s", measured_at=timezone.now()
        )
    query = {"hardware": "host:machine", "batch_size": batch}
    plain, wide, fast = (
        document(owner_client, **query, **more)["series"][0] for more in ({}, {"x_bandwidth": "2"}, {"x_flops": "2"})
    )

    def step(item):
        parts = item["stages"]["decode"]["parts_s"]
        return parts["memory"] + parts["compute"]

    assert step(wide) == pytest.approx(step(plain) / 2, rel=0.05)
    assert step(fast) == pytest.approx(step(plain), rel=0.05)
    assert [note for note in plain["notes"] if "hypothetical" in note] == []
    (said,) = (note for note in wide["notes"] if "hypothetical" in note)
    assert said.endswith(
        "kernels that the memory limits, hypothetical: × 2 (copy, gemv, skinny-2, skinny-8), × 1.46 (skinny-64)."
    )
    page = owner_client.get("/explore/", QUERY | query | {"x_bandwidth": "2"}).content.decode()
    assert said in page
    # The bars say so too.
    for item in (plain, wide, fast):
        assert item["stages"]["decode"]["parts_s"]["memory"] > 0.9 * step(item)


def test_products_smaller_than_any_that_was_timed_are_said_as_an_estimate_says_them(
    owner_client, ready, model, measured_host
):
    """With the share of each stage at the asked point; on the page, in the JSON and in what is kept of it."""
    from django.utils import timezone

    from hardware.services import host_spec
    from profiling.estimate import estimate

    for op_class, unit, value, elements in (
        ("gemv", "B/s", 3.2e12, 1 << 20),
        ("gemv-1MiB-64", "B/s", 2e12, 1 << 13),
        ("skinny-8", "FLOP/s", 5e12, 1 << 20),
        ("skinny-8-1MiB-64", "FLOP/s", 3e12, 1 << 13),
    ):
        measured_host.ceilings.filter(op_class=op_class).delete()
        detail = {"bytes": 2 * elements, "inner": 64}
        measured_host.ceilings.create(
            op_class=op_class, dtype="bf16", value=value, unit=unit, detail=detail, measured_at=timezone.now()
        )
    said = set()
    for batch, into, out in ((1, 64, 16), (8, 64, 16), (64, 200, 1)):
        workload = Workload(batch_size=batch, input_tokens=into, output_tokens=out)
        whole = estimate(model.to_spec(), host_spec(measured_host), workload)
        (message,) = [w["message"] for w in whole["warnings"] if w["code"] == "smaller_than_timed"]
        query = {"hardware": "host:machine", "batch_size": batch, "input_tokens": into, "output_tokens": out}
        assert document(owner_client, **query)["series"][0]["notes"] == [message]
        assert message in owner_client.get("/explore/", QUERY | query).content.decode()
        said.add(message)
    assert len(said) == 3, "the share is that of the point"
    datasheet = document(owner_client, hardware="large-device")["series"][0]
    assert not any("not timed" in note for note in datasheet["notes"])


def test_bounds_are_never_ranked_against_calibrated_figures(owner_client, ready, measured_host):
    told = document(owner_client, hardware=["large-device", "host:machine"])
    assert [item["level"] for item in told["series"]] == ["datasheet", "measured"]
    assert any("not ranked" in text for text in told["warnings"])
    # The measured one is slower throughout, and still has a frontier of its own.
    for line in told["frontier"]["lines"]:
        assert any(p["on_frontier"] for p in line["points"]), line["level"]
    assert (
        "not ranked"
        in owner_client.get("/explore/", QUERY | {"hardware": ["large-device", "host:machine"]}).content.decode()
    )


def test_a_measured_rate_above_the_datasheet_is_suspicious_and_no_verdict(owner_client, ready, measured_host):
    measured_host.ceilings.filter(op_class="copy").update(value=9e12)
    query = {"hardware": "host:machine"}
    found = document(owner_client, **query)["series"][0]
    assert len(found["suspicious"]) == 1
    assert "2.25 times" in found["suspicious"][0]
    frontier = document(owner_client, **query)["frontier"]["lines"][0]["points"]
    assert not any(p["on_frontier"] for p in frontier)
    assert "Suspicious" in owner_client.get("/explore/", QUERY | query).content.decode()


def test_an_unknown_rate_leaves_times_unknown_and_memory_known(owner_client, ready, owner):
    make_hardware(slug="no-rates", peak_flops={}, memory_bandwidth=None)
    found = document(owner_client, hardware="no-rates")["series"][0]
    assert found["metrics"]["ttft"]["value"] is None
    assert found["memory"]["total_bytes"] > 0
    assert found["bound"] is None
    assert any("no time can be estimated" in note for note in found["notes"])
    assert "unknown" in owner_client.get("/explore/", QUERY | {"hardware": "no-rates"}).content.decode()


def test_an_unknown_capacity_is_neither_fit_nor_misfit(owner_client, ready):
    make_hardware(slug="no-memory", memory_bytes=None)
    found = document(owner_client, hardware="no-memory")
    assert found["series"][0]["memory"]["fits"] is None
    assert {fits for row in found["heat_map"]["fits"] for fits in row} == {None}


def test_other_versions_of_the_libraries_are_said(owner_client, ready):
    ready.made_with = {"torch": "1.0", "transformers": "4.0"}
    ready.save()
    assert any("made with torch 1.0" in note for note in document(owner_client)["series"][0]["notes"])


@pytest.mark.parametrize(
    ("points", "on"),
    [
        ([(1, 5), (2, 4), (3, 3), (2, 2)], [True, True, True, False]),
        ([(1, 1), (2, 2)], [False, True]),
        ([(2, 2), (2, 1)], [True, False]),
        ([(2, 2), (2, 2), (1, 2)], [True, True, False]),
        ([], []),
    ],
)
def test_the_frontier(points, on):
    rows = [{"interactivity": x, "device_throughput": y, "fits": True, "on_frontier": False} for x, y in points]
    mark_frontier(rows)
    assert [row["on_frontier"] for row in rows] == on


def test_what_does_not_fit_is_on_no_frontier_and_hides_nothing():
    rows = [
        {"interactivity": 9, "device_throughput": 9, "fits": False, "on_frontier": False},
        {"interactivity": 1, "device_throughput": 1, "fits": True, "on_frontier": False},
        {"interactivity": None, "device_throughput": None, "fits": None, "on_frontier": False},
    ]
    mark_frontier(rows)
    assert [row["on_frontier"] for row in rows] == [False, True, False]


def test_no_answer_ever_imports_torch_here(tmp_path, owner_client, ready):
    """In a process of its own: this one has made the form."""
    import subprocess

    code = "import sys; import llmcompare.explore.views_sweeps; print([n for n in ('torch', 'transformers') if n in sys.modules])"
    setup = "import os, django; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'llmcompare.settings'); django.setup();"
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr[-500:]


def test_an_axis_without_range_is_one_column(owner_client, ready):
    told = document(owner_client, batches="4", lengths="64")
    assert told["heat_map"]["values"] == [[told["series"][0]["metrics"]["e2e_latency"]["value"]]]
    assert re.search(
        r'class="heat"', owner_client.get("/explore/", QUERY | {"batches": "4", "lengths": "64"}).content.decode()
    )


def test_the_kept_answer_of_other_tests_is_one_of_today(owner_client, ready):
    """``tests/data/answers/explore_tiny.json`` has the shape that answers have now."""
    from llmcompare.explore.answers import ROW_HEADER
    from tests.security.cast import SWEEP

    kept, told = json.loads(SWEEP.read_text()), document(owner_client)
    assert set(kept) == {*told, "header", "rows"}
    assert kept["header"] == list(ROW_HEADER)
    assert set(kept["series"][0]) == set(told["series"][0])
