"""Figures in templates: thin filters over :mod:`profiling.quantities`."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext

from profiling import quantities
from profiling.quantities import datasheet, show

register = template.Library()


def said(text: str) -> str:
    """The engine's text of a figure; where it is unknown, in the language of the page."""
    return gettext("unknown") if text == quantities.UNKNOWN else text


@register.filter
def count(value: Any) -> str:
    """A number of things: 134515008 → "134.5 M"."""
    return said(quantities.count(value))


@register.filter
def measured(value: Any, unit: str = "") -> str:
    """A figure in three digits with its unit, which the template names."""
    return said(show(value, unit))


@register.filter
def size(value: Any) -> str:
    """Bytes as the datasheet has them: 80000000000 → "80 GB"."""
    return said(datasheet(value, "B", largest="G"))


@register.filter
def bandwidth(value: Any) -> str:
    """Bytes per second, in GB/s as datasheets have it."""
    return said(datasheet(value, "B/s", largest="G"))


@register.filter
def rate(value: Any, dtype: str = "") -> str:
    """FLOP/s, or OP/s for integer formats: 989400000000000 → "989.4 TFLOP/s"."""
    return said(datasheet(value, "OP/s" if dtype.startswith("int") else "FLOP/s"))


@register.filter
def short_size(value: Any) -> str:
    """Bytes in three digits: 141107412992 → "141 GB"."""
    return said(show(value, "B"))


@register.filter
def seconds(value: Any) -> str:
    """A time in three digits: 0.0123 → "12.3 ms"."""
    return said(show(value, "s"))


@register.filter
def digits(value: Any) -> str:
    """A plain number in three digits."""
    return said(show(value))
