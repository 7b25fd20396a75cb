"""Figures of endpoints: of which tokens they are, who said them, and what they are set beside."""

from __future__ import annotations

import copy
import csv
import io
import time
from typing import Any

import pytest
from django.http import QueryDict
from django.utils import translation

from llmcompare.common.errors import FieldErrors
from llmcompare.history.reading import load_series
from llmcompare.runs import lifecycle
from llmcompare.runs.compare import columns_of, comparison, notes
from llmcompare.runs.compare_charts import bar_figure
from llmcompare.runs.compare_figures import figures_json
from llmcompare.runs.compare_scatter import scatter
from llmcompare.runs.endpointinputs import check_endpoint_inputs
from llmcompare.runs.exportrows import run_rows
from llmcompare.runs.exports import comparison_lines, comparison_object
from llmcompare.runs.models import Run
from llmcompare.runs.services import launch_endpoint_run
from llmcompare.sharing.services import create_link
from profiling.load import Load, describe
from profiling.remote.levels import Sweep
from profiling.remote.load import Loaded
from profiling.remote.sweep import Level
from profiling.remote.sweep import describe as described_sweep
from profiling.units import DEFINITIONS
from tests import factories
from tests.run_page import documents as documents_of_pages

pytestmark = pytest.mark.django_db
INSIDE = "llm.corp.example"


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)


def metric(key: str, value: float, unit: str = "s", **more: Any) -> dict[str, Any]:
    return {"value": value, "unit": unit, "origin": "measured", "definition": f"{key}/1", "n": 6} | more


def document(**changes: Any) -> dict[str, Any]:
    """Six answers of four tokens each to two users, as the engine writes it; none of what these tests do not read."""
    columns = ["request", "users", "due_ns", "input_tokens", "output_tokens", "tokens_from", "events", "failure"]
    found = {
        "schema": "llmcompare-run",
        "schema_version": "1.0",
        "kind": "endpoint",
        "producer": {"version": "0.1.0"},
        "endpoint": {"name": "My server", "model": "tiny", "api": "chat", "unique_prompts": True},
        "workload": {"input_tokens": 5, "output_tokens": 4},
        "load": describe(Load(requests=6, concurrency=2)) | {"due": 6, "served": 6, "warmup": 0},
        "requests": {"columns": columns, "rows": [[0, 2, 0, 9, 4, "server", 4, None]]},
        "metrics": {
            "endpoint_ttft": metric("endpoint_ttft", 0.2),
            "endpoint_tpot": metric("endpoint_tpot", 0.1),
            "endpoint_e2e_latency": metric("endpoint_e2e_latency", 0.5),
            "request_output_throughput": metric("request_output_throughput", 16.0, "token/s"),
        },
        "tokens": {"output_from": "server", "tokenizer": None, "input": 54, "output": 24, "early_ends": 0},
        "failures": [],
        "client": {"lag_p99_s": 0.001},
        "warnings": [],
    }
    return found | changes


def launch(owner, load: dict[str, Any] | None = None, endpoint=None, **workload: Any) -> Run:
    endpoint = endpoint or factories.make_endpoint(owner, model="tiny", api="chat")
    usual = {"input_tokens": 5, "output_tokens": 4, "warmup": 1}
    return launch_endpoint_run(owner=owner, endpoint=endpoint, workload=usual | workload, load=load)


def finished(run: Run, found: dict[str, Any]) -> Run:
    """As a worker leaves it."""
    assert lifecycle.finish(run=lifecycle.claim(run_id=run.pk, worker="here:1"), document=found)
    return Run.objects.get(pk=run.pk)


def known(owner, **fields: Any) -> dict[str, Any]:
    """An endpoint of which its owner says what stands behind it."""
    model, hardware = factories.make_model(), factories.make_hardware()
    return {"endpoint": factories.make_endpoint(owner, language_model=model, hardware=hardware, **fields)}


def page_of(client, run: Run, **headers: str) -> str:
    return client.get(f"/runs/{run.public_id}/", headers=headers).content.decode()


