"""Devices with other figures: each factor reaches the rates of what it limits, measured ones of products with few rows too."""

from __future__ import annotations

import pytest

from profiling.roofline import Load, ceilings, rates
from profiling.scaling import notes, scaled
from profiling.spec import HardwareSpec, Workload
from profiling.what_if import Device

SHEET = HardwareSpec(
    name="Sheet",
    memory_bytes=80 * 10**9,
    memory_bandwidth=2e12,
    peak_flops={"bf16": 4e14, "fp8": None},
    interconnect_bandwidth=9e11,
)
BANDWIDTH, PEAK = 1e12, 4e13


def row(op_class, unit, value, dtype="bf16", **more):
    return {"op_class": op_class, "dtype": dtype, "unit": unit, "value": value, "threads": 0} | more


def shaped(rows, reached, *, mib=1, inner=768):
    """A product that streams its weights at so much of the bandwidth."""
    if rows == 1:
        return row(f"gemv-{mib}MiB-{inner}", "B/s", reached * BANDWIDTH, bytes=mib << 20, inner=inner)
    work = reached * BANDWIDTH * rows  # bf16: a FLOP for each row and byte
    return row(f"skinny-{rows}-{mib}MiB-{inner}", "FLOP/s", work, bytes=mib << 20, inner=inner)


#: Its arithmetic keeps up with the memory to 40 rows.
ROWS = [
    row("gemm", "FLOP/s", PEAK),
    row("copy", "B/s", 0.9 * BANDWIDTH, dtype=""),
    row("read", "B/s", BANDWIDTH, dtype=""),
    row("attention", "FLOP/s", 0.5 * PEAK),
    row("gemv", "B/s", BANDWIDTH, bytes=512 << 20, inner=4096),
    shaped(1, 0.6),
    shaped(1, 0.8, inner=4096),
    row("skinny-8", "FLOP/s", 8 * BANDWIDTH, bytes=512 << 20, inner=4096),
    shaped(8, 0.5),
    shaped(8, 0.7, inner=4096),
    row("skinny-64", "FLOP/s", 0.75 * PEAK, bytes=512 << 20, inner=4096),
    row("gemm", "FLOP/s", 1e13, dtype="fp32"),
    row("overhead", "s", 1e-6, dtype=""),
]
HOST = HardwareSpec(name="Host", ceilings=ROWS)


def gained(**factors):
    """Class (and format, where it is not bf16) of each rate → how much faster it is."""
    after = scaled(HOST, **factors).ceilings
    return {
        " ".join(filter(None, (b["op_class"], b["dtype"].replace("bf16", "")))): a["value"] / b["value"]
        for b, a in zip(ROWS, after, strict=True)
    }


def test_factors_of_one_change_nothing():
    assert scaled(SHEET) is SHEET
    assert scaled(HOST) is HOST


def test_each_factor_changes_its_figures_alone_and_the_name_says_so():
    found = scaled(SHEET, bandwidth=2, flops=0.5, memory=1.5)
    assert found.memory_bandwidth == 4e12
    assert found.peak_flops == {"bf16": 2e14, "fp8": None}, "an unknown rate stays unknown"
    assert found.memory_bytes == 120 * 10**9
    assert found.interconnect_bandwidth == SHEET.interconnect_bandwidth
    assert found.name == "Sheet (× 2 bandwidth, × 0.5 FLOP/s, × 1.5 memory)"


def test_unknown_figures_stay_unknown():
    found = scaled(HardwareSpec(name="Empty"), bandwidth=2, flops=2, memory=2)
    assert (found.memory_bytes, found.memory_bandwidth, found.peak_flops) == (None, None, {})


def test_measured_rates_are_multiplied_by_their_unit():
    rows = [row("gemm", "FLOP/s", 3e14), row("copy", "B/s", 1e12), row("overhead", "s", 1e-6), row("gemv", "B/s", None)]
    found = scaled(HardwareSpec(name="Host", ceilings=rows), bandwidth=2, flops=3)
    assert [r["value"] for r in found.ceilings] == [9e14, 2e12, 1e-6, None]
    assert rows[0]["value"] == 3e14, "the host's own rows are left alone"


