"""Launching on accelerators: a pass takes the longer of the host's calls and the device's work, in estimates and in closed forms alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.estimate import estimate
from profiling.forms.store import FormStore
from profiling.launching import launched, longer_of
from profiling.roofline import Ceilings, Timing
from profiling.spec import HardwareSpec, Workload
from profiling.sweep import sweep
from tests.profiling.forms.test_evaluate import TINY, points_of, same


def accelerator(overhead: float, *, kind: str = "gpu", kernels: bool = False, threads: int = 0) -> HardwareSpec:
    """Measured rates of a slow device: large products and copies alone, or kinds of kernels too."""
    rates = [("gemm", "bf16", 1e11, "FLOP/s"), ("copy", "", 1e10, "B/s"), ("overhead", "", overhead, "s")]
    if kernels:
        rates += [
            ("gemv", "bf16", 2e10, "B/s"),
            ("skinny-8", "bf16", 4e10, "FLOP/s"),
            ("attention", "bf16", 5e10, "FLOP/s"),
        ]
    rows = [
        {"op_class": name, "dtype": dtype, "threads": threads, "value": value, "unit": unit}
        for name, dtype, value, unit in rates
        if value
    ]
    return HardwareSpec(name=f"Device {kind}", kind=kind, memory_bytes=10**9, ceilings=rows)


def latency(model, hardware, stage: str, **workload) -> float:
    return estimate(model, hardware, Workload(**workload))["stages"][stage]["latency_s"]


def calls_of(model, stage: str, **workload) -> float:
    """How many operators of a pass are launched: what it takes longer on a processor for a second each."""
    shape = {"kind": "cpu", "threads": 1}
    return latency(model, accelerator(1.0, **shape), stage, **workload) - latency(
        model, accelerator(0.0, **shape), stage, **workload
    )


@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_a_pass_takes_the_longer_of_calls_and_work(stage):
    model, shape = TINY["llama"], {"batch_size": 4, "input_tokens": 40, "output_tokens": 6}
    work, calls = latency(model, accelerator(0.0), stage, **shape), calls_of(model, stage, **shape)
    assert calls > 30
    little, much = 0.5 * work / calls, 2 * work / calls
    assert latency(model, accelerator(little), stage, **shape) == pytest.approx(work)
    assert latency(model, accelerator(much), stage, **shape) == pytest.approx(2 * work)
    # On a processor nothing works meanwhile.
    for kind in ("cpu", "soc"):
        assert latency(model, accelerator(little, kind=kind, threads=1), stage, **shape) == pytest.approx(1.5 * work)


def test_what_the_host_limits_is_called_so_and_its_operators_add_up():
    model, shape = TINY["llama"], Workload(input_tokens=40, output_tokens=6)
    document = estimate(model, accelerator(1e-3), shape)
    stage = document["stages"]["decode"]
    assert stage["bound"] == "overhead"
    table = document["operators"]
    at = {name: table["columns"].index(name) for name in ("stage", "time_s")}
    rows = [row for row in table["rows"] if row[at["stage"]] == "decode"]
    assert sum(row[at["time_s"]] for row in rows) == pytest.approx(stage["latency_s"])
    assert "a pass takes the longer of the two" in document["conventions"]["ceilings"]


@pytest.mark.parametrize(
    ("name", "kernels"),
    [("llama", True), ("window", False), ("experts", True), ("encoder-decoder", False), ("encoder", False)],
)
def test_closed_forms_give_the_figures_of_estimates(name, kernels, tmp_path):
    model = TINY[name]
    for point in points_of(model)[:1]:
        # So that the host limits the first steps and the device the last, where its work grows at all.
        first = "encode" if name == "encoder" else "decode"
        late = point | ({} if name == "encoder" else {"output_tokens": 20})
        none = accelerator(0.0, kernels=kernels)
        turning = latency(model, none, first, **late) / calls_of(model, first, **late)
        # Where both take exactly as long, rounding decides what the time is said to go to.
        for overhead in (0.3 * turning, 1.0001 * turning, 3 * turning):
            same(model, accelerator(overhead, kernels=kernels), {}, [point], tmp_path)


def test_the_device_takes_over_in_the_middle_of_an_answer():
    model, shape = TINY["llama"], {"batch_size": 64, "input_tokens": 8, "output_tokens": 101}
    turning = latency(model, accelerator(0.0), "decode", **shape) / calls_of(model, "decode", **shape)

    def total(overhead: float, tokens: int) -> float:
        workload = Workload(**(shape | {"output_tokens": tokens}))
        metrics = estimate(model, accelerator(overhead), workload)["metrics"]
        return metrics["tpot"]["value"] * (tokens - 1)

    calls, one_by_one = calls_of(model, "decode", **shape), 0.0
    for step in range(100):
        step_shape = shape | {"input_tokens": 8 + step, "output_tokens": 2}
        one_by_one += max(latency(model, accelerator(0.0), "decode", **step_shape), calls * turning)
    assert total(turning, 101) == pytest.approx(one_by_one)
    assert total(turning, 101) > 1.0001 * max(total(0.0, 101), calls * turning * 100)


def test_devices_of_both_kinds_side_by_side(tmp_path):
    model, store = TINY["llama"], FormStore(tmp_path)
    kinds = [accelerator(3e-5), accelerator(3e-5, kind="cpu", threads=1), accelerator(0.0)]
    devices = {f"device {place}": replace(hardware, name=f"device {place}") for place, hardware in enumerate(kinds)}
    points = [point | {"hardware": name} for point in points_of(model) for name in devices]
    together = sweep(model, list(devices.values()), points, Workload(), store=store)
    for row, point in zip(together.rows(), points, strict=True):
        (alone,) = sweep(model, [devices[point["hardware"]]], [point], Workload(), store=store).rows()
        assert row["error"] is None
        assert row["e2e_s"] == pytest.approx(alone["e2e_s"], rel=1e-12)


@given(
    lines=st.lists(st.tuples(*[st.floats(0, 1e3)] * 4), min_size=1, max_size=4),
    host=st.floats(0, 5e3),
    steps=st.integers(1, 60),
    falling=st.booleans(),
)
def test_the_longer_of_two_is_found_step_by_step(lines, host, steps, falling):
    """Device time: a sum of the larger of two rising lines, as the roofs of operators are."""

    def device(step: int) -> float:
        x = steps - 1 - step if falling else step
        return sum(max(a + b * x, c + d * x) for a, b, c, d in lines)

    found = longer_of(host, lambda some: sum(device(step) for step in some), steps)
    assert found == pytest.approx(sum(max(host, device(step)) for step in range(steps)))


def test_processors_and_datasheets_stay_as_they_are():
    timings = [Timing(1.0, 2.0, 0.5), Timing(3.0, 1.0, 0.5, 0.25)]
    limits = Ceilings("measured", "bf16", "bf16", 1e12, 1e10, overhead_s=0.5)
    assert launched(timings, [1, 2], limits) == timings
    ahead = replace(limits, ahead=True)
    assert [t.time_s for t in launched(timings, [1, 2], ahead)] == [2.0, 3.25]
    host = launched([replace(t, overhead_s=5.0) for t in timings], [1, 2], ahead)
    assert [(t.time_s, t.bound) for t in host] == [(5.0, "overhead")] * 2
    assert launched(timings, [1, 2], replace(ahead, overhead_s=0.0)) == [replace(t, overhead_s=0.5) for t in timings]
