"""Where an estimate of memory is a lower bound, it says so, whichever way it is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiling.estimate import estimate
from profiling.forms.store import FormStore
from profiling.sweep import sweep
from profiling.what_if import Device
from tests.profiling import tiny

GPU = replace(tiny.HOST, name="A card", kind="gpu")


@pytest.mark.parametrize(
    ("hardware", "dtype", "wanted"),
    [(tiny.HOST, "bf16", True), (tiny.HOST, "fp32", False), (GPU, "bf16", False)],
)
def test_a_processor_in_half_precision_is_told_that_its_peak_is_a_lower_bound(hardware, dtype, wanted, tmp_path):
    workload = replace(tiny.WORKLOAD, dtype=dtype)
    warnings = estimate(tiny.MODEL, hardware, workload)["warnings"]
    (row,) = sweep(tiny.MODEL, [hardware], [{}], workload, store=FormStore(tmp_path)).rows()
    assert any(w["code"] == "scratch_not_counted" for w in warnings) is wanted
    assert ("lower bound" in (row["notes"] or "")) is wanted
    assert any("lower bound" in note for note in Device.of(hardware, workload).notes) is wanted
