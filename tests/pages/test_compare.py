"""The comparison page: which runs it takes, what it says about them, and its switches."""

from __future__ import annotations

import json

import pytest

from tests.pages.conftest import measured_document


def address(runs, **more) -> str:
    extra = "".join(f"&{name}={value}" for name, value in more.items())
    return f"/compare/?runs={','.join(run.public_id for run in runs)}{extra}"


def test_two_runs_side_by_side_with_table_chart_and_roofline(owner_client, finished):
    runs = [finished(title="First"), finished(title="Second", document=measured_document())]
    response = owner_client.get(address(runs))
    assert response.context["table"]["metrics"]
    page = response.content.decode()
    assert 'id="bar-data"' in page
    assert 'id="roofline-data"' in page
    assert "+20.0" in page
    assert "different origin" in page
    assert "better" not in {cell["tone"] for row in response.context["table"]["metrics"] for cell in row["cells"]}


def test_baseline_is_in_the_address(owner_client, finished):
    first, second = finished(title="First"), finished(title="Second", document=measured_document())
    response = owner_client.get(address([first, second], baseline=second.public_id))
    assert response.context["baseline"].run == second
    assert "−16.7" in response.content.decode()


def test_what_is_shared_refers_to_the_baseline_that_was_chosen(owner_client, finished):
    runs = [finished(title=title) for title in ("First", "Second", "Third")]
    page = owner_client.get(address(runs, baseline=runs[1].public_id)).content.decode()
    wanted = ",".join(runs[at].public_id for at in (1, 0, 2))
    assert f'/compare/share/?runs={wanted}"' in page


def test_conditions_that_are_equal_are_hidden_from_three_runs_on(owner_client, finished):
    runs = [finished() for _ in range(3)]
    assert owner_client.get(address(runs[:2])).context["only_differences"] is False
    assert owner_client.get(address(runs)).context["only_differences"] is True
    assert owner_client.get(address(runs, diff=0)).context["table"]["hidden"] == 0


def test_transposed_has_one_row_per_run(owner_client, finished):
    runs = [finished(title="Alpha"), finished(title="Beta")]
    page = owner_client.get(address(runs, transpose=1)).content.decode()
    assert '<th scope="col">Run</th>' in page
    figures = page.partition('id="table-title"')[2].partition("</table>")[0]
    assert figures.count('<th scope="row">') == 2


def test_one_run_asks_for_another_and_offers_it(owner_client, finished):
    one, other = finished(title="One"), finished(title="Other")
    page = owner_client.get(address([one])).content.decode()
    assert "One run so far" in page
    assert f"?runs={one.public_id},{other.public_id}" in page


def test_twenty_are_compared_and_the_rest_is_said(owner_client, finished):
    runs = [finished() for _ in range(21)]
    response = owner_client.get(address(runs))
    assert len(response.context["heads"]) == 20
    assert "the first 20 are compared" in response.content.decode()


def test_what_one_may_not_see_is_as_if_it_did_not_exist(owner_client, stranger, finished):
    mine, other = finished(title="Mine"), finished(title="Mine too")
    hidden = finished(user=stranger, title="Hidden")
    invisible = owner_client.get(address([mine, other, hidden])).content.decode()
    absent = owner_client.get(f"/compare/?runs={mine.public_id},{other.public_id},nonsense12345678").content.decode()
    said = "1 of the asked runs could not be found"
    assert said in invisible
    assert said in absent
    assert "Hidden" not in invisible
    exported = json.loads(owner_client.get(address([mine, other, hidden]).replace("/?", ".json?")).content)
    assert exported["runs"] == [mine.public_id, other.public_id]


def test_ticked_boxes_lead_to_the_readable_address(owner_client, finished):
    one, two = finished(), finished()
    response = owner_client.get(f"/compare/?run={one.public_id}&run={two.public_id}")
    assert response.status_code == 302
    assert response["Location"] == f"/compare/?runs={one.public_id},{two.public_id}"


def test_removing_the_baseline_forgets_it(owner_client, finished):
    runs = [finished() for _ in range(3)]
    page = owner_client.get(address(runs, baseline=runs[1].public_id)).content.decode()
    rest = f"{runs[0].public_id},{runs[2].public_id}"
    assert f'href="?runs={rest}">remove</a>' in page


def test_search_for_a_run_to_add(owner_client, finished):
    one = finished(title="One")
    needle = finished(title="Needle")
    finished(title="Hay")
    response = owner_client.get(address([one], add="needle"))
    assert [line["run"] for line in response.context["found"]] == [needle]


@pytest.mark.parametrize("query", ["baseline=nonsense", "metric=nonsense", "transpose=x", "diff=x"])
def test_parameters_that_make_no_sense_do_no_harm(owner_client, finished, query):
    runs = [finished(), finished()]
    assert owner_client.get(f"{address(runs)}&{query}").status_code == 200


def test_queries_do_not_grow_with_the_runs(owner_client, finished, django_assert_max_num_queries, monkeypatch):
    monkeypatch.setattr("llmcompare.runs.extract.PAGE_S", 600)  # a loud machine makes fewer in its usual time
    runs = [finished() for _ in range(12)]
    owner_client.get(address(runs))  # extracts of documents are made once
    with django_assert_max_num_queries(6):
        owner_client.get(address(runs))


def test_run_without_results_is_named(owner_client, owner, finished):
    from tests import factories

    waiting = factories.make_run(owner, title="Still waiting")
    page = owner_client.get(address([finished(), waiting])).content.decode()
    assert "No results yet: Still waiting" in page
