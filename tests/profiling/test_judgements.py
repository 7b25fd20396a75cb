"""Verdicts of two documents from the samples that they keep: what a rate is compared by."""

from __future__ import annotations

from typing import Any

from profiling.judgements import verdict_on

COLUMNS = ["process", "iteration", "phase", "warmup", "start_ns", "wall_ns", "cpu_ns", "tokens", "sequences"]
STEP_NS = 100_000_000


def measured(going: list[int], step_ns: int = STEP_NS) -> dict[str, Any]:
    """Three processes with two iterations each of two prompts of 30 tokens; ``going``: sequences that each decode step makes a token of."""
    rows = []
    for process in range(3):
        for iteration in range(2):
            wall = step_ns + 1_000_000 * process
            rows.append([process, iteration, "prefill", False, 0, wall, wall, 30, 2])
            rows += [[process, iteration, "decode", False, 0, wall, wall, tokens, 2] for tokens in going]
    workload = {"batch_size": 2, "input_tokens": 15, "output_tokens": len(going) + 1}
    return {"workload": workload, "samples": {"columns": COLUMNS, "rows": rows}, "conditions": {"contended": False}}


def test_a_rate_is_compared_by_its_tokens_and_not_by_the_time_alone():
    """One answer of the other ends after a token. Its steps are 10 % shorter, but 11 tokens come in the time of 18 of the base: it was called
    faster."""
    base, other = measured([2] * 8), measured([1] * 8, round(0.9 * STEP_NS))
    assert verdict_on("e2e_latency", base, other).verdict == "faster"
    for key in ("output_throughput", "decode_throughput"):
        found = verdict_on(key, base, other)
        assert found.verdict == "slower", key
        tokens = {"output_throughput": 18 / 10, "decode_throughput": 2}[key]
        assert abs(found.effect_pct - 100 * (0.9 * tokens - 1)) < 1


def test_with_as_many_tokens_a_rate_says_what_its_time_says():
    base, other = measured([2] * 8), measured([2] * 8, 2 * STEP_NS)
    for key, time in (
        ("output_throughput", "e2e_latency"),
        ("decode_throughput", "tpot"),
        ("prefill_throughput", "ttft"),
    ):
        rate, seconds = verdict_on(key, base, other), verdict_on(time, base, other)
        assert rate.verdict == seconds.verdict == "slower"
        assert abs(rate.effect_pct - seconds.effect_pct) < 1e-6
