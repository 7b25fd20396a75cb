"""How an estimate serves the model: formats, devices and guesses on the run page, in facts, comparisons, exports and shared pages."""

from __future__ import annotations

import copy
import json

import pytest

from llmcompare.runs import exports
from llmcompare.runs.compare import columns_of, comparison
from llmcompare.runs.presentation import run_context
from llmcompare.runs.results import summarise
from llmcompare.sharing import public
from llmcompare.sharing.presentation import comparison_rows
from llmcompare.sharing.services import create_link
from profiling.client import warm_child
from profiling.spec import RunSpec, Workload
from tests.factories import make_hardware, make_model, make_run
from tests.run_page import documents

SERVED = Workload(dtype="bf16", weights_dtype="int4", kv_dtype="int8", tensor_parallel=2, pipeline_parallel=2)
GUESSING = Workload(draft_tokens=4, draft_acceptance=0.7, draft_cost=0.1, prefix_tokens=64)


def plain(value) -> str:
    return json.dumps(value, default=str, ensure_ascii=False).replace("\u202f", " ").replace("\xa0", " ")


def held(first: int, last: int, weights: int) -> dict:
    return {
        "layers": [first, last], "weights_bytes": weights, "kv_cache_bytes": 10**9, "state_bytes": 0,
        "activation_peak_bytes": 2 * 10**8, "total_bytes": weights + 1_200_000_000,
        "flops": {"prefill": 4e12, "decode": 3e10}, "bytes": {"prefill": 8e10, "decode": 7e10},
    }  # fmt: skip


@pytest.fixture
def served() -> dict:
    """int4 weights over two stages of two devices each, on a device that has no rate for one of the formats."""
    document = documents.estimate()
    document["workload"] = SERVED.to_json()
    document["conventions"] |= {
        "compute": "all products in bf16",
        "weights": "int4-g128, 4 bits a weight, for the linear layers",
        "parallelism": "figures are those of one device",
    }
    document["memory"]["estimate"] |= {
        "weights_bytes": 12 * 10**9, "quantised_weights_bytes": 10 * 10**9, "other_weights_bytes": 2 * 10**9,
        "logical_weights_bytes": 48 * 10**9, "widened_bytes": 10**8,
    }  # fmt: skip
    document["parallelism"] = {
        "tensor_parallel": 2, "pipeline_parallel": 2, "expert_parallel": 1, "data_parallel": 1, "devices": 4,
        "tensor_parallel_inside_expert": None, "interconnect_bytes_per_s": 4.5e11,
        "stages": [held(0, 1, 11 * 10**9), held(2, 3, 12 * 10**9)],
        "communication": {
            "columns": ["stage", "collective", "group", "calls", "payload_bytes", "sent_bytes", "steps", "time_s"],
            "rows": [
                ["prefill", "all_reduce", 2, 8, 10**8, 10**8, 2, 2e-4],
                ["prefill", "p2p", 2, 1, 10**6, 10**6, 1, 8e-5],
                ["decode", "all_reduce", 2, 8, 10**5, 10**5, 2, 2e-7],
            ],
        },
    }  # fmt: skip
    document["warnings"] = [{"code": "dtype_fallback", "message": "No known fp8 rate: timed at its bf16 rate."}]
    return document


@pytest.fixture
def guessing() -> dict:
    document = documents.estimate()
    document["workload"] = GUESSING.to_json()
    document["conventions"] |= {"speculation": "steps run over guesses", "prefix_cache": "64 tokens lie in the cache"}
    document["metrics"]["tpot"]["note"] = "Expected value: 4 drafted tokens per step."
    return document


def make(owner, document, **fields):
    summary = summarise(document)
    workload = {name: value for name, value in document["workload"].items() if name != "prompt"}
    return make_run(owner, document=document, workload=workload, **(summary.columns | fields))


def facts(document) -> dict[str, str]:
    sections = run_context(document, {})["result"]["facts"]
    return dict(next(section["rows"] for section in sections if section["key"] == "workload"))


def test_a_plain_estimate_has_none_of_these_sections():
    result = run_context(documents.estimate(), {})["result"]
    assert (result["precision"], result["devices"], result["speculation"]) == (None, None, None)


