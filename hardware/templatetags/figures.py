"""Figures in templates: thin filters over :mod:`profiling.quantities`."""

from __future__ import annotations

from typing import Any

from django import template

from profiling import quantities
from profiling.quantities import datasheet, show

register = template.Library()

register.filter("count", quantities.count)
register.filter("measured", quantities.show)


@register.filter
def size(value: Any) -> str:
    """Bytes as the datasheet has them: 80000000000 → "80 GB"."""
    return datasheet(value, "B", largest="G")


@register.filter
def bandwidth(value: Any) -> str:
    """Bytes per second, in GB/s as datasheets have it."""
    return datasheet(value, "B/s", largest="G")


@register.filter
def rate(value: Any, dtype: str = "") -> str:
    """FLOP/s, or OP/s for integer formats: 989400000000000 → "989.4 TFLOP/s"."""
    return datasheet(value, "OP/s" if dtype.startswith("int") else "FLOP/s")


@register.filter
def short_size(value: Any) -> str:
    """Bytes in three digits: 141107412992 → "141 GB"."""
    return show(value, "B")


@register.filter
def seconds(value: Any) -> str:
    """A time in three digits: 0.0123 → "12.3 ms"."""
    return show(value, "s")


@register.filter
def digits(value: Any) -> str:
    """A plain number in three digits."""
    return show(value)