def test_twice_the_bandwidth_makes_products_that_wait_for_the_memory_twice_as_fast_whatever_their_unit():
    found = gained(bandwidth=2)
    faster = {name for name, factor in found.items() if factor == pytest.approx(2)}
    few = {"gemv", "gemv-1MiB-768", "gemv-1MiB-4096", "skinny-8", "skinny-8-1MiB-768", "skinny-8-1MiB-4096"}
    assert faster == few | {"copy", "read"}
    assert {factor for name, factor in found.items() if name not in faster} == {1}


def test_twice_the_arithmetic_makes_products_faster_that_wait_for_it():
    found = gained(flops=2)
    faster = {name for name, factor in found.items() if factor != 1}
    assert faster == {"gemm", "attention", "gemm fp32"} | {"skinny-64"}
    assert found["gemm"] == 2
    # 64 rows need 1.6 times as long for arithmetic as for their weights; no more is to be gained from it alone.
    assert found["skinny-64"] == pytest.approx(1.6)


def test_a_product_gains_until_the_other_roof_holds_it():
    found = gained(bandwidth=100)
    assert found["copy"] == pytest.approx(100)
    assert found["gemv-1MiB-768"] == pytest.approx(40)
    assert found["skinny-8"] == pytest.approx(5)
    both = gained(bandwidth=100, flops=100)
    assert [name for name, factor in both.items() if factor != pytest.approx(100)] == ["overhead"]


def test_slower_hardware_is_slower():
    found = gained(bandwidth=0.5)
    assert found["skinny-8-1MiB-768"] == found["gemv"] == pytest.approx(0.5)
    assert found["skinny-64"] == pytest.approx(0.8), "it comes to wait for the memory"
    assert gained(flops=0.1)["skinny-8"] == pytest.approx(0.5), "it comes to wait for arithmetic"


def test_where_a_roof_was_not_measured_the_unit_says_what_limits():
    rows = [row("skinny-8", "FLOP/s", 8e12), row("gemv", "B/s", 1e12), row("copy", "B/s", 1e12)]
    found = scaled(HardwareSpec(name="Host", ceilings=rows), bandwidth=2, flops=3)
    assert [r["value"] for r in found.ceilings] == [24e12, 2e12, 2e12]


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_an_operator_of_few_rows_gets_the_bandwidth(count):
    weights = 768 * 1024
    load = Load("matmul", 2.0 * count * weights, 0.0, 2.0 * weights, count, weights=weights, inner=768)

    def seconds(hardware):
        peak, bandwidth = rates(load, ceilings(hardware, "bf16")[0])
        return max(load.flops / peak, load.bytes_moved / bandwidth)

    assert seconds(scaled(HOST, bandwidth=2)) == pytest.approx(seconds(HOST) / 2)
    assert seconds(scaled(HOST, flops=2)) == pytest.approx(seconds(HOST))


def test_the_answer_says_which_rates_are_hypothetical():
    memory = "Measured rates of kernels that the memory limits, hypothetical: × 2 (copy, gemv, skinny-8)."
    assert notes(scaled(HOST, bandwidth=2), {"bf16"}, None) == [memory]
    arithmetic = "Measured rates of kernels that arithmetic limits, hypothetical: {}."
    one = arithmetic.format("× 2 (attention, gemm), × 1.6 (skinny-64)")
    assert notes(scaled(HOST, flops=2), {"bf16"}, None) == [one]
    found = Device.of(scaled(HOST, bandwidth=2, flops=3), Workload(dtype="bf16")).notes
    both = arithmetic.format("× 3 (attention, gemm, skinny-64)")
    assert [note for note in found if "hypothetical" in note] == [memory, both]


@pytest.mark.parametrize("hardware", [HOST, scaled(HOST, memory=2), scaled(SHEET, bandwidth=2)])
def test_what_is_as_it_was_measured_or_was_never_is_not_called_hypothetical(hardware):
    assert not any("hypothetical" in note for note in Device.of(hardware, Workload()).notes)