def test_facts_say_what_differs_and_nothing_of_the_rest(served):
    said = facts(served)
    assert "int4-g128" in said["Weight format"]
    assert said["Tensor parallel"] == "2 devices share every layer"
    assert said["Other options"] == "at their defaults"
    assert "Draft tokens" not in said
    assert "unknown" not in said.values(), "an empty format means the data type: nothing is unknown"
    assert facts(documents.estimate())["Options"] == "at their defaults"


def test_precision_says_formats_sizes_what_is_saved_and_which_rate_was_missing(served):
    shown = run_context(served, {})["result"]["precision"]
    rows = {row["title"]: (row["format"], plain(row["size"]).strip('"')) for row in shown["rows"]}
    assert rows["Weights of linear layers and experts"] == ("int4", "10 GB")
    assert rows["All other weights"] == ("bf16", "2 GB")
    assert rows["Keys and values"] == ("int8", "3 GB")
    assert rows["Largest copy widened to bf16"] == ("bf16", "100 MB")
    assert plain(shown["saving"]) == '"All weights take 12 GB instead of 48 GB in bf16: 25.0 % of it."'
    assert shown["fallbacks"] == ["No known fp8 rate: timed at its bf16 rate."]
    assert dict(shown["sentences"])["Products"] == "All products in bf16."


def test_devices_say_what_each_holds_and_how_long_sending_takes(served):
    shown = run_context(served, {})["result"]["devices"]
    assert (shown["count"], plain(shown["interconnect"])) == (4, '"450 GB/s"')
    assert [row["layers"] for row in shown["held"]] == ["0 – 1", "2 – 3"]
    assert plain(shown["held"][1]["weights"]) == '"12 GB"'
    assert plain(shown["held"][0]["work"][0]) == '["4 TFLOP", "80 GB"]'
    prefill = shown["sent_by_stage"][0]
    # 0.28 ms of the 2.8 ms of the stage.
    assert plain([prefill["sent"], prefill["time"], prefill["share"]]) == '["101 MB", "280 µs", "10.0 %"]'
    assert [row["collective"] for row in shown["sent"]] == ["all-reduce", "to the next stage", "all-reduce"]


def test_an_unknown_interconnect_is_said_and_no_time_is_made_up(served):
    served["parallelism"]["interconnect_bytes_per_s"] = None
    for row in served["parallelism"]["communication"]["rows"]:
        row[-1] = None
    shown = run_context(served, {})["result"]["devices"]
    assert shown["interconnect"] == "unknown"
    assert {(stage["time"], stage["share"]) for stage in shown["sent_by_stage"]} == {("unknown", "unknown")}


def test_tiles_say_of_how_many_devices_they_are_and_what_is_expected(served, guessing):
    def brief(document):
        return {tile["key"]: tile["brief"] for tile in run_context(document, {})["result"]["tiles"]}

    assert brief(served)["peak_memory"] == "of one of 4 devices"
    assert brief(served)["output_throughput"] == "of all 4 devices"
    assert brief(served)["ttft"] == ""
    assert brief(guessing)["tpot"] == "expected value"


def test_speculation_says_the_tokens_that_a_step_brings(guessing):
    shown = run_context(guessing, {})["result"]["speculation"]
    rows = dict(shown["rows"])
    assert shown["title"] == "Speculation and prefix cache"
    # (1 − 0.7⁵) / (1 − 0.7), and 1 + 4 · 0.1
    assert rows["Tokens per step"].startswith("2.77 on average, of 5")
    assert rows["Step with its guesses"].startswith("1.4 times")
    assert rows["Prefix tokens"].startswith("64 tokens of the prompt")
    del guessing["workload"]["draft_cost"]
    shown = run_context(guessing, {})["result"]["speculation"]
    assert "lower bounds" in dict(shown["rows"])["Cost of a guess"]


def test_a_prefix_alone_is_no_speculation(guessing):
    guessing["workload"] = Workload(prefix_tokens=64).to_json()
    shown = run_context(guessing, {})["result"]["speculation"]
    assert shown["title"] == "Prefix cache"
    assert "Tokens per step" not in dict(shown["rows"])


