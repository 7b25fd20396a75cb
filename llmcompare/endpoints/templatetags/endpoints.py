"""What the pages of endpoints need beyond the shared tags."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from llmcompare.common.templatetags.portal import icon
from llmcompare.endpoints.presentation import says

register = template.Library()


@register.simple_tag
def seen(value: bool | None) -> SafeString:
    """An ability as icon and word; what was not tried is neither yes nor no."""
    look, name = {True: ("done", "check"), False: ("cancelled", "cross"), None: ("queued", "clock")}[value]
    return format_html('<span class="state-badge state-{}">{} {}</span>', look, icon(name), says(value))
