"""Figures as people write them: the datasheet's own digits with an SI prefix and the unit; None is "unknown", never 0.

GB is 10⁹ bytes, GiB is 2³⁰.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import template

register = template.Library()

UNKNOWN = "unknown"
SPACE = "\u202f"  # narrow, does not break
_PREFIXES = ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"), (1, ""))


def plain_digits(value: Decimal, digits: int) -> str:
    """``value`` with at most so many significant digits, grouped, without trailing zeros or exponent."""
    places = max(0, digits - 1 - value.adjusted())
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def with_prefix(value: Any, unit: str, *, digits: int = 6, largest: int = 10**18) -> str:
    """``value`` in the largest SI multiple of ``unit`` (not above ``largest``) that leaves at least 1 before the point."""
    if value is None or value == "":  # a key that a template did not find is an empty text
        return UNKNOWN
    exact = Decimal(str(value))
    if not exact.is_finite():
        return UNKNOWN
    scale, prefix = next(((s, p) for s, p in _PREFIXES if s <= largest and abs(exact) >= s), (1, ""))
    return f"{plain_digits(exact / scale, digits)}{SPACE}{prefix}{unit}"


@register.filter
def size(value: Any) -> str:
    """Bytes: 80000000000 → "80 GB"."""
    return with_prefix(value, "B", largest=10**9)


@register.filter
def short_size(value: Any) -> str:
    """Bytes in three digits: 141107412992 → "141 GB"."""
    return with_prefix(value, "B", digits=3, largest=10**9)


@register.filter
def bandwidth(value: Any) -> str:
    """Bytes per second, in GB/s as datasheets have it."""
    return with_prefix(value, "B/s", largest=10**9)


@register.filter
def rate(value: Any, dtype: str = "") -> str:
    """FLOP/s, or OP/s for integer formats: 989400000000000 → "989.4 TFLOP/s"."""
    return with_prefix(value, "OP/s" if dtype.startswith("int") else "FLOP/s", largest=10**12)


@register.filter
def seconds(value: Any) -> str:
    """A time in three digits: 0.0123 → "12.3 ms"."""
    if value is None:
        return UNKNOWN
    exact = Decimal(str(value))
    for scale, unit in ((Decimal(1), "s"), (Decimal("1e-3"), "ms"), (Decimal("1e-6"), "µs")):
        if abs(exact) >= scale:
            return f"{plain_digits(exact / scale, 3)}{SPACE}{unit}"
    return f"{plain_digits(exact * 10**9, 3)}{SPACE}ns" if exact else f"0{SPACE}s"


@register.filter
def count(value: Any) -> str:
    """A large count in short: 70553706496 → "70.6 B" (10⁹), as model sizes are written."""
    if value is None:
        return UNKNOWN
    for scale, prefix in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        # 999,885,952 rounds to 1,000 M: it is shown as 1 B.
        if abs(value) >= scale * 0.9995:
            return f"{plain_digits(Decimal(value) / scale, 3)}{SPACE}{prefix}"
    return f"{value:,}"


@register.filter
def digits(value: Any) -> str:
    """A plain number in up to four digits."""
    return UNKNOWN if value is None else plain_digits(Decimal(str(value)), 4)


@register.filter
def measured(value: Any, unit: str) -> str:
    """A measured rate in three digits: 151234567890.1 FLOP/s → "151 GFLOP/s"."""
    return with_prefix(value, unit, digits=3)
