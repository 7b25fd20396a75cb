"""A load of requests against the model of a measurement: when they arrive, how long they are, what they must meet. Standard library only."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from profiling.spec import SpecError, _Spec

MODES = ("closed", "poisson", "constant")
MAX_REQUESTS, MAX_CONCURRENCY, MAX_RATE, MAX_SECONDS = 20_000, 4096, 10_000.0, 86_400.0
MAX_LENGTH = 10_000_000
#: Draws until one lies within the bounds. A distribution that needs more has little of its mass there, and is drawn by its quantiles.
MAX_DRAWS = 50
#: Quantiles nearer to 0 or 1 than this are no numbers that a normal distribution has.
SMALLEST = 1e-15
#: Parameters of each distribution of lengths, all in tokens.
DISTRIBUTIONS = {
    "fixed": ("tokens",),
    "uniform": ("min", "max"),
    "normal": ("mean", "sd", "min", "max"),
    "lognormal": ("mean", "sd", "min", "max"),
}


@dataclass(frozen=True)
class Load(_Spec):
    """Requests against the model in this process.

    ``closed``: ``concurrency`` users, each sends its next request when the one before has ended. ``poisson``: ``rate`` requests/s whose
    arrivals are drawn beforehand and do not wait for answers; ``constant``: the same, one every 1 ÷ ``rate`` s. At most ``requests`` of them; with ``seconds``, none arrives later.
    ``input_lengths`` and ``output_lengths``: see :func:`lengths`; empty: as the workload says. ``ttft_s``, ``tpot_s``, ``e2e_s``:
    objectives (SLOs) in seconds that a request must all meet to count as goodput. Everything random follows the workload's seed.
    """

    mode: str = "closed"
    concurrency: int = 1
    rate: float | None = None
    requests: int = 50
    seconds: float | None = None
    input_lengths: str = ""
    output_lengths: str = ""
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def check(self) -> None:
        """Raise :class:`SpecError`, its field ``load_`` and the name here, at the first value that makes no sense."""
        if self.mode not in MODES:
            raise SpecError("load_mode", f"Choose {', '.join(MODES[:-1])} or {MODES[-1]}.")
        for name, largest in (("concurrency", MAX_CONCURRENCY), ("requests", MAX_REQUESTS)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
                raise SpecError(f"load_{name}", f"Enter a whole number from 1 to {largest}.")
        limits = {"rate": MAX_RATE, "seconds": MAX_SECONDS}
        for name in ("rate", "seconds", "ttft_s", "tpot_s", "e2e_s"):
            value, most = getattr(self, name), limits.get(name, MAX_SECONDS)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value <= most):
                raise SpecError(f"load_{name}", f"Enter a number above 0, at most {most:g}, or leave it empty.")
        if self.open and self.rate is None:
            raise SpecError("load_rate", "Enter how many requests arrive in a second.")
        if self.mode == "closed" and self.rate is not None:
            message = "A closed loop has no rate: users send as soon as they have their answer. Leave it empty, or choose poisson or constant."
            raise SpecError("load_rate", message)
        for name in ("input_lengths", "output_lengths"):
            try:
                lengths(getattr(self, name) or "fixed(1)")
            except ValueError as error:
                raise SpecError(f"load_{name}", str(error)) from None

    @property
    def open(self) -> bool:
        """Whether requests arrive by a plan of their own, and not when a user has the answer before."""
        return self.mode != "closed"

    @property
    def objectives(self) -> dict[str, float]:
        """Name → seconds of the objectives that were set."""
        named = {"ttft_s": self.ttft_s, "tpot_s": self.tpot_s, "e2e_s": self.e2e_s}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths in tokens. ``low`` and ``high`` bound what is drawn."""

    kind: str
    low: int
    high: int
    mean: float = 0.0
    sd: float = 0.0

    def draw(self, source: random.Random) -> int:
        """One length. Normal and lognormal are truncated: drawn anew until they lie within the bounds."""
        if self.low == self.high:
            return self.low
        if self.kind == "uniform":
            return source.randint(self.low, self.high)
        for _ in range(MAX_DRAWS):
            value = round(self._value(source))
            if self.low <= value <= self.high:
                return value
        return self._by_quantile(source)

    def _value(self, source: random.Random) -> float:
        if self.kind == "normal":
            return source.gauss(self.mean, self.sd)
        return source.lognormvariate(*self._of_logarithms())

    def _of_logarithms(self) -> tuple[float, float]:
        """Mean and standard deviation of the logarithms: the fields are those of the lengths themselves."""
        spread = math.log1p((self.sd / self.mean) ** 2)
        return math.log(self.mean) - spread / 2, math.sqrt(spread)

    def _by_quantile(self, source: random.Random) -> int:
        """One draw of the same truncated distribution, in one step whatever the bounds."""
        normal = NormalDist(self.mean, self.sd) if self.kind == "normal" else NormalDist(*self._of_logarithms())
        there, back = (float, float) if self.kind == "normal" else (math.log, math.exp)
        low, high = (normal.cdf(there(bound)) for bound in (self.low - 0.5, self.high + 0.5))
        share = min(max(low + (high - low) * source.random(), SMALLEST), 1 - SMALLEST)
        return min(max(round(back(normal.inv_cdf(share))), self.low), self.high)


