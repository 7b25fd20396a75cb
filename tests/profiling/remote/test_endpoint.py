"""The document of an endpoint says what was sent and what came back, and the command line asks a real socket for it."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from profiling.cli import main
from profiling.load import Load
from profiling.remote import job
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.remote.spec import EndpointSpec, workload_json
from profiling.spec import SpecError, Workload
from profiling.units import DEFINITIONS
from tests.profiling.remote.serving import client, running, well_behaved

WORKLOAD = Workload(input_tokens=5, output_tokens=4, warmup=1, time_limit_s=60.0)


def measured(handler, load, workload=WORKLOAD, *, unique=True, **options):
    with running(handler) as (base, requests):
        found = measure_endpoint(Endpoint("here", base, "tiny", unique=unique), workload, load, client, **options)
    return found, requests


def rows(found, name):
    at = found["requests"]["columns"].index(name)
    return [row[at] for row in found["requests"]["rows"]]


def test_what_is_sent_and_what_comes_back():
    found, requests = measured(well_behaved, Load(requests=3, tpot_s=60.0, ttft_s=60.0))
    json.dumps(found, allow_nan=False)
    assert len(requests) == 4  # one to warm up
    assert rows(found, "output_tokens") == [4, 4, 4]
    assert rows(found, "events") == [4, 4, 4]
    assert rows(found, "failure") == [None] * 3
    assert (found["load"]["due"], found["load"]["served"], found["failures"]) == (3, 3, [])
    assert found["output"]["texts"] == ["t0 t1 t2 t3 "]
    metrics = found["metrics"]
    assert metrics["goodput_share"]["value"] == 1.0
    assert metrics["endpoint_tpot"]["n"] == 3
    assert metrics["inter_chunk_latency"]["n"] == 9
    for entry in metrics.values():
        assert entry["unit"] == DEFINITIONS[entry["definition"]].unit
        assert entry["origin"] == "measured"


def test_prompts_differ_unless_the_same_is_asked_for():
    prompt = WORKLOAD.__class__(**{**WORKLOAD.to_json(), "prompt": "Why?"})

    def sent(**options):
        _, requests = measured(well_behaved, Load(requests=3), **options)
        return [one.body["messages"][0]["content"] for one in requests[1:]]

    assert len(set(sent())) == 3
    unique = sent(workload=prompt)
    assert len({text[:8] for text in unique}) == 3
    assert all(text.endswith(" Why?") for text in unique)
    assert sent(workload=prompt, unique=False) == ["Why?"] * 3


def test_no_run_is_answered_from_what_the_server_remembers_of_another():
    """With the same seed only the beginnings differ: that is what caches of prefixes go by."""

    def sent(workload, **options):
        _, requests = measured(well_behaved, Load(requests=3), workload, **options)
        return [one.body["messages"][0]["content"].split() for one in requests]

    words = WORKLOAD.__class__(**{**WORKLOAD.to_json(), "input_tokens": 30})
    for one, other in zip(sent(words), sent(words), strict=True):
        assert len(one) == 30
        assert one[:8] != other[:8]
        assert one[8:] == other[8:]
    prompt = WORKLOAD.__class__(**{**WORKLOAD.to_json(), "prompt": "Why?"})
    for one, other in zip(sent(prompt), sent(prompt), strict=True):
        assert one[0] != other[0]
        assert one[1:] == other[1:] == ["Why?"]
    assert sent(words, unique=False) == sent(words, unique=False)


def test_failures_are_counted_by_reason_and_leave_the_others_their_figures():
    numbers = iter(range(100))

    async def handler(request):
        number = next(numbers)
        if number in (2, 3):
            await request.whole({"error": {"message": "slow down"}}, 429)
        elif number == 4:
            await request.head()
            await request.text("half")
            request.writer.transport.abort()
        else:
            await well_behaved(request)

    found, _ = measured(handler, Load(requests=6, e2e_s=60.0))
    assert [(f["kind"], f["requests"]) for f in found["failures"]] == [("rate_limit", 2), ("cut", 1)]
    assert found["load"]["served"] == 3
    assert found["metrics"]["endpoint_ttft"]["n"] == 3
    assert found["metrics"]["goodput_share"]["value"] == 0.5
    assert "failed_requests" in [warning["code"] for warning in found["warnings"]]


def test_a_server_that_refuses_everything_is_not_asked_on_and_on():
    async def handler(request):
        await request.whole({"error": {"message": "no"}}, 401)

    found, requests = measured(handler, Load(requests=500))
    assert len(requests) < 10
    assert found["metrics"] == {}
    assert found["output"] is None
    assert {"failed_requests", "load_cut"} <= {warning["code"] for warning in found["warnings"]}


def test_without_usage_there_is_no_time_per_token():
    async def handler(request):
        await request.head()
        await request.text("a")
        await request.text("b")
        await request.event("[DONE]")
        await request.end()

    found, _ = measured(handler, Load(requests=2))
    assert {"endpoint_tpot", "request_output_throughput"}.isdisjoint(found["metrics"])
    assert found["metrics"]["endpoint_ttft"]["n"] == 2
    assert "no_usage" in [warning["code"] for warning in found["warnings"]]


def test_goodput_is_unknown_where_an_objective_is():
    async def handler(request):
        await request.head()
        for text in "ab":
            await request.text(text)
        await request.event("[DONE]")
        await request.end()

    found, _ = measured(handler, Load(requests=2, tpot_s=60.0, e2e_s=60.0))
    assert {"request_goodput", "goodput_share"}.isdisjoint(found["metrics"])
    assert rows(found, "within_objectives") == [None, None]
    found, _ = measured(handler, Load(requests=2, e2e_s=60.0))
    assert found["metrics"]["goodput_share"]["value"] == 1.0
    found, _ = measured(handler, Load(requests=2, tpot_s=60.0, e2e_s=1e-9))  # missed whatever a token took
    assert rows(found, "within_objectives") == [False, False]


def test_an_answer_without_text_is_a_failure_with_its_reason():
    numbers = iter(range(100))

    async def handler(request):
        if next(numbers) % 2:
            await well_behaved(request)
            return
        await request.head()
        usage = {"completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 4}}
        await request.event({"choices": [{"delta": {"role": "assistant"}, "finish_reason": "length"}], "usage": usage})
        await request.event("[DONE]")
        await request.end()

    found, _ = measured(handler, Load(requests=4))
    (failure,) = found["failures"]
    assert (failure["kind"], failure["requests"]) == ("stream", 2)
    assert "reasoning" in failure["message"]
    assert found["load"]["served"] == found["metrics"]["endpoint_ttft"]["n"] == 2


def test_requests_of_an_open_loop_wait_for_no_other():
    """All of them are under way before the first is answered, more than a client usually has connections for."""
    under_way = []

    async def handler(request):
        mine = asyncio.get_running_loop().create_future()
        under_way.append(mine)
        if len(under_way) == 120:
            for one in under_way:
                one.set_result(None)
        await mine
        await well_behaved(request, tokens=1)

    workload = Workload(input_tokens=5, output_tokens=1, warmup=0, time_limit_s=30.0)
    asked = {"name": "here", "kind": "openai", "model": "tiny", "api": "chat", "unique_prompts": True, "profile": False}
    spec = EndpointSpec(asked, workload_json(workload), Load(mode="constant", rate=1000.0, requests=120).to_json())
    with running(handler) as (base, _):
        target = {"base": base, "api": "chat", "usage": True, "allowed": ["127.0.0.0/8"]}
        request = {"spec": spec.to_json(), "target": target, "headers": {}}
        found = job.run(request, lambda *progress: None, lambda document: None)
    assert (found["load"]["served"], found["failures"]) == (120, [])


def test_what_is_known_so_far_counts_all_though_it_shows_the_latest(monkeypatch):
    monkeypatch.setattr("profiling.remote.endpoint.TELL_S", 0.0)
    monkeypatch.setattr("profiling.remote.endpoint.TOLD", 3)
    so_far, numbers = [], iter(range(100))

    async def handler(request):
        if next(numbers) == 1:
            await request.whole({"error": {"message": "slow down"}}, 429)
        else:
            await well_behaved(request)

    workload = WORKLOAD.__class__(**{**WORKLOAD.to_json(), "warmup": 0})
    found, _ = measured(handler, Load(requests=12), workload, partial=so_far.append)
    last = so_far[-1]
    due = last["load"]["due"]
    assert due > len(rows(last, "request")) == 3
    # Intervals take long, and whatever runs beside a load is in its times.
    assert all(entry.get("ci95") is None for entry in last["metrics"].values())
    assert found["metrics"]["endpoint_ttft"]["ci95"] is not None
    assert last["load"]["served"] == due - 1
    warnings = {warning["code"]: warning["message"] for warning in last["warnings"]}
    assert f"after {due} requests" in warnings["load_cut"]
    assert f"1 of {due} requests failed" in warnings["failed_requests"]
    assert warnings["rate_limited"].startswith("1 requests met")


def test_a_key_that_is_a_usual_word_leaves_the_document_whole():
    async def handler(request):
        await request.head()
        await request.text("token: the model has a token of its own")
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": {"completion_tokens": 4}})
        await request.end()

    found, _ = measured(handler, Load(requests=1), key="token")
    assert found["output"]["texts"] == ["…: the model has a … of its own"]
    assert found["tokens"]["output"] == 4
    assert rows(found, "first_token_ns")
    found, _ = measured(handler, Load(requests=1), key="model")
    assert found["endpoint"]["model"] == "tiny"


def test_an_open_loop_sends_by_its_plan_and_a_cancelled_one_ends_at_once():
    found, _ = measured(well_behaved, Load(mode="constant", rate=100.0, requests=5))
    assert rows(found, "due_ns") == [0, 10**7, 2 * 10**7, 3 * 10**7, 4 * 10**7]
    begun = threading.Event()

    async def never_ends(request):
        await request.head()
        begun.set()
        await asyncio.sleep(3600)

    workload = WORKLOAD.__class__(**{**WORKLOAD.to_json(), "warmup": 0})
    found, _ = measured(never_ends, Load(requests=5, concurrency=2), workload, cancelled=begun.is_set)
    assert (found["metrics"], rows(found, "request")) == ({}, [])
    assert "load_cut" in [warning["code"] for warning in found["warnings"]]


def test_a_warm_up_that_never_ends_is_given_up_with_the_run():
    begun = threading.Event()

    async def never_ends(request):
        await request.head()
        begun.set()
        await asyncio.sleep(3600)

    began = time.monotonic()
    found, requests = measured(never_ends, Load(requests=5), cancelled=begun.is_set)
    assert time.monotonic() - began < 30  # and not after the time limit of a minute
    assert (len(requests), found["load"]["due"], found["metrics"]) == (1, 0, {})
    assert "load_cut" in [warning["code"] for warning in found["warnings"]]


def test_a_run_that_ended_before_its_profile_says_so():
    asked = []

    async def handler(request):
        asked.append(request)
        await well_behaved(request)

    with running(handler) as (base, _):
        found = measure_endpoint(
            Endpoint("here", base, "tiny", profile=True),
            WORKLOAD,
            Load(requests=50),
            client,
            cancelled=lambda: len(asked) > 4,
        )
    assert found["load"]["served"] > 0
    (note,) = [warning["message"] for warning in found["warnings"] if warning["code"] == "no_profile"]
    assert "ended before" in note


def test_what_cannot_be_asked_is_refused_at_its_field():
    with pytest.raises(SpecError) as refused:
        measure_endpoint(Endpoint("x", "http://127.0.0.1:9/v1", ""), WORKLOAD, Load(), client)
    assert refused.value.field == "model"


def test_the_command_line_takes_the_only_model_and_prints_its_figures(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "sk-secret")
    file = tmp_path / "found.json"
    with running(well_behaved) as (base, requests):
        status = main(["endpoint", "--url", base, "--requests", "2", "--api-key-env", "KEY", "--json", str(file)])
    shown = capsys.readouterr().out
    assert status == 0
    assert "2 of 2 requests answered" in shown
    assert "Time to first token of an endpoint" in shown
    assert requests[-1].headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in shown + file.read_text()
    assert json.loads(file.read_text())["metrics"]["endpoint_ttft"]["value"] > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--url", "ftp://x"], "url: The address must begin"),
        (["--url", "http://127.0.0.1:9/v1", "--model", "x"], "url: No connection"),
        (["--url", "http://127.0.0.1:9/v1", "--model", "x", "--api-key-env", "NO_SUCH"], "NO_SUCH is not set"),
        (["--url", "http://127.0.0.1:9/v1", "--model", "x", "--load", "poisson"], "load_rate"),
    ],
)
def test_the_command_line_says_what_is_wrong(options, says, capsys):
    assert main(["endpoint", *options]) == 2
    assert says in capsys.readouterr().err


def test_several_models_have_to_be_chosen_from(capsys):
    async def handler(request):
        await request.whole({"data": [{"id": "one"}, {"id": "two"}]})

    with running(handler) as (base, _):
        assert main(["endpoint", "--url", base]) == 2
        assert "one, two" in capsys.readouterr().err
        assert main(["endpoint", "--url", base, "--list-models"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
