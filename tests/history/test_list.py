"""The list of runs: what is in it, in which order, and that its address says everything."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.factories import make_hardware, make_model, make_run


def ids(response) -> list[str]:
    return [run.public_id for run in response.context["page"]]


def test_empty_list_says_the_next_step(owner_client):
    page = owner_client.get(reverse("runs:list")).content.decode()
    assert "No runs yet" in page
    assert reverse("runs:new") in page


def test_filters_narrow_and_are_kept_by_the_export(owner, owner_client):
    model, device = make_model(name="Alpha"), make_hardware(name="Fast one")
    wanted = make_run(owner, model=model, hardware=device, kind="measure")
    make_run(owner)
    for query in ({"q": "alpha fast"}, {"kind": "measure"}, {"model": model.slug}, {"hardware": device.slug}):
        assert ids(owner_client.get(reverse("runs:list"), query)) == [wanted.public_id]
        lines = owner_client.get(reverse("runs:list_json"), query)
        assert wanted.public_id in b"".join(lines.streaming_content).decode()
    assert "No run matches" in owner_client.get(reverse("runs:list"), {"q": "nothing like it"}).content.decode()


def test_sorting_puts_unknown_values_last_in_both_directions(owner, owner_client):
    slow, fast, unknown = make_run(owner, ttft_s=2.0), make_run(owner, ttft_s=1.0), make_run(owner)
    up = ids(owner_client.get(reverse("runs:list"), {"sort": "ttft"}))
    down = ids(owner_client.get(reverse("runs:list"), {"sort": "-ttft"}))
    assert up == [fast.public_id, slow.public_id, unknown.public_id]
    assert down == [slow.public_id, fast.public_id, unknown.public_id]


def test_pages_neither_repeat_nor_lose_rows(owner, owner_client):
    made = {make_run(owner).public_id for _ in range(60)}
    seen = [
        run
        for number in (1, 2, 3)
        for run in ids(owner_client.get(reverse("runs:list"), {"size": 25, "page": number, "sort": "batch"}))
    ]
    assert len(seen) == 60
    assert set(seen) == made


@pytest.mark.parametrize(
    "query",
    [
        {"page": "abc"},
        {"page": "-1"},
        {"page": "999"},
        {"size": "7"},
        {"sort": "evil"},
        {"since": "yesterday"},
        {"state": "'"},
    ],
)
def test_parameters_that_make_no_sense_do_not_break_the_page(owner, owner_client, query):
    run = make_run(owner)
    assert ids(owner_client.get(reverse("runs:list"), query)) == [run.public_id]


def test_others_see_only_what_is_shared(owner, owner_client, teammate_client, stranger_client, team):
    make_run(owner)
    shared = make_run(owner, visibility="team", team=team)
    public = make_run(owner, visibility="public")
    assert ids(teammate_client.get(reverse("runs:list"))) == [public.public_id, shared.public_id]
    assert ids(stranger_client.get(reverse("runs:list"))) == [public.public_id]
    assert ids(owner_client.get(reverse("runs:list"), {"scope": "team"})) == [shared.public_id]


def test_number_of_queries_does_not_grow_with_rows(owner, owner_client, django_assert_max_num_queries):
    for _ in range(30):
        make_run(owner)
    with django_assert_max_num_queries(8):
        owner_client.get(reverse("runs:list"))


def test_only_a_list_with_active_runs_polls(owner, owner_client):
    run = make_run(owner)
    assert "hx-trigger" in owner_client.get(reverse("runs:list")).content.decode()
    run.state = "cancelled"
    run.save()
    assert "hx-trigger" not in owner_client.get(reverse("runs:list")).content.decode()
