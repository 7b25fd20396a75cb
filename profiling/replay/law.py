"""How long an operator takes whose shape was never timed: from those of its kind that were, with the error that this has on them.

The law of a kind is ``overhead + flops·a + elementwise_flops·b + cold_bytes·c + hot_bytes·d`` with factors that are not negative, fitted
to relative errors. What known shapes near it (in logarithms of the same quantities) take more or less than the law corrects it, so a
known shape is met exactly. The uncertainty is the 90th percentile of the same procedure's errors with each known shape left out.
numpy and the standard library only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Fewer timed shapes of a kind than this say nothing about another one.
LEAST_SHAPES = 2
#: With fewer shapes than this their own errors say little: the uncertainty is then this factor at least.
FEW_SHAPES, FEW_SPREAD = 6, 2.0
#: How many known shapes correct the law, and the distance (in natural logarithms) at which they stop to count more than it.
NEIGHBOURS = 4
REACH = math.log(4)
#: Beyond the known shapes by more than this factor in FLOPs or bytes is called extrapolated.
BEYOND = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a call asks for: FLOPs of products, of the rest, bytes of cold inputs and of the rest, rows of its result."""

    flops: float
    elementwise_flops: float
    cold_bytes: float
    hot_bytes: float
    rows: float

    def columns(self) -> list[float]:
        # The overhead last: of factors that fit as well, one that grows with the shape comes first.
        return [self.flops, self.elementwise_flops, self.cold_bytes, self.hot_bytes, 1.0]

    def place(self) -> np.ndarray:
        """Where it lies among other shapes of its kind."""
        return np.log1p([self.flops, self.elementwise_flops, self.cold_bytes, self.hot_bytes, self.rows])


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds of a call; ``spread``: the true time lies within this factor nine times out of ten. ``extrapolated``: no shape so large
    or so small was timed."""

    seconds: float
    spread: float
    extrapolated: bool


class Law:
    """The law of one kind of operator. Raises :class:`ValueError` for fewer than :data:`LEAST_SHAPES` shapes."""

    def __init__(self, shapes: Sequence[Shape], seconds: Sequence[float]) -> None:
        if len(shapes) < LEAST_SHAPES:
            raise ValueError("too few shapes were timed")
        self._columns = np.array([shape.columns() for shape in shapes])
        self._places = np.array([shape.place() for shape in shapes])
        self._seconds = np.array(seconds, dtype=float)
        self._factors = _fit(self._columns, self._seconds)
        self._residuals = np.log(self._seconds / self._base(self._columns, self._factors))
        self.spread = self._left_out()

    @staticmethod
    def _base(columns: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return np.maximum(columns @ factors, 1e-9)

    def _left_out(self) -> float:
        errors = []
        everything = np.arange(len(self._seconds))
        for out in everything:
            kept = everything != out
            factors = _fit(self._columns[kept], self._seconds[kept])
            residuals = np.log(self._seconds[kept] / self._base(self._columns[kept], factors))
            guess = math.log(self._base(self._columns[out], factors)) + _correction(
                self._places[out], self._places[kept], residuals
            )
            errors.append(abs(guess - math.log(self._seconds[out])))
        spread = math.exp(float(np.quantile(errors, 0.9)))
        return max(spread, FEW_SPREAD) if len(errors) < FEW_SHAPES else spread

    def at(self, shape: Shape) -> Answer:
        place = shape.place()
        base = float(self._base(np.array(shape.columns()), self._factors))
        seconds = base * math.exp(_correction(place, self._places, self._residuals))
        margin = math.log(BEYOND)
        outside = (place > self._places.max(axis=0) + margin) | (place < self._places.min(axis=0) - margin)
        return Answer(seconds, self.spread, bool(outside[:4].any()))


def _correction(place: np.ndarray, places: np.ndarray, residuals: np.ndarray) -> float:
    """What near shapes differ from the law by, in logarithms: the mean by inverse squares of distances; far away it is nothing."""
    distances = np.linalg.norm(places - place, axis=1)
    nearest = np.argsort(distances)[:NEIGHBOURS]
    weights = 1.0 / (distances[nearest] ** 2 + 1e-9)
    return float((weights @ residuals[nearest]) / (weights.sum() + 1.0 / REACH**2))


def _fit(columns: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Factors of the columns, none negative, with the smallest sum of squared relative errors. All choices of columns are tried."""
    scaled = columns / seconds[:, None]
    target = np.ones(len(seconds))
    scale = np.maximum(np.abs(scaled).max(axis=0), 1e-30)
    best, best_error = np.zeros(columns.shape[1]), math.inf
    used = [i for i in range(columns.shape[1]) if columns[:, i].any()]
    for count in range(1, len(used) + 1):
        for chosen in itertools.combinations(used, count):
            part = scaled[:, chosen] / scale[list(chosen)]
            found, *_ = np.linalg.lstsq(part, target, rcond=None)
            if (found < 0).any():
                continue
            error = float(((part @ found - target) ** 2).sum())
            if error < best_error - 1e-12:
                best_error = error
                best = np.zeros(columns.shape[1])
                best[list(chosen)] = found / scale[list(chosen)]
    return best
