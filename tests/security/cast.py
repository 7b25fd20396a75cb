"""A small world with something of everybody's in it, and the clients of everybody who may come along."""

from __future__ import annotations

from django.test import Client
from knox.models import AuthToken

from llmcompare.sharing.services import create_link
from tests.exports.test_exports import DOCUMENT
from tests.factories import make_hardware, make_host, make_model, make_run

SECRET_TITLE = "Nobody else may read this title"

#: Whoever may change something comes last.
WHO = ("anonymous", "stranger", "teammate", "staff", "owner")


def make_world(owner, team) -> dict[str, str]:
    """Names of rows as they occur in addresses: runs of the owner (private, for the team, in the bin), uploads, a link."""
    private = make_run(owner, document=DOCUMENT, title=SECRET_TITLE)
    for_team = make_run(owner, document=DOCUMENT, visibility="team", team=team)
    other = make_run(owner, document=DOCUMENT, visibility="public")
    waiting = make_run(owner)
    binned = make_run(owner, document=DOCUMENT)
    type(binned).objects.filter(pk=binned.pk).update(deleted_at=binned.created)
    _, token = create_link(owner=owner, runs=[private])
    link, _ = create_link(owner=owner, runs=[private, for_team])
    return {
        "private": private.public_id,
        "team": for_team.public_id,
        "public": other.public_id,
        "waiting": waiting.public_id,
        "binned": binned.public_id,
        "upload": make_model(source="upload", owner=owner).slug,
        "model": make_model().slug,
        "own_hardware": make_hardware(source="private", owner=owner).slug,
        "hardware": make_hardware().slug,
        "host": make_host(hardware=make_hardware()).slug,
        "token": token,
        "digest": link.token_digest,
    }


def browser_of(user, **options) -> Client:
    client = Client(**options)
    if user is not None:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def script_of(user) -> Client:
    """As a script comes: a token, no cookie."""
    client = Client()
    if user is not None:
        client.defaults["HTTP_AUTHORIZATION"] = "Token " + AuthToken.objects.create(user)[1]
    return client
