"""How endpoints are shown and exported. The key is in none of it: only whether there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext as _

from hardware.models import Hardware
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.engine_texts import engine_text
from llmcompare.endpoints import crypto
from llmcompare.endpoints.models import Endpoint, Probe
from profiling.remote.addresses import Refused, server
from profiling.remote.protocol import APIS

EXPORT_HEADER = (
    *("id", "name", "kind", "url", "model", "api", "key_set", "private", "visibility", "team", "owner", "hardware"),
    *("language_model", "state", "streams", "usage", "problem", "probed_at", "created"),
)


@dataclass(frozen=True)
class Status:
    """How an endpoint stands: ``code`` for programs, ``word`` for people, ``look`` the colour and icon of a run's state, ``hint`` what to do."""

    code: str
    word: str
    look: str
    icon: str
    hint: str = ""


def status_of(endpoint: Endpoint, probe: Probe | None = None) -> Status:
    """``probe``: the look that waits or is under way."""
    if probe is not None and probe.is_active:
        return Status("checking", _("being looked at"), "running", "running")
    if problem := key_problem(endpoint):
        return Status("key", _("enter the key again"), "failed", "warning", problem)
    if not endpoint.is_openai:
        return Status("ready", _("ready"), "done", "check")
    if not endpoint.model:
        hint = _("Choose a model of the server, or type its name.")
        return Status("no_model", _("choose a model"), "queued", "warning", hint)
    found = endpoint.probe or {}
    if found.get("abilities"):
        return Status("ready", _("ready"), "done", "check")
    if found.get("problem"):
        return Status("failed", _("does not answer as it should"), "failed", "cross", engine_text(found["problem"]))
    return Status("unknown", _("not looked at yet"), "queued", "clock", _("Have it looked at to see what it can do."))


def key_problem(endpoint: Endpoint) -> str:
    """Why the stored key cannot be used, empty where nothing is known against it or there is none. It is not decrypted for that: whether
    it was entered for this address is seen by the worker that sends it."""
    if not endpoint.sealed_key:
        return ""
    try:
        server(endpoint.url)
    except Refused as error:
        return said(str(error))
    return "" if crypto.is_ours(endpoint.sealed_key) else said(crypto.LOST)


def said(text: str) -> str:
    """A sentence that a worker stored, in the reader's language: the portal's own ones are marked where they are written."""
    own = gettext(text) if text else ""
    return own if own != text else engine_text(text)


def abilities_of(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Rows of what was seen: title, ``seen`` (None: not tried, so unknown) and a sentence."""
    found = endpoint.probe
    if not found:
        return []
    routes, used = found.get("routes") or {}, found.get("abilities") or {}
    rows = [
        {
            "title": _("List of models"),
            "seen": found["models"] is not None,
            "detail": engine_text(found["models_problem"]) or _("{count} in it").format(count=models_count(found)),
        }
    ]
    for api, path in APIS.items():
        route = routes.get(api) or {}
        detail = engine_text(route.get("problem")) or (_("the one that is used") if used.get("api") == api else "")
        rows.append({"title": path, "seen": route.get("works"), "detail": detail})
    streams = _("Tokens arrive one after the other, so time to first token can be measured.")
    whole = _("The answer came in one piece: only its whole time can be measured.")
    rows.append(
        {
            "title": _("Streams"),
            "seen": used.get("streams"),
            "detail": "" if not used else streams if used["streams"] else whole,
        }
    )
    rows.append({"title": _("Counts its tokens"), "seen": used.get("usage"), "detail": _usage_detail(used)})
    return rows


def _usage_detail(used: dict[str, Any]) -> str:
    if not used:
        return ""
    if not used["usage"]:
        return _("Without a count, rates per token are left out.")
    return _("when it is asked to") if used["usage_asked"] else _("by itself; it refuses to be asked")


def models_count(found: dict[str, Any]) -> int:
    """How many models the server lists; the first of them are kept."""
    return max(found.get("models_count", 0), len(found["models"] or []))


def says(seen: bool | None) -> str:
    """Unknown is not "no"."""
    if seen is None:
        return pgettext("ability", "not tried")
    return pgettext("ability", "yes") if seen else pgettext("ability", "no")


def to_json(endpoint: Endpoint, user: Any, probe: Probe | None = None) -> dict[str, Any]:
    """One endpoint as ``user`` may see it: what it is linked to is named to those who see that too. ``probe``: the look under way."""
    return _json(endpoint, *linked(endpoint, user), probe)


def several_json(endpoints: Iterable[Endpoint], user: Any) -> Iterator[dict[str, Any]]:
    """:func:`to_json` of each, with the looks that are under way, by as many queries as one has."""
    active = {probe.endpoint_id: probe for probe in Probe.objects.filter(state__in=Probe.ACTIVE)}
    models = set(LanguageModel.objects.visible_to(user).exclude(endpoints=None).values_list("pk", flat=True))
    devices = set(Hardware.objects.visible_to(user).exclude(endpoints=None).values_list("pk", flat=True))
    for one in endpoints:
        model = one.language_model if one.language_model_id in models else None
        device = one.hardware if one.hardware_id in devices else None
        yield _json(one, model, device, active.get(one.pk))


def _json(
    endpoint: Endpoint, model: LanguageModel | None, device: Hardware | None, probe: Probe | None
) -> dict[str, Any]:
    found, status = endpoint.probe or {}, status_of(endpoint, probe)
    used = found.get("abilities") or {}
    return {
        "id": endpoint.public_id,
        "name": endpoint.name,
        "kind": endpoint.kind,
        "url": endpoint.url,
        "model": endpoint.model,
        "api": endpoint.api or None,
        "key_set": endpoint.key_set,
        "private": endpoint.private,
        "visibility": endpoint.visibility,
        "team": endpoint.team.slug if endpoint.team else None,
        "owner": endpoint.owner.username,
        "hardware": device.slug if device else None,
        "language_model": model.slug if model else None,
        "state": status.code,
        "streams": used.get("streams"),
        "usage": used.get("usage"),
        "problem": status.hint if status.code in ("failed", "key") else "",
        "probed_at": endpoint.probed_at,
        "created": endpoint.created,
    }


def linked(endpoint: Endpoint, user: Any) -> tuple[Any, Any]:
    """The catalogue model and the hardware of an estimate beside, where ``user`` sees them: an endpoint may be shared more widely than a
    private model behind it."""
    model, device = endpoint.language_model, endpoint.hardware
    if model is not None and not type(model).objects.visible_to(user).filter(pk=model.pk).exists():
        model = None
    if device is not None and not type(device).objects.visible_to(user).filter(pk=device.pk).exists():
        device = None
    return model, device


def export_rows(endpoints: Iterable[Endpoint], user: Any) -> Iterable[list[Any]]:
    for shown in several_json(endpoints, user):
        yield [shown[name] for name in EXPORT_HEADER]
