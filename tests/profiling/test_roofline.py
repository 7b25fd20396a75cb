"""The pure parts: roofline arithmetic, memory verdicts, units."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling import units
from profiling.demand import Routing, experts_touched, rows_of_expert, spread_of
from profiling.memory import memory_estimate
from profiling.operators import REGISTRY, operator
from profiling.roofline import Ceilings, Load, ceilings, timing
from profiling.small_products import warning
from profiling.spec import HardwareSpec
from profiling.steps import parts_over_contexts

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


MIB = 1 << 20


def host(*rows: tuple, threads: int = 2, **changes) -> HardwareSpec:
    """A host with these rates of fp32 kernels: (class, rate, unit, bytes of the weights, weights that one result adds up)."""
    found = [("gemm", 100e9, "FLOP/s"), ("copy", 30e9, "B/s"), ("gemv", 20e9, "B/s", 128 * MIB, 4096), *rows]
    return HardwareSpec(
        name="Host",
        ceilings=[
            {"op_class": name, "dtype": "" if name == "copy" else "fp32", "threads": threads, "value": value}
            | {"unit": unit, "quality": "ok"}
            | dict(zip(("bytes", "inner"), shape, strict=False))
            | changes.get(name.replace("-", "_"), {})
            for name, value, unit, *shape in found
        ],
    )


SIZED = (("gemv-1MiB-4096", 10e9, "B/s", MIB, 4096), ("gemv-16MiB-4096", 16e9, "B/s", 16 * MIB, 4096))
NARROW = (("gemv-1MiB-512", 5e9, "B/s", MIB, 512), ("gemv-16MiB-512", 8e9, "B/s", 16 * MIB, 512))


def seconds_of(nbytes: float, limits: Ceilings, rows: int = 1, inner: int = 4096) -> float:
    """``inner`` 0: a product of activations."""
    elements = nbytes / 4
    load = Load("matmul", 2.0 * rows * elements, 0, nbytes, rows, weights=elements if inner else 0, inner=inner)
    return timing(load, limits).time_s


def test_a_product_takes_the_time_of_its_size():
    limits, warnings = ceilings(host(*SIZED), "fp32", threads=2)
    assert warnings == []
    assert seconds_of(MIB, limits) == pytest.approx(MIB / 10e9)
    assert seconds_of(16 * MIB, limits) == pytest.approx(16 * MIB / 16e9)
    assert seconds_of(128 * MIB, limits) == pytest.approx(128 * MIB / 20e9)
    # Between two sizes time grows in a straight line: 6 MiB take what 1 MiB take and a third of the way to 16 MiB.
    assert seconds_of(6 * MIB, limits) == pytest.approx(MIB / 10e9 * 2 / 3 + 16 * MIB / 16e9 / 3)
    # Nothing is extrapolated: the rate of the nearest size.
    assert seconds_of(MIB / 8, limits) == pytest.approx(MIB / 8 / 10e9)
    assert seconds_of(1024 * MIB, limits) == pytest.approx(1024 * MIB / 20e9)
    # Products of activations (scores of attention) are no matter of weights.
    assert seconds_of(MIB, limits, inner=0) == pytest.approx(MIB / 20e9)


def test_a_product_with_short_sums_takes_the_time_of_its_results():
    limits, _ = ceilings(host(*SIZED, *NARROW), "fp32", threads=2)
    assert seconds_of(MIB, limits, inner=512) == pytest.approx(MIB / 5e9)
    assert seconds_of(MIB, limits) == pytest.approx(MIB / 10e9)
    # As many results more for sums of 1024 as lie 3/7 of the way from those of 4096 to those of 512.
    assert seconds_of(MIB, limits, inner=1024) == pytest.approx(MIB / 10e9 * 4 / 7 + MIB / 5e9 * 3 / 7)
    # Of the nearest beyond: sizes with these sums end at 16 MiB.
    assert seconds_of(MIB, limits, inner=64) == pytest.approx(MIB / 5e9)
    assert seconds_of(160 * MIB, limits, inner=512) == pytest.approx(160 * MIB / 8e9)
    times = [seconds_of(16 * MIB, limits, inner=n) for n in range(100, 5000, 100)]
    assert times == sorted(times, reverse=True)


def test_products_with_few_rows_have_rates_by_rows_and_shape():
    rows = [("skinny-2", 8e9, "FLOP/s", 128 * MIB, 4096), ("skinny-2-1MiB-4096", 4e9, "FLOP/s", MIB, 4096)]
    rows += [("skinny-8", 32e9, "FLOP/s", 128 * MIB, 4096), ("skinny-8-1MiB-4096", 10e9, "FLOP/s", MIB, 4096)]
    limits, _ = ceilings(host(*SIZED, *rows), "fp32")
    flops = 2.0 * MIB / 4  # of a row
    assert seconds_of(MIB, limits, rows=2) == pytest.approx(2 * flops / 4e9)
    assert seconds_of(MIB, limits, rows=8) == pytest.approx(8 * flops / 10e9)
    assert seconds_of(MIB, limits, rows=5) == pytest.approx((2 * flops / 4e9 + 8 * flops / 10e9) / 2)
    assert seconds_of(128 * MIB, limits, rows=8) == pytest.approx(8 * 128 * flops / 32e9)
    times = [seconds_of(n * MIB / 4, limits, rows=4) for n in range(1, 600)]
    assert times == sorted(times)


def test_ceilings_stored_before_shapes_were_timed_still_hold():
    old, warnings = ceilings(host(gemv={"bytes": None, "inner": None}), "fp32", threads=2)
    assert (old.sized, warnings) == ((), [])
    assert seconds_of(MIB, old) == pytest.approx(MIB / 20e9)


def test_shapes_of_another_number_of_threads_or_that_were_not_accepted_are_left_out():
    one = host(threads=1)
    both = HardwareSpec(name="Host", ceilings=host(*SIZED).ceilings + one.ceilings)
    assert seconds_of(MIB, ceilings(both, "fp32", threads=1)[0]) == pytest.approx(MIB / 20e9)
    assert seconds_of(MIB, ceilings(both, "fp32", threads=2)[0]) == pytest.approx(MIB / 10e9)
    shaky = host(*SIZED, gemv_1MiB_4096={"quality": "contended"})
    limits, warnings = ceilings(shaky, "fp32", threads=2)
    assert seconds_of(MIB, limits) == pytest.approx(MIB / 16e9), "the nearest accepted size"
    assert [w["code"] for w in warnings] == ["shapes_not_accepted"]
    assert "1 of 2 rates" in warnings[0]["message"]


def test_where_no_number_of_threads_is_asked_for_shapes_are_of_all_of_them():
    """A shape that was not accepted with all threads had the rate of one thread, a sixteenth of its neighbour's; the nearest stands for it."""
    slow = (("gemv-1MiB-4096", 1e9, "B/s", MIB, 4096), ("gemv-16MiB-4096", 1e9, "B/s", 16 * MIB, 4096))
    shaky = host(*SIZED, gemv_1MiB_4096={"quality": "contended"}).ceilings
    both = HardwareSpec(name="Host", ceilings=shaky + host(*slow, threads=1).ceilings)
    limits, warnings = ceilings(both, "fp32")
    assert seconds_of(MIB, limits) == pytest.approx(MIB / 16e9)
    assert "1 of 2 rates" in warnings[0]["message"]


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
    assert sum(parts_over_contexts(a, b, span, steps, limits)) == pytest.approx(by_hand, rel=1e-9, abs=1e-15)


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


