"""Everything that people do to connections. What workers write to them is in ``reading.py``."""

from __future__ import annotations

import re

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from llmcompare.accounts.models import Team, User
from llmcompare.cloud.bell import ring
from llmcompare.cloud.google.credentials import check
from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.models import Connection, Deployment
from llmcompare.common.errors import WHOLE_FORM, FieldErrors

#: Connections that one user may keep: each is read every few minutes.
MAX_CONNECTIONS = 20

Kind = Connection.Credential
PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")


def kinds_for(user: User) -> list[str]:
    """The kinds of credentials that ``user`` may choose. Only staff name what lies on the server itself."""
    kinds = [Kind.IMPERSONATE.value]
    if user.is_staff:
        kinds += [Kind.ADC.value, Kind.SECRET.value]
    return [*kinds, Kind.TOKEN.value] if settings.CLOUD_TEST_TOKENS else kinds


@sensitive_variables()
@transaction.atomic
def create(
    *,
    owner: User,
    name: str,
    project: str,
    region: str,
    credential_kind: str,
    credential: str = "",
    team: Team | None = None,
) -> Connection:
    """Store a connection; workers read it as soon as it is allowed (at once where staff made it). With ``team`` its members see it, and its
    editors deploy through it. Raises :class:`FieldErrors`."""
    name, project, region, credential = name.strip(), project.strip(), region.strip(), credential.strip()
    errors = _wrong(owner, name, project, region, credential_kind, credential)
    if team is not None and not owner.membership_set.filter(team=team, role="editor").exists():
        errors["team"] = _("Choose one of the teams in which you are an editor.")
    if errors:
        raise FieldErrors(errors)
    _check_room(owner.pk)
    made = Connection.objects.create(
        owner=owner,
        team=team,
        visibility=Connection.Visibility.TEAM if team else Connection.Visibility.PRIVATE,
        name=name,
        project=project,
        region=region,
        credential_kind=credential_kind,
        credential="" if credential_kind == Kind.ADC else credential,
    )
    if owner.is_staff or credential_kind == Kind.TOKEN:
        allow(connection=made, by=owner)
    return made


def _check_room(owner_id: int) -> None:
    """Raises :class:`FieldErrors` where a user keeps as many connections as fit. Within a transaction: one at a time per user."""
    User.objects.select_for_update().get(pk=owner_id)
    if Connection.objects.kept().filter(owner=owner_id).count() >= MAX_CONNECTIONS:
        raise FieldErrors({WHOLE_FORM: _("You have %d connections already. Delete one first.") % MAX_CONNECTIONS})


@sensitive_variables()
def _wrong(owner: User, name: str, project: str, region: str, kind: str, credential: str) -> dict[str, str]:
    errors = {}
    if not 1 <= len(name) <= 100:
        errors["name"] = _("Give it a name of 1 to 100 characters.")
    if not PROJECT.fullmatch(project):
        errors["project"] = _(
            "Enter the project's id (not its number or title): 6 to 30 lower-case letters, digits and hyphens."
        )
    if not REGION.fullmatch(region) or len(region) > 40:
        errors["region"] = _("Enter a region such as us-central1.")
    if kind not in kinds_for(owner):
        errors["credential_kind"] = _("Choose one of the kinds that are offered to you.")
    else:
        try:
            check(kind, credential)
        except CloudError as error:
            errors["credential"] = error.sentence
        if kind == Kind.TOKEN and not credential:
            errors["credential"] = _("Enter the token.")
    return errors


def allow(*, connection: Connection, by: User) -> None:
    """Staff: workers may use the connection's credentials from now on."""
    rows = Connection.objects.filter(pk=connection.pk, allowed_at=None)
    rows.update(allowed_at=timezone.now(), allowed_by=by)
    connection.refresh_from_db()
    ask_to_read(connection=connection)


def ask_to_read(*, connection: Connection) -> None:
    """Have a worker read the cloud now; this is also how credentials are checked."""
    if connection.is_allowed:
        Connection.objects.filter(pk=connection.pk).update(wanted_at=timezone.now())
        ring()


def delete(*, connection: Connection) -> None:
    """Into the bin; :func:`restore` takes it out again. Raises :class:`FieldErrors` while something is deployed: it would be left to cost money."""
    with transaction.atomic():
        # As whoever deploys does: else a deployment could begin between the look and the deletion.
        Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)
        if Deployment.objects.active().filter(connection=connection).exists():
            text = _(
                "Something is deployed through this connection. Undeploy it first: without the connection nobody could."
            )
            raise FieldErrors({WHOLE_FORM: text})
        Connection.objects.filter(pk=connection.pk, deleted_at=None).update(deleted_at=timezone.now())


@transaction.atomic
def restore(*, connection: Connection) -> None:
    """Raises :class:`FieldErrors` when others took its place meanwhile."""
    _check_room(connection.owner_id)
    Connection.objects.filter(pk=connection.pk).update(deleted_at=None)
