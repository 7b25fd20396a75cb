"""Ceilings: rates from known times, the shape of the rows, and how disturbance is recognised."""

from __future__ import annotations

import itertools
import time

import pytest

from profiling.client import EngineChild
from profiling.spec import SpecError

torch = pytest.importorskip("torch")

from profiling import ceilings, few_rows  # noqa: E402
from profiling.bench import KERNELS  # noqa: E402
from profiling.ceiling_rows import shaped_names  # noqa: E402
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


def test_products_by_shape_never_use_one_matrix_twice_in_a_row(monkeypatch):
    """Or it would come from a cache, and a decode step's never does."""
    used = []
    plain = few_rows.functional.linear

    def linear(x, weight):
        used.append((weight.data_ptr(), tuple(x.shape), tuple(weight.shape)))
        return plain(x, weight)

    monkeypatch.setattr(few_rows.functional, "linear", linear)
    bench = Bench(torch.device("cpu"), 1, 0.02, 4 << 20, 512)
    row = KERNELS["skinny-8-1MiB-4096", "bf16"](bench, "bf16")
    assert (row["bytes"], row["inner"], row["detail"]["matrices"]) == (1 << 20, 4096, 4)
    assert {(x, weight) for _, x, weight in used} == {((8, 4096), (128, 4096))}
    assert row["value"] == pytest.approx(2 * 8 * (1 << 19) / row["detail"]["best_s"])
    assert len({place for place, _, _ in used}) == 4
    assert all(before != after for before, after in itertools.pairwise(used))


def test_no_product_is_timed_from_a_cache_where_memory_is_short():
    bench = Bench(torch.device("cpu"), 1, 0.02, 2 << 20, 512)
    assert KERNELS["gemv-16MiB-768", "fp32"](bench, "fp32") is None
    largest = KERNELS["gemv", "fp32"](bench, "fp32")
    assert largest["bytes"] == pytest.approx(2 << 20, rel=0.01)
    assert largest["inner"] == 724


def test_on_an_accelerator_kernels_are_timed_that_take_longer_than_to_launch_them(monkeypatch):
    """A launch takes microseconds: what is over sooner would have the rate of launching, thousands of times too slow."""
    asked = {}
    monkeypatch.setattr(Bench, "row", lambda self, name, dtype, unit, work, call, **detail: asked.update({name: work}))
    bench = Bench(torch.device("meta"), 0, 0.02, 1 << 30, 8192)
    for name, dtype in (("elementwise", "fp32"), ("attention", "bf16")):
        KERNELS[name, dtype](bench, dtype)
    fastest_launch, fast = 2e-6, 1e15
    assert asked["attention"] > 10 * fastest_launch * fast
    assert asked["elementwise"] > 10 * fastest_launch * 6e13
    assert all(KERNELS[name, "bf16"](bench, "bf16") is None for rows in few_rows.ROWS for name in shaped_names(rows))
    assert set(asked) == {"elementwise", "attention"}


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
    kinds = {"gemv", "skinny-2", "skinny-8", "skinny-64"}
    shapes = {name for rows in few_rows.ROWS for name in shaped_names(rows)}
    streams = {"copy", "read", "triad"}
    assert {"gemm", "attention", "elementwise", "overhead"} | kinds | shapes | streams == {name for name, _ in rows}
    assert {name for name, dtype in rows if dtype == "fp16"} & shapes == set(), (
        "slow: one reason, of the largest matrix"
    )
    for name in shapes:
        *_, size, inner = name.split("-")
        for row in (rows[name, "fp32"], rows[name, "bf16"]):
            assert row["inner"] == int(inner)
            assert row["bytes"] == pytest.approx(int(size.removesuffix("MiB")) << 20, rel=0.01)
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
    assert 1e-7 < rows["overhead", ""]["detail"]["in_cache_s"] <= rows["overhead", ""]["value"]
    assert all(row["value"] >= row["median"] for row in document["rows"] if row["unit"] != "s")
    assert all(row["quality"] in ("ok", "contended") for row in document["rows"])
    assert len({(row["op_class"], row["dtype"], row["threads"]) for row in document["rows"]}) == len(document["rows"])
