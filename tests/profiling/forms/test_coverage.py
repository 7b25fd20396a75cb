"""docs/coverage-forms.md, the page of types that have closed forms: some of its rows are checked anew."""

from __future__ import annotations

import re

import pytest

from tests.profiling.forms.coverage import FAMILIES, PAGE, check, everything, has_form, page, row, sample

#: One of each family that is quick, and one for each way to have no form.
WITH = [("gemma", "decoder"), ("fsmt", "encdec"), ("ibert", "encoder")]
WITHOUT = [("funnel", "encoder"), ("rwkv", "decoder")]


def checked(model_type: str, kind: str) -> dict:
    class_name = next(c for t, c, k in everything() if (t, k) == (model_type, kind))
    return check(model_type, class_name, kind)


def test_the_page_is_of_the_types_that_were_drawn():
    text = PAGE.read_text()
    count = int(re.search(r"--sample (\d+)", text)[1])
    assert f"{count} of {len(everything())} types" in text
    titles = {title: kind for kind, title in FAMILIES.items()}
    named = set()
    for line in text.split("## Types with\n")[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in titles:
            named |= {(name, titles[cells[0]]) for name in cells[1].split(", ")}
        elif len(cells) == 3 and cells[1] in titles:
            named.add((cells[0], titles[cells[1]]))
    assert named == {(model_type, kind) for model_type, _, kind in sample(count)}


def test_totals_are_those_of_the_results():
    drawn = sample(3)
    results = [{"type": t, "class": c, "kind": k, "no_form": None, "problem": None} for t, c, k in drawn]
    results[1]["problem"] = "flops differ"
    text = page(results)
    assert "--sample 3" in text
    assert (
        f"| {results[1]['type']} | {FAMILIES[results[1]['kind']]} | Differs from a trace or fails: flops differ |"
        in text
    )
    of_kind = [r for r in results if r["kind"] == results[1]["kind"]]
    assert f"| {len(of_kind)} | {len(of_kind) - 1} |" in text


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "kind"), WITH + WITHOUT)
def test_types_are_as_the_page_says(model_type, kind):
    result = checked(model_type, kind)
    assert result["problem"] is None
    assert has_form(result) == ((model_type, kind) in WITH)
    if not has_form(result):
        assert row(result) in PAGE.read_text()
