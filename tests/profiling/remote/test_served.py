"""A server of ours gives its own times and layers; what comes from it is checked like anything from a stranger."""

from __future__ import annotations

import base64
import copy
import gzip
import json

import pytest

from profiling.load import Load
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.remote.packed import pack
from profiling.remote.served import MAX_DEPTH, Unfit, checked
from profiling.spec import Workload
from profiling.units import metric
from tests.profiling.remote.serving import client, running, well_behaved

WORKLOAD = Workload(input_tokens=5, output_tokens=4, warmup=0, time_limit_s=60.0)
PROFILE = {
    "schema": "llmcompare-run",
    "schema_version": "1.0",
    "kind": "measure",
    "created": "2026-11-01T00:00:00+00:00",
    "model": {"name": "tiny", "parameters": 10},
    "workload": {"batch_size": 1, "input_tokens": 5, "output_tokens": 4, "dtype": "fp32"},
    "metrics": {"ttft": metric("ttft", 0.01, "measured", n=1)},
    "stages": {"decode": {"latency_s": 0.01}},
    "modules": {"columns": ["stage", "path"], "rows": [["decode", ""], ["decode", "a"]]},
    "graph": {"decode": {"nodes": [{"id": "a"}], "edges": []}},
    "warnings": [],
}


def packed():
    return pack(PROFILE, 10**6)


def ours(extra):
    """A server of ours: its last event has what was asked for."""

    async def handler(request):
        if "llmcompare" not in request.body:
            await well_behaved(request)
            return
        assert request.body["llmcompare"]["profile"] is True
        await request.head()
        for word in "abcd":
            await request.text(word)
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        await request.event({"object": "llmcompare.profile", "choices": [], "llmcompare": extra})
        await request.event("[DONE]")
        await request.end()

    return handler


def measured(handler, *, profile=True):
    with running(handler) as (base, requests):
        endpoint = Endpoint("here", base, "tiny", profile=profile)
        found = measure_endpoint(endpoint, WORKLOAD, Load(requests=2), client)
    json.dumps(found, allow_nan=False)
    return found, requests


def note(found):
    return " ".join(one["message"] for one in found["warnings"] if one["code"] == "no_profile")


def test_one_request_more_brings_both_clocks_and_the_profile():
    server = {"ttft_s": 0.0001, "tpot_s": 0.00005, "e2e_s": 0.0003}
    found, requests = measured(ours({"server": server, "profile": packed()}))
    assert len(requests) == 3
    assert found["load"]["served"] == 2  # the request for the profile is none of the load
    assert found["served"] == PROFILE
    rows = {row[0]: row[1:] for row in found["clocks"]["rows"]}
    here, there, difference = rows["ttft"]
    assert there == 0.0001
    assert here > there
    assert difference == pytest.approx(here - there)
    assert note(found) == ""


def test_nothing_is_asked_of_a_server_that_is_not_to_be_asked():
    found, requests = measured(ours({}), profile=False)
    assert len(requests) == 2
    assert "served" not in found
    assert found["clocks"] is None


def test_other_servers_ignore_or_refuse_the_wish_and_the_load_stands():
    found, _ = measured(well_behaved)
    assert (found["served"], found["clocks"]) == (None, None)
    assert "none of ours" in note(found)

    async def strict(request):
        if "llmcompare" in request.body:
            await request.whole({"error": {"message": "unknown field llmcompare"}}, 422)
        else:
            await well_behaved(request)

    found, _ = measured(strict)
    assert "unknown field llmcompare" in note(found)
    assert found["load"]["served"] == 2
    assert found["failures"] == []


def test_times_without_layers_say_why():
    found, _ = measured(ours({"server": {"ttft_s": 0.001}, "profile": None}))
    assert found["clocks"]["rows"][0][2] == 0.001
    assert "no layers" in note(found)
    found, _ = measured(ours({"server": {}, "profile": None, "profile_error": "The model is made of \x1bcheese."}))
    assert "no layers: the model is made of cheese." in note(found)


