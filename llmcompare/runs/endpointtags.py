"""How a run of an endpoint was sent, in a few words for lists and heads of pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from profiling.quantities import number, show


def endpoint_tags(spec: Mapping[str, Any]) -> list[str]:
    """Of the frozen inputs (:class:`profiling.remote.spec.EndpointSpec`)."""
    load, sweep, about = (spec.get(name) or {} for name in ("load", "sweep", "endpoint"))
    if levels := sweep.get("levels"):
        words = [_("sweep of {first} to {last} users").format(first=levels[0], last=levels[-1])]
    elif load.get("mode") in ("poisson", "constant"):
        words = [f"{load['mode']} {show(number(load.get('rate')), 'request/s')}"]
    elif load.get("requests") == 1:
        words = [_("one request")]
    else:
        users = load.get("concurrency") or 1
        words = [ngettext("{users} user", "{users} users", users).format(users=users)]
    if not about.get("unique_prompts", True):
        words.append(_("same prompt"))
    if about.get("profile"):
        words.append(_("layer profile"))
    return words
