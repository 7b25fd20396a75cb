"""What the run page is built of: parts that fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from llmcompare.runs.words import level_word

register = template.Library()
register.filter("level_word", level_word)


@register.simple_block_tag(takes_context=True)
def fold(context: Mapping[str, Any], content: str, part: str, title: str, note: str = "") -> SafeString:
    """A part of the page under its title. ``?parts=roofline,memory`` says which are open; without it all are, until a script on a
    narrow screen closes all but the first. ``note``: what is worth knowing while it is closed. The part itself is ``content``."""
    options = context.get("options")
    parts = options.parts if options else None
    return format_html(
        '<details class="run-fold" data-part="{}"{}><summary><h2 id="{}-title">{}</h2>{}</summary>{}</details>',
        part,
        mark_safe(" open") if parts is None or part in parts else "",
        part,
        title,
        format_html('<span class="run-fold-note">{}</span>', note) if note else "",
        content,
    )
