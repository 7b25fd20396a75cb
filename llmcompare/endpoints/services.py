"""Everything that writes endpoints. Callers pass endpoints from ``editable_by`` (or ``binned_by`` to restore)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from hardware.models import Hardware
from llmcompare.accounts.models import Team, User
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import WHOLE_FORM, FieldErrors
from llmcompare.endpoints import crypto
from llmcompare.endpoints.checking import check_address, checked_key
from llmcompare.endpoints.models import MAX_MODEL, Endpoint
from llmcompare.endpoints.targets import origin_of
from profiling.remote.addresses import Refused, server

MAX_PER_USER = 200
MAX_NAME = Endpoint._meta.get_field("name").max_length or 150
Visibility = Endpoint.Visibility


@dataclass(frozen=True)
class Draft:
    """What somebody entered for an endpoint. ``key`` None: the stored one stays; empty: it is removed. ``model`` empty: to be chosen from
    the server's list later; ``api`` empty: what the server is seen to answer."""

    name: str
    url: str
    model: str = ""
    api: str = ""
    key: str | None = field(default=None, repr=False)
    private: bool = False
    visibility: str = Visibility.PRIVATE.value
    team: Team | None = None
    hardware: Hardware | None = None
    language_model: LanguageModel | None = None


@sensitive_variables()
def create(*, owner: User, draft: Draft) -> Endpoint:
    """Keep a new endpoint of the OpenAI protocol. Opens no connection. Raises :class:`FieldErrors`."""
    endpoint = Endpoint(owner=owner)
    _apply(endpoint, owner, draft)
    with transaction.atomic():
        _check_room(owner.pk)
        endpoint.save()
    return endpoint


def _check_room(owner_id: int) -> None:
    """Raises :class:`FieldErrors` where a user keeps as many endpoints as fit. Within a transaction: one at a time per user."""
    User.objects.select_for_update().get(pk=owner_id)
    if Endpoint.objects.kept().filter(owner=owner_id).count() >= MAX_PER_USER:
        text = _("You keep {most} endpoints, as many as one user may. Delete one first.")
        raise FieldErrors({WHOLE_FORM: text.format(most=MAX_PER_USER)})


@sensitive_variables()
def update(*, endpoint: Endpoint, by: User, draft: Draft) -> bool:
    """Change an endpoint; returns whether the server should be looked at anew. Raises :class:`FieldErrors`, and changes nothing then.

    A key goes where it was entered for and nowhere else: another scheme, host or port needs it anew.
    """
    with transaction.atomic():
        current = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        before = {name: getattr(current, name) for name in Endpoint.SEEN_WITH}
        _apply(current, by, draft)
        changed = any(getattr(current, name) != value for name, value in before.items())
        if changed:
            current.probe = _list_alone(current, before)
            current.probed_at = current.probed_at if current.probe else None
        current.save()
    endpoint.refresh_from_db()
    return changed


def choose_model(*, endpoint: Endpoint, model: str) -> bool:
    """Take another model of the same server; returns whether it is another one. Raises :class:`FieldErrors` at ``model``."""
    with transaction.atomic():
        current = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        before = {name: getattr(current, name) for name in Endpoint.SEEN_WITH}
        current.model = _checked_model(model)
        if not current.model:
            raise FieldErrors({"model": _("Choose a model, or type its name.")})
        if current.model == before["model"]:
            return False
        current.probe = _list_alone(current, before)
        current.save(update_fields=["model", "probe", "updated"])
    endpoint.refresh_from_db()
    return True


def delete(*, endpoint: Endpoint) -> None:
    """Into the bin, with its key; runs of it stay. Raises :class:`FieldErrors` for a deployment, which would go on and cost."""
    _check_own(endpoint)
    Endpoint.objects.kept().filter(pk=endpoint.pk).update(deleted_at=timezone.now())


def restore(*, endpoint: Endpoint) -> None:
    """Out of the bin. Raises :class:`FieldErrors` for a deployment, which went because that had ended, and when others took its place
    meanwhile."""
    _check_own(endpoint)
    with transaction.atomic():
        _check_room(endpoint.owner_id)
        Endpoint.objects.filter(pk=endpoint.pk).update(deleted_at=None)


def _check_own(endpoint: Endpoint) -> None:
    if not endpoint.is_openai:
        text = _("This endpoint comes and goes with its deployment. Undeploy the model instead.")
        raise FieldErrors({WHOLE_FORM: text})


@sensitive_variables()
def _apply(endpoint: Endpoint, by: User, draft: Draft) -> None:
    """Write the draft into the object, or raise every complaint at once."""
    errors: dict[str, str] = {}
    for step in (_apply_about, _apply_links, _apply_sharing, _apply_server):
        try:
            step(endpoint, by, draft)
        except FieldErrors as error:
            errors |= error.errors
    if errors:
        raise FieldErrors(errors)


def _apply_about(endpoint: Endpoint, by: User, draft: Draft) -> None:
    name = " ".join(draft.name.split())
    if not name:
        raise FieldErrors({"name": _("Give the endpoint a name.")})
    if len(name) > MAX_NAME:
        raise FieldErrors({"name": _("The name is longer than {most} characters.").format(most=MAX_NAME)})
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        raise FieldErrors({"name": _("The name has invisible characters. Type it instead of pasting it.")})
    endpoint.name = name


