"""A model that stays in memory: its answers are those of ``generate``, its documents those of a measurement, one request after another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from profiling.failures import EngineError
from profiling.spec import ModelSpec, SpecError, Workload
from tests.profiling import tiny

torch = pytest.importorskip("torch")

from profiling.measure import measure  # noqa: E402
from profiling.resident import load_resident  # noqa: E402
from tests.profiling.tokenised import make_tokenised  # noqa: E402

WORKLOAD = Workload(dtype="fp32", threads=1)
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}what"


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    return make_tokenised(tmp_path_factory.mktemp("resident"))


@pytest.fixture(scope="module")
def resident(spec):
    return load_resident(spec, tiny.HOST, WORKLOAD)


def column(table: dict, name: str) -> list:
    return [row[table["columns"].index(name)] for row in table["rows"]]


def test_the_text_is_that_of_generate(resident):
    for text in ("what is the capital of france", "name three colours", "a b c d"):
        prompt = resident.question(text)
        served = resident.serve(prompt, 12)
        ids = torch.tensor([prompt.ids])
        whole = resident.module.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=1,
            pad_token_id=0,
        )
        assert served.tokens == whole[0, ids.shape[1] :].tolist()
        assert resident.text(served.tokens) == resident.tokenizer.decode(served.tokens, skip_special_tokens=True)
        assert served.finish == ("stop" if served.tokens[-1] == 1 else "length")


def test_each_token_is_told_when_it_is_there_and_times_go_up(resident):
    told = []
    served = resident.serve(
        resident.question("what is"), 6, ignore_eos=True, told=lambda token: told.append(int(token))
    )
    assert told == served.tokens
    assert len(told) == 6
    assert served.times_ns == sorted(set(served.times_ns))
    assert len(served.times_ns) == 7


def test_the_document_is_that_of_a_measurement_and_its_latency_that_of_the_plain_pass(resident, spec):
    served = resident.serve(resident.question("what is the capital of france"), 5, ignore_eos=True)
    begin, first, *_, last = served.times_ns
    document = json.loads(json.dumps(resident.document(served), allow_nan=False))
    metrics = document["metrics"]
    assert metrics["ttft"]["value"] == pytest.approx((first - begin) / 1e9)
    assert metrics["tpot"]["value"] == pytest.approx((last - first) / 4 / 1e9)
    assert metrics["e2e_latency"]["value"] == pytest.approx((last - begin) / 1e9)
    assert column(document["samples"], "wall_ns") == [
        b - a for a, b in zip(served.times_ns, served.times_ns[1:], strict=False)
    ]
    assert column(document["samples"], "start_ns")[0] == 0
    assert document["output"]["texts"] == [resident.text(served.tokens)]
    assert document["output"]["ignore_eos"] is True

    alone = measure(spec, tiny.HOST, replace(tiny.WORKLOAD, prompt="what is the capital of france", output_tokens=5))
    assert set(document) == set(alone)
    assert document["modules"]["columns"] == alone["modules"]["columns"]
    assert column(document["modules"], "path") == column(alone["modules"], "path")
    assert set(column(document["modules"], "path")) == {path for path, _ in resident.module.named_modules()}
    timed = [value for value in column(document["modules"], "exclusive_s") if value is not None]
    assert min(timed) > 0
    assert [row["phase"] for row in document["memory"]["phases"]] == ["start", "load", "prefill", "decode"]
    assert document["profiled"]["stages"]
    assert {"one_pass"} <= {warning["code"] for warning in document["warnings"]}


def test_requests_leave_nothing_behind_for_the_next(resident):
    prompt = resident.question("name three colours")
    documents = [resident.document(resident.serve(prompt, tokens, ignore_eos=True)) for tokens in (9, 3)]
    assert [one["workload"]["output_tokens"] for one in documents] == [9, 3]
    assert [len(one["samples"]["rows"]) for one in documents] == [9, 3]
    codes = [[warning["code"] for warning in one["warnings"] if warning["code"] != "contended"] for one in documents]
    assert codes[0] == codes[1]
    assert not [path for path, module in resident.module.named_modules() if "forward" in vars(module)]


def test_whoever_asked_can_stop_it_in_every_pass(resident):
    class Enough(Exception):
        pass

    def after(number: int):
        seen = []

        def count(*_: object) -> None:
            seen.append(1)
            if len(seen) > number:
                raise Enough

        return seen, count

    prompt = resident.question("what is")
    seen, count = after(3)
    with pytest.raises(Enough):
        resident.serve(prompt, 50, ignore_eos=True, told=count)
    assert len(seen) == 4
    for tokens in (2, 9, 14):  # in the passes of modules, memory and operators
        seen, count = after(tokens)
        served = resident.serve(prompt, 6, ignore_eos=True)
        with pytest.raises(Enough):
            resident.document(served, count)
    assert resident.serve(prompt, 4, ignore_eos=True).tokens, "it goes on with the next request"


def test_an_answer_that_took_all_the_time_is_not_followed_by_further_passes(resident):
    served = resident.serve(resident.question("what is"), 3)
    served.session.workload = replace(served.session.workload, time_limit_s=1e-9)
    document = resident.document(served)
    assert "time_limit" in {warning["code"] for warning in document["warnings"]}
    assert document["instrumentation"] == {}
    assert document["metrics"]["ttft"]["value"] > 0
    assert set(column(document["modules"], "exclusive_s")) == {None}


def test_what_the_process_holds_besides_is_no_memory_of_the_model(resident):
    """As the traces of estimates, which each profile leaves to the next."""

    def peaks() -> tuple[int, int]:
        document = resident.document(resident.serve(resident.question("what is"), 4, ignore_eos=True))
        decode = next(row for row in document["memory"]["phases"] if row["phase"] == "decode")
        return document["metrics"]["peak_memory"]["value"], decode["rss_delta_bytes"]

    before = peaks()
    left = b"x" * (256 * 2**20)
    assert [after - then for then, after in zip(before, peaks(), strict=True)] == pytest.approx([0, 0], abs=64 * 2**20)
    del left


def test_no_pass_is_begun_once_time_is_short(resident):
    served = resident.serve(resident.question("what is"), 4, ignore_eos=True)
    seen = []

    def slow():
        seen.append(1)
        if len(seen) == 4:  # the last token of the pass with the modules
            served.session.workload = replace(served.session.workload, time_limit_s=1e-9)

    document = resident.document(served, slow)
    assert len(seen) == 5, "one more look, and no token of a further pass"
    assert set(column(document["modules"], "exclusive_s")) != {None}
    assert [row["phase"] for row in document["memory"]["phases"]] == ["start", "load"]
    assert "peak_memory" not in document["metrics"]
    said = [warning["message"] for warning in document["warnings"] if warning["code"] == "time_limit"]
    assert len(said) == 2
    assert all("time was short" in message for message in said)


def test_what_does_not_fit_is_refused_at_its_field(resident):
    prompt = resident.question("what is")
    assert resident.room(prompt) == 126
    with pytest.raises(SpecError) as refused:
        resident.serve(prompt, 127)
    assert refused.value.field == "prompt"
    with pytest.raises(SpecError) as refused:
        resident.conversation([{"role": "user", "content": "what"}, {"role": "assistant", "content": "is"}])
    assert refused.value.field == "messages"
    with pytest.raises(SpecError):
        load_resident(ModelSpec(name="BERT", config=tiny.BERT, kind="encoder"), tiny.HOST, WORKLOAD)


def test_a_conversation_goes_through_the_chat_template(tmp_path):
    spec = make_tokenised(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    resident = load_resident(spec, tiny.HOST, WORKLOAD)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    found = resident.conversation(messages)
    assert (found.templated, found.text) == (True, "user: a\nassistant: b")
    assert found.ids == tuple(resident.tokenizer("user a assistant b what")["input_ids"])
    assert resident.question("a") == resident.conversation([{"role": "user", "content": "a"}])
    assert resident.continuation("a").ids == tuple(resident.tokenizer("a")["input_ids"])


def test_a_model_without_a_tokenizer_reads_bytes_and_says_so():
    resident = load_resident(tiny.MODEL, tiny.HOST, WORKLOAD)
    prompt = resident.question("é?")
    assert prompt.ids == tuple(byte % 128 for byte in "é?".encode())
    served = resident.serve(prompt, 4)
    assert len(resident.text(served.tokens)) == 4
    document = resident.document(served)
    assert {"byte_tokens", "random_weights"} <= {warning["code"] for warning in document["warnings"]}


def test_a_model_that_computes_no_numbers_is_not_served(monkeypatch):
    from profiling import resident as module

    monkeypatch.setattr(module.Runner, "first_logits", lambda self: (None, False))
    with pytest.raises(EngineError) as refused:
        load_resident(tiny.MODEL, tiny.HOST, WORKLOAD)
    assert refused.value.kind == "numeric"


def test_an_answer_that_came_of_no_numbers_is_an_error_and_no_answer(tmp_path):
    """One word of the model is broken: it is found when a prompt has it, not when the model is loaded."""
    spec = make_tokenised(tmp_path, tiny.LLAMA | {"tie_word_embeddings": False, "eos_token_id": 1})
    resident = load_resident(spec, tiny.HOST, WORKLOAD)
    (broken,) = resident.question("d").ids
    with torch.no_grad():
        resident.module.get_input_embeddings().weight[broken] = float("nan")
    with pytest.raises(EngineError) as refused:
        resident.serve(resident.question("a d"), 4, ignore_eos=True)
    assert (refused.value.kind, refused.value.field) == ("numeric", "dtype")
    assert resident.serve(resident.question("a b"), 1).tokens
