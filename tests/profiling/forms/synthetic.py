"""Samples made of plain functions, as if a model had been traced: for the search of pieces, whose answers are then known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from profiling.demand import CHANNELS, STATIC, Demand
from profiling.forms.samples import NUMBERS, Sample, Static

Point = Mapping[str, int]
_FACTS = Demand(op_class="matmul", **dict.fromkeys(CHANNELS, 0))


def static(name: str = "mm") -> Static:
    return Static("mlp", name, tuple(getattr(_FACTS, fact) for fact in STATIC), 0, 0.0, 0)


def numbers(calls: int = 1, **channels: int) -> tuple[int, ...]:
    values = {**dict.fromkeys(NUMBERS, 0), "calls": calls, **channels}
    return tuple(values[name] for name in NUMBERS)


class Fake:
    """A model whose modules cost ``flops`` of a point each; counts the points that were asked for.

    ``operators``: how many equal operators a module runs, as a loop would; their cost is that of each. ``layers``: equal modules.
    """

    def __init__(
        self,
        flops: Callable[[Point], int],
        *,
        operators: Callable[[Point], int] = lambda p: 1,
        name: Callable[[Point], str] = lambda p: "mm",
        alive: Callable[[Point], tuple[int, ...]] = lambda p: (8 * p["batch"],),
        cache: Callable[[Point], int] = lambda p: 4 * p["batch"] * p.get("tokens", 0),
        layers: int = 1,
    ) -> None:
        self._flops, self._operators, self._name, self._alive, self._cache = flops, operators, name, alive, cache
        self._layers = layers
        self.asked: list[dict[str, int]] = []

    def __call__(self, point: Point) -> Sample:
        self.asked.append(dict(point))
        count, name = self._operators(point), self._name(point)
        places = tuple((f"layers.{i}", "", name) for i in range(self._layers) for _ in range(count))
        rows: Any = (numbers(flops=self._flops(point), rows=point["batch"]),) * len(places)
        return Sample(places, (static(name),) * len(places), rows, self._alive(point), self._cache(point), ())
