"""Numbers and states of runs in templates."""

from __future__ import annotations

from django import template

from llmcompare.runs import quantities

register = template.Library()

STATE_ICONS = {"queued": "○", "running": "◐", "done": "✓", "failed": "✕", "cancelled": "–"}


@register.filter
def quantity(value, unit: str = "") -> str:
    """A number with its unit and SI prefix; "unknown" for None."""
    return quantities.show(value, unit)


@register.filter
def as_percent(value) -> str:
    return quantities.percent(value)


@register.filter
def state_icon(state: str) -> str:
    return STATE_ICONS.get(state, "")


@register.filter
def words(text: str) -> list[str]:
    return text.split()


@register.filter
def field(form, name: str):
    """A form's bound field by name."""
    return form[name]
