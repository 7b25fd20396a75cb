"""The sweep over all architectures: a sample each time, a third with ``--all``, every type with ``--exhaustive``; and the guard of
folding."""

from __future__ import annotations

import re

import pytest
from torch import nn

from profiling import build as building
from profiling.build import build, cached_build
from profiling.folding import folds_hold
from profiling.passes import Pass, trace
from tests.profiling.coverage import PAGE, check, everything, merged, row, sweep
from tests.profiling.test_trace import tiny, totals

#: One of each kind of difficulty: grouped experts, scans, latent attention, hybrids, own state, own experts, no cache,
#: questions about values, a text part, code books, pooling, cross-attention, images whole and in patches, sound.
SAMPLE = {
    "decoder": "mixtral mamba2 deepseek_v3 jamba rwkv jetmoe openai-gpt rembert qwen3_5 musicgen gemma3n_text cpmant longcat_flash qwen4_exp_text".split(),  # noqa: SIM905
    "encoder": ["deberta-v2", "modernbert", "funnel"],
    "encdec": ["t5gemma", "pegasus_x", "voxtral", "switch_transformers"],
    "front_end": ["llava", "qwen2_vl", "voxtral"],
}


def documented() -> dict[tuple[str, str], str]:
    """(title of the family, type) → its row in docs/coverage.md."""
    from tests.profiling.coverage import FAMILIES

    rows, kind = {}, ""
    titles = {title: kind for kind, title in FAMILIES.items()}
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            kind = titles[line[3:]]
        elif kind and (found := re.match(r"\| ([\w.-]+) \| \w+ \|", line)) and found[1] != "type":
            rows[(kind, found[1])] = line
    return rows


def test_the_page_lists_every_type_of_the_installed_transformers():
    assert set(documented()) == {(kind, model_type) for model_type, _, kind in everything()}


def test_single_rows_and_the_totals_can_be_written_anew():
    text = PAGE.read_text()
    assert merged(text, []) == text
    failed = {"type": "llava", "class": "LlavaForConditionalGeneration", "kind": "front_end", "problem": "It fails."}
    changed = merged(text, [failed])
    assert "| llava | LlavaForConditionalGeneration | It fails. |" in changed
    assert len(set(changed.splitlines()) ^ set(text.splitlines())) == 4  # the row and the total, before and after


@pytest.mark.parametrize(("kind", "model_type"), [(k, t) for k, members in SAMPLE.items() for t in members])
def test_sample_works_as_the_page_says(kind, model_type):
    class_name = next(c for t, c, k in everything() if (t, k) == (model_type, kind))
    result = check(model_type, class_name, kind)
    assert result["problem"] is None
    assert row(result) == documented()[(kind, model_type)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "step",
    [pytest.param(3, marks=pytest.mark.slow, id="a third"), pytest.param(1, marks=pytest.mark.exhaustive, id="all")],
)
def test_every_type_is_as_the_page_says(step):
    """All types take more time than everything else of the engine together: with ``--all`` every third of them is traced."""
    wanted = everything()[::step]
    found, page = {(r["kind"], r["type"]): row(r) for r in sweep(wanted)}, documented()
    assert len(found) == len(wanted)
    assert found == {key: page[key] for key in found}


def test_work_between_blocks_is_counted_for_every_block(monkeypatch):
    """A parent that runs an operator after each block: the folded model would count it for the kept blocks only."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    spec, deep = Pass("prefill", 2, 8), tiny(num_hidden_layers=9, rms_norm_eps=1e-4)
    assert folds_hold(build(deep, "bf16"))
    monkeypatch.setattr(
        LlamaDecoderLayer, "__call__", lambda self, *a, **k: nn.Module.__call__(self, *a, **k) * 2, raising=False
    )
    monkeypatch.setattr(building, "_BUILT", building.Lru(2))
    folded, whole = build(deep, "bf16"), build(deep, "bf16", fold=False)
    assert totals(trace(folded, spec)) != totals(trace(whole, spec))
    assert not folds_hold(folded)
    assert totals(trace(cached_build(deep, "bf16", "sdpa"), spec)) == totals(trace(whole, spec))
