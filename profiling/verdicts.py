"""Is one measurement faster than another? Verdicts in which the process, not the iteration, is the unit of variation.

Iterations of one process share what differs between processes: where its memory lies, on which core it runs, how warm the machine is.
Pooled, they look like many independent samples and show differences between identical programs. So each process counts once, by the
logarithm of the median of its iterations, and the 95 % interval of the difference is Student's t over processes, as Georges, Buytaert
and Eeckhout (OOPSLA 2007, §3.2) and Kalibera and Jones (ISMM 2013, §6) do at the highest level of repetition. A percentile bootstrap over
processes is not used: with three a side its extremes are the samples' own, and it excludes zero far too often.

Processes that ran in turns (``order``) share the machine's drift. Plain pairing keeps a part of it: in A B A B, every B is later than
its A. So the drift is fitted as a straight line over the turns together with the difference (analysis of covariance, Fisher 1932), at the
price of one degree of freedom. Processes that did not run in turns are compared by Welch's test (Biometrika 1947); drift from one session
to the other cannot be told from a difference then, and the reasons say so.

numpy and the standard library only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from profiling.culprits import Culprit, culprits
from profiling.student import t95

FASTER, SLOWER, NO_DIFFERENCE, NOT_COMPARABLE = "faster", "slower", "no difference shown", "not comparable"

#: Per cent below which a difference is never called one; and how often the spread between processes it must exceed.
MINIMUM_EFFECT_PCT = 5.0
SPREADS = 2.0
#: Processes a side: without two, their variation is unknown; below three a verdict says that they are few.
LEAST_PROCESSES, FEW_PROCESSES = 2, 3


@dataclass(frozen=True)
class Measurement:
    """One side of a comparison.

    ``samples``: one list per process, in the order in which they ran: integer ns (any positive unit) of each timed iteration, warm-up left out.
    ``conditions``: name → value of what must agree before times may be compared (batch size, dtype, threads, …).
    ``contended``: whether other work disturbed it; None: unknown. ``modules``: path → exclusive time in one process after the other.
    """

    samples: Sequence[Sequence[int]]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    contended: bool | None = None
    modules: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What may be said of the other measurement against the base.

    ``effect_pct``: its time is so many per cent longer (negative: shorter), ``ci95_pct`` the interval of that; None where they are
    unknown. ``minimum_pct``: the effect that had to be exceeded. ``spread_pct``: MAD between processes, drift taken out.
    ``method``: ``interleaved`` or ``separate``. ``reasons``: sentences for the reader. ``modules``: where the difference lies.
    """

    verdict: str
    reasons: tuple[str, ...]
    effect_pct: float | None = None
    ci95_pct: tuple[float, float] | None = None
    minimum_pct: float | None = None
    spread_pct: float | None = None
    method: str | None = None
    modules: tuple[Culprit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(base: Measurement, other: Measurement, *, order: str | None = None) -> Verdict:
    """The verdict on ``other`` against ``base``.

    ``order``: who ran when, one letter a process, A for the base and B for the other ("ABBAAB"), if they ran in turns. Raises
    :class:`ValueError` for times that are not positive and an order that does not fit the samples.
    """
    _check(base, other, order)
    refusals = _incomparable(base, other)
    logs = [
        np.array([math.log(np.median(process)) for process in side.samples if len(process)]) for side in (base, other)
    ]
    effect = float(np.median(logs[1]) - np.median(logs[0])) if len(logs[0]) and len(logs[1]) else None
    few = _too_few(logs)
    if refusals or few or effect is None:
        return Verdict(NOT_COMPARABLE, (*refusals, *few), effect_pct=None if effect is None else _pct(effect))
    in_turns = order is not None and _turns(order) >= 3 and len(order) >= 4
    effect, half, residuals = _interleaved(logs, order or "") if in_turns else _separate(logs)
    spread = max(_pct(_mad(side)) for side in residuals)
    minimum = max(MINIMUM_EFFECT_PCT, SPREADS * spread)
    verdict, reasons = _decide(effect, half, minimum, spread)
    reasons += _cautions(logs, in_turns)
    moved = () if verdict == NO_DIFFERENCE else culprits(base.modules, other.modules, slower=verdict == SLOWER)
    interval = (_pct(effect - half), _pct(effect + half))
    method = "interleaved" if in_turns else "separate"
    return Verdict(verdict, reasons, _pct(effect), interval, minimum, spread, method, moved)


def _check(base: Measurement, other: Measurement, order: str | None) -> None:
    for side in (base, other):
        if any(not (value > 0 and math.isfinite(value)) for process in side.samples for value in process):
            raise ValueError("times must be positive")
    if order is not None:
        counts = (order.count("A"), order.count("B"))
        if counts != (len(base.samples), len(other.samples)) or len(order) != sum(counts):
            raise ValueError("the order must have one A for each process of the base and one B for each of the other")
        if any(not len(process) for side in (base, other) for process in side.samples):
            raise ValueError("a process without samples has no place in an order")


def _incomparable(base: Measurement, other: Measurement) -> tuple[str, ...]:
    """Why no times at all may be compared; empty when they may."""
    reasons = []
    names = [*base.conditions, *(name for name in other.conditions if name not in base.conditions)]
    different = [name for name in names if base.conditions.get(name) != other.conditions.get(name)]
    if different:
        values = (f"{n} ({base.conditions.get(n)} and {other.conditions.get(n)})" for n in different)
        reasons.append(f"The conditions differ in {', '.join(values)}.")
    busy = [name for name, side in (("the base", base), ("the other", other)) if side.contended]
    if busy:
        reasons.append(f"Other work disturbed {' and '.join(busy)}: measure again on a quiet machine.")
    return tuple(reasons)


def _too_few(logs: Sequence[np.ndarray]) -> tuple[str, ...]:
    if min(len(side) for side in logs) >= LEAST_PROCESSES:
        return ()
    mine, others = (len(side) for side in logs)
    return (
        f"Too few processes ({mine} and {others}): how much processes of the same program differ is unknown. Measure with at least {FEW_PROCESSES}.",
    )


def _cautions(logs: Sequence[np.ndarray], in_turns: bool) -> tuple[str, ...]:
    found = []
    if min(len(side) for side in logs) < FEW_PROCESSES:
        found.append(
            f"There are only {' and '.join(str(len(side)) for side in logs)} processes, so the interval is wide."
        )
    if not in_turns:
        found.append(
            "They did not run in turns: a drift of the machine from one to the other would look like a difference."
        )
    return tuple(found)


def _turns(order: str) -> int:
    """Changes from one side to the other: one for AABB, which is not in turns at all."""
    return sum(a != b for a, b in itertools.pairwise(order))


def _interleaved(logs: Sequence[np.ndarray], order: str) -> tuple[float, float, list[np.ndarray]]:
    """(difference of logarithms, half of its 95 % interval, residuals of each side): least squares on side and turn."""
    taken = [iter(side) for side in logs]
    values = np.array([next(taken["AB".index(letter)]) for letter in order])
    is_other = np.array([letter == "B" for letter in order])
    design = np.column_stack([np.ones(len(order)), is_other, np.linspace(-1, 1, len(order))])
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    residual = values - design @ coefficients
    freedom = len(order) - design.shape[1]
    variance = float(residual @ residual) / freedom * float(np.linalg.inv(design.T @ design)[1, 1])
    return float(coefficients[1]), t95(freedom) * math.sqrt(variance), [residual[~is_other], residual[is_other]]


def _separate(logs: Sequence[np.ndarray]) -> tuple[float, float, list[np.ndarray]]:
    """As :func:`_interleaved`, by Welch's test with the degrees of freedom of Satterthwaite (Biometrics 1946)."""
    parts = [float(side.var(ddof=1)) / len(side) for side in logs]
    total = sum(parts)
    weight = sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    freedom = total**2 / weight if weight else min(len(side) for side in logs) - 1
    effect = float(logs[1].mean() - logs[0].mean())
    return effect, t95(freedom) * math.sqrt(total), [side - side.mean() for side in logs]


def _decide(effect: float, half: float, minimum: float, spread: float) -> tuple[str, tuple[str, ...]]:
    size = abs(_pct(effect))
    words = f"{size:.1f} % {'more' if effect > 0 else 'less'} time"
    if abs(effect) <= half:
        return NO_DIFFERENCE, (f"{words}, but the 95 % interval over processes includes no difference.",)
    if size < minimum:
        why = (
            f"the least that is called one is {minimum:.1f} % (processes of one program differ by {spread:.1f} % here)"
        )
        return NO_DIFFERENCE, (f"{words}, a small difference: {why}.",)
    beyond = f"The 95 % interval over processes excludes no difference, and the effect exceeds {minimum:.1f} %."
    return (SLOWER if effect > 0 else FASTER), (f"{words}. {beyond}",)


def _mad(values: np.ndarray) -> float:
    """Median absolute deviation from the median, not scaled to a standard deviation."""
    return float(np.median(np.abs(values - np.median(values))))


def _pct(log_ratio: float) -> float:
    return 100 * math.expm1(log_ratio)