# --- of which tokens ---


def test_lengths_that_are_drawn_are_those_of_lists_and_pages(owner, owner_client):
    """And not the ones of the form, of which no request was."""
    load = {
        "load_mode": "closed",
        "load_requests": 400,
        "load_input_lengths": "uniform(1000, 3000)",
        "load_output_lengths": "fixed(7)",
    }
    run = launch(owner, load)
    assert 1900 < run.input_tokens < 2100
    assert run.output_tokens == 7
    asked = describe(Load(requests=400, input_lengths="uniform(1000, 3000)", output_lengths="fixed(7)"))
    done = finished(run, document(load=asked | {"due": 400, "served": 400, "warmup": 0}))
    assert (done.input_tokens, done.output_tokens) == (run.input_tokens, 7)
    shown = page_of(owner_client, done)
    assert "uniform(1000, 3000)" in shown
    assert "fixed(7)" in shown


def test_the_estimate_beside_is_of_the_tokens_that_came(owner, owner_client):
    """Answers that ended early were shorter than asked for, and a template made the prompts longer."""
    place = known(owner)
    run = finished(
        launch(owner, **place, output_tokens=400), document(workload={"input_tokens": 5, "output_tokens": 400})
    )
    shown = page_of(owner_client, run)
    assert "batch_size=2&amp;input_tokens=9&amp;output_tokens=4" in shown
    both = {"model": run.model, "hardware": run.hardware, "document": documents_of_pages.estimate(), "e2e_s": 1.0}
    asked_for = factories.make_run(owner, **both, workload={"batch_size": 2, "input_tokens": 5, "output_tokens": 400})
    assert asked_for.public_id not in page_of(owner_client, run)
    came = factories.make_run(owner, **both, workload={"batch_size": 2, "input_tokens": 9, "output_tokens": 4})
    shown = page_of(owner_client, run)
    assert came.public_id in shown
    assert "9 tokens in and 4 out" in " ".join(shown.split())
    assert "+100.0" in shown  # 1 s against half a second


def test_a_prompt_of_unknown_length_has_no_estimate_beside_it(owner, owner_client):
    tokens = {"output_from": None, "tokenizer": None, "input": None, "output": None, "early_ends": 0}
    run = finished(
        launch(owner, **known(owner), prompt="Why?", input_tokens=None),
        document(tokens=tokens, workload={"prompt": "Why?", "output_tokens": 4}),
    )
    assert run.input_tokens == 0
    shown = page_of(owner_client, run)
    assert "how many tokens the prompts had" in shown
    assert "kind=estimate" not in shown


def test_whoever_may_not_change_an_endpoint_is_not_sent_to_its_form(owner, owner_client, team, teammate_client):
    endpoint = factories.make_endpoint(owner, visibility="team", team=team)
    run = finished(launch(owner, endpoint=endpoint), document())
    Run.objects.filter(pk=run.pk).update(visibility="team", team=team)
    address = f"/endpoints/{endpoint.public_id}/edit/"
    assert address in page_of(owner_client, run)
    assert address not in page_of(teammate_client, run)


# --- who said them ---


