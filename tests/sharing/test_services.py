"""Shared links: how they are made, how long they work, what ends them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from llmcompare.common.errors import FieldErrors
from llmcompare.runs.services import delete_run
from llmcompare.sharing import services
from llmcompare.sharing.models import ShareLink
from tests.factories import make_run


def test_the_token_is_long_random_and_not_stored(owner):
    run = make_run(owner)
    tokens = {services.create_link(owner=owner, runs=[run])[1] for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 43 for token in tokens)  # 32 bytes
    for link in ShareLink.objects.all():
        stored = " ".join(str(getattr(link, field.attname)) for field in ShareLink._meta.fields)
        assert not any(token in stored for token in tokens)


@pytest.mark.parametrize(("expires", "days"), [("1", 1), ("7", 7), ("30", 30), ("90", 90), ("never", None)])
def test_choices_of_expiry(owner, expires, days):
    link, _ = services.create_link(owner=owner, runs=[make_run(owner)], expires=expires)
    if days is None:
        assert link.expires_at is None
    else:
        assert abs(link.expires_at - timezone.now() - timedelta(days=days)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("fields", "field"), [({"expires": "5"}, "expires"), ({"label": "x" * 101}, "label"), ({"runs": []}, "runs")]
)
def test_what_cannot_be_shared_is_named(owner, fields, field):
    with pytest.raises(FieldErrors) as caught:
        services.create_link(owner=owner, **({"runs": [make_run(owner)]} | fields))
    assert set(caught.value.errors) == {field}


def test_a_link_opens_its_runs_in_the_given_order(owner):
    runs = [make_run(owner) for _ in range(4)]
    wanted = [runs[2], runs[0], runs[3], runs[1]]
    _, token = services.create_link(owner=owner, runs=wanted)
    assert services.open_link(token).runs == wanted


def test_unknown_tokens_open_nothing(owner):
    _, token = services.create_link(owner=owner, runs=[make_run(owner)])
    for other in ("", "x", token[:-1], token + "x", "\ud800", "a" * 10_000, services.token_digest(token)):
        assert services.open_link(other) is None


@pytest.fixture
def shared(owner, teammate, team):
    """A team run of the owner, shared by the teammate: (link, token, run)."""
    run = make_run(owner, visibility="team", team=team)
    link, token = services.create_link(owner=teammate, runs=[run])
    assert services.open_link(token) is not None
    return link, token, run


def test_a_revoked_link_is_dead(shared):
    link, token, _ = shared
    services.revoke_link(link=link)
    assert services.open_link(token) is None


def test_an_expired_link_is_dead(shared):
    link, token, _ = shared
    ShareLink.objects.filter(pk=link.pk).update(expires_at=timezone.now())
    assert services.open_link(token) is None


def test_a_link_dies_when_the_run_is_deleted(shared):
    _, token, run = shared
    delete_run(run=run)
    assert services.open_link(token) is None


def test_a_link_dies_when_its_maker_leaves_the_team(shared, teammate, team):
    _, token, _ = shared
    teammate.membership_set.filter(team=team).delete()
    assert services.open_link(token) is None


def test_a_link_dies_when_the_run_becomes_private(shared):
    _, token, run = shared
    run.visibility = "private"
    run.save()
    assert services.open_link(token) is None


def test_a_link_dies_with_its_makers_account(shared, teammate):
    _, token, _ = shared
    teammate.is_active = False
    teammate.save()
    assert services.open_link(token) is None


def test_a_comparison_with_one_run_gone_is_dead(owner):
    runs = [make_run(owner) for _ in range(3)]
    _, token = services.create_link(owner=owner, runs=runs)
    delete_run(run=runs[1])
    assert services.open_link(token) is None


def test_use_is_noted_by_the_hour(shared, django_assert_num_queries):
    link, token, _ = shared
    link.refresh_from_db()
    first = link.last_used
    assert (first.minute, first.second) == (0, 0)
    ShareLink.objects.filter(pk=link.pk).update(last_used=timezone.now() - timedelta(hours=3))
    services.open_link(token)
    link.refresh_from_db()
    assert timezone.now() - link.last_used < timedelta(hours=1)


def test_texts_are_given_away_by_those_who_may_change_the_run(owner, teammate, team):
    """A viewer of the team shares figures of a teammate's run, and not what its maker wrote."""
    run, own = make_run(owner, visibility="team", team=team), make_run(teammate)
    everyones = make_run(owner, visibility="public")
    for runs in ([run], [own, run], [everyones]):
        with pytest.raises(FieldErrors) as caught:
            services.create_link(owner=teammate, runs=runs, include_text=True)
        assert set(caught.value.errors) == {"include_text"}
        assert services.create_link(owner=teammate, runs=runs)
    assert services.open_link(services.create_link(owner=teammate, runs=[own], include_text=True)[1]).texts


def test_texts_go_from_a_link_whose_maker_may_no_longer_change_the_run(owner, teammate, team):
    member = teammate.membership_set.filter(team=team)
    member.update(role="editor")
    run = make_run(owner, visibility="team", team=team)
    _, token = services.create_link(owner=teammate, runs=[run], include_text=True)
    assert services.open_link(token).texts
    member.update(role="viewer")
    assert not services.open_link(token).texts
