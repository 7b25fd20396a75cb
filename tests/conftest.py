"""The fixed cast of the tests: owner, teammate (same team), stranger, staff; and clients logged in as each."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import translation
from hypothesis import settings as hypothesis_settings

from tests import factories
from tests.services import postgres_database, postgres_url, redis_url  # noqa: F401  (fixtures)
from tests.traffic import counted

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis_settings.register_profile("any machine", deadline=None)
hypothesis_settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # The manifest of the real static files exists only after collectstatic.
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture(autouse=True)
def _extracts_are_made_however_busy_the_machine_is(monkeypatch):
    """A comparison makes them for a second, and the rest later: on a loud machine it would show less than its test looks at."""
    monkeypatch.setattr("llmcompare.runs.extract.PAGE_S", 60.0)


@pytest.fixture(autouse=True)
def _own_language():
    """A page in another language leaves its thread speaking it."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def _answers_end_before_the_tables_are_emptied(request):
    """SQLite empties no table that a request still reads: pages ask for their badge until their window is closed."""
    if "live_server" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("transactional_db")
    with counted() as traffic:
        yield
        traffic.wait_for_quiet()


@pytest.fixture
def owner(db):
    return factories.make_user("owner")


@pytest.fixture
def team(owner):
    return factories.make_team("Team", editors=[owner])


@pytest.fixture
def teammate(team):
    user = factories.make_user("teammate")
    factories.add_member(team, user, role="viewer")
    return user


@pytest.fixture
def stranger(db):
    return factories.make_user("stranger")


@pytest.fixture
def staff(db):
    return factories.make_user("staff", is_staff=True, is_superuser=True)


def client_for(user) -> Client:
    client = Client()
    if user is not None:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def owner_client(owner):
    return client_for(owner)


@pytest.fixture
def teammate_client(teammate):
    return client_for(teammate)


@pytest.fixture
def stranger_client(stranger):
    return client_for(stranger)


@pytest.fixture
def staff_client(staff):
    return client_for(staff)


@pytest.fixture
def anonymous_client(db):
    return client_for(None)
