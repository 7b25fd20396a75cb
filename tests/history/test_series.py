"""Which runs are one series, and what the database keeps for it."""

from __future__ import annotations

import importlib

import pytest
from django.apps import apps

from llmcompare.history.reading import load_series, series_keys, series_runs
from llmcompare.runs.models import Run
from llmcompare.runs.results import summarise
from llmcompare.runs.series import series_key, versions_of
from profiling.spec import Workload
from tests import factories
from tests.runs.documents import estimate_document

SPEC = {
    "kind": "measure",
    "model": {"name": "a", "config": {"n": 1}, "architecture": "A", "weights": "random", "weights_path": None},
    "hardware": {"slug": "box", "peak_flops": {}, "ceilings": []},
    "workload": Workload().to_json(),
}


def changed(part: str, **values):
    return {**SPEC, part: {**SPEC[part], **values}}


@pytest.mark.parametrize(
    "spec",
    [
        changed("model", name="renamed", weights_path="/elsewhere"),
        changed("hardware", ceilings=[{"value": 1}], peak_flops={"bf16": 2.0}),
        changed("workload", iterations=99, warmup=7, seed=3, time_limit_s=10.0),
        {**SPEC, "protocol": {"processes": 5}},
        {
            **SPEC,
            "workload": {
                name: SPEC["workload"][name] for name in ("batch_size", "input_tokens", "output_tokens", "dtype")
            },
        },
    ],
)
def test_what_was_asked_alike_is_one_series(spec):
    assert series_key(spec, "lab") == series_key(SPEC, "lab")


@pytest.mark.parametrize(
    "spec",
    [
        changed("model", config={"n": 2}),
        changed("model", weights="local"),
        changed("workload", batch_size=2),
        changed("workload", dtype="fp32"),
        changed("workload", prompt="something"),
        changed("workload", attn_implementation="eager"),
        {**SPEC, "kind": "estimate"},
        {**SPEC, "load": {"mode": "closed"}},
    ],
)
def test_what_was_asked_differently_is_another_series(spec):
    assert series_key(spec, "lab") != series_key(SPEC, "lab")


def test_a_host_or_device_of_its_own_is_another_series():
    keys = {
        series_key(SPEC, "lab"),
        series_key(SPEC, "other"),
        series_key(SPEC),
        series_key(changed("hardware", slug="lab")),
    }
    assert len(keys) == 4


def test_versions_are_those_that_the_document_says():
    document = {
        "producer": {"version": "0.1.0", "torch": "2.13.0", "python": None},
        "environment": {"accelerators": [{"name": "GPU", "driver": "570.1"}]},
    }
    assert versions_of(document) == {"engine": "0.1.0", "torch": "2.13.0", "driver": "570.1"}
    for broken in ({}, {"producer": 3, "environment": []}, {"environment": {"accelerators": "none"}}):
        assert versions_of(broken) == {}


def test_a_finished_run_says_whether_it_was_contended():
    document = estimate_document()
    assert summarise(document).columns["contended"] is None
    document["conditions"] = {"contended": True}
    assert summarise(document).columns["contended"] is True
    document["conditions"] = {"contended": "perhaps"}
    assert summarise(document).columns["contended"] is None


def test_runs_from_before_get_their_series_when_the_database_is_migrated(owner):
    document = estimate_document() | {"conditions": {"contended": True}, "producer": {"torch": "2.13.0"}}
    run = factories.make_run(owner, document=document)
    wanted = run.series
    Run.objects.update(series="", contended=None, versions={})
    importlib.import_module("llmcompare.history.migrations.0005_fill_series").fill(apps, None)
    run.refresh_from_db()
    assert (run.series, run.contended, run.versions) == (wanted, True, {"torch": "2.13.0"})


def test_a_series_holds_finished_runs_in_the_order_in_which_they_ended(owner, measured):
    runs = measured(1.0, 1.1, 1.2)
    measured(1.3, state="failed")
    Run.objects.filter(pk=runs[0].pk).update(finished="2027-01-01T00:00Z")
    found = load_series(owner, runs[0].series)
    assert [run.pk for run in found.runs] == [runs[1].pk, runs[2].pk, runs[0].pk]
    assert series_keys(series_runs(owner)).get() == {"series": runs[0].series, "total": 3, "latest": found.newest.at}


def test_everybody_has_their_own_view_of_a_series(owner, teammate, stranger, team, measured):
    measured(1.0)
    shared = measured(2.0, visibility="team", team=team)[0]
    assert len(load_series(owner, shared.series).runs) == 2
    assert [run.pk for run in load_series(teammate, shared.series).runs] == [shared.pk]
    assert load_series(stranger, shared.series) is None