def lengths(text: str) -> Lengths:
    """``fixed(tokens)``, ``uniform(min, max)``, ``normal(mean, sd, min, max)`` or ``lognormal(mean, sd, min, max)`` as a value.

    Mean and standard deviation are of the tokens before truncation. Raises ``ValueError`` with a sentence for anything else.
    """
    forms = [f"{name}({', '.join(parts)})" for name, parts in DISTRIBUTIONS.items()]
    wanted = f"Write {', '.join(forms[:-1])} or {forms[-1]}."
    found = re.fullmatch(r"\s*([a-z]{1,12})\s*\(([-+0-9., e]{1,80})\)\s*", text) if isinstance(text, str) else None
    if found is None or found[1] not in DISTRIBUTIONS:
        raise ValueError(wanted)
    try:
        numbers = [float(part) for part in found[2].split(",")]
    except ValueError:
        raise ValueError(wanted) from None
    if len(numbers) != len(DISTRIBUTIONS[found[1]]) or not all(map(math.isfinite, numbers)):
        raise ValueError(wanted)
    low, high = numbers[-2 if len(numbers) > 1 else -1], numbers[-1]
    if not (low.is_integer() and high.is_integer() and 1 <= low <= high <= MAX_LENGTH):
        raise ValueError(f"Lengths are whole numbers of tokens from 1 to {MAX_LENGTH:,}, the smaller first.")
    if len(numbers) < 4:
        return Lengths(found[1], int(low), int(high))
    mean, sd = numbers[:2]
    if not low <= mean <= high or not 0 < sd <= MAX_LENGTH:
        raise ValueError("The mean must lie between the bounds, and the standard deviation above 0.")
    return Lengths(found[1], int(low), int(high), mean, sd)


@dataclass(frozen=True)
class Asked:
    """One request before it is sent. ``arrival_s``: seconds after the load began; None in a closed loop (when a user is free)."""

    index: int
    input_tokens: int
    output_tokens: int
    arrival_s: float | None = None


def bounds(load: Load, input_tokens: int, output_tokens: int) -> tuple[int, int]:
    """The longest input and output that may be drawn."""
    longest = [
        lengths(text).high if text else usual
        for text, usual in ((load.input_lengths, input_tokens), (load.output_lengths, output_tokens))
    ]
    return longest[0], longest[1]


def planned(load: Load, *, input_tokens: int, output_tokens: int, seed: int) -> list[Asked]:
    """All requests that may be sent, in order. Lengths and arrivals come from sources of their own: one does not move the other."""
    into = _drawer(load.input_lengths, input_tokens, f"{seed} input")
    out = _drawer(load.output_lengths, output_tokens, f"{seed} output")
    clock, arrival = random.Random(f"{seed} arrivals"), 0.0
    found = []
    for index in range(load.requests):
        if load.rate is not None:
            arrival = index / load.rate if load.mode == "constant" else arrival + clock.expovariate(load.rate)
            if load.seconds is not None and arrival > load.seconds:
                break
        found.append(Asked(index, into(), out(), arrival if load.open else None))
    return found


def _drawer(text: str, usual: int, seed: str) -> Callable[[], int]:
    if not text:
        return lambda: usual
    distribution, source = lengths(text), random.Random(seed)
    return lambda: distribution.draw(source)


def describe(load: Load) -> dict[str, Any]:
    """The load as the run document has it."""
    plain = load.to_json()
    objectives = {name: plain.pop(name) for name in ("ttft_s", "tpot_s", "e2e_s")}
    return plain | {"objectives": objectives}
