"""Endpoints of a team's deployments: who deployed one sends its requests with the team's credentials, as a member of the team alone."""

from __future__ import annotations

import importlib

import pytest
from django.apps import apps

from llmcompare.cloud import portal_endpoints
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.endpointengine import target_of
from llmcompare.runs.services import launch_endpoint_run
from profiling.failures import EngineError
from tests.factories import add_member, make_connection, make_deployment, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployer(team):
    user = make_user("deployer")
    add_member(team, user, role="editor")
    return user


@pytest.fixture
def endpoint(owner, team, deployer) -> Endpoint:
    """Made through the owner's connection, which they lent to the team, by another editor."""
    connection = make_connection(owner, visibility="team", team=team)
    return portal_endpoints.offer(make_deployment(connection, owner=deployer))


def test_a_run_that_waited_while_its_owner_left_the_team_sends_nothing(endpoint, deployer, monkeypatch):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)
    monkeypatch.setattr("llmcompare.runs.endpointengine.resolve", lambda found: found)
    workload = {"prompt": "Hello", "output_tokens": 3, "warmup": 0}
    run = launch_endpoint_run(owner=deployer, endpoint=endpoint, workload=workload, profile=False)
    assert target_of(run) == endpoint
    deployer.membership_set.all().delete()
    with pytest.raises(EngineError, match="not shared with you"):
        target_of(run)


def test_endpoints_that_were_lent_further_by_earlier_versions_go_back_to_their_team(endpoint, owner, team):
    own = portal_endpoints.offer(make_deployment(make_connection(owner), endpoint_name="e/own"))
    Endpoint.objects.update(visibility="public", team=None)
    importlib.import_module("llmcompare.cloud.migrations.0002_endpoints_of_teams").give_back(apps, None)
    endpoint.refresh_from_db()
    own.refresh_from_db()
    assert (endpoint.visibility, endpoint.team) == ("team", team)
    assert own.visibility == "public", "its own maker's credentials are theirs to lend"
