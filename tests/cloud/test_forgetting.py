"""Operations of long ago are forgotten by the workers; what a page still shows is not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.cloud import tasks
from llmcompare.cloud.models import Operation
from tests import factories

pytestmark = pytest.mark.django_db


def make(connection, title, *, days, kind="upload", **fields):
    ended = timezone.now() - timedelta(days=days)
    return Operation.objects.create(
        connection=connection, title=title, kind=kind, **({"state": "done", "finished": ended} | fields)
    )


@pytest.fixture
def operations(owner):
    connection, other = factories.make_connection(owner), factories.make_connection(owner)
    make(connection, "old", days=31)
    make(connection, "old and failed", days=31, state="failed")
    make(connection, "lately", days=29)
    make(connection, "of a deployment", days=90, deployment=factories.make_deployment(connection))
    make(connection, "under way", days=90, state="queued", finished=None)
    make(connection, "older list", days=90, kind="garden")
    make(connection, "newest list", days=80, kind="garden")
    make(connection, "list that failed", days=70, kind="garden", state="failed")
    make(other, "its only list", days=90, kind="garden")


def titles():
    return set(Operation.objects.values_list("title", flat=True))


KEPT = {"lately", "of a deployment", "under way", "newest list", "its only list"}


def test_a_worker_forgets_them_when_it_begins_and_not_at_every_look(operations, owner, monkeypatch):
    keeper, looks = tasks.Keeper(), []

    def look():
        looks.append(titles())
        if len(looks) == 2:
            make(factories.make_connection(owner), "another one", days=31)
        if len(looks) == 3:
            keeper.shutdown.set()
        keeper.wanted.set()

    monkeypatch.setattr(tasks.leases, "stop_due", look)
    monkeypatch.setattr(tasks.reading, "due", list)
    monkeypatch.setattr(tasks.Keeper, "_submit", lambda *_: None)
    # The connection to the database is the test's.
    monkeypatch.setattr(tasks, "close_old_connections", lambda: None)
    monkeypatch.setattr(tasks.connections, "close_all", lambda: None)
    keeper.keep()
    assert looks[1] == KEPT
    assert titles() == KEPT | {"another one"}


def test_they_are_forgotten_again_hours_later(operations, owner):
    keeper = tasks.Keeper()
    keeper._forget()
    make(factories.make_connection(owner), "another one", days=31)
    keeper._forget()
    assert "another one" in titles()
    keeper._forgot_at -= tasks.FORGET_S + 1
    keeper._forget()
    assert titles() == KEPT
