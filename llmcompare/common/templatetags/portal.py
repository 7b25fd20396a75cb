"""What the pages share: icons, the state and origin of a run, relative times, sortable headers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django import template
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.http import HttpRequest
from django.templatetags.static import static
from django.utils.html import format_html, json_script
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from llmcompare.common.engine_texts import engine_html
from llmcompare.common.jstexts import texts
from llmcompare.common.words import BOUNDS, MODEL_KINDS, ORIGINS

register = template.Library()

_STATE_ICONS = {"queued": "clock", "running": "running", "done": "check", "failed": "cross", "cancelled": "stop"}


@register.filter
def model_kind(kind: str) -> str:
    """The kind of a model in words."""
    return str(MODEL_KINDS.get(kind, kind))


@register.filter
def engine(sentence: str | None) -> str | SafeString:
    """A sentence that the engine wrote, in the language of the page; what is not translated is marked as English."""
    return engine_html(sentence)


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of the sprite, hidden from screen readers: the text beside it says the same."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("icons.svg"), name)


@register.simple_tag
def script_texts() -> SafeString:
    """What the scripts of the page say, in its language: a block of JSON that ``lcText`` of app.js reads."""
    return json_script(texts(), "texts")


@register.filter
def ago(moment: datetime | None) -> str | SafeString:
    """ "5 minutes ago", with the exact time in UTC behind it."""
    if moment is None:
        return "–"
    exact = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        moment.isoformat(),
        f"{exact:%Y-%m-%d %H:%M:%S}",
        naturaltime(moment),
    )


@register.simple_tag
def state_badge(run: Any) -> SafeString:
    """The state of a run as icon, word and colour; a running one says how far it is."""
    word = run.get_state_display()
    if run.state == "running":
        word = f"{word} {round(run.progress * 100)} %"
    return format_html(
        '<span class="state-badge state-{}">{} {}</span>', run.state, icon(_STATE_ICONS[run.state]), word
    )


@register.simple_tag
def origin_badge(run: Any) -> SafeString:
    """Whether a run's figures were estimated or measured: never left to be guessed; and whether they are an optimistic bound. A run without
    figures is called what it is."""
    kind = "estimated" if run.is_estimate else "measured"
    word = ORIGINS[kind] if run.state == "done" else run.get_kind_display().lower()
    bound = optimistic_bound() if run.state == "done" and run.is_optimistic else ""
    return format_html('<span class="origin-badge origin-{}">{}{}</span>', kind, word, bound)


@register.simple_tag
def optimistic_bound() -> SafeString:
    """What stands behind the word "estimated" where the times are from a datasheet."""
    return format_html(
        '<span class="optimistic" title="{}"> · {}</span>',
        gettext("Nothing runs faster than its datasheet: real runs are slower than this."),
        gettext("optimistic bound"),
    )


@register.simple_tag
def bound_badge(bound: str) -> str | SafeString:
    """What limits a run, in the colour that this limit has in every chart."""
    return (
        format_html('<span class="bound-badge bound-{}">{}</span>', bound, BOUNDS.get(bound, bound)) if bound else "–"
    )


@register.simple_tag(takes_context=True)
def nav_current(context: Mapping[str, Any], *names: str) -> str | SafeString:
    """``aria-current`` for the navigation link of the page that is open; a name that ends in ``:`` means all of a namespace."""
    request: HttpRequest | None = context.get("request")
    match = request.resolver_match if request else None
    if match and any(match.view_name == n or (n.endswith(":") and match.view_name.startswith(n)) for n in names):
        return mark_safe(' aria-current="page"')
    return ""


@register.inclusion_tag("common/sort_header.html", takes_context=True)
def sort_header(context: Mapping[str, Any], key: str, title: str, *, numeric: bool = False, first: str = "asc") -> dict:
    """A column header that sorts by ``key``: the direction ``first`` at the first click, the other one at the next."""
    request: HttpRequest = context["request"]
    current = context.get("sort", "")
    direction = "desc" if current == f"-{key}" else "asc" if current == key else ""
    wanted = f"-{key}" if (direction == "asc" or (not direction and first == "desc")) else key
    query = request.GET.copy()
    query.pop("page", None)
    query["sort"] = wanted
    # The attribute's own values, not words for people.
    words = {"asc": "ascending", "desc": "descending", "": "none"}
    return {
        "title": title,
        "numeric": numeric,
        "direction": direction,
        "aria_sort": words[direction],
        "url": f"?{query.urlencode()}",
    }
