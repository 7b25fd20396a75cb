"""A sweep goes on while more users get more out of the server, stops where they only wait longer, and says which level was best and why."""

from __future__ import annotations

import asyncio
import json

import pytest

from profiling.load import Load
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.remote.levels import Sweep, levels
from profiling.remote.sweep import judged
from profiling.spec import SpecError, Workload
from tests.profiling.remote.serving import client, running

WORKLOAD = Workload(input_tokens=5, output_tokens=4, warmup=0, time_limit_s=60.0)
TOKEN_S = 0.04


def capacity(slots):
    """A server that answers ``slots`` requests at a time, four tokens each, one every TOKEN_S; the others wait."""
    room = asyncio.Semaphore(slots)

    async def handler(request):
        async with room:
            await request.head()
            for _ in range(4):
                await asyncio.sleep(TOKEN_S)
                await request.text("x")
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": {"completion_tokens": 4}})
        await request.event("[DONE]")
        await request.end()

    return handler


def swept(handler, sweep, load=None, **options):
    with running(handler) as (base, requests):
        found = measure_endpoint(
            Endpoint("here", base, "tiny"), WORKLOAD, load or Load(requests=8), client, sweep=sweep, **options
        )
    json.dumps(found, allow_nan=False)
    return found, requests


def table(found):
    columns = found["sweep"]["levels"]["columns"]
    return [dict(zip(columns, row, strict=True)) for row in found["sweep"]["levels"]["rows"]]


def level_row(**other):
    """A level as the sweep judges it: four requests, all of them served; with ``other`` values where they differ."""
    served = {"requests": 4, "served": 4, "failed": 0, "cut": False}
    return served | {"output_throughput": 100.0, "request_throughput": 25.0, "e2e_s": 0.1} | other


def test_it_stops_where_more_users_only_wait_longer():
    found, requests = swept(capacity(4), Sweep((1, 2, 4, 8, 16, 32), 0.25))
    rows, sweep = table(found), found["sweep"]
    assert (sweep["best"], sweep["saturated_at"], sweep["reason"]) == (4, 8, "saturated")
    assert [row["users"] for row in rows] == [1, 2, 4, 8]
    assert [row["requests"] for row in rows] == [8, 8, 8, 16]  # two for each user, at least
    assert len(requests) == 40
    # Twice the users, twice the tokens, until there is no slot left: then twice the time instead.
    assert rows[2]["output_throughput"] > 2 * rows[0]["output_throughput"]
    assert rows[3]["gain"] < 0.25 < rows[2]["gain"]
    assert rows[3]["e2e_s"] > rows[2]["e2e_s"]
    assert rows[3]["tpot_s"] == pytest.approx(rows[0]["tpot_s"], rel=0.5)
    assert "25 %" in sweep["rule"]


def test_the_figures_of_the_run_are_those_of_the_best_level():
    found, _ = swept(capacity(2), Sweep((1, 2, 16), 0.5), Load(requests=16, e2e_s=0.8))
    rows = {row["users"]: row for row in table(found)}
    assert found["sweep"]["best"] == 2
    assert found["load"]["concurrency"] == 2
    assert found["metrics"]["request_output_throughput"]["value"] == rows[2]["output_throughput"]
    assert found["metrics"]["endpoint_tpot"]["value"] == rows[2]["tpot_s"]
    assert found["metrics"]["endpoint_ttft"]["note"] == "with 2 at once, the best level of the sweep"
    # Within 800 ms (an answer takes 160, and eight times as long to wait for): everybody while there is room, few once most users wait.
    assert rows[2]["goodput_share"] == 1.0
    assert rows[16]["goodput_share"] < 0.5
    users = found["requests"]["columns"].index("users")
    assert {row[users] for row in found["requests"]["rows"]} == {1, 2, 16}


def test_a_server_that_still_has_room_says_so():
    found, _ = swept(capacity(64), Sweep((1, 2)))
    assert (found["sweep"]["best"], found["sweep"]["saturated_at"], found["sweep"]["reason"]) == (2, None, "levels")


