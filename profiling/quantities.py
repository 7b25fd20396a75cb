"""Numbers as people read them, for pages, command line and sentences alike: few digits, an SI prefix, the unit.

``None`` (and whatever is no finite number) is "unknown", never 0. GB is 10⁹ bytes. Exact values stay in documents and exports.
Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

UNKNOWN = "unknown"
#: How that word is said. The portal, whose pages are in several languages, puts its own function here; documents are in English.
translate: Callable[[str], str] = str
#: Between number and unit: narrow, and no line breaks there.
SPACE = "\u202f"

_LARGE = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))

#: Fractions above this (1,000 %) are said as a factor: nobody reads "+12345678.9 %".
FACTOR_ABOVE = 10.0

#: Units that take an SI prefix for large values; times take one for small values.
_PREFIXED = {"B", "B/s", "FLOP", "FLOP/s", "OP/s", "B/token"}


def number(value: Any) -> float | None:
    """The value as a finite float, or ``None``: documents come from outside."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def unknown() -> str:
    """The word for what is not known, in the language of whoever reads it."""
    return translate(UNKNOWN)


def show(value: Any, unit: str = "") -> str:
    """``value`` in three digits with its unit: ``show(0.0123, "s")`` → "12.3 ms"; a ratio (unit "1" or "ratio") as per cent."""
    plain = number(value)
    if plain is None:
        return unknown()
    if unit == "s":
        return _scaled(plain, "s", _SMALL, 3) if plain else f"0{SPACE}s"
    if unit in _PREFIXED:
        return _scaled(plain, unit, _LARGE, 3)
    if unit in ("1", "ratio"):
        return percent(plain)
    return f"{_digits(plain, 3)}{SPACE}{unit}".removesuffix(SPACE)


def say(value: Any, unit: str = "") -> str:
    """:func:`show` with an ordinary space: for terminals, logs and sentences that are kept in documents."""
    return show(value, unit).replace(SPACE, " ")


def datasheet(value: Any, unit: str, *, largest: str = "T") -> str:
    """A given figure with its own digits (up to six): 989400000000000 FLOP/s → "989.4 TFLOP/s".

    ``largest``: the prefix above which the number grows instead, as datasheets write 3,350 GB/s.
    """
    plain = number(value)
    if plain is None:
        return unknown()
    prefixes = [prefix for _, prefix in _LARGE]
    return _scaled(plain, unit, _LARGE[prefixes.index(largest) :], 6)


def count(value: Any) -> str:
    """A large count in short: 134,515,008 → "135 M", 70,553,706,496 → "70.6 B"; below 10,000 in full."""
    plain = number(value)
    if plain is None:
        return unknown()
    if abs(plain) < 10_000:
        return f"{plain:,.0f}" if plain == int(plain) else _digits(plain, 3)
    return _scaled(plain, "", _COUNTS, 3)


def percent(value: Any) -> str:
    """A fraction as per cent: 0.1234 → "12.3 %"; tiny but not nothing → "< 0.1 %"; above 1,000 % as a factor: 24.5 → "× 24.5"."""
    plain = number(value)
    if plain is None:
        return unknown()
    if 0 < plain < 0.001:
        return f"<{SPACE}0.1{SPACE}%"
    if plain > FACTOR_ABOVE:
        return _factor(plain)
    return f"{plain * 100:{_grouped(100 * plain)}}{SPACE}%"


def signed_percent(value: Any) -> str:
    """A difference that is already in per cent: -12.34 → "−12.3 %"; above 1,000 % how many times the base it is: 12345678.9 → "× 123 k".
    What rounds to nothing has no direction: -0.01 → "0.0 %"."""
    plain = number(value)
    if plain is None:
        return unknown()
    if plain > 100 * FACTOR_ABOVE:
        return _factor(1 + plain / 100)
    digits = f"{abs(plain):{_grouped(plain)}}"
    sign = "" if not digits.strip("0.") else "−" if plain < 0 else "+"
    return f"{sign}{digits}{SPACE}%"


def _grouped(value: float) -> str:
    """Format of a number of per cent: one decimal, and none where there are four digits before it."""
    return ",.0f" if round(abs(value), 1) >= 1000 else ".1f"


def _factor(value: float) -> str:
    """How many times: "× 24.5", "× 123 k". Beyond all prefixes a power of ten is shorter than its digits."""
    text = f"{value:.1e}" if value >= 1e21 else _scaled(value, "", _LARGE, 3)
    return f"×{SPACE}{text}".removesuffix(SPACE)


def moment(value: Any) -> datetime | None:
    """An RFC 3339 time of a document, or ``None`` when it cannot be read."""
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None


def _scaled(value: float, unit: str, steps: tuple[tuple[float, str], ...], digits: int) -> str:
    """In the largest step that leaves at least 1 before the point, else in the smallest."""
    almost_one = 1 - 0.5 * 10.0**-digits  # 999.6 rounds to 1,000: the next larger prefix is taken before that shows
    size, prefix = next((step for step in steps if abs(value) >= step[0] * almost_one), steps[-1])
    return f"{_digits(value / size, digits)}{SPACE}{prefix}{unit}"


def _digits(value: float, most: int) -> str:
    """At most so many significant digits, but all before the point; grouped, no exponent: 1234 → 1,234; 12.34 → 12.3; 1.0 → 1."""
    if value == 0:
        return "0"
    places = max(most - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{round(value, places):,.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text
