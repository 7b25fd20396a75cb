"""``{{ sentence|said }}``: what is kept in English, in the reader's language."""

from __future__ import annotations

from django import template

from llmcompare.common import saying

register = template.Library()
register.filter("said", saying.said)