def test_what_is_stored_in_a_format_of_its_own_does_not_shrink_with_the_data_type():
    """Of 120 GB in fp32, 30 GB are weights in int4: in bf16 they are 75 GB, not half; with the cache in fp8 as well, 110 GB."""
    stored = estimate(quantised_share=0.75)
    assert "bf16 it needs about 75 GB, which fits" in " ".join(stored["suggestions"])
    both = estimate(quantised_share=0.75, cache_in_dtype=False)
    assert "bf16 it needs about 110 GB, still 30 GB too much" in " ".join(both["suggestions"])


def test_a_batch_that_fits_is_that_of_all_replicas():
    """Each of four replicas has room for 4 of its 8 sequences: 16 of the 32 that were asked for, and not 4."""
    text = " ".join(estimate(replicas=4)["suggestions"])
    assert "batch of 16 fits: each sequence needs 10 GB beside the weights." in text
    assert "batch of" not in " ".join(estimate(replicas=4, capacity_bytes=45 * 10**9)["suggestions"])


def test_a_copy_of_weights_is_no_part_of_what_a_sequence_needs():
    """40 GB of weights and a copy of 20 GB leave room for two sequences of 10 GB; it was said that 3 of 12.5 GB fit, which need 90 GB."""
    text = " ".join(estimate(widened_bytes=20 * 10**9)["suggestions"])
    assert "batch of 2 fits: each sequence needs 10 GB" in text


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


