"""The pure parts: roofline arithmetic, memory verdicts, units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling import units
from profiling.demand import experts_touched
from profiling.memory import memory_estimate
from profiling.operators import REGISTRY, operator
from profiling.roofline import Ceilings, Load, sum_over_contexts, timing

LIMITS = Ceilings(level="datasheet", dtype="bf16", peak_dtype="bf16", peak_flops=1e12, bandwidth=1e10)
ROUNDS = st.floats(0, 1e12)


def test_the_ridge_decides_the_bound():
    assert LIMITS.ridge == 100
    assert timing(Load("matmul", 101e9, 0, 1e9), LIMITS).bound == "compute"
    assert timing(Load("matmul", 99e9, 0, 1e9), LIMITS).bound == "memory"
    slow = Ceilings("measured", "bf16", "bf16", 1e12, 1e10, overhead_s=1.0)
    result = timing(Load("matmul", 99e9, 0, 1e9), slow)
    assert result.bound == "overhead"
    assert result.time_s == pytest.approx(1.1)


@given(ROUNDS, ROUNDS, ROUNDS)
def test_time_is_never_below_a_roof(flops, elementwise, moved):
    time = timing(Load("matmul", flops, elementwise, moved), LIMITS).time_s
    assert time >= flops / LIMITS.peak_flops
    assert time >= moved / LIMITS.bandwidth


def test_skinny_products_stream_at_their_own_rate_and_attention_has_its_own_peak():
    limits = Ceilings("measured", "fp32", "fp32", 1e12, 1e10, stream=5e9, attention=5e11)
    assert timing(Load("matmul", 0, 0, 1e9, rows=1), limits).time_s == pytest.approx(0.2)
    assert timing(Load("matmul", 0, 0, 1e9, rows=64), limits).time_s == pytest.approx(0.1)
    assert timing(Load("attention", 1e12, 0, 1, rows=512), limits).time_s == pytest.approx(2)


@given(st.tuples(ROUNDS, ROUNDS), st.tuples(ROUNDS, ROUNDS), st.integers(1, 60), st.floats(0, 1e-3), st.integers(0, 20))
def test_the_sum_over_contexts_is_the_sum_of_the_steps(first, last, span, overhead, cut):
    limits = Ceilings("measured", "fp32", "fp32", 1e12, 1e10, overhead_s=overhead)
    a, b = Load("matmul", first[0], 0, first[1]), Load("matmul", last[0], 0, last[1])
    if not (any(first) and any(last)):
        return
    steps = range(min(cut, span), span + 1)
    by_hand = 0.0
    for x in steps:
        part = x / span
        load = Load("matmul", first[0] + part * (last[0] - first[0]), 0, first[1] + part * (last[1] - first[1]))
        by_hand += max(load.flops / 1e12, load.bytes_moved / 1e10) + overhead
    assert sum_over_contexts(a, b, span, steps, limits) == pytest.approx(by_hand, rel=1e-9, abs=1e-15)


def estimate(**changes):
    values = {
        "dtype": "fp32",
        "batch_size": 8,
        "weights_bytes": 40 * 10**9,
        "kv_cache_bytes": 70 * 10**9,
        "state_bytes": 0,
        "activation_peak_bytes": 10 * 10**9,
        "capacity_bytes": 80 * 10**9,
    }
    return memory_estimate(**(values | changes))


def test_what_does_not_fit_says_by_how_much_and_what_would():
    result = estimate(more_devices=lambda capacity: f"2 such devices of {capacity / 1e9:.0f} GB hold it.")
    assert result["total_bytes"] == 120 * 10**9
    assert result["fits"] is False
    assert result["shortfall_bytes"] == 40 * 10**9
    text = " ".join(result["suggestions"])
    assert "batch of 4 fits" in text  # (80 − 40) GB of room, 10 GB a sequence
    assert "bf16 it needs about 60 GB, which fits" in text
    assert "2 such devices of 80 GB" in text


def test_unknown_capacity_gives_no_verdict_and_enough_gives_no_advice():
    assert estimate(capacity_bytes=None)["fits"] is None
    assert estimate(capacity_bytes=None)["shortfall_bytes"] is None
    fitting = estimate(capacity_bytes=120 * 10**9)
    assert (fitting["fits"], fitting["shortfall_bytes"], fitting["suggestions"]) == (True, 0, [])


def test_experts_touched_lies_between_its_bounds():
    assert experts_touched(8, 2, 1) == pytest.approx(2)
    assert experts_touched(8, 2, 10_000) == pytest.approx(8)
    assert experts_touched(8, 8, 3) == pytest.approx(8)
    values = [experts_touched(64, 6, n) for n in range(1, 50)]
    assert values == sorted(values)


def test_an_operator_is_registered_once():
    with pytest.raises(ValueError, match="twice"):
        operator("mm", op_class="matmul")(lambda *a: None)
    with pytest.raises(ValueError, match="class"):
        operator("new", op_class="nonsense")
    assert "new" not in REGISTRY


def test_every_definition_has_a_known_unit_and_a_direction():
    for key, definition in units.DEFINITIONS.items():
        name, version = key.split("/")
        assert name.isidentifier()
        assert int(version) >= 1
        assert definition.unit in units.UNITS
        assert definition.better in ("lower", "higher")
        assert definition.formula.endswith(".")
