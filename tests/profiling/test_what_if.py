"""What limits a device, and rates that cannot be right. The answers themselves are held against estimates in tests/explore."""

from __future__ import annotations

import subprocess
import sys

import pytest

from profiling.spec import HardwareSpec, Workload
from profiling.what_if import Device
from tests.profiling.test_scaling import SHEET, row


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
