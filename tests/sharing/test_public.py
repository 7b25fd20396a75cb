"""What a visitor sees is an allow-list: nothing private passes, whatever the engine adds to its documents."""

import json

import pytest

from llmcompare.runs import exports
from llmcompare.sharing import public
from tests.factories import make_host, make_run

SECRETS = {
    "username": "owner",
    "e-mail": "owner@example.org",
    "host": "secret-machine",
    "path": "/home/ann/models/weights",
    "windows path": "C:\\Users\\ann\\weights",
    "prompt": "my private prompt",
    "text": "the generated answer",
    "environment": "AWS_SECRET",
    "fingerprint": "f1ngerpr1nt",
    "notes": "for my eyes only",
    "worker": "worker@secret-machine",
    "new part": "from a later engine",
}
DOCUMENT = {
    "schema": "llmcompare-run",
    "schema_version": "1.0",
    "kind": "measure",
    "producer": {"name": "llmcompare", "version": "1", "user": SECRETS["username"]},
    "model": {
        "name": "M",
        "parameters": 5,
        "weights_path": SECRETS["path"],
        "weights_note": f"from {SECRETS['path']}/x",
    },
    "hardware": {"name": "Device", "host": SECRETS["host"], "digest": "d"},
    "workload": {"batch_size": 1, "prompt": SECRETS["prompt"]},
    "metrics": {"ttft": {"value": 1.5, "unit": "s", "origin": "measured", "definition": "ttft/1"}},
    "memory": {"estimate": {"weights_bytes": 7}},
    "output": {"prompt": SECRETS["prompt"], "texts": [SECRETS["text"]], "input_tokens": [3], "finish": ["eos"]},
    "environment": {
        "os": "Linux",
        "cpu": {"model": "CPU"},
        "env_vars": {"KEY": SECRETS["environment"]},
        "fingerprint": SECRETS["fingerprint"],
        "hostname": SECRETS["host"],
    },
    "warnings": [{"code": "w", "message": f"Read {SECRETS['path']} and {SECRETS['windows path']} at 5 FLOP/s."}],
    "something_new": {"x": SECRETS["new part"]},
}


@pytest.fixture
def run(owner):
    return make_run(
        owner,
        document=DOCUMENT,
        kind="measure",
        notes=SECRETS["notes"],
        worker=SECRETS["worker"],
        host=make_host(name=SECRETS["host"]),
        error=f"OSError: {SECRETS['path']}/config.json is missing",
        workload={"prompt": SECRETS["prompt"]},
    )


def all_text(run, *, include_text):
    shown = public.shared_object(run, include_text=include_text)
    lines = exports.comparison_object(public.shared_lines([run]))
    rows = [list(map(str, row)) for row in exports.run_rows(shown)]
    return json.dumps([json.loads(exports.to_json(shown)), json.loads(exports.to_json(lines)), rows])


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_nothing_private_is_shared(run, secret):
    text = all_text(run, include_text=False)
    assert json.dumps(secret).strip('"') not in text


def test_prompt_and_text_are_shared_when_ticked_and_nothing_else(run):
    text = all_text(run, include_text=True)
    assert SECRETS["prompt"] in text
    assert SECRETS["text"] in text
    for name in set(SECRETS) - {"prompt", "text"}:
        assert json.dumps(SECRETS[name]).strip('"') not in text


def test_the_figures_are_shared(run):
    shown = public.shared_object(run, include_text=False)
    assert shown["metrics"] == DOCUMENT["metrics"]
    assert shown["memory"] == DOCUMENT["memory"]
    assert shown["output"] == {"input_tokens": [3], "finish": ["eos"]}
    assert shown["environment"] == {"os": "Linux", "cpu": {"model": "CPU"}}
    assert shown["warnings"][0]["message"] == "Read [path] and [path] at 5 FLOP/s."
    assert shown["run"]["id"] == run.public_id


@pytest.mark.parametrize(
    "text",
    ["8 FLOP/B", "tokens/s", "ttft/1", "input/output", "1/2", "org/model", "https://example.org/a/b", "a / b / c"],
)
def test_what_only_looks_like_a_path_stays(text):
    assert public.without_paths(text) == text


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/tmp/x/y.bin", "~/models/a", "C:\\Users\\a\\b", "\\\\server\\share\\x"]
)
def test_paths_are_taken_out(path):
    assert public.without_paths(f"in '{path}': gone") == "in '[path]': gone"
