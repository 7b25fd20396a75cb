"""A small world with something of everybody's in it, and the clients of everybody who may come along."""

from __future__ import annotations

import json
from pathlib import Path

from django.test import Client
from knox.models import AuthToken

from llmcompare.catalog.models import Folder
from llmcompare.explore.models import SavedSweep
from llmcompare.history.models import Comment, Mark, SavedView
from llmcompare.sharing.services import create_link
from tests.exports.test_exports import DOCUMENT
from tests.factories import (
    make_artifact,
    make_connection,
    make_deployment,
    make_endpoint,
    make_hardware,
    make_host,
    make_model,
    make_run,
)

#: An answer as it is kept: a tiny model on two devices.
SWEEP = Path(__file__).resolve().parents[1] / "data" / "answers" / "explore_tiny.json"

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
    for run in (private, for_team, other, binned):
        make_artifact(run)
    _, token = create_link(owner=owner, runs=[private])
    kept = {"query": "", "document": json.loads(SWEEP.read_text())}
    sweep = SavedSweep.objects.create(owner=owner, name=SECRET_TITLE, **kept)
    binned_sweep = SavedSweep.objects.create(owner=owner, name=SECRET_TITLE, deleted_at=sweep.created, **kept)
    link, _ = create_link(owner=owner, runs=[private, for_team])
    endpoint = make_endpoint(owner, name=SECRET_TITLE)
    team_endpoint = make_endpoint(owner, visibility="team", team=team)
    binned_endpoint = make_endpoint(owner, deleted_at=sweep.created)
    connection, team_connection, new_connection, binned_connection = (
        make_connection(owner, **{"name": SECRET_TITLE} | more)
        for more in (
            {"allowed_at": sweep.created},
            {"allowed_at": sweep.created, "visibility": "team", "team": team, "name": "Ours"},
            {"name": "To be allowed"},
            {"deleted_at": sweep.created},
        )
    )
    return {
        "connection": connection.public_id,
        "team_connection": team_connection.public_id,
        "new_connection": new_connection.public_id,
        "binned_connection": binned_connection.public_id,
        "deployment": make_deployment(connection).public_id,
        "team_deployment": make_deployment(team_connection).public_id,
        "private": private.public_id,
        "team": for_team.public_id,
        "public": other.public_id,
        "waiting": waiting.public_id,
        "binned": binned.public_id,
        "private_series": private.series,
        "team_series": for_team.series,
        "public_series": other.series,
        "mark": Mark.objects.create(run=for_team, by=owner, kind="note", text=SECRET_TITLE).pk,
        "comment": Comment.objects.create(run=other, by=owner, text=SECRET_TITLE).pk,
        "view": SavedView.objects.create(owner=owner, team=team, name="Ours").public_id,
        "upload": make_model(source="upload", owner=owner).slug,
        "model": make_model().slug,
        "hub_model": make_model(source="hub", hub={"commit": "a" * 40, "problem": "", "bytes": 1, "files": {}}).slug,
        "folder": Folder.objects.create(slug="ours", name="Ours", path="/nowhere/ours").slug,
        "folder_off": Folder.objects.create(slug="off", name="Off", path="/nowhere/off", active=False).slug,
        "own_hardware": make_hardware(source="private", owner=owner).slug,
        "hardware": make_hardware().slug,
        "endpoint": endpoint.public_id,
        "team_endpoint": team_endpoint.public_id,
        "binned_endpoint": binned_endpoint.public_id,
        "sweep": sweep.public_id,
        "binned_sweep": binned_sweep.public_id,
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
