"""Bodies of requests: both shapes are read, and what is wrong is refused by its name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.remote.protocol import Question as Portal
from serving.bodies import Question, read
from serving.errors import Refusal

USER = [{"role": "user", "content": "Why?"}]


def body(**found):
    return read(json.dumps(found).encode())


def test_the_shape_of_vertex_ai():
    found = body(
        instances=[{"prompt": "a"}, {"messages": USER}],
        parameters={"max_tokens": 16.0, "seed": 3, "profile": True, "ignore_eos": None},
    )
    assert found.kind == "predict"
    assert not found.stream
    assert found.questions[0] == Question(prompt="a", max_tokens=16, seed=3, profile=True)
    assert found.questions[1].messages == ({"role": "user", "content": "Why?"},)
    assert body(instances=[{"prompt": "a"}]).questions == (Question(prompt="a"),)


def test_what_the_portal_sends_is_understood():
    for api in ("chat", "completions"):
        found = read(json.dumps(Portal("m", "Why?", 8, api).body()).encode())
        assert (found.stream, found.usage, found.timing) == (True, True, False)
        assert found.questions[0].max_tokens == 8
        assert found.questions[0].as_it_is is (api == "completions")


def test_the_openai_protocol_with_what_is_ours():
    found = body(messages=USER, max_completion_tokens=4, llmcompare={"profile": True})
    assert (found.kind, found.timing, found.questions[0].profile, found.questions[0].max_tokens) == (
        "chat",
        True,
        True,
        4,
    )
    found = body(prompt=["a"], stream=True, llmcompare={"timing": True}, temperature=0, top_p=1.0, n=1, stop=None)
    assert (found.kind, found.timing, found.questions[0].profile) == ("completion", True, False)
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert body(messages=parts).questions[0].messages == ({"role": "user", "content": "ab"},)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({}, "neither instances"),
        ({"instances": []}, "instances must be a list of 1 to 8"),
        ({"instances": [{}]}, "instances[0] must be an object with either"),
        ({"instances": [{"prompt": "a", "messages": USER}]}, "instances[0] must be"),
        ({"instances": [{"prompt": "a", "top_k": 3}]}, "instances[0].top_k is no field"),
        ({"instances": [{"prompt": 3}]}, "instances[0].prompt must be a text"),
        ({"instances": [{"prompt": "a"}], "parameters": []}, "parameters must be"),
        ({"instances": [{"prompt": "a"}], "parameters": {"temperature": 1}}, "parameters.temperature is no field"),
        ({"instances": [{"prompt": "a"}], "parameters": {"max_tokens": 0}}, "parameters.max_tokens must be"),
        ({"instances": [{"prompt": "a"}], "parameters": {"max_tokens": True}}, "parameters.max_tokens must be"),
        (
            {"instances": [{"prompt": "a"}], "parameters": {"profile": "yes"}},
            "parameters.profile must be true or false",
        ),
        ({"messages": USER, "prompt": "a"}, "either messages or prompt"),
        ({"messages": []}, "messages must be a list of 1"),
        ({"messages": ["a"]}, "messages[0] must be an object"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role must be one of"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "reads text alone"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages[0].name is no field"),
        ({"messages": USER, "min_tokens": 4}, "min_tokens is no field"),
        ({"messages": USER, "temperature": 0.7}, "temperature must be 0"),
        ({"messages": USER, "n": 2}, "n must be 1"),
        ({"messages": USER, "stop": ["x"]}, "stop must be [] or left out"),
        ({"messages": USER, "logprobs": True}, "logprobs must be false"),
        ({"messages": USER, "tools": [{}]}, "tools must be []"),
        ({"messages": USER, "stream": "true"}, "stream must be true or false"),
        ({"messages": USER, "stream_options": {"include_usage": True}}, "stream_options need stream"),
        ({"messages": USER, "max_tokens": 1, "max_completion_tokens": 1}, "not both"),
        ({"messages": USER, "max_tokens": 1.5}, "max_tokens must be"),
        ({"messages": USER, "seed": "x"}, "seed must be"),
        ({"messages": USER, "llmcompare": {"layers": True}}, "llmcompare.layers is no field"),
        ({"prompt": ""}, "prompt must be a text"),
        ({"prompt": ["a", "b"]}, "prompt must be a text"),
        ({"prompt": "\ud800"}, "lone surrogate"),
    ],
)
def test_what_is_wrong_is_said(found, says):
    with pytest.raises(Refusal) as refused:
        body(**found)
    assert refused.value.code == 400
    assert says in refused.value.message
    assert refused.value.to_json()["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"3", b'{"prompt": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_said(raw):
    with pytest.raises(Refusal) as refused:
        read(raw)
    assert "JSON" in refused.value.message


shapes = st.dictionaries(
    st.sampled_from(
        ["instances", "parameters", "messages", "prompt", "stream", "max_tokens", "seed", "n", "llmcompare"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["prompt", "messages", "role", "content", "profile", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ),
)


@settings(max_examples=200, deadline=None)
@given(shapes)
def test_nothing_but_a_refusal_comes_of_any_body(found):
    try:
        body = read(json.dumps(found).encode())
    except Refusal:
        return
    assert body.questions