def test_pages_lists_and_comparisons_tell_the_runs_apart(owner, owner_client, served, guessing):
    run, other = make(owner, served), make(owner, guessing)
    page = plain(owner_client.get(f"/runs/{run.public_id}/").content.decode())
    for words in (
        "int4 weights",
        "tensor parallel 2",
        "4 ×",
        'id=\\"precision\\"',
        'id=\\"devices\\"',
        "to the next stage",
    ):
        assert words in page, words
    assert 'id=\\"speculation\\"' in plain(owner_client.get(f"/runs/{other.public_id}/").content.decode())
    listed = plain(owner_client.get("/runs/").content.decode())
    assert "int4 weights" in listed
    assert "of one device" in listed
    compared = plain(owner_client.get(f"/compare/?runs={run.public_id},{other.public_id}").content.decode())
    assert "Weight format" in compared
    assert "memory and utilisation are those of one device" in compared


def test_a_comparison_has_rows_for_the_options_that_some_run_sets(owner, served, guessing):
    result = comparison(columns_of([make(owner, served), make(owner, documents.estimate())]))
    rows = {row["title"]: row for row in result["conditions"]}
    assert rows["Tensor parallel"]["cells"] == ["2 devices share every layer", "1"]
    assert rows["Tensor parallel"]["differs"]
    assert rows["Cache format"]["cells"] == ["int8", "as the data type"]
    assert "Draft tokens" not in rows
    assert any("tensor parallel" in note for note in result["notes"])
    same = comparison(columns_of([make(owner, served), make(owner, copy.deepcopy(served))]), only_differences=True)
    assert "Tensor parallel" not in {row["title"] for row in same["conditions"]}


def test_exports_have_options_devices_and_communication(owner, served):
    run = make(owner, served)
    rows = list(exports.run_rows(exports.run_object(run)))
    found = {(section, stage, path, metric): (value, unit) for section, stage, path, metric, value, unit, *_ in rows}
    assert found["run", "", "options", "weights_dtype"] == ("int4", "")
    assert found["parallelism", "", "", "devices"] == (4, "")
    assert found["parallelism", "", "layers 2-3", "weights_bytes"] == (12 * 10**9, "B")
    assert found["communication", "prefill", "all_reduce / 2", "time_s"] == (2e-4, "s")
    compared = exports.comparison_object(exports.comparison_lines([run, make(owner, documents.estimate())]))
    (row,) = [row for row in compared["rows"] if row["key"] == "kv_dtype"]
    assert (row["section"], row["values"]) == ("option", ["int8", None])


def test_shared_pages_show_the_same_and_still_hide_the_prompt(owner, anonymous_client, served):
    served["workload"]["prompt"] = "my private prompt"
    run, other = make(owner, served), make(owner, documents.estimate())
    _, token = create_link(owner=owner, runs=[run])
    page = plain(anonymous_client.get(f"/s/{token}/").content.decode())
    for words in ("int4 weights", 'id=\\"devices\\"', 'id=\\"precision\\"'):
        assert words in page, words
    assert "my private prompt" not in page
    shown = public.shared_object(run, include_text=False)
    assert shown["parallelism"] == served["parallelism"]
    assert shown["run"]["options"] == {
        "weights_dtype": "int4",
        "kv_dtype": "int8",
        "tensor_parallel": 2,
        "pipeline_parallel": 2,
    }
    rows = {row["title"]: row for row in comparison_rows(exports.comparison_object(public.shared_lines([run, other])))}
    assert [cell["text"] for cell in rows["Tensor parallel"]["cells"]] == ["2 devices share every layer", "1"]


def test_what_the_real_engine_says_is_shown(owner, owner_client):
    """The engine's own document of a divided and quantised model: no key that this page reads may have another name there."""
    model, hardware = make_model(), make_hardware(interconnect_bandwidth=9e11)
    workload = Workload(
        input_tokens=64, output_tokens=8, weights_dtype="int4", tensor_parallel=2, draft_tokens=2, draft_acceptance=0.5
    )
    spec = RunSpec("estimate", model.to_spec().to_json(), hardware.to_spec().to_json(), workload.to_json())
    document = warm_child().request("estimate", {"spec": spec.to_json()}, timeout_s=120)
    result = run_context(document, {})["result"]
    assert len(result["precision"]["rows"]) == 4
    assert [title for title, _ in result["precision"]["sentences"]] == ["Products", "Weights", "Cache"]
    devices = {key: value for key, value in result["devices"].items() if key != "note"}
    assert "unknown" not in json.dumps([result["precision"], devices])
    assert devices["count"] == 2
    assert devices["sent"]
    assert result["speculation"]["sentences"][0][1].startswith("Steps run over")
    page = owner_client.get(f"/runs/{make(owner, document).public_id}/")
    assert page.status_code == 200