def test_rate_limits_end_it_and_are_counted():
    under_way = 0

    async def limited(request):
        nonlocal under_way
        if under_way >= 2:
            await request.whole({"error": {"message": "slow down"}}, 429, Retry_After="7")
            return
        under_way += 1
        try:
            await capacity(8)(request)
        finally:
            under_way -= 1

    found, _ = swept(limited, Sweep((1, 2, 8, 16), 0.2), Load(requests=16))
    rows = table(found)
    assert (found["sweep"]["reason"], found["sweep"]["best"]) == ("failures", 2)
    assert [row["users"] for row in rows] == [1, 2, 8]
    assert rows[2]["rate_limited"] == rows[2]["failed"] > 8
    (failure,) = found["failures"]
    assert (failure["kind"], failure["retry_after_s"], failure["requests"]) == ("rate_limit", 7.0, rows[2]["failed"])
    assert "rate_limited" in [warning["code"] for warning in found["warnings"]]


def test_a_level_that_was_cut_short_is_neither_best_nor_the_end():
    row = level_row()
    cut = row | {"cut": True, "output_throughput": 90.0, "e2e_s": 0.4}
    assert judged([row, cut], 0.05) == (0, None, [None, None])
    assert judged([cut], 0.05) == (None, None, [None])


def test_a_level_that_mostly_failed_is_never_the_best_even_if_the_rest_was_fast():
    row = level_row()
    failed = row | {"requests": 16, "served": 6, "failed": 10, "output_throughput": 150.0}
    assert judged([row, failed], 0.05) == (0, None, [None, None])
    assert judged([row, failed | {"served": 8, "failed": 8}], 0.05)[0] == 1


def test_without_a_best_level_no_figure_is_said_to_be_of_it():
    numbers = iter(range(100))

    async def mostly_failing(request):
        if next(numbers) % 4:
            await request.whole({"error": {"message": "slow down"}}, 429)
        else:
            await capacity(8)(request)

    found, _ = swept(mostly_failing, Sweep((1, 2)), Load(requests=8))
    assert (found["sweep"]["best"], found["sweep"]["reason"]) == (None, "failures")
    assert found["metrics"]["endpoint_ttft"]["n"] == 2
    assert {entry.get("note") for entry in found["metrics"].values()} == {None}


def test_what_is_known_so_far_does_not_judge_a_level_that_is_under_way(monkeypatch):
    monkeypatch.setattr("profiling.remote.endpoint.TELL_S", 0.0)
    so_far = []
    found, _ = swept(capacity(8), Sweep((1, 2, 4), 0.25), Load(requests=6), partial=so_far.append)
    assert found["sweep"]["best"] == 4
    told = [one for one in so_far if table(one)]
    assert told
    for one in told:
        assert table(one)[-1]["cut"] is True
        assert one["sweep"]["best"] != table(one)[-1]["users"]
        assert one["sweep"]["reason"] == "cut"


def test_requests_are_compared_where_tokens_are_unknown():
    row = level_row(output_throughput=None)
    best, end, gains = judged([row, row | {"request_throughput": 50.0}, row | {"e2e_s": 0.3}], 0.05)
    assert (best, end) == (1, 2)
    assert gains == [None, 1.0, -0.5]


def test_less_throughput_without_longer_answers_is_no_end():
    row = level_row()
    assert judged([row, row | {"e2e_s": 0.09}], 0.05)[:2] == (0, None)


def test_levels_are_written_as_numbers_or_as_doublings():
    assert levels("1, 2,4 8") == (1, 2, 4, 8)
    assert levels("1..16") == (1, 2, 4, 8, 16)
    assert levels("3..20") == (3, 6, 12, 20)
    assert levels("5..5") == (5,)
    for text in ("", "a", "1..", "8..2", "0..4", "1.5", "1;2"):
        with pytest.raises(SpecError) as refused:
            levels(text)
        assert refused.value.field == "load_levels"
    for wrong in (Sweep((2, 1)), Sweep((1, 1)), Sweep(()), Sweep((0, 1)), Sweep(tuple(range(1, 30))), Sweep((1, 5000))):
        with pytest.raises(SpecError, match="the smaller first"):
            wrong.check()
    for gain in (0, -1, 1.5, float("nan"), True, "x"):
        with pytest.raises(SpecError) as refused:
            Sweep((1, 2), gain).check()
        assert refused.value.field == "load_gain"
