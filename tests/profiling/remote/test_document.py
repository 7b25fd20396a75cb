"""docs/run-document.md and the documents of endpoints say the same: no key that is not described, no description of what does not exist."""

from __future__ import annotations

import re

import pytest

from profiling.load import Load
from profiling.remote.document import COLUMNS
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.remote.levels import Sweep
from profiling.remote.packed import pack
from profiling.remote.sweep import REASONS
from profiling.spec import Workload
from tests.profiling.remote.serving import client, running, well_behaved
from tests.profiling.remote.test_counting import Words
from tests.profiling.remote.test_served import PROFILE, ours
from tests.profiling.test_document_contract import ROOT, keys_of, texts_of

#: Described, but in none of these documents: values of other servers and outcomes, and names of Python.
NOT_HERE = {
    *("vertex", "completions", "openai", "mixed", "counted", "no_profile", "null", "note", "origin", "python", "m"),
    *("refused", "connect", "timeout", "http", "stream", "cut", "estimated", "profiling", "remote", "saturated", "failures"),
    *("new_connections", "stop", "tool_calls"),
    *("measure", "prompt", "said", "hardware", "kind", "serving", "figure", "goodput_share", "request_goodput"),
}  # fmt: skip


def section() -> str:
    text = (ROOT / "docs" / "run-document.md").read_text()
    return text[text.index("## Runs of an endpoint") : text.index("## The child's protocol")]


def names(text: str) -> set[str]:
    return {name for span in re.findall(r"`([^`]+)`", text) for name in re.findall(r"[A-Za-z_]\w*", span)}


@pytest.fixture(scope="module")
def documents():
    workload, found = Workload(input_tokens=5, output_tokens=4, warmup=1, time_limit_s=60.0), []
    numbers = iter(range(100))

    async def some_fail(request):
        if next(numbers) in (3, 4):
            await request.whole({"error": {"message": "slow down"}}, 429, Retry_After="1")
        else:
            await well_behaved(request)

    server = {"ttft_s": 0.001, "tpot_s": 0.001, "e2e_s": 0.003}
    cases = (
        (some_fail, Load(requests=6, e2e_s=60.0), Sweep((1, 2)), False),
        (ours({"server": server, "profile": pack(PROFILE, 10**6)}), Load(requests=2), None, True),
    )
    for handler, load, sweep, profile in cases:
        with running(handler) as (base, _):
            endpoint = Endpoint("here", base, "tiny", profile=profile)
            found.append(measure_endpoint(endpoint, workload, load, client, sweep=sweep, counter=Words()))
    for document in found:
        document.pop("served", None)  # described as a document of its own
    return found


def test_every_key_and_column_is_described(documents):
    text = (ROOT / "docs" / "run-document.md").read_text()
    known = names(text)
    assert sorted({f"{where}.{key}" for where, key in keys_of(documents) if key not in known}) == []
    assert set(COLUMNS) | set(REASONS) <= names(section())


def test_everything_that_is_described_exists(documents):
    keys = {key for _, key in keys_of(documents)} | {"served"}
    words = {word for text in texts_of(documents) for word in re.findall(r"[A-Za-z_]\w*", text)}
    assert sorted(names(section()) - keys - words - NOT_HERE) == []