def rows_of(found: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    """(section, metric) → unit and origin of the exported rows."""
    return {(row[0], row[3]): (row[5], row[6]) for row in run_rows(found)}


def test_exports_say_who_counted_the_tokens(owner, owner_client):
    rows = rows_of(document())
    assert rows["tokens", "input"] == rows["tokens", "output"] == ("token", "reported")
    assert rows["request", "output_tokens"][1] == rows["request", "input_tokens"][1] == "reported"
    assert rows["request", "due_ns"] == ("ns", "measured")
    assert (rows["load", "concurrency"][1], rows["load", "served"][1]) == ("", "measured")
    assert rows["tokens", "early_ends"][1] == "measured"
    counted = document()
    counted["tokens"] |= {
        "output_from": "counted",
        "compared": {"answers": 2, "server": 8, "counted": 9, "difference": 0.125},
    }
    counted["requests"]["rows"] = [[0, 2, 0, 9, 4, "counted", 4, None]]
    rows = rows_of(counted)
    assert rows["tokens", "output"][1] == rows["request", "output_tokens"][1] == "estimated"
    assert (rows["tokens", "server"][1], rows["tokens", "counted"][1]) == ("reported", "estimated")
    assert rows["tokens", "input"][1] == rows["request", "input_tokens"][1] == "reported"
    run = finished(launch(owner), document())
    sent = b"".join(owner_client.get(f"/runs/{run.public_id}.csv").streaming_content).decode("utf-8-sig")
    assert ["tokens", "", "", "output", "24", "token", "reported", ""] in list(csv.reader(io.StringIO(sent)))


def swept(users: int, ttft: float = 0.2) -> dict[str, Any]:
    """A sweep whose best level had so many users."""
    sweep = Sweep((users, 2 * users))
    note = f"with {users} at once, the best level of the sweep"
    found = document(sweep=described_sweep([Level(n, Load(concurrency=n), Loaded()) for n in sweep.levels], sweep))
    found["metrics"] = {key: entry | {"note": note} for key, entry in found["metrics"].items()}
    found["metrics"]["endpoint_ttft"]["value"] = ttft
    found["sweep"] |= {"best": users, "reason": "saturated", "saturated_at": 2 * users}
    return found


def test_levels_have_units_and_say_what_stands_on_counted_tokens():
    found = swept(2)
    rows = rows_of(found)
    assert rows["level", "output_throughput"][0] == rows["level", "interactivity"][0] == "token/s"
    assert rows["level", "request_throughput"][0] == rows["level", "goodput"][0] == "request/s"
    table = found["sweep"]["levels"]
    for name in ("output_throughput", "request_throughput"):
        table["rows"][0][table["columns"].index(name)] = table["rows"][1][table["columns"].index(name)] = 5.0
    assert rows_of(found)["level", "output_throughput"][1] == "measured"
    found["tokens"]["output_from"] = "mixed"
    rows = rows_of(found)
    assert (rows["level", "output_throughput"][1], rows["level", "request_throughput"][1]) == ("estimated", "measured")


# --- beside others ---


def row(table: dict[str, Any], key: str) -> dict[str, Any]:
    return next(one for one in table["metrics"] if one["key"] == key)


def test_a_row_is_called_as_its_own_metric_whoever_stands_first(owner):
    run = finished(launch(owner), document())
    estimate = factories.make_run(owner, document=documents_of_pages.estimate())
    for columns in ([run, estimate], [estimate, run]):
        assert row(comparison(columns_of(columns)), "ttft")["title"] == "Time to first token"
    assert "endpoint" in row(comparison(columns_of([run])), "endpoint_ttft")["title"]


def test_a_figure_on_tokens_counted_here_is_an_estimate_in_comparisons_too(owner):
    found = document()
    found["metrics"]["endpoint_tpot"] |= {"origin": "estimated", "note": "output tokens counted here"}
    table = comparison(columns_of([finished(launch(owner), found)]))
    assert row(table, "endpoint_tpot")["cells"][0]["origin"] == "estimated"
    assert row(table, "endpoint_ttft")["cells"][0]["origin"] == "measured from outside"


@pytest.mark.parametrize("counted", [False, True])
def test_what_was_seen_from_outside_is_drawn_as_measured_and_what_was_counted_here_is_not(owner, counted):
    found = document()
    if counted:
        found["metrics"]["endpoint_tpot"] |= {"origin": "estimated", "note": "output tokens counted here"}
    columns = columns_of(
        [finished(launch(owner), found), factories.make_run(owner, document=documents_of_pages.estimate())]
    )
    table = comparison(columns)
    bars = bar_figure(row(table, "tpot"), columns)["data"]
    assert [bar["marker"]["pattern"]["shape"] for bar in bars] == ["/" if counted else "", "/"]
    drawn = scatter({"x": "tpot", "y": "output_throughput"}, columns, table)
    points = drawn["figure"]["data"]
    assert [point["marker"]["symbol"] for point in points] == ["circle-open" if counted else "circle", "circle-open"]
    seen, estimate = ("estimated" if counted else "measured from outside"), "estimated, datasheet ceilings"
    assert [point["origin"] for point in drawn["points"]] == [seen, estimate]
    assert figures_json(QueryDict("metric=tpot"), columns, table, None)["bars"]["origins"] == [seen, estimate]


def test_two_endpoints_have_their_own_figures_in_the_charts(owner, owner_client):
    runs = [finished(launch(owner), document()) for _ in range(2)]
    page = owner_client.get("/compare/", {"runs": ",".join(run.public_id for run in runs), "metric": "endpoint_ttft"})
    shown = page.content.decode()
    assert '<option value="endpoint_ttft" selected>' in shown
    assert 'data-chart="scatter-data"' in shown


def test_where_a_figure_was_seen_from_is_in_the_readers_language(owner, owner_client):
    ids = ",".join(finished(launch(owner), document()).public_id for _ in range(2))
    assert "measured from outside" in owner_client.get(f"/compare/?runs={ids}").content.decode()
    chinese = owner_client.get(f"/compare/?runs={ids}", headers={"accept-language": "zh-hans"}).content.decode()
    assert "measured from outside" not in chinese
    assert "从外部实测" in chinese


def test_loads_that_are_not_alike_are_said_not_to_be(owner):
    usual = finished(launch(owner), document())
    cached = document()
    cached["endpoint"] |= {"unique_prompts": False}
    cached["load"] |= {
        "input_lengths": "uniform(1, 9)",
        "objectives": {"ttft_s": 0.25, "tpot_s": None, "e2e_s": None},
    }
    strict = document()
    strict["load"] |= {"objectives": {"ttft_s": 0.5, "tpot_s": None, "e2e_s": None}}
    columns = columns_of([usual, finished(launch(owner), cached), finished(launch(owner), strict)])
    table = comparison(columns)
    (said,) = [note for note in table["notes"] if note.startswith("The conditions differ")]
    for words in ("prompts begin differently", "input lengths", "TTFT objective"):
        assert words in said
    assert "output lengths" not in said
    cells = {one["title"]: one["cells"] for one in table["conditions"]}
    assert cells["Prompts begin differently"] == ["yes", "no", "yes"]
    assert cells["TTFT objective"][1].replace("\u202f", " ").replace("\xa0", " ") == "250 ms"
    assert "Output lengths" not in cells


def test_levels_of_sweeps_with_other_numbers_of_users_are_not_one_line_of_history(owner):
    """More users wait longer: that the best level moved is no regression of the server."""
    endpoint = factories.make_endpoint(owner, model="tiny", api="chat")
    asked = {"load_mode": "sweep", "load_levels": "1..8"}
    bests = (8, 8, 8, 8, 4, 4)
    runs = [finished(launch(owner, asked, endpoint), swept(best, 0.1 * best)) for best in bests]
    series = load_series(owner, runs[-1].series)
    points = [judged.point for judged in series.metric("endpoint_ttft").points]
    assert [point.accepted for point in points] == [best == 4 for best in bests]
    assert "number of users" in points[0].why_not
    # What all users get together is what the sweep looks for.
    assert all(judged.point.accepted for judged in series.metric("request_output_throughput").points)


# --- in the reader's language, and for visitors ---


def test_the_phase_of_a_failure_is_in_the_readers_language(owner, owner_client):
    run = launch(owner)
    lifecycle.fail(run=lifecycle.claim(run_id=run.pk, worker="here:1"), phase="connect", message="No.")
    assert "“connect”" in page_of(owner_client, run)
    chinese = page_of(owner_client, run, **{"accept-language": "zh-hans"})
    assert "“connect”" not in chinese
    assert "“连接”" in chinese


@pytest.mark.parametrize("partial", [True, False])
def test_visitors_do_not_read_why_a_server_inside_did_not_answer(owner, anonymous_client, partial):
    run = launch(owner)
    said = f"No connection to {INSIDE}: it is an address inside of a private network."
    failures = [{"kind": "connect", "message": said, "requests": 6, "retry_after_s": None}]
    kept = document(metrics={}, failures=failures, load=document()["load"] | {"served": 0}) if partial else None
    lifecycle.fail(run=lifecycle.claim(run_id=run.pk, worker="here:1"), phase="requests", message=said, partial=kept)
    _, token = create_link(owner=owner, runs=[Run.objects.get(pk=run.pk)])
    for path in ("", "export.json", "export.csv"):
        shown = anonymous_client.get(f"/s/{token}/{path}").getvalue().decode()
        assert INSIDE not in shown, path
        assert "private network" not in shown, path
        assert ("connect" if partial else "requests") in shown, path


def test_visitors_do_not_read_what_an_endpoint_is_called_nor_zeros_for_what_is_unknown(owner, anonymous_client):
    endpoint = factories.make_endpoint(owner, name=f"Box {INSIDE}", model="tiny", api="chat")
    runs = [finished(launch(owner, endpoint=endpoint, prompt="Why?", input_tokens=None), document()) for _ in range(2)]
    for shared in (runs[:1], runs):
        _, token = create_link(owner=owner, runs=shared)
        for path in ("", "export.json", "export.csv"):
            answer = anonymous_client.get(f"/s/{token}/{path}")
            assert answer.status_code == 200
            shown = answer.getvalue().decode() + str(answer.headers)
            assert INSIDE not in shown, path
            assert "llm-corp" not in shown, path
            assert "tiny on an endpoint" in shown, path
    told = anonymous_client.get(f"/s/{token}/export.json").json()["rows"]
    unknown = {line["key"]: line["values"] for line in told if line["key"] in ("batch_size", "dtype")}
    assert unknown == {"batch_size": [None, None], "dtype": [None, None]}


def test_the_endpoint_is_called_by_its_hardware_where_that_is_said(owner, anonymous_client):
    run = finished(launch(owner, **known(owner, name=f"Box {INSIDE}", model="tiny", api="chat")), document())
    _, token = create_link(owner=owner, runs=[run])
    shown = anonymous_client.get(f"/s/{token}/").content.decode()
    assert f"tiny on {run.hardware}" in shown
    assert INSIDE not in shown


# --- what may be asked ---


def test_more_input_than_one_run_may_send_is_refused(owner):
    endpoint = factories.make_endpoint(owner, model="tiny")
    load = {"load_mode": "closed", "load_requests": 20_000}
    for workload in ({"input_tokens": 100_000}, {"prompt": "x" * 100_000}):
        with pytest.raises(FieldErrors) as refused:
            check_endpoint_inputs(endpoint=endpoint, workload=workload, load=load)
        assert "may send" in refused.value.errors["load_requests"]
    assert check_endpoint_inputs(endpoint=endpoint, workload={"input_tokens": 1000}, load=load)


def test_lengths_that_hardly_ever_fit_do_not_hold_the_web_server_up(owner):
    """Every level of a sweep was planned anew, and each length drawn a thousand times."""
    endpoint = factories.make_endpoint(owner, model="tiny")
    load = {
        "load_mode": "sweep",
        "load_levels": ", ".join(map(str, range(1, 21))),
        "load_requests": 2000,
        "load_input_lengths": "normal(10, 9000000, 10, 11)",
        "load_output_lengths": "normal(10, 9000000, 10, 11)",
    }
    begun = time.process_time()
    inputs = check_endpoint_inputs(endpoint=endpoint, workload={"warmup": 0}, load=load)
    assert time.process_time() - begun < 10
    assert inputs.budget.requests == 40_000
    assert 10 * 40_000 < inputs.budget.output_tokens < 11 * 40_000


def test_series_of_other_loads_are_told_apart_in_the_list(owner, owner_client):
    """They had the same words."""
    endpoint = factories.make_endpoint(owner, model="tiny", api="chat")
    loads: list[dict[str, Any]] = [
        {"load_mode": "closed", "load_concurrency": 2},
        {"load_mode": "closed", "load_concurrency": 8, "load_input_lengths": "fixed(70)"},
        {"load_mode": "poisson", "load_rate": 3.0},
        {"load_mode": "sweep", "load_levels": "1..8"},
    ]
    runs = [finished(launch(owner, load, endpoint), document()) for load in loads]
    runs.append(finished(launch(owner, endpoint=endpoint), document()))
    shown = owner_client.get("/history/?kind=endpoint").content.decode()
    for words in ("2 users", "8 users", "70 tokens in", "poisson", "sweep of 1, 2, 4, 8 users", "one request"):
        assert words in shown, words
    page = owner_client.get(f"/history/{runs[1].series}/").content.decode()
    assert "8 users" in page
    lines = owner_client.get("/api/v1/history/?kind=endpoint").json()["series"]
    assert {line["load"]["concurrency"] for line in lines} == {1, 2, 8}


# --- connections, and figures that changed their meaning ---

TOOK = {"connect_median_s": 0.1875, "connect_max_s": 0.25}


def test_a_request_that_waited_for_its_connection_is_marked_on_page_and_in_exports(owner, owner_client):
    found = document(client={"lag_p99_s": 0.001, "connections_ahead": 1, "connections_waited": 1} | TOOK)
    columns = [*found["requests"]["columns"], "first_token_ns", "connect_s", "connect_waited"]
    plain = found["requests"]["rows"][0]
    lines = [[*plain, 10**9, 0.25, True], [1, *plain[1:], 10**9, 0.125, False], [2, *plain[1:], 10**9, None, False]]
    found["requests"] = {"columns": columns, "rows": lines}
    rows = {(row[0], row[2], row[3]): row[4:7] for row in run_rows(found)}
    assert rows["request", "0", "connect_s"] == (0.25, "s", "measured")
    assert rows["request", "0", "connect_waited"][0] is True
    assert rows["client", "", "connect_median_s"] == (0.1875, "s", "measured")
    shown = page_of(owner_client, finished(launch(owner), found)).replace("\u202f", " ").replace("\xa0", " ")
    assert shown.count("of connecting") == 1
    assert "with 250 ms of connecting" in shown
    assert "New connections that a request waited for" in shown
    assert "188 ms" in shown or "187.5 ms" in shown
    older = page_of(owner_client, finished(launch(owner), document()))
    assert "connecting" not in older
    assert "New connections" not in older


def test_runs_with_other_definitions_of_a_figure_are_said_to_have_them(owner):
    newer = document()
    newer["metrics"]["endpoint_tpot"]["definition"] = "endpoint_tpot/2"
    runs = [finished(launch(owner), one) for one in (document(), newer, copy.deepcopy(newer))]
    (said,) = [note for note in comparison(columns_of(runs))["notes"] if "different definitions" in note]
    assert "time per output token" in said
    assert "first token" not in said
    assert not [note for note in comparison(columns_of(runs[1:]))["notes"] if "different definitions" in note]
    exported = comparison_object(comparison_lines(runs))
    (line,) = [line for line in exported["rows"] if line["key"] == "endpoint_tpot"]
    # As on the page: what is counted otherwise has no difference.
    assert line["delta_pct"] == [0.0, None, None]


def test_figures_with_other_definitions_are_enumerated_as_the_language_does(owner, monkeypatch):
    newer = document()
    for key in ("endpoint_tpot", "endpoint_ttft"):
        monkeypatch.setitem(DEFINITIONS, f"{key}/2", DEFINITIONS[f"{key}/1"])
        newer["metrics"][key]["definition"] = f"{key}/2"
    columns = columns_of([finished(launch(owner), one) for one in (document(), newer)])
    with translation.override("zh-hans"):
        (said,) = [note for note in notes(columns) if "定义" in note]
    assert "、" in said
    assert ", " not in said