@pytest.mark.parametrize("convention", ["uniform", "topk", "all"])
def test_the_experts_of_one_token_have_one_row(convention):
    """Of 40 experts it is sent to 8, of 60 to 4, of 160 to 6: the expected number of them is a little less in floating point, and it was two
    rows, timed at the rate of products with two."""
    found = {rows_of_expert(Routing(e, k, 1), convention) for e in range(1, 520) for k in range(1, min(e, 16) + 1)}
    assert found == {1}
    assert rows_of_expert(Routing(8, 2, 0), convention) == 0
    assert rows_of_expert(Routing(8, 2, 8), "uniform") == pytest.approx(16 / (8 * (1 - 0.75**8)))  # of 7.2 experts
    assert rows_of_expert(Routing(8, 2, 8), "all") == 2


#: As a processor has them in fp32: two rows take twice as long as one, eight hardly longer than two.
FEW_ROWS = Ceilings(
    level="measured",
    dtype="fp32",
    peak_dtype="fp32",
    peak_flops=4e11,
    bandwidth=3e10,
    stream=3e10,
    skinny=((2, 1.5e10), (8, 5e10), (64, 2e11)),
    copy=2e10,
)


@pytest.mark.parametrize(
    ("experts", "top_k", "tokens"),
    [(8, 2, 1), (8, 2, 4), (8, 2, 8), (8, 2, 17), (128, 8, 24), (128, 8, 90), (4, 2, 800), (4, 4, 5)],
)
def test_the_time_of_experts_is_that_of_tokens_which_choose_at_random(experts, top_k, tokens):
    """It was that of as many rows for each expert, rounded up, at the FLOPs of the rows not rounded: 8 to 19 % off."""
    weights, chance, times, runs = 4096 * 1024, random.Random(1), 0.0, 4000 // tokens + 200

    def seconds(rows: int) -> float:
        load = Load("experts", 2.0 * rows * weights, 0, 4.0 * weights, rows, weights=weights, inner=4096)
        return timing(load, FEW_ROWS).time_s if rows else 0.0

    for _ in range(runs):
        chosen = Counter(e for _ in range(tokens) for e in chance.sample(range(experts), top_k))
        times += sum(seconds(rows) for rows in chosen.values())
    routing = Routing(experts, top_k, tokens)
    read = experts_touched(experts, top_k, tokens)
    load = Load(
        "experts",
        2.0 * tokens * top_k * weights,
        0,
        4.0 * read * weights,
        rows_of_expert(routing, "uniform"),
        weights=weights,
        inner=4096,
        spread=spread_of(routing, "uniform"),
    )
    assert timing(load, FEW_ROWS).time_s == pytest.approx(times / runs, rel=0.02)


