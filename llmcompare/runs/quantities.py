"""Numbers as people read them: three significant digits, an SI prefix, the unit. ``None`` is "unknown", never 0.

GB is 10⁹ bytes. The exact value stays available beside the text (``data-value``, exports).
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

UNKNOWN = "unknown"
_SPACE = "\u202f"  # narrow, does not break

_LARGE = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))

#: Units that take an SI prefix for large values; times take one for small values.
_PREFIXED = {"B", "B/s", "FLOP", "FLOP/s", "OP/s", "B/token"}


def _digits(value: float) -> str:
    """Three significant digits, all digits before the point: 1234 → 1,234; 12.34 → 12.3; 1.0 → 1."""
    if value == 0:
        return "0"
    places = max(2 - math.floor(math.log10(abs(value))), 0)
    rounded = round(value, places)
    if places == 0:
        return f"{rounded:,.0f}"
    text = f"{rounded:,.{places}f}"
    return text.rstrip("0").rstrip(".")


def _scaled(value: float, unit: str, steps) -> str:
    for size, prefix in steps:
        # 999.6 rounds to 1,000: take the next larger prefix before that shows.
        if abs(value) >= size * 0.9995:
            return f"{_digits(value / size)}{_SPACE}{prefix}{unit}"
    size, prefix = steps[-1]
    return f"{_digits(value / size)}{_SPACE}{prefix}{unit}"


def number(value: Any) -> float | None:
    """The value as a finite float, or ``None``: documents come from outside."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def show(value: Any, unit: str = "") -> str:
    """``value`` with its unit: ``show(0.0123, "s")`` → "12.3 ms"; a ratio (unit "1" or "ratio") is shown as per cent."""
    plain = number(value)
    if plain is None:
        return UNKNOWN
    if unit == "s":
        return _scaled(plain, "s", _SMALL) if plain else f"0{_SPACE}s"
    if unit in _PREFIXED:
        return _scaled(plain, unit, (*_LARGE, (1.0, ""))) if abs(plain) >= 1 else f"{_digits(plain)}{_SPACE}{unit}"
    if unit in ("1", "ratio"):
        return percent(plain)
    return f"{_digits(plain)}{_SPACE}{unit}".strip()


def count(value: Any) -> str:
    """A large count in short: 134,515,008 → "135 M"; below 10,000 in full."""
    plain = number(value)
    if plain is None:
        return UNKNOWN
    if abs(plain) < 10_000:
        return f"{plain:,.0f}" if plain == int(plain) else _digits(plain)
    for size, prefix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(plain) >= size * 0.9995:
            return f"{_digits(plain / size)}{_SPACE}{prefix}"
    return _digits(plain)


def percent(value: Any) -> str:
    """A fraction as per cent: 0.1234 → "12.3 %"; tiny but not nothing → "< 0.1 %"."""
    plain = number(value)
    if plain is None:
        return UNKNOWN
    if 0 < plain < 0.001:
        return f"<{_SPACE}0.1{_SPACE}%"
    return f"{plain * 100:.1f}{_SPACE}%"


def signed_percent(value: Any) -> str:
    """A difference that is already in per cent: -12.34 → "−12.3 %"."""
    plain = number(value)
    if plain is None:
        return UNKNOWN
    sign = "−" if plain < 0 else "+"
    return f"{sign}{abs(plain):.1f}{_SPACE}%"


def moment(value: Any) -> datetime | None:
    """An RFC 3339 time of a document, or ``None`` when it cannot be read."""
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
