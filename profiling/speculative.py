"""Speculative decoding: what a step of the target brings when a draft guesses tokens before it. Standard library only.

The target runs over the last token and the g guesses at once; it keeps the guesses up to the first wrong one, and adds a token of its
own. Each guess is right with probability a, independently (Leviathan, Kalman, Matias: "Fast Inference from Transformers via
Speculative Decoding", ICML 2023, arXiv 2211.17192: equation 1 for the tokens of a step, theorem 3.8 for the time with a draft).
"""

from __future__ import annotations

from profiling.spec import Workload

#: Metrics that are expected values under a probability of acceptance.
_EXPECTED = ("tpot", "e2e_latency", "decode_throughput", "output_throughput")


def step_tokens(workload: Workload) -> int:
    """Tokens of one sequence that a decode step of the target runs over."""
    return workload.draft_tokens + 1


def expected_tokens(workload: Workload) -> float:
    """Tokens that a decode step brings on average: (1 − a^(g+1)) / (1 − a), which is 1 without guesses and g + 1 at a = 1."""
    a = workload.draft_acceptance or 0.0
    return float(sum(a**i for i in range(step_tokens(workload))))


def drafting(workload: Workload) -> float:
    """Time of a step with its draft by that of the target alone: 1 + g·c. An unknown c counts as 0."""
    return 1.0 + workload.draft_tokens * (workload.draft_cost or 0.0)


def steps_per_token(workload: Workload) -> float:
    """Steps of the target, by time, that one output token takes on average: (1 + g·c) / E.

    A step begins at any given position with probability 1/E once some have been made (renewal theorem), so the time of all steps
    is this times the sum, over every position, of a step that begins there. The last step may guess beyond the output.
    """
    return drafting(workload) / expected_tokens(workload)


def notes(workload: Workload) -> dict[str, dict[str, str]]:
    """Metric → what to say beside it. Nothing without guesses."""
    g, cost = workload.draft_tokens, workload.draft_cost
    if not g:
        return {}
    drafts = "the draft's own time is not counted" if cost is None else f"a drafted token takes {cost:g} of a step"
    expected = (
        f"Expected value: {g} drafted tokens per step, each right with probability {workload.draft_acceptance:g}, so "
        f"{expected_tokens(workload):.3g} tokens per step; {drafts}."
    )
    step = f"One step over {step_tokens(workload)} tokens, however many of them are kept; {drafts}."
    return {**{name: {"note": expected} for name in _EXPECTED}, "decode_time_per_step": {"note": step}}


def warnings(workload: Workload) -> list[dict[str, str]]:
    """Of a run document."""
    if not workload.draft_tokens or workload.draft_cost is not None:
        return []
    message = (
        "The time and memory of the draft are not counted: times of decoding are lower bounds. "
        "Give the time of a drafted token as a fraction of a step to count it."
    )
    return [{"code": "draft_not_counted", "message": message}]