@pytest.mark.parametrize("rows", [1, 2, 8, 64, 65, 4096])
def test_a_product_with_few_rows_waits_for_memory_left_of_the_ridge(rows):
    """Its FLOP/s were timed with weights out of memory, so its time under the peak was called arithmetic: "compute" in the tables, where
    its point lay far left of the ridge."""
    weights = 4096 * 1024
    load = Load("matmul", 2.0 * rows * weights, 0, 4.0 * weights, rows, weights=weights, inner=4096)
    time = timing(load, FEW_ROWS)
    ridge = 4e11 / 3e10
    assert time.bound == ("compute" if load.flops / load.bytes_moved > ridge else "memory")
    assert time.parts[time.bound] == time.time_s == max(time.compute_s, time.memory_s)
    ends = parts_over_contexts(load, replace(load, bytes_moved=load.bytes_moved * 1.01), 4, range(5), FEW_ROWS)
    assert ends._asdict()[time.bound] == pytest.approx(sum(ends)) == pytest.approx(5 * time.time_s, rel=0.02)


def test_experts_with_narrow_weights_and_one_row_wait_for_their_bytes_alone():
    """At one token each chosen expert has one row, whose weights come in a quarter of the bytes."""
    weights, routing = 4096 * 1024, Routing(8, 2, 1)
    load = Load("experts", 4.0 * weights, 0, 2 * weights, 1, weights=weights, inner=4096, spread=routing, narrow=True)
    assert timing(load, FEW_ROWS).time_s == pytest.approx(2 * weights / 3e10)
    wide = replace(load, bytes_moved=8 * weights, narrow=False)
    assert timing(wide, FEW_ROWS).time_s == pytest.approx(8 * weights / 3e10)


def test_each_number_of_rows_has_the_smallest_shapes_that_were_timed_with_it():
    """Sums of 512 were taken for timed at any number of rows, since single rows were timed with sums of 256: no warning named them."""
    rows = [("skinny-2", 8e9, "FLOP/s", 128 * MIB, 4096), ("skinny-2-1MiB-768", 4e9, "FLOP/s", MIB, 768)]
    rows += [("skinny-8", 32e9, "FLOP/s", 128 * MIB, 4096), ("skinny-8-16MiB-768", 10e9, "FLOP/s", 16 * MIB, 768)]
    limits, _ = ceilings(host(*SIZED, ("gemv-1MiB-256", 5e9, "B/s", MIB, 256), *rows), "fp32")
    assert limits.least_timed(1) == (MIB / 4, 256)
    assert limits.least_timed(2) == (MIB / 4, 768)
    assert limits.least_timed(5) == (4 * MIB, 768), "between two and eight rows both decide"
    assert limits.least_timed(100) == (4 * MIB, 768)
    assert LIMITS.least_timed(1) == (0, 0)
    message = warning({"decode": 0.5}, limits)[0]["message"]
    assert "less than 1.05 MB–16.8 MB, or with sums of less than 256–768 products" in message


def test_shapes_that_were_not_accepted_count_where_their_rates_are_taken():
    """Several rows run at the rate of fp32 where bf16 has none: what was left out of bf16's own rows decides nothing, what was of fp32's does."""
    rows = [(f"skinny-{count}-1MiB-768", 4e9, "FLOP/s", MIB, 768) for count in (2, 8)]
    shaky = {f"skinny_{count}_1MiB_768": {"quality": "contended"} for count in (2, 8)}
    fp32 = host(*SIZED, *rows, **shaky).ceilings
    single = {"dtype": "bf16", "threads": 2, "inner": 768, "quality": "ok"}
    bf16 = [
        single | {"op_class": "gemv-1MiB-768", "value": 1e9, "unit": "B/s", "bytes": MIB},
        single
        | {"op_class": "skinny-2-1MiB-768", "value": 1e9, "unit": "FLOP/s", "bytes": MIB, "quality": "contended"},
    ]
    _, warnings = ceilings(HardwareSpec(name="Host", ceilings=fp32 + bf16), "bf16", threads=2)
    (said,) = [w["message"] for w in warnings if w["code"] == "shapes_not_accepted"]
    assert said.startswith("2 of 3 rates")  # one row of bf16, two and eight of fp32
    _, warnings = ceilings(HardwareSpec(name="Host", ceilings=host(*SIZED).ceilings + bf16), "bf16", threads=2)
    assert "shapes_not_accepted" not in [w["code"] for w in warnings]


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
