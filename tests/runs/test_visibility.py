"""Who reaches which run: the querysets are the only gate, so they are tested directly."""

from llmcompare.runs.models import Run
from tests.factories import make_run


def test_private_runs_are_for_their_owner_only(owner, teammate, stranger, staff, team):
    make_run(owner, visibility="private", team=team)
    assert Run.objects.visible_to(owner).count() == 1
    for other in (teammate, stranger, staff):
        assert not Run.objects.visible_to(other).exists()


def test_team_runs_are_for_members_and_appear_once(owner, teammate, stranger, team):
    make_run(owner, visibility="team", team=team)
    assert Run.objects.visible_to(teammate).count() == 1
    assert not Run.objects.visible_to(stranger).exists()
    assert not Run.objects.editable_by(teammate).exists()


def test_runs_in_the_bin_are_out_of_reach(owner):
    run = make_run(owner)
    run.deleted_at = run.created
    run.save()
    assert not Run.objects.visible_to(owner).exists()
