"""Ceilings: rates from known times, the shape of the rows, and how disturbance is recognised."""

from __future__ import annotations

import time

import pytest

from profiling.client import EngineChild
from profiling.spec import SpecError

torch = pytest.importorskip("torch")

from profiling import ceilings  # noqa: E402
from profiling.ceilings import Bench, measure_ceilings  # noqa: E402


@pytest.fixture
def bench() -> Bench:
    return Bench(torch.device("cpu"), 1, 0.02, 1 << 20, 512)


def test_a_rate_is_work_over_the_best_time(bench):
    row = bench.row("test", "fp32", "FLOP/s", 1e6, lambda: time.sleep(0.01), side=3)
    assert row["value"] == pytest.approx(1e8, rel=0.2)
    assert row["median"] <= row["value"]
    assert row["detail"]["side"] == 3
    assert {"op_class", "dtype", "threads", "value", "unit", "median", "quality", "detail", "measured_at"} == set(row)


def test_short_calls_are_timed_many_at_a_time(bench):
    calls = []
    row = bench.row("test", "", "s", 1.0, lambda: calls.append(None))
    assert len(calls) > 1000
    assert row["detail"]["best_s"] < 1e-5


def test_calls_that_differ_are_called_contended(bench):
    delays = iter([0.01] * 2 + [0.01, 0.03, 0.05, 0.04] * 50)
    row = bench.row("test", "fp32", "FLOP/s", 1.0, lambda: time.sleep(next(delays)))
    assert row["quality"] == "contended"


def test_a_kernel_that_this_torch_lacks_is_named_not_dropped(monkeypatch):
    def absent(bench, dtype):
        raise RuntimeError("not implemented for 'Half'\nlong explanation")

    monkeypatch.setattr(ceilings, "KERNELS", {("gemm", "fp16"): absent})
    document = measure_ceilings(quick=True, threads=1)
    assert document["rows"] == []
    assert document["skipped"] == [{"op_class": "gemm", "dtype": "fp16", "reason": "not implemented for 'Half'"}]


def test_a_nonsense_thread_count_is_refused():
    with pytest.raises(SpecError) as caught:
        measure_ceilings(threads=0)
    assert caught.value.field == "threads"


@pytest.mark.slow
def test_the_quick_set_has_a_plausible_row_for_everything():
    with EngineChild() as engine:
        document = engine.request("ceilings", {"quick": True, "threads": 1, "kind": "cpu"}, timeout_s=120)
    rows = {(row["op_class"], row["dtype"]): row for row in document["rows"]}
    few = {f"skinny-{count}" for count in ceilings.FEW_ROWS}
    streams = {"copy", "read", "triad"}
    assert {"gemm", "gemv", "attention", "elementwise", "overhead"} | few | streams == {name for name, _ in rows}
    had = {dtype for name, dtype in rows if name == "gemm"}
    left_out = {item["dtype"] for item in document["skipped"] if item["op_class"] == "gemm"}
    assert had | left_out == {"fp32", "bf16", "fp16", "int8", "fp8"}, "each format has a row or a reason"
    assert all(item["reason"] for item in document["skipped"])
    assert {("attention", "fp16"), ("skinny-8", "fp16")} <= {(s["op_class"], s["dtype"]) for s in document["skipped"]}
    assert document["affinity"]
    assert rows["gemm", "int8"]["unit"] == "OP/s"
    assert 1e9 < rows["gemm", "fp32"]["value"] < 1e14
    assert all(1e9 < rows[name, ""]["value"] < 2e12 for name in streams)
    assert 1e-7 < rows["overhead", ""]["value"] < 1e-3
    assert rows["overhead", ""]["detail"]["operators"] > 50
    assert all(row["value"] >= row["median"] for row in document["rows"] if row["unit"] != "s")
    assert all(row["quality"] in ("ok", "contended") for row in document["rows"])
    assert len({(row["op_class"], row["dtype"], row["threads"]) for row in document["rows"]}) == len(document["rows"])
