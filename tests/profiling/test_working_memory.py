"""What a request has in work at a time: as the allocator sees it, never less than that in advance, and held against what is free."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from profiling import loading  # noqa: E402
from profiling.build import build  # noqa: E402
from profiling.failures import EngineError  # noqa: E402
from profiling.passes import Pass  # noqa: E402
from profiling.resident import load_resident  # noqa: E402
from profiling.spec import Workload  # noqa: E402
from profiling.working_memory import WorkingMemory  # noqa: E402
from tests.profiling import tiny  # noqa: E402
from tests.profiling.real_runs import real_activation_peak, real_model, spec_of  # noqa: E402
from tests.profiling.tokenised import make_tokenised  # noqa: E402

#: Wide enough that a prompt of a hundred tokens has more in work than a request may need unasked (64 MiB).
WIDE = tiny.LLAMA | {"intermediate_size": 100_000, "num_hidden_layers": 1, "eos_token_id": 1}
MB = 10**6


def working(model_type: str) -> WorkingMemory:
    return WorkingMemory(build(spec_of(model_type), "fp32"), threads=torch.get_num_threads(), logits="last")


@pytest.mark.parametrize("model_type", ["gpt2", "mistral", "t5"])
def test_it_is_what_the_allocator_gives_to_the_larger_of_both_passes(model_type):
    model = spec_of(model_type)
    built, module = build(model, "fp32"), real_model(model, "fp32", attn_implementation="sdpa")
    prompt, answer = 300, 200
    passes = [Pass("prefill", 1, prompt), Pass("decode", 1, 1, prompt + answer - 1)]
    if built.kind == "encdec":
        passes = [Pass("prefill", 1, 1, 0, prompt), Pass("decode", 1, 1, prompt - 1, prompt)]
    real = max(real_activation_peak(built, module, one) for one in passes)
    assert working(model_type).exactly(prompt, answer) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("model_type", ["gpt2", "mistral", "qwen3_moe", "deepseek_v3", "t5"])
def test_what_is_known_in_advance_is_never_too_little(model_type):
    found = working(model_type)
    for prompt, answer in ((1, 1), (1, 600), (100, 20), (511, 1), (512, 1), (513, 1), (700, 300)):
        assert found.at_most(prompt, answer) >= found.exactly(prompt, answer), (prompt, answer)
    assert found.at_most(600, 1) <= 5 * found.exactly(600, 1), "nor so much that it says nothing"


def test_a_long_answer_to_a_short_prompt_counts_its_last_step():
    """Attention whose scores are in memory has as many of them as there are tokens by then."""
    found = working("gemma2")
    assert found.at_most(8, 900) >= found.exactly(8, 900) > 10 * found.exactly(8, 1)


def test_nothing_is_traced_for_a_request_whose_length_was_prepared(monkeypatch):
    found = working("gpt2")
    found.prepare()
    monkeypatch.setattr("profiling.working_memory.trace", lambda *_: pytest.fail("traced while a request waits"))
    context = found._built.max_context
    assert all(found.at_most(prompt, 1) for prompt in (1, 513, context - 1))


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
    spec = make_tokenised(tmp_path_factory.mktemp("model"), WIDE)
    return load_resident(spec, tiny.HOST, Workload(dtype="fp32", threads=1))


def free(monkeypatch, size: float) -> None:
    monkeypatch.setattr(loading, "free_memory", lambda device: round(size))


def test_a_prompt_whose_pass_does_not_fit_is_refused_before_it_begins(resident, monkeypatch):
    """Its cache is a few kB and would fit; a short prompt does."""
    long, short = resident.continuation(" ".join("abcd" * 25)), resident.continuation("a b c")
    need = resident.working.exactly(100, 2)
    assert need > 100 * MB > 1000 * 102 * resident.cache_bytes_per_token
    free(monkeypatch, 0.9 * need)
    begun = []
    hook = resident.module.register_forward_pre_hook(lambda *_: begun.append(1))
    try:
        with pytest.raises(EngineError) as refused:
            resident.serve(long, 2)
        assert (refused.value.kind, begun) == ("memory", [])
        assert refused.value.message.startswith("A prompt of 100 tokens with an answer of up to 2 needs 1")
        assert "Send a shorter prompt" in refused.value.message
        assert resident.serve(short, 2).tokens
    finally:
        hook.remove()


def test_one_that_fits_is_not_refused_for_what_is_known_of_a_longer_one(resident, monkeypatch):
    prompt = resident.continuation(" ".join("abcd" * 25))
    exact, bound = resident.working.exactly(100, 2), resident.working.at_most(100, 2)
    assert exact < 0.9 * bound
    free(monkeypatch, 1.05 * exact)
    assert resident.serve(prompt, 2).tokens
