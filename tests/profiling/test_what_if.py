"""Devices with changed figures, and rates that cannot be right. The answers themselves are held against estimates in tests/explore."""

from __future__ import annotations

import subprocess
import sys

import pytest

from profiling.spec import HardwareSpec, Workload
from profiling.what_if import Device, scaled

SHEET = HardwareSpec(
    name="Sheet",
    memory_bytes=80 * 10**9,
    memory_bandwidth=2e12,
    peak_flops={"bf16": 4e14, "fp8": None},
    interconnect_bandwidth=9e11,
)


def row(op_class, unit, value, dtype="bf16"):
    return {"op_class": op_class, "dtype": dtype, "unit": unit, "value": value, "threads": 0}


def test_factors_of_one_change_nothing():
    assert scaled(SHEET) is SHEET


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


@pytest.mark.parametrize(("copy", "suspicious"), [(1.9e12, 0), (2.01e12, 0), (3e12, 1)])
def test_a_measured_rate_above_the_datasheet_is_suspicious(copy, suspicious):
    host = HardwareSpec(
        name="Host",
        memory_bandwidth=2e12,
        peak_flops={"bf16": 4e14},
        ceilings=[row("gemm", "FLOP/s", 3e14), row("copy", "B/s", copy)],
    )
    found = Device.of(host, Workload())
    assert found.limits.level == "measured"
    assert len(found.suspicious) == suspicious


def test_a_datasheet_is_never_suspicious_of_itself():
    assert Device.of(SHEET, Workload()).suspicious == ()


def test_replicas_need_no_batch_to_know_the_limits():
    assert Device.of(SHEET, Workload(data_parallel=8, batch_size=1)).limits.known


def test_no_torch_is_needed():
    code = "import sys, profiling.what_if; print([n for n in ('torch', 'transformers', 'django') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr[-500:]