def _apply_sharing(endpoint: Endpoint, by: User, draft: Draft) -> None:
    if draft.visibility not in Visibility.values:
        raise FieldErrors({"visibility": _("Choose who may use it.")})
    if endpoint.pk and by.pk != endpoint.owner_id:
        # An editor would lend the owner's key to others, or keep the owner's team from it.
        team = draft.team if draft.visibility == Visibility.TEAM else None
        if (draft.visibility, team and team.pk) != (endpoint.visibility, endpoint.team_id):
            raise FieldErrors({"visibility": _("Only its owner changes who may use it.")})
        return
    if endpoint.pk and endpoint.is_the_teams:
        # Its credentials are not its owner's to lend, nor to keep for themselves.
        if (draft.visibility, draft.team and draft.team.pk) != (endpoint.visibility, endpoint.team_id):
            text = _("It uses the cloud connection of a team, so the team uses it and nobody else.")
            raise FieldErrors({"visibility": text})
        return
    if draft.visibility != Visibility.TEAM:
        endpoint.visibility, endpoint.team = draft.visibility, None
        return
    unchanged = draft.team is not None and draft.team.pk == endpoint.team_id
    if draft.team is None or not (unchanged or by.teams.filter(pk=draft.team.pk).exists()):
        raise FieldErrors({"team": _("Choose a team that you are a member of.")})
    endpoint.visibility, endpoint.team = draft.visibility, draft.team


def _apply_links(endpoint: Endpoint, by: User, draft: Draft) -> None:
    """What an estimate beside goes by: something that whoever enters it sees, or what was there already."""
    errors = {}
    device = _unless_hidden(draft.hardware, endpoint.hardware, Hardware.objects, by)
    model = _unless_hidden(draft.language_model, endpoint.language_model, LanguageModel.objects, by)
    if device and device.pk != endpoint.hardware_id and not _sees(Hardware.objects, by, device):
        errors["hardware"] = _("There is no such hardware.")
    if model and model.pk != endpoint.language_model_id and not _sees(LanguageModel.objects, by, model):
        errors["language_model"] = _("There is no such model.")
    if draft.visibility != Visibility.PRIVATE:
        # Runs of whoever uses the endpoint keep the configuration and figures of what it is linked to.
        wider = draft.visibility != endpoint.visibility
        if device and device.owner_id and (wider or device.pk != endpoint.hardware_id):
            errors["hardware"] = _("Only you see this hardware. Link a shared one, or keep the endpoint to yourself.")
        if model and model.owner_id and (wider or model.pk != endpoint.language_model_id):
            errors["language_model"] = _(
                "Only you see this model. Link a shared one, or keep the endpoint to yourself."
            )
    if errors:
        raise FieldErrors(errors)
    endpoint.hardware, endpoint.language_model = device, model


def _unless_hidden(wanted, stored, manager, by: User):
    """A link that somebody does not see is not theirs to remove."""
    return stored if wanted is None and stored is not None and not _sees(manager, by, stored) else wanted


def _sees(manager, user: User, row) -> bool:
    return manager.visible_to(user).filter(pk=row.pk).exists()


@sensitive_variables()
def _apply_server(endpoint: Endpoint, by: User, draft: Draft) -> None:
    """Address, model and key. Those of other kinds belong to the app that made the endpoint."""
    if not endpoint.is_openai:
        return
    if draft.private != endpoint.private and not by.is_staff:
        raise FieldErrors({"private": _("Only an administrator opens an endpoint to private networks.")})
    endpoint.model, endpoint.api = _checked_model(draft.model), draft.api
    if draft.api and draft.api not in Endpoint.Api.values:
        raise FieldErrors({"api": _("Choose /chat/completions, /completions, or neither.")})
    key = None if draft.key is None else checked_key(draft.key)
    origin = _origin(endpoint.url)
    if draft.url.strip().rstrip("/") != endpoint.url or draft.private != endpoint.private:
        if endpoint.pk and endpoint.private and not by.is_staff:
            text = _("This endpoint is in a private network: only an administrator changes its address.")
            raise FieldErrors({"url": text})
        endpoint.url, endpoint.private = check_address(draft.url, private=draft.private).base, draft.private
    _apply_key(endpoint, key, moved=bool(origin) and origin != _origin(endpoint.url))


@sensitive_variables()
def _apply_key(endpoint: Endpoint, key: str | None, *, moved: bool) -> None:
    if key is None and endpoint.key_set and moved:
        text = _("The address leads to another server, which must not get the stored key. Enter the key for it.")
        raise FieldErrors({"key": text})
    if key is not None:
        endpoint.sealed_key = crypto.seal(key, _origin(endpoint.url)) if key else ""


def _origin(url: str) -> str:
    try:
        return origin_of(server(url))
    except Refused:
        return ""


def _checked_model(text: str) -> str:
    text = text.strip()
    if len(text) > MAX_MODEL:
        raise FieldErrors({"model": _("The model's name is longer than {most} characters.").format(most=MAX_MODEL)})
    if not text.isprintable():
        raise FieldErrors({"model": _("The model's name has invisible characters. Type it instead of pasting it.")})
    return text


def _list_alone(endpoint: Endpoint, before: dict) -> dict | None:
    """What a look is still good for after a change: with another model, the server's list."""
    if endpoint.probe is None or any(
        getattr(endpoint, name) != before[name] for name in Endpoint.SEEN_WITH if name != "model"
    ):
        return None
    return {**endpoint.probe, "model": "", "abilities": None, "routes": {}}
