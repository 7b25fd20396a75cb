"""What is usual for a series: the look-back band of each run, and whether the run lies outside it. Pure functions.

The band of a run stands on the ``lookback`` accepted runs before it, none of them before the last change that somebody marked as
expected: median ± max(5 %, 2 × MAD), in per cent of that median. MAD is the median absolute deviation of the medians of all processes of
these runs from their median, not scaled to a standard deviation (as in ``profiling.verdicts``): processes of one program differ by
more than iterations of one process do. Fewer than three runs give no band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from django.utils.translation import gettext_noop

LEAST_RUNS = 3
MINIMUM_PCT = 5.0
SPREADS = 2.0
DEFAULT_LOOKBACK = 20

DEFINITION = gettext_noop(
    "Median of the {lookback} accepted runs before it (those since the last change marked as expected), ± the larger of 5 % and twice the "
    "median absolute deviation (MAD) of the medians of all their processes. Fewer than three such runs give no band. Contended runs are "
    "accepted neither here nor in the search for steps."
)


@dataclass(frozen=True)
class Point:
    """One run in one metric. ``value``: None where the run does not have it. ``processes``: medians of its processes, where it has them.
    ``accepted``: counts for bands and steps; ``why_not``: why it does not. ``expected``: a change marked as expected begins here.
    ``origin``: of the value; "" without one."""

    run: str
    at: datetime
    value: float | None
    low: float | None = None
    high: float | None = None
    processes: tuple[float, ...] = ()
    accepted: bool = True
    why_not: str = ""
    expected: bool = False
    origin: str = ""

    @property
    def counts(self) -> bool:
        return self.accepted and self.value is not None


@dataclass(frozen=True)
class Band:
    """``centre``, ``low``, ``high`` in the metric's unit; ``runs``: how many it stands on; ``mad_pct``, ``half_pct``: per cent of the centre."""

    centre: float
    low: float
    high: float
    runs: int
    mad_pct: float
    half_pct: float


@dataclass(frozen=True)
class Judged:
    """A point with its band. ``change_pct``: of the centre; None without a band or a value. ``verdict``: ``inside``, ``better``, ``worse``,
    ``outside`` (no direction is better), or "" where nothing may be said."""

    point: Point
    band: Band | None
    change_pct: float | None
    verdict: str


def band_of(before: Sequence[Point]) -> Band | None:
    """The band that accepted points, each with a value, give for the next one."""
    values = [point.value for point in before if point.value is not None]
    if len(values) < LEAST_RUNS:
        return None
    centre = median(values)
    if centre == 0:
        return None
    processes = [value for point in before for value in (point.processes or (point.value,)) if value is not None]
    middle = median(processes)
    mad_pct = 100 * median(abs(value - middle) for value in processes) / abs(centre)
    half_pct = max(MINIMUM_PCT, SPREADS * mad_pct)
    half = abs(centre) * half_pct / 100
    return Band(centre, centre - half, centre + half, len(values), mad_pct, half_pct)


def judged(points: Sequence[Point], *, better: str = "", lookback: int = DEFAULT_LOOKBACK) -> list[Judged]:
    """``points`` in the order of time, each against the band of those before it. ``better``: ``lower``, ``higher`` or ""."""
    found: list[Judged] = []
    before: list[Point] = []
    for point in points:
        if point.expected:
            before = []
        band = band_of(before[-lookback:])
        change, verdict = _against(point, band, better)
        found.append(Judged(point, band, change, verdict))
        if point.counts:
            before.append(point)
    return found


def _against(point: Point, band: Band | None, better: str) -> tuple[float | None, str]:
    if band is None or point.value is None:
        return None, ""
    change = 100 * (point.value - band.centre) / abs(band.centre)
    if not point.accepted:
        return change, ""
    if band.low <= point.value <= band.high:
        return change, "inside"
    if not better:
        return change, "outside"
    return change, "better" if (change < 0) == (better == "lower") else "worse"
