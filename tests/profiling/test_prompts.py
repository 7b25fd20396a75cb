"""Prompt files: what is read and refused, honest batches, the same words as one prompt alone, and requests of a load in order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from profiling import batching
from profiling.generation import Runner
from profiling.load import Load
from profiling.loading import Inputs, load
from profiling.measure import measure
from profiling.prompts import MAX_BYTES, Batches, parse, to_lines
from profiling.spec import SpecError, Workload
from tests.profiling.tiny import HOST, LLAMA, MAMBA, WORKLOAD
from tests.profiling.tokenised import make_tokenised

CPU = torch.device("cpu")
PROMPTS = ("what is the capital of france", "name three colours", "a b")
GPT2 = {
    **{
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": 128,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
    },
    **{"n_positions": 64, "eos_token_id": 1, "bos_token_id": 1},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tokenised(tmp_path_factory.mktemp("tiny"))


# --- files -----------------------------------------------------------------------------------------------------------


def test_json_lines_are_prompts_of_their_own_and_any_other_file_is_one():
    text = b'"one\\ntwo"\n\n{"prompt": "three"}\r\n{"text": "four", "id": 4}\n'
    assert parse(text, "questions.JSONL") == ["one\ntwo", "three", "four"]
    assert parse(b"one\n\ntwo\n", "story.txt") == ["one\n\ntwo\n"]
    assert parse("\ufeffgrüße".encode(), "a.txt") == ["grüße"]
    odd = ["line\u2028separator", 'quote " and \\', "ünï"]
    assert parse(to_lines(odd).encode(), "x.jsonl") == odd


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"first\nsecond \xff", "a.txt", "line 2"),
        (b"\xff\xfea\x00", "a.txt", "UTF-8"),
        (b"", "a.txt", "empty"),
        (b"\n \n", "a.jsonl", "no prompt"),
        (b'"a"\n{"question": "b"}', "a.jsonl", "Line 2 has no prompt"),
        (b'"a"\n[1]', "a.jsonl", "Line 2"),
        (b'"a"\n"b', "a.jsonl", "Line 2 is not JSON"),
        (b'"a"\n" "', "a.jsonl", "Prompt 2 is empty"),
        (b'"a\\u0000b"', "a.jsonl", "zero character"),
        (b'"\\ud800"', "a.jsonl", "surrogate"),
        (b'"a"\n' * 1001, "a.jsonl", "at most 1,000"),
        (b"x" * (MAX_BYTES + 1), "a.txt", "1,000,000 bytes"),
        (b"[" * 100_000, "a.jsonl", "Line 1"),
    ],
)
def test_what_is_no_prompt_file_is_refused_with_the_place(content, name, words):
    with pytest.raises(SpecError, match=words) as caught:
        parse(content, name)
    assert caught.value.field == "prompt_file"


def test_a_batch_that_the_prompts_cannot_fill_is_refused_not_filled_up():
    with pytest.raises(SpecError, match="Enter at most 3") as caught:
        Workload(prompts=PROMPTS, batch_size=4).check()
    assert caught.value.field == "batch_size"
    with pytest.raises(SpecError, match="not both"):
        Workload(prompts=PROMPTS, prompt="x").check()
    assert Workload.from_json(Workload(prompts=PROMPTS).to_json()) == Workload(prompts=PROMPTS)


def test_batches_keep_the_order_and_count_their_padding():
    batches = Batches((6, 3, 2, 5, 4), 2)
    assert batches.shapes == [(2, 6), (2, 5), (1, 4)]
    assert batches.padding == 3 + 3
    assert (batches.alike, batches.largest) == (False, 0)
    assert Batches((4, 4, 4, 4), 2).alike


# --- the same words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [None, GPT2], ids=["llama", "gpt2"])
def test_a_padded_batch_says_what_each_prompt_says_alone(tmp_path, config):
    spec = make_tokenised(tmp_path, config)
    workload = replace(WORKLOAD, prompts=PROMPTS, batch_size=3, output_tokens=12)
    loaded = load(spec, workload, CPU)
    together = batching.read(spec, workload).inputs(loaded, CPU)
    assert [one.mask is not None for one in together] == [True]
    ids = Runner(loaded, together[0], kind="decoder", logits="last", device=CPU).generate(12).ids
    for row, prompt in enumerate(PROMPTS):
        (alone,) = batching.read(spec, replace(workload, prompts=(prompt,), batch_size=1)).inputs(loaded, CPU)
        assert alone.mask is None
        expected = Runner(loaded, alone, kind="decoder", logits="last", device=CPU).generate(12).ids[0].tolist()
        assert ids[row, : len(expected)].tolist() == expected


def test_tokens_after_the_end_of_a_sequence_are_not_counted(model):
    loaded = load(model, WORKLOAD, CPU)
    inputs = Inputs(torch.tensor([[3, 4], [5, 6]]), None, None, frozenset({9}), False)
    runner = Runner(loaded, inputs, kind="decoder", logits="last", device=CPU)
    assert runner._going(torch.tensor([[7, 9, 8, 8], [7, 7, 7, 9]])) == (2, 2, 1, 1)


# --- measured --------------------------------------------------------------------------------------------------------


def test_a_measurement_runs_every_prompt_and_states_what_its_batches_were(model):
    workload = replace(WORKLOAD, prompts=PROMPTS, batch_size=2, output_tokens=4, iterations=3)
    document = measure(model, HOST, workload)
    said = document["batches"]
    assert said["prompt_tokens"] == [6, 3, 2]
    assert said["batches"] == [{"sequences": 2, "tokens": 6}, {"sequences": 1, "tokens": 2}]
    assert (said["padding_tokens"], said["padding_side"], said["same_shape"]) == (3, "left", False)
    output = document["output"]
    assert len(output["texts"]) == len(output["output_tokens"]) == 3
    assert output["prompts"] == list(PROMPTS)
    columns = document["samples"]["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in document["samples"]["rows"]]
    prefills = [row["tokens"] for row in rows if row["phase"] == "prefill" and not row["warmup"]]
    assert prefills == [9, 2, 9, 2]  # whole rounds, tokens of prompts only
    made = {row["iteration"]: 0 for row in rows if row["iteration"] >= 0}
    for row in rows:
        if row["phase"] == "decode" and not row["warmup"]:
            made[row["iteration"]] += row["tokens"]
    assert sum(output["output_tokens"]) == made[2] + 2 + made[3] + 1
    codes = {warning["code"] for warning in document["warnings"]}
    assert {"padding", "batches_differ"} <= codes
    assert set(document["errors"]) <= {"peak_memory"}
    assert "mfu_prefill" not in document["metrics"]
    assert document["workload"]["input_tokens"] == 6


def test_estimates_have_the_sequences_of_the_batch_that_was_measured(model):
    """The last batch can be the largest with fewer sequences than were asked for."""
    workload = replace(WORKLOAD, prompts=("a", "b", "a " * 40), batch_size=2, output_tokens=3, iterations=2)
    document = measure(model, HOST, workload)
    assert (document["batches"]["instrumented"], document["workload"]["batch_size"]) == (1, 2)
    prefill = document["stages"]["prefill"]
    assert (prefill["batch_size"], prefill["tokens"]) == (1, 40)
    table = document["memory"]["breakdown"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    (cache,) = [row for row in rows if (row["phase"], row["part"]) == ("prefill", "cache")]
    assert cache["measured_bytes"] == cache["estimated_bytes"]


def test_batches_of_one_shape_are_held_against_their_estimate(model):
    workload = replace(WORKLOAD, prompts=("a b c", "d e f"), batch_size=2, output_tokens=3)
    document = measure(model, HOST, workload)
    assert document["batches"]["padding_tokens"] == 0
    assert "ttft" in document["errors"]
    assert not {"padding", "batches_differ"} & {warning["code"] for warning in document["warnings"]}


def test_requests_of_a_load_are_the_prompts_in_their_order(model):
    workload = replace(WORKLOAD, prompts=PROMPTS, batch_size=2, output_tokens=3, iterations=1)
    document = measure(model, HOST, workload, load=Load(requests=7, concurrency=2))
    at = document["requests"]["columns"].index("input_tokens")
    assert [row[at] for row in document["requests"]["rows"]] == [6, 3, 2, 6, 3, 2, 6]
    assert document["load"]["prompts"] == 3
    assert document["load"]["padding_tokens"] > 0
    with pytest.raises(SpecError) as caught:
        measure(model, HOST, workload, load=Load(input_lengths="uniform(1, 4)"))
    assert caught.value.field == "load_input_lengths"


def test_what_cannot_be_is_said_at_its_field_before_anything_is_loaded(model, tmp_path):
    long = replace(WORKLOAD, prompts=("a " * 200, "b"), batch_size=1)
    with pytest.raises(SpecError, match="context of 128") as caught:
        measure(model, HOST, long)
    assert caught.value.field == "prompts"
    random = replace(model, weights="random", weights_path=None, config=LLAMA)
    with pytest.raises(SpecError, match="no tokenizer") as caught:
        measure(random, HOST, replace(WORKLOAD, prompts=PROMPTS))
    assert caught.value.field == "prompts"
    state = make_tokenised(tmp_path / "mamba", MAMBA | {"eos_token_id": 1}, kind="ssm")
    with pytest.raises(SpecError, match="batch size of 1") as caught:
        measure(state, HOST, replace(WORKLOAD, prompts=PROMPTS, batch_size=3))
    assert caught.value.field == "batch_size"
