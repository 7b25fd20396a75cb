"""Tokens are the server's count; where it gives none they are counted with the model's own tokenizer and marked, or stay unknown."""

from __future__ import annotations

import asyncio

import pytest

from profiling.load import Load
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.spec import Workload
from tests.profiling.remote.serving import client, running, well_behaved

WORKLOAD = Workload(input_tokens=5, output_tokens=8, warmup=0, time_limit_s=60.0)


class Words:
    """Counts words: what a tokenizer would do with the texts of these servers."""

    name = "tiny"

    def __call__(self, texts):
        return [len(text.split()) for text in texts]


def answering(words, usage=None):
    async def handler(request):
        await request.head()
        for word in words:
            await request.text(f"{word} ")
            await asyncio.sleep(0.002)
        await request.event(
            {"choices": [{"delta": {}, "finish_reason": "stop"}], **({"usage": usage} if usage else {})}
        )
        await request.event("[DONE]")
        await request.end()

    return handler


def measured(handler, counter=None):
    with running(handler) as (base, _):
        return measure_endpoint(Endpoint("here", base, "tiny"), WORKLOAD, Load(requests=3), client, counter=counter)


def codes(found):
    return [warning["code"] for warning in found["warnings"]]


def rows(found, name):
    at = found["requests"]["columns"].index(name)
    return [row[at] for row in found["requests"]["rows"]]


def test_a_server_that_counts_is_believed_and_compared():
    found = measured(answering("abcd", {"prompt_tokens": 7, "completion_tokens": 5}), Words())
    assert found["tokens"] == {
        "output_from": "server",
        "tokenizer": "tiny",
        "compared": {"answers": 3, "server": 15, "counted": 12, "difference": pytest.approx(-0.2)},
        "input": 21,
        "output": 15,
        "reasoning": None,
        "cached": None,
        "early_ends": 3,
    }
    assert rows(found, "tokens_from") == ["server"] * 3
    assert found["metrics"]["endpoint_tpot"]["origin"] == "measured"
    assert "token_difference" in codes(found)


def test_without_a_count_the_tokenizer_counts_and_the_figures_say_so():
    found = measured(answering("abcd"), Words())
    assert (found["tokens"]["output_from"], found["tokens"]["output"], found["tokens"]["input"]) == (
        "counted",
        12,
        None,
    )
    assert rows(found, "output_tokens") == [4, 4, 4]
    assert rows(found, "tokens_from") == ["counted"] * 3
    for key in ("endpoint_tpot", "request_output_throughput"):
        assert found["metrics"][key]["origin"] == "estimated"
        assert "tokenizer of tiny" in found["metrics"][key]["note"]
    assert found["metrics"]["endpoint_ttft"]["origin"] == "measured"
    assert "counted_tokens" in codes(found)
    assert "no_usage" not in codes(found)


def test_without_a_count_and_without_a_tokenizer_they_stay_unknown():
    found = measured(answering("abcd"))
    assert (found["tokens"]["output_from"], found["tokens"]["output"]) == (None, None)
    assert rows(found, "tokens_from") == [None] * 3
    assert "no_usage" in codes(found)


def test_reasoning_and_cached_tokens_are_shown_apart():
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": 6,
        "completion_tokens_details": {"reasoning_tokens": 2},
        "prompt_tokens_details": {"cached_tokens": 30},
    }
    found = measured(answering("abcd", usage), Words())
    # Of 6 tokens 2 were kept by the server: compared with the text are the others, and they are as many.
    assert found["tokens"]["compared"] == {"answers": 3, "server": 12, "counted": 12, "difference": 0}
    assert "token_difference" not in codes(found)
    assert (found["tokens"]["reasoning"], found["tokens"]["cached"]) == (6, 90)
    assert rows(found, "reasoning_tokens") == [2, 2, 2]
    assert "cached" in codes(found)


def test_a_tokenizer_that_fails_costs_its_count_and_nothing_else():
    def broken(texts):
        raise OSError("/srv/models/x: no such file")

    broken.name = "tiny"
    found = measured(well_behaved, broken)
    assert found["tokens"]["output_from"] == "server"
    (warning,) = [one for one in found["warnings"] if one["code"] == "not_counted"]
    assert "/srv/models" not in warning["message"]
