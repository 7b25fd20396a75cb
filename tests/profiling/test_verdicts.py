"""Verdicts on samples whose truth is known: how often identical programs are told apart, and how often a real difference is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiling.student import t95
from profiling.verdicts import FASTER, NO_DIFFERENCE, NOT_COMPARABLE, SLOWER, Measurement, compare

ROUNDS = 5
ORDER = ("ABBA" * ROUNDS)[: 2 * ROUNDS]
TRIALS = 200


def synthetic(
    random, order: str, *, slowdown: float = 0.0, spread: float = 0.025, drift: float = 0.2, iterations: int = 20
):
    """(samples of A, samples of B) in ns: processes differ by ``spread`` (Student's t with 4 degrees of freedom, so with tails),
    the machine slows down by ``drift`` over the session and wanders by 1 % from turn to turn, each iteration is late by a few per
    cent, one in twenty by a lot (Pareto)."""
    sides: dict[str, list[list[int]]] = {"A": [], "B": []}
    wander = np.cumsum(random.normal(0, 0.01, len(order)))
    for turn, letter in enumerate(order):
        level = math.log(0.1) + drift * turn / (len(order) - 1) + wander[turn]
        level += spread * random.standard_t(4) / math.sqrt(2) + (math.log1p(slowdown) if letter == "B" else 0.0)
        times = math.exp(level) * (1 + 0.02 * np.abs(random.standard_t(3, iterations)))
        late = random.random(iterations) < 0.05
        times[late] *= 1 + 0.3 * random.pareto(1.5, int(late.sum()))
        sides[letter].append([round(1e9 * value) for value in times])
    return sides["A"], sides["B"]


def rate(judge, wanted, *, seed: int, order: str = ORDER, **options) -> float:
    """How often ``judge(samples of A, samples of B)`` is one of ``wanted``."""
    random = np.random.default_rng(seed)
    return sum(judge(*synthetic(random, order, **options)) in wanted for _ in range(TRIALS)) / TRIALS


def ours(a, b, order: str = ORDER) -> str:
    return compare(Measurement(a), Measurement(b), order=order).verdict


def pooled(a, b) -> str:
    """The naive judge: a t-test on all iterations together, with the same minimum effect."""
    one, two = (np.log(np.concatenate([np.asarray(process, dtype=float) for process in side])) for side in (a, b))
    effect = two.mean() - one.mean()
    error = math.sqrt(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
    if abs(effect) <= 1.96 * error or abs(math.expm1(effect)) < 0.05:
        return NO_DIFFERENCE
    return SLOWER if effect > 0 else FASTER


def test_identical_programs_are_not_told_apart_though_the_machine_drifts():
    for seed, drift in ((1, 0.2), (2, -0.2), (3, 0.0)):
        assert rate(ours, (FASTER, SLOWER), seed=seed, drift=drift) <= 0.05


def test_a_slowdown_of_ten_per_cent_is_seen():
    for seed, drift in ((4, 0.2), (5, -0.2), (6, 0.0)):
        assert rate(ours, (SLOWER,), slowdown=0.1, seed=seed, drift=drift) >= 0.90


def test_three_processes_a_side_are_enough_where_they_agree_well():
    order = "ABBAAB"
    judge = lambda a, b: ours(a, b, order)  # noqa: E731
    assert rate(judge, (FASTER, SLOWER), seed=7, order=order, spread=0.012) <= 0.05
    assert rate(judge, (SLOWER,), seed=8, order=order, spread=0.012, slowdown=0.1) >= 0.90


def test_the_naive_judge_fails_the_same_test():
    """Otherwise the two tests above would show nothing."""
    order = "AB" * 3
    assert rate(pooled, (FASTER, SLOWER), seed=1, order=order) > 0.05
    judge = lambda a, b: ours(a, b, order)  # noqa: E731
    assert rate(judge, (FASTER, SLOWER), seed=1, order=order) <= 0.05


def test_separate_sessions_keep_false_alarms_rare_where_nothing_drifts_between_them():
    judge = lambda a, b: compare(Measurement(a), Measurement(b)).verdict  # noqa: E731
    assert rate(judge, (FASTER, SLOWER), seed=9, drift=0.0) <= 0.05
    a, b = synthetic(np.random.default_rng(0), ORDER)
    verdict = compare(Measurement(a), Measurement(b))
    assert verdict.method == "separate"
    assert any("in turns" in reason for reason in verdict.reasons)


STEADY = [[100, 100, 900], [101, 101, 101], [99, 99, 99]]
LONGER = [[120, 120, 120], [121, 121, 121], [119, 119, 119]]


def test_effect_and_interval_are_of_the_time_and_symmetric():
    slower, faster = (
        compare(Measurement(STEADY), Measurement(LONGER)),
        compare(Measurement(LONGER), Measurement(STEADY)),
    )
    assert (slower.verdict, faster.verdict) == (SLOWER, FASTER)
    assert slower.effect_pct == pytest.approx(20, abs=0.1)
    assert slower.ci95_pct[0] < 20 < slower.ci95_pct[1]
    assert (1 + slower.effect_pct / 100) * (1 + faster.effect_pct / 100) == pytest.approx(1)
    assert "20.0 % more time" in slower.reasons[0]


def test_a_difference_below_the_minimum_effect_is_none():
    verdict = compare(Measurement(STEADY), Measurement([[104] * 3, [104] * 3, [104] * 3]))
    assert verdict.verdict == NO_DIFFERENCE
    assert verdict.minimum_pct == 5.0
    assert verdict.ci95_pct[0] > 0, "shown, but too small"


def test_the_minimum_effect_grows_with_the_spread_between_processes():
    wide = [[90], [100], [110], [80], [120]]
    assert compare(Measurement(wide), Measurement(LONGER)).minimum_pct > 15


def test_interleaving_takes_a_straight_drift_out_exactly():
    order = "ABABAB"
    level = [round(1e6 * math.exp(0.04 * turn)) for turn in range(6)]
    a, b = [[v] for v in level[0::2]], [[round(1.1 * v)] for v in level[1::2]]
    verdict = compare(Measurement(a), Measurement(b), order=order)
    assert verdict.effect_pct == pytest.approx(10, abs=0.01)
    assert verdict.spread_pct == pytest.approx(0, abs=0.01)
    assert verdict.method == "interleaved"


def test_one_after_the_other_is_not_interleaved():
    assert compare(Measurement(STEADY), Measurement(LONGER), order="AAABBB").method == "separate"


def test_different_conditions_are_named_and_nothing_is_judged():
    one = Measurement(STEADY, conditions={"threads": 1, "dtype": "bf16"})
    verdict = compare(one, Measurement(LONGER, conditions={"threads": 2, "dtype": "bf16"}))
    assert verdict.verdict == NOT_COMPARABLE
    assert verdict.reasons == ("The conditions differ in threads (1 and 2).",)
    assert verdict.effect_pct == pytest.approx(20)


def test_contended_measurements_are_not_comparable():
    verdict = compare(Measurement(STEADY), Measurement(LONGER, contended=True))
    assert verdict.verdict == NOT_COMPARABLE
    assert "the other" in verdict.reasons[0]


@pytest.mark.parametrize("samples", [[], [[]], [[100] * 50]])
def test_too_few_processes_are_said(samples):
    verdict = compare(Measurement(STEADY), Measurement(samples))
    assert verdict.verdict == NOT_COMPARABLE
    assert "Too few processes (3 and " in verdict.reasons[0]


def test_two_processes_give_a_wide_interval_and_say_so():
    verdict = compare(Measurement(STEADY[:2]), Measurement(LONGER[:2]))
    assert any("only 2 and 2 processes" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("samples", "order"), [([[0]], None), ([[-1]], None), ([[math.inf]], None), (STEADY, "AB"), (STEADY, "AABBCC")]
)
def test_nonsense_is_refused(samples, order):
    with pytest.raises(ValueError, match="must"):
        compare(Measurement(STEADY), Measurement(samples), order=order)


# --- modules -------------------------------------------------------------------------------------------------------------

MODULES = {
    f"layers.{i}.{name}": [t, 1.01 * t, 0.99 * t] for i in range(4) for name, t in (("mlp", 15.0), ("attn", 10.0))
}


def moved(after: dict) -> list[str]:
    verdict = compare(Measurement(STEADY, modules=MODULES), Measurement(LONGER, modules=after))
    assert verdict.verdict == SLOWER
    return [culprit.path for culprit in verdict.modules]


def test_the_module_that_moved_is_named():
    assert moved(MODULES | {"layers.2.mlp": [35.0, 35.1, 34.9]}) == ["layers.2.mlp"]


def test_the_same_module_of_every_layer_is_named_as_a_group():
    after = {path: [1.33 * t for t in times] if "mlp" in path else times for path, times in MODULES.items()}
    assert moved(after) == ["layers.*.mlp"]


def test_a_slower_machine_is_no_modules_fault():
    assert moved({path: [1.2 * t for t in times] for path, times in MODULES.items()}) == []


def test_a_module_that_appears_is_named():
    assert moved(MODULES | {"layers.1.extra": [20.0, 20.0, 20.0]}) == ["layers.1.extra"]


def test_points_of_student():
    assert (t95(1), t95(3.9), t95(0.5)) == (12.706, 3.182, 12.706)
    assert t95(17) == pytest.approx(2.110, abs=0.002)
    assert t95(1e6) == pytest.approx(1.96, abs=0.001)
