"""More and more users, until the server gives no more: the levels of a sweep and the rule that ends it. Pure but for the table.

Closed loops of 1, 2, 4, … users are sent one after the other. While the server has room, twice the users get twice the tokens; once it has
none, they only wait longer. The sweep ends at the first level that gained less than a stated share over the best one before while its
answers took longer; the best level is the last one that still gained that share. Rule, levels and reason are in the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiling.load import Load
from profiling.remote.levels import PER_USER, Sweep
from profiling.remote.load import Loaded, Sent
from profiling.server import Served
from profiling.statistics import summarise

#: A level of which more than this part failed ends the sweep, and is never the best: what is left is not the load that was meant.
MAX_FAILED = 0.5

#: Why a sweep ended.
REASONS = {
    "saturated": "More users gained less throughput than the stated share, and waited longer.",
    "failures": "More than half of a level's requests failed.",
    "levels": "Every level was sent, and throughput still grew: the server may take more users than were asked for.",
    "cut": "No time was left, it was cancelled, or every request failed.",
}
COLUMNS = (
    *("users", "requests", "served", "failed", "rate_limited", "duration_s", "request_throughput", "output_throughput"),
    *("interactivity", "ttft_s", "tpot_s", "e2e_s", "ttft_p90_s", "tpot_p90_s", "e2e_p90_s", "goodput", "goodput_share"),
    *("lag_p99_s", "cut", "gain"),
)  # fmt: skip


@dataclass
class Level:
    """One load that was sent: ``users`` of a level of a sweep, None of a load that is no level. ``first``: number of its first prompt.
    ``cut``: it ended early."""

    users: int | None
    load: Load
    loaded: Loaded
    first: int = 0
    cut: bool = False


def begun(load: Load, users: int) -> Load:
    """The closed loop of a level."""
    return replace(load, mode="closed", rate=None, concurrency=users, requests=max(load.requests, PER_USER * users))


def as_served(one: Sent, begin: int) -> Served:
    """As the metrics of a load know a request; one that failed was not served."""
    answer = one.answer
    usage, failed = answer.usage, answer.error is not None or answer.last_token_ns is None
    return Served(
        request=one.index,
        scheduled_ns=one.due_ns - begin,
        started_ns=None if failed else answer.sent_ns - begin,
        first_token_ns=None if failed else (answer.first_token_ns or answer.last_token_ns or 0) - begin,
        end_ns=None if failed else (answer.last_token_ns or 0) - begin,
        input_tokens=(usage.input if usage else None) or 0,
        output_tokens=(usage.output if usage else None) or 0,
        batch_requests=None,
    )


def within(one: Sent, load: Load) -> bool | None:
    """Whether a request met every objective; None without any, and where a time per token was wished for that nobody knows: its tokens were
    not counted, or the answer came in one piece. One that failed met none; one of a single token, or of a single event, has no time per
    token, so nothing to miss there."""
    answer, at = one.answer, one.due_ns
    if not load.objectives:
        return None
    if answer.error is not None or answer.last_token_ns is None:
        return False
    for limit, end in (
        (load.ttft_s, answer.first_token_ns or answer.last_token_ns),
        (load.e2e_s, answer.last_token_ns),
    ):
        if limit is not None and (end - at) / 1e9 > limit:
            return False
    if load.tpot_s is None or (answer.sent_tokens is not None and answer.sent_tokens < 2):
        return True
    if answer.tpot_s is not None:
        return answer.tpot_s <= load.tpot_s
    return True if answer.first_token_ns is not None and len(answer.arrivals) == 1 else None


def figures(level: Level) -> dict[str, Any]:
    """The figures of a level by :data:`COLUMNS` but ``gain``; what is unknown is None. Times are medians over its requests, in seconds."""
    sent, before = level.loaded.sent, level.loaded.earlier
    good = [one for one in sent if one.answer.error is None and one.answer.last_token_ns is not None]
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    found |= {
        "users": level.users,
        "requests": len(sent) + before.ended,
        "served": len(good) + before.ended - before.failed,
        "failed": len(sent) - len(good) + before.failed,
        "rate_limited": sum(one.limited for one in sent) + before.limited,
        "lag_p99_s": percentile(level.loaded.lags_s, 0.99),
        "cut": level.cut,
    }
    if not good:
        return found
    begin = min(one.due_ns for one in sent)
    seconds = (max(one.answer.last_token_ns or 0 for one in good) - begin) / 1e9
    counts = [one.answer.usage.output if one.answer.usage else None for one in good]
    known = [count for count in counts if count is not None]
    found["duration_s"], found["request_throughput"] = seconds, len(good) / seconds
    if len(known) == len(good):
        found["output_throughput"] = sum(known) / seconds
    for name, values in _series(good).items():
        summary = summarise(values, interval=False) if values else {}
        found[name] = summary.get("median")
        found[name.removesuffix("_s") + "_p90_s"] = summary.get("p90")
    found["interactivity"] = 1 / found["tpot_s"] if found["tpot_s"] else None
    if level.load.objectives:
        verdicts = [within(one, level.load) for one in sent]
        if None not in verdicts:
            met = sum(map(bool, verdicts))
            found["goodput"], found["goodput_share"] = met / seconds, met / len(sent)
    return found


def _series(good: Sequence[Sent]) -> dict[str, list[float]]:
    """Seconds from the moment at which each request was due; per token as :attr:`profiling.remote.request.Answer.tpot_s`."""
    found: dict[str, list[float]] = {"ttft_s": [], "tpot_s": [], "e2e_s": []}
    for one in good:
        answer = one.answer
        if answer.first_token_ns is not None:
            found["ttft_s"].append((answer.first_token_ns - one.due_ns) / 1e9)
        if answer.tpot_s is not None:
            found["tpot_s"].append(answer.tpot_s)
        if answer.last_token_ns is not None:
            found["e2e_s"].append((answer.last_token_ns - one.due_ns) / 1e9)
    return found


def judged(rows: Sequence[Mapping[str, Any]], gain: float) -> tuple[int | None, int | None, list[float | None]]:
    """Of figures in the order in which they were sent: the best level and the one at which more users gained nothing (indices, or None),
    and the gain of each level over the best before it (None for the first, and where there is nothing to compare: a level that was cut
    short, or of which most failed, is not what it was meant to be)."""
    best: int | None = None
    gains: list[float | None] = []
    for at, row in enumerate(rows):
        if row["cut"] or row["failed"] > MAX_FAILED * row["requests"]:
            gains.append(None)
            continue
        if best is None:
            best = at if row["served"] else None
            gains.append(None)
            continue
        gained = _gain(rows[best], row)
        gains.append(gained)
        if gained is None:
            continue
        if gained >= gain:
            best = at
        elif (row["e2e_s"] or 0) > (rows[best]["e2e_s"] or 0):
            return best, at, gains
    return best, None, gains


def _gain(before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
    """Of output tokens where both know them, else of requests."""
    for name in ("output_throughput", "request_throughput"):
        if before[name] and now[name] is not None:
            return now[name] / before[name] - 1
    return None


def ended(sent: Sequence[Level], sweep: Sweep) -> str | None:
    """Why no further level is sent, a key of :data:`REASONS`; None when one is."""
    rows = [figures(level) for level in sent]
    if rows and rows[-1]["requests"] and rows[-1]["failed"] > MAX_FAILED * rows[-1]["requests"]:
        return "failures"
    if judged(rows, sweep.gain)[1] is not None:
        return "saturated"
    if any(level.cut for level in sent):
        return "cut"
    return "levels" if len(sent) >= len(sweep.levels) else None


def describe(sent: Sequence[Level], sweep: Sweep) -> dict[str, Any]:
    """``sweep`` of the document: what was asked, its table of levels, the best one, why it ended."""
    rows = [figures(level) for level in sent]
    best, stopped, gains = judged(rows, sweep.gain)
    reason = ended(sent, sweep) or "cut"
    return {
        "asked": list(sweep.levels),
        "gain": sweep.gain,
        "requests_per_user": PER_USER,
        "rule": f"Ends at the first level whose throughput (output tokens per second, or requests where tokens are unknown) is less than "
        f"{100 * sweep.gain:g} % above the best level before while its median end-to-end latency is higher. Best: the last level that gained "
        "that much. A level may also end it by failures of more than half of its requests.",
        "best": None if best is None else rows[best]["users"],
        "saturated_at": None if stopped is None else rows[stopped]["users"],
        "reason": reason,
        "why": REASONS[reason],
        "levels": {
            "columns": list(COLUMNS),
            "rows": [
                [(row | {"gain": gain})[name] for name in COLUMNS] for row, gain in zip(rows, gains, strict=False)
            ],
        },
    }


def best_level(sent: Sequence[Level], sweep: Sweep) -> Level | None:
    """The level whose figures stand for the run; None where no level was sent to its end."""
    best = judged([figures(level) for level in sent], sweep.gain)[0]
    return None if best is None else sent[best]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
