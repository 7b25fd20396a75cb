"""How a run of an endpoint was sent, in a few words for lists and heads of pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from profiling.quantities import count, number, percent, show
from profiling.remote.levels import GAIN

_OBJECTIVES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}


def endpoint_tags(spec: Mapping[str, Any]) -> list[str]:
    """Of the frozen inputs (:class:`profiling.remote.spec.EndpointSpec`)."""
    load, sweep, about = (spec.get(name) or {} for name in ("load", "sweep", "endpoint"))
    if levels := sweep.get("levels"):
        words = [_("sweep of {first} to {last} users").format(first=levels[0], last=levels[-1])]
    else:
        words = [_how(load)]
    if not about.get("unique_prompts", True):
        words.append(_("same prompt"))
    if about.get("profile"):
        words.append(_("layer profile"))
    return words


def _how(load: Mapping[str, Any]) -> str:
    if load.get("mode") in ("poisson", "constant"):
        return f"{load['mode']} {show(number(load.get('rate')), 'request/s')}"
    if load.get("requests") == 1:
        return _("one request")
    users = load.get("concurrency") or 1
    return ngettext("{users} user", "{users} users", users).format(users=users)


def told_apart(about: Mapping[str, Any]) -> list[str]:
    """What two series of one endpoint may differ in beside the tokens of a request, each in a few words. ``about``: ``load, sweep,
    unique_prompts, place`` of the frozen inputs."""
    load, levels = about.get("load") or {}, (about.get("sweep") or {}).get("levels")
    words = []
    if place := about.get("place"):
        words.append(_("address {number}").format(number=place + 1))
    if levels:
        words.append(_("sweep of {users} users").format(users=", ".join(map(str, levels))))
    else:
        words.append(_how(load))
    requests = load.get("requests") or 0
    if requests > 1 or levels:
        words.append(ngettext("{requests} request", "{requests} requests", requests).format(requests=count(requests)))
    if load.get("seconds") is not None:
        words.append(_("sent within {time}").format(time=show(number(load["seconds"]), "s")))
    for name, title in (("input_lengths", _("input {lengths}")), ("output_lengths", _("output {lengths}"))):
        if load.get(name):
            words.append(title.format(lengths=load[name]))
    for name, title in _OBJECTIVES.items():
        if load.get(name) is not None:
            words.append(_("{figure} at most {time}").format(figure=title, time=show(number(load[name]), "s")))
    gain = number((about.get("sweep") or {}).get("gain"))
    if gain is not None and gain != GAIN:
        words.append(_("gain {share}").format(share=percent(gain)))
    if about.get("unique_prompts") is False:
        words.append(_("same prompt"))
    return words