@pytest.mark.parametrize(
    "server", ["x", [], {"ttft_s": "1"}, {"ttft_s": -1}, {"ttft_s": True}, {"ttft_s": 1e300}, {"ttft_s": 10**400}]
)
def test_times_that_are_none_are_not_shown(server):
    found, _ = measured(ours({"server": server, "profile": packed()}))
    assert found["clocks"] is None
    assert found["served"] == PROFILE


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"x": value}
    return value


HOSTILE = {
    "no document": [],
    "another kind": PROFILE | {"kind": "estimate"},
    "an endpoint's in an endpoint's": PROFILE | {"kind": "endpoint"},
    "too deep": PROFILE | {"memory": nested(MAX_DEPTH + 1)},
    "infinite": PROFILE | {"stages": {"decode": {"latency_s": float("inf")}}},
    "not a number": PROFILE | {"stages": {"decode": {"latency_s": float("nan")}}},
    "too large a number": PROFILE | {"model": {"parameters": 2**64}},
    "long text": PROFILE | {"model": {"name": "x" * 100_000}},
    "short rows": PROFILE | {"modules": {"columns": ["a", "b"], "rows": [["x"]]}},
    "twice the same column": PROFILE | {"modules": {"columns": ["a", "a"], "rows": []}},
    "a graph of texts": PROFILE | {"graph": {"decode": "x"}},
    "edges without ends": PROFILE | {"graph": {"decode": {"nodes": [], "edges": [{}]}}},
    "stages of numbers": PROFILE | {"stages": {"decode": 5}},
    "no metrics": {name: value for name, value in PROFILE.items() if name != "metrics"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_profile_that_is_not_as_it_should_be_is_left_out(name):
    with pytest.raises(Unfit):
        checked(copy.deepcopy(HOSTILE[name]))


def test_what_is_not_known_is_left_out_of_it():
    found = checked(
        PROFILE
        | {
            "output": {"texts": ["secret"]},
            "process_documents": [{}],
            "metrics": PROFILE["metrics"]
            | {
                "made_up": {"value": 1, "unit": "s", "origin": "measured", "definition": "made_up/1"},
                "wrong": {"value": "1", "unit": "s", "origin": "measured", "definition": "ttft/1"},
            },
        }
    )
    assert found == PROFILE


def test_a_long_prompt_costs_no_profile():
    """Prompts may be longer than any other text; neither they nor the answer are kept of it."""
    long = "x " * 50_000
    workload = PROFILE["workload"] | {"prompt": long}
    found = checked(PROFILE | {"workload": workload, "output": {"prompt": long, "texts": [long]}})
    assert found == PROFILE


def bomb():
    data = gzip.compress(b'{"x": "' + b"a" * 200_000_000 + b'"}')
    return {
        "encoding": "gzip+base64",
        "bytes": 10,
        "sha256": "0" * 64,
        "dropped": [],
        "data": base64.b64encode(data).decode(),
    }


@pytest.mark.parametrize(
    "given",
    ["x", {}, {"encoding": "zip"}, packed() | {"data": "%%%"}, packed() | {"data": 5}, packed() | {"sha256": "0" * 64}],
    ids=["text", "empty", "encoding", "no base64", "number", "digest"],
)  # fmt: skip
def test_a_packed_profile_that_cannot_be_read_is_left_out_with_a_sentence(given):
    found, _ = measured(ours({"server": {"ttft_s": 0.001}, "profile": given}))
    assert found["served"] is None
    assert "left out" in note(found)
    assert found["load"]["served"] == 2


def test_layers_that_did_not_fit_are_named():
    found, _ = measured(ours({"profile": packed() | {"dropped": ["model.layers.9", "section:graph"]}}))
    assert found["served"] == PROFILE
    (warning,) = [one for one in found["warnings"] if one["code"] == "profile_cut"]
    assert "model.layers.9" in warning["message"]


def test_a_profile_that_swells_beyond_all_measure_is_not_unpacked():
    found, _ = measured(ours({"profile": bomb()}))
    assert found["served"] is None
    assert "left out" in note(found)
