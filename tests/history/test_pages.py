"""The pages of history: what they show, who sees what, marks, exports, charts that equal the JSON."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from llmcompare.history.models import Mark
from tests import factories
from tests.conftest import client_for


def page_of(client, run, query="") -> str:
    return client.get(f"/history/{run.series}/{query}").content.decode()


def exported(client, run, query="") -> dict:
    return client.get(f"/history/{run.series}.json{query}").json()


def test_empty_list_says_the_next_step(owner_client):
    page = owner_client.get("/history/").content.decode()
    assert "No measurements yet" in page
    assert 'href="/runs/new/?kind=measure"' in page


def test_the_list_shows_the_newest_figure_against_what_is_usual(owner_client, measured):
    run = measured(1.0, 1.0, 1.0, 1.3)[0]
    page = owner_client.get("/history/").content.decode()
    assert f'href="/history/{run.series}/"' in page
    assert "Repeated model on Lab box" in page
    assert "+30.0" in page
    assert "worse" in page
    line = owner_client.get("/history.json").json()["series"][0]
    assert (line["runs"], line["value"], line["verdict"], line["change_pct"]) == (4, 1.3, "worse", pytest.approx(30))
    assert [entry["value"] for entry in line["values"]] == [1.0, 1.0, 1.0, 1.3]


def test_the_list_is_narrowed_like_the_list_of_runs(owner_client, owner, measured):
    run = measured(1.0)[0]
    assert owner_client.get("/history.json?q=repeated").json()["total"] == 1
    for query in ("q=nothing", "kind=estimate", "tag=none", "dtype=fp32", "whose=public", "model=x"):
        assert owner_client.get(f"/history.json?{query}").json()["total"] == 0, query
    assert run.series in owner_client.get("/history/?metric=nonsense&page=x&whose=nobody").content.decode()


def test_only_what_is_out_of_the_ordinary(owner_client, measured):
    usual = measured(1.0, 1.0, 1.0, 1.01)[0]
    slower = measured(1.0, 1.0, 1.0, 1.3, workload={"batch_size": 2})[0]
    assert {line["series"] for line in owner_client.get("/history.json").json()["series"]} == {
        usual.series,
        slower.series,
    }
    assert [line["series"] for line in owner_client.get("/history.json?show=outside").json()["series"]] == [
        slower.series
    ]
    page = owner_client.get("/history/?show=outside").content.decode()
    assert slower.series in page
    assert usual.series not in page
    assert "Nothing is out of the ordinary" in owner_client.get("/history/?show=outside&q=zzz").content.decode()


def test_the_api_answers_like_the_pages(owner_client, stranger_client, measured):
    run = measured(1.0, 1.0, 1.0, 1.3)[0]

    def api(path) -> dict:
        """The API writes UTC as Z, the exports as +00:00."""
        text = owner_client.get(f"/api/v1/history/{path}").content.decode()
        return json.loads(re.sub(r'(:\d\d(?:\.\d+)?)Z"', r'\1+00:00"', text))

    assert api("") == owner_client.get("/history.json").json()
    for query in ("", "?lookback=5", "?lookback=x"):
        assert api(f"{run.series}/{query}") == exported(owner_client, run, query)
    assert owner_client.get("/api/v1/history/?show=outside&q=zzz").json()["series"] == []
    assert stranger_client.get(f"/api/v1/history/{run.series}/").json()["code"] == "not_found"


def test_a_series_is_narrowed_to_ones_own_runs(owner_client, stranger, measured):
    mine = measured(1.0, 1.0)[0]
    measured(9.0, user=stranger, visibility="public")
    assert len(exported(owner_client, mine)["metrics"][0]["points"]) == 3
    assert len(exported(owner_client, mine, "?whose=mine")["metrics"][0]["points"]) == 2
    assert len(exported(owner_client, mine, "?whose=nonsense")["metrics"][0]["points"]) == 3
    assert owner_client.get(f"/history/{mine.series}.json?whose=team").status_code == 404
    page = owner_client.get(f"/history/{mine.series}/?whose=team&metric=e2e_latency", follow=True)
    assert page.redirect_chain == [(f"/history/{mine.series}/?metric=e2e_latency", 302)]
    assert "so all that you see are shown" in page.content.decode()
    assert owner_client.get("/history/nonsense/?whose=team", follow=True).status_code == 404


def test_queries_do_not_grow_with_the_series(owner_client, owner, measured, django_assert_max_num_queries):
    for batch in range(1, 21):
        measured(1.0, 1.0, workload={"batch_size": batch})
    with django_assert_max_num_queries(10):
        page = owner_client.get("/history/").content.decode()
    assert page.count('class="run-name"') == 20


def test_queries_do_not_grow_with_the_runs(owner_client, measured, django_assert_max_num_queries):
    run = measured(*[1.0] * 30)[0]
    with django_assert_max_num_queries(11):
        page_of(owner_client, run)


def test_a_series_of_others_does_not_exist(stranger_client, anonymous_client, measured):
    run = measured(1.0)[0]
    for suffix in ("/", ".csv", ".json"):
        assert stranger_client.get(f"/history/{run.series}{suffix}").status_code == 404
        assert anonymous_client.get(f"/history/{run.series}{suffix}").status_code == 302
    assert stranger_client.get("/history.json").json()["total"] == 0
    assert stranger_client.get("/history/nonsense/").status_code == 404


def test_the_chart_has_the_numbers_of_the_json_of_its_address(owner_client, measured):
    runs = measured(1.0, 1.02, 0.98, 1.0, 1.4)
    measured(5.0, contended=True)
    for query in ("?metric=e2e_latency", "?metric=e2e_latency&lookback=5&x=time"):
        page = page_of(owner_client, runs[0], query)
        figure = json.loads(re.search(r'<script id="history-chart" type="application/json">(.*?)</script>', page)[1])
        data = exported(owner_client, runs[0], query)
        points = data["metrics"][0]["points"]
        drawn = {tuple(pair) for trace in figure["data"] for pair in trace.get("customdata") or ()}
        assert drawn == {(point["run"], point["value"]) for point in points}
        in_ms = sorted(y for trace in figure["data"] if trace["mode"] == "markers" for y in trace["y"])
        assert in_ms == sorted(point["value"] * 1e3 for point in points)
        low, high, centre = (trace["y"] for trace in figure["data"] if trace["mode"] == "lines")
        for name, drawn_line in (("low", low), ("high", high), ("centre", centre)):
            assert drawn_line == [point["band"] and point["band"][name] * 1e3 for point in points]


def test_the_spark_of_a_line_has_the_values_of_the_json(owner_client, measured):
    """As heights between the lowest and the highest of the accepted values and the band: read back, they are the values."""
    measured(1.0, 1.02, 0.98, 1.0, 1.4)
    measured(5.0, contended=True)
    (line,) = owner_client.get("/history.json").json()["series"]
    (shown,) = [row["spark"] for row in owner_client.get("/history/").context["lines"]]
    used = [entry["value"] for entry in line["values"] if entry["accepted"]]
    sizes = [*used, line["band"]["low"], line["band"]["high"]]
    heights = [float(point.split(",")[1]) for point in shown["line"].split()]
    low, high = min(sizes), max(sizes)
    assert [high - (y - 4) / (36 - 8) * (high - low) for y in heights] == pytest.approx(used, abs=0.005)
    assert len(shown["apart"]) == len(line["values"]) - len(used) == 1


def test_the_figures_of_the_table_are_those_of_the_json(owner_client, measured):
    runs = measured(1.0, 1.02, 0.98, 1.4)
    data = exported(owner_client, runs[0])["metrics"][0]
    assert data["points"][-1]["band"] == pytest.approx(
        {"centre": 1.0, "low": 0.95, "high": 1.05, "runs": 3, "mad_pct": 1.0, "half_pct": 5.0}, abs=0.03
    )
    page = page_of(owner_client, runs[0])
    row = page[page.index(f'id="run-{runs[3].public_id}"') :]
    row = row[: row.index("</tr>")]
    assert "1.4\u202fs" in row
    assert "above the band: worse" in row


def test_contended_runs_are_drawn_apart_and_not_used(owner_client, measured):
    runs = measured(1.0, 1.0, 1.0)
    busy = measured(9.0, contended=True)[0]
    unknown = measured(8.0, contended=None)[0]
    point = {p["run"]: p for p in exported(owner_client, runs[0])["metrics"][0]["points"]}
    assert (point[busy.public_id]["accepted"], point[busy.public_id]["verdict"]) == (False, "")
    assert point[unknown.public_id]["band"]["centre"] == 1.0
    page = page_of(owner_client, runs[0])
    assert "not used: contended" in page
    assert "not used: its conditions are unknown" in page
    assert owner_client.get("/history.json").json()["series"][0]["value"] == 1.0


def test_steps_and_versions_are_shown_where_they_are(owner_client, measured):
    measured(*[1.0, 1.01, 0.99] * 4, versions={"torch": "2.12.0", "engine": "1"})
    after = measured(*[1.5, 1.51, 1.49] * 4, versions={"torch": "2.13.0", "engine": "1"})
    data = exported(owner_client, after[0])
    (step,) = data["metrics"][0]["steps"]
    assert step["run"] == after[0].public_id
    assert step["change_pct"] == pytest.approx(50)
    assert [(c["run"], c["changes"]) for c in data["version_changes"]] == [
        (after[0].public_id, {"torch": ["2.12.0", "2.13.0"]})
    ]
    page = page_of(owner_client, after[0])
    assert "torch: 2.12.0 → 2.13.0" in page
    assert "step +50.0" in page


def test_an_expected_change_begins_a_new_band_and_says_who_and_why(owner_client, measured):
    runs = measured(*[1.0] * 6, *[2.0] * 6)
    assert len(exported(owner_client, runs[0])["metrics"][0]["steps"]) == 1
    marked = runs[6]
    owner_client.post(f"/history/runs/{marked.public_id}/mark/", {"kind": "expected", "text": "New <driver>"})
    data = exported(owner_client, runs[0])
    assert data["metrics"][0]["steps"] == []
    assert [p["verdict"] for p in data["metrics"][0]["points"]][6:] == ["", "", "", "inside", "inside", "inside"]
    assert [(m["run"], m["kind"], m["text"], m["by"]) for m in data["marks"]] == [
        (marked.public_id, "expected", "New <driver>", "owner")
    ]
    page = page_of(owner_client, runs[0])
    assert "New &lt;driver&gt;" in page
    assert "<driver>" not in page
    mark = Mark.objects.get()
    owner_client.post(f"/history/marks/{mark.pk}/remove/")
    assert len(exported(owner_client, runs[0])["metrics"][0]["steps"]) == 1
    assert "Undo" in page_of(owner_client, runs[0])
    owner_client.post(f"/history/marks/{mark.pk}/restore/")
    assert exported(owner_client, runs[0])["metrics"][0]["steps"] == []


def test_a_run_begins_one_expected_change_at_most(owner_client, measured):
    run = measured(1.0)[0]
    for text in ("first", "second"):
        owner_client.post(f"/history/runs/{run.public_id}/mark/", {"kind": "expected", "text": text})
    assert [m["text"] for m in exported(owner_client, run)["marks"]] == ["second"]
    first = Mark.objects.get(text="first")
    owner_client.post(f"/history/marks/{first.pk}/restore/")
    assert [m["text"] for m in exported(owner_client, run)["marks"]] == ["first"]


def test_a_mark_comes_back_where_there_is_a_place_for_it(owner_client, measured, monkeypatch):
    monkeypatch.setattr("llmcompare.history.services.MARKS_OF_A_RUN", 1)
    run = measured(1.0)[0]
    owner_client.post(f"/history/runs/{run.public_id}/mark/", {"kind": "note", "text": "first"})
    first = Mark.objects.get()
    owner_client.post(f"/history/marks/{first.pk}/remove/")
    owner_client.post(f"/history/runs/{run.public_id}/mark/", {"kind": "note", "text": "second"})
    answer = owner_client.post(f"/history/marks/{first.pk}/restore/", follow=True)
    assert "as many as fit" in answer.content.decode()
    assert [m["text"] for m in exported(owner_client, run)["marks"]] == ["second"]


@pytest.mark.parametrize(
    "data",
    [{"kind": "expected", "text": "  "}, {"kind": "note", "text": "x" * 501}, {"kind": "other", "text": "x"}, {}],
)
def test_marks_without_sense_are_refused_with_a_reason(owner_client, measured, data):
    run = measured(1.0)[0]
    response = owner_client.post(f"/history/runs/{run.public_id}/mark/", data, follow=True)
    assert Mark.objects.count() == 0
    assert "alert-danger" in response.content.decode()


def test_viewers_and_strangers_mark_nothing(owner_client, teammate_client, stranger_client, team, stranger, measured):
    run = measured(1.0, visibility="team", team=team)[0]
    public = measured(1.0, visibility="public")[0]
    data = {"kind": "note", "text": "hello"}
    for client, target in ((teammate_client, run), (stranger_client, run), (stranger_client, public)):
        assert client.post(f"/history/runs/{target.public_id}/mark/", data).status_code == 404
    owner_client.post(f"/history/runs/{run.public_id}/mark/", data)
    mark = Mark.objects.get()
    assert "hello" in page_of(teammate_client, run)
    assert "Mark or annotate" not in page_of(teammate_client, run)
    for client in (teammate_client, stranger_client):
        for word in ("remove", "restore"):
            assert client.post(f"/history/marks/{mark.pk}/{word}/").status_code == 404
    editor = factories.make_user("editor")
    factories.add_member(team, editor, role="editor")
    assert client_for(editor).post(f"/history/marks/{mark.pk}/remove/").status_code == 302


def test_marks_of_runs_that_one_does_not_see_are_not_exported(owner_client, stranger_client, measured):
    hidden = measured(1.0)[0]
    public = measured(1.0, visibility="public")[0]
    owner_client.post(f"/history/runs/{hidden.public_id}/mark/", {"kind": "note", "text": "private words"})
    assert exported(stranger_client, public)["marks"] == []
    assert "private words" not in page_of(stranger_client, public)


def test_csv_has_a_row_for_each_figure(owner_client, measured):
    runs = measured(1.0, 1.0, 1.0, 1.3)
    measured(2.0, contended=True)
    text = b"".join(owner_client.get(f"/history/{runs[0].series}.csv").streaming_content).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["value"] for row in rows] == ["1.0", "1.0", "1.0", "1.3", "2.0"]
    assert (rows[3]["verdict"], rows[3]["band_low"]) == ("worse", "0.95")
    assert rows[4]["accepted"] == "false"
    listed = b"".join(owner_client.get("/history.csv").streaming_content).decode("utf-8-sig")
    assert next(csv.DictReader(io.StringIO(listed)))["value"] == "1.3"


def test_unknown_figures_stay_unknown(owner_client, measured):
    run = measured(None, 1.0, None)[0]
    assert [p["value"] for p in exported(owner_client, run)["metrics"][0]["points"]] == [None, 1.0, None]
    page = page_of(owner_client, run)
    assert "unknown" in page
    lone = measured(None, key="ttft", workload={"batch_size": 7})[0]
    assert "No run of this series has this figure" in page_of(owner_client, lone)


def test_a_prompt_is_no_part_of_the_exports(owner_client, measured):
    run = measured(1.0, workload={"prompt": "my secret question"})[0]
    for address in (f"/history/{run.series}/", f"/history/{run.series}.json", "/history/", "/history.json"):
        assert "secret question" not in owner_client.get(address).content.decode()


def test_estimates_have_series_of_their_own(owner_client, owner, finished_estimate):
    run = finished_estimate
    assert run.series in owner_client.get("/history/?kind=estimate").content.decode()
    data = exported(owner_client, run)
    assert {metric["origin"] for metric in data["metrics"]} == {"estimated"}


@pytest.fixture
def finished_estimate(owner):
    from llmcompare.runs.models import RunMetric
    from llmcompare.runs.results import summarise
    from tests.runs.documents import estimate_document

    document = estimate_document()
    summary = summarise(document)
    run = factories.make_run(owner, document=document, **summary.columns)
    RunMetric.objects.bulk_create(RunMetric(run=run, **values) for values in summary.metrics)
    return run
