"""Words of documents on a Chinese run page: sentences of the engine, kinds of failures, names of stages."""

from __future__ import annotations

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from llmcompare.runs import presentation
from llmcompare.runs.endpointpage import endpoint_section
from profiling.remote.sweep import REASONS
from tests.run_page import documents


@pytest.fixture(autouse=True)
def chinese():
    with translation.override("zh-hans"):
        yield


def test_why_a_sweep_ended_and_why_requests_failed():
    document = {
        "kind": "endpoint",
        "sweep": {"best": 1, "why": REASONS["saturated"], "rule": "", "levels": {"columns": ["users"], "rows": [[1], [2]]}},
        "failures": [
            {
                "kind": "timeout",
                "message": "The server was silent for longer than the time limit.",
                "requests": 2,
                "retry_after_s": None,
            }
        ],
    }  # fmt: skip
    html = render_to_string("runs/_endpoint.html", {"result": {"endpoint": endpoint_section(document)}})
    for english in (REASONS["saturated"], "The server was silent", "timeout"):
        assert english not in html
    assert "最佳级别：1 个用户" in html
    assert "超时" in html


def test_stages_in_titles_of_samples():
    html = render_to_string("runs/_samples.html", {"result": {"samples": presentation.samples(documents.measured())}})
    assert "预填充" in html
    assert "Prefill" not in html
    assert "Decode" not in html


def test_the_measured_stack_of_memory():
    document = documents.measured()
    document["memory"]["breakdown"] = documents.breakdown(document["memory"]["estimate"])
    figure = presentation.memory(document)["figure"]
    assert list(figure["layout"]["yaxis"]["categoryarray"]) == ["估算", "实测（预填充）", "实测（解码）"]
