"""Runs in the admin can be looked at and not changed, and show no inputs or results: those are their owner's."""

from __future__ import annotations

import pytest
from django.urls import reverse

from llmcompare.runs.models import Run
from tests.factories import make_run


@pytest.fixture
def run(owner):
    return make_run(owner, title="Secret plan", workload={"prompt": "secret prompt"}, queue="hw.somewhere")


def test_staff_see_where_a_run_is_but_not_what_it_asks(staff_client, run):
    listed = staff_client.get(reverse("admin:runs_run_changelist"))
    shown = staff_client.get(reverse("admin:runs_run_change", args=[run.pk]))
    for page in (listed, shown):
        assert page.status_code == 200
        assert "hw.somewhere" in page.text
        assert "secret" not in page.text.lower()


def test_staff_cannot_change_or_delete_or_add_runs(staff_client, run):
    for url in (
        reverse("admin:runs_run_change", args=[run.pk]),
        reverse("admin:runs_run_delete", args=[run.pk]),
        reverse("admin:runs_run_add"),
    ):
        assert staff_client.post(url, {"state": "done", "post": "yes"}).status_code == 403
    assert Run.objects.get().state == "queued"
