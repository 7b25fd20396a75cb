"""docs/extending.md is run as it stands; what is not registered is named; who decides about plug-ins is the installation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profiling import config_schema, plugins
from profiling.config_schema import known
from profiling.safety import check_config
from profiling.spawn import child_environment
from profiling.spec import SpecError
from tests.profiling.documents import ROOT

DOCUMENT = ROOT / "docs" / "extending.md"


def blocks(language: str) -> list[str]:
    """Code blocks of the document in one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The files that the document asks for, and the same plug-in without its formula."""
    place = tmp_path_factory.mktemp("plugin")
    (code,), (config,) = blocks("python"), blocks("json")
    (place / "mylab.py").write_text(code, encoding="utf-8")
    (place / "config.json").write_text(config, encoding="utf-8")
    without = re.sub(r"@operator\(.*?\n\n\n", "", code, flags=re.DOTALL)
    assert "elementwise_flops" in code
    assert "elementwise_flops" not in without
    (place / "unpriced.py").write_text(without, encoding="utf-8")
    return place


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_example_runs_as_written(folder):
    commands = blocks("sh")[0].splitlines()
    assert len(commands) == 2
    for command in commands:
        words = command.split()
        assert words[0] == "python"
        done = run(folder, *words[1:])
        assert done.returncode == 0, done.stderr
        assert ("decaying_sum" if "trace" in words else "MylabForCausalLM, 78,143,488 parameters") in done.stdout


def test_its_operators_cost_what_the_formula_says(folder):
    options = ("--config", "config.json", "--input-tokens", "128", "--json", "-")
    done = run(folder, "-m", "profiling", "--plugin", "mylab", "trace", *options)
    document = json.loads(done.stdout)
    assert document["unknown_operators"] == []
    rows = [row for row in document["operators"] if row["operator"] == "decaying_sum"]
    assert sum(row["times"] for row in rows) == 12
    n = 128 * 1024
    assert {row["elementwise_flops"] for row in rows} == {2 * n}
    assert {(row["bytes_read"], row["bytes_written"]) for row in rows} == {(2 * n + 2 * 1024, 2 * n)}


def test_an_operator_without_a_formula_is_named(folder):
    options = ("--config", "config.json", "--input-tokens", "8", "--json", "-")
    done = run(folder, "-m", "profiling", "trace", *options, LLMCOMPARE_PLUGINS="unpriced")
    assert json.loads(done.stdout)["unknown_operators"] == ["decaying_sum"]


def test_without_the_plugin_the_model_is_refused(folder):
    done = run(folder, "-m", "profiling", "trace", "--config", "config.json")
    assert done.returncode == 2
    assert "'mylab' is not one that this version of transformers knows" in done.stderr
    done = run(folder, "-m", "profiling", "trace", "--plugin", "not_installed", "--config", "config.json")
    assert done.returncode == 2
    assert "error: plugin: The plug-in 'not_installed' cannot be imported" in done.stderr


def test_the_web_process_knows_added_configurations_from_a_file(folder, monkeypatch):
    done = run(folder, "-m", "profiling.plugins", LLMCOMPARE_PLUGINS="mylab")
    schema = folder / "plugin-schema.json"
    schema.write_text(done.stdout)
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(SpecError, match="mylab"):
        check_config(config)
    monkeypatch.setenv(config_schema.VARIABLE, str(schema))
    known.cache_clear()
    try:
        assert check_config(config) == config
    finally:
        monkeypatch.undo()
        known.cache_clear()


PLAIN = """
import torch
from torch import nn
from profiling.plugins import register_model

class Bigram(nn.Module):
    def __init__(self, vocab_size: int, hidden_size: int = 32):
        super().__init__()
        self.table = nn.Embedding(vocab_size, hidden_size)
        self.out = nn.Linear(hidden_size, vocab_size)

    def forward(self, input_ids):
        return self.out(self.table(input_ids))

register_model(Bigram, model_type="bigram")
for again in (lambda: register_model(Bigram, model_type="other"), lambda: register_model(nn.Linear)):
    try:
        again()
    except ValueError as error:
        print(error)
"""


def test_a_plain_module_is_enough(folder):
    (folder / "plain.py").write_text(PLAIN)
    (folder / "bigram.json").write_text(json.dumps({"model_type": "bigram", "vocab_size": 100, "hidden_size": 16}))
    options = ("--config", "bigram.json", "--stage", "decode", "--context", "7", "--json", "rows.json")
    done = run(folder, "-m", "profiling", "trace", "--plugin", "plain", *options)
    assert done.returncode == 0, done.stderr
    assert "model class 'Bigram' is registered twice" in done.stdout
    assert "Linear must be a transformers model, or a torch module with a model_type" in done.stdout
    rows = json.loads((folder / "rows.json").read_text())["operators"]
    assert [row["operator"] for row in rows] == ["embedding", "addmm"]
    # It keeps nothing, so a decode step runs over all 8 tokens.
    assert rows[1]["flops"] == 2 * 8 * 16 * 100


def test_plugins_come_from_entry_points_and_the_environment_of_the_engine(monkeypatch):
    class Entry:
        module = "installed.module"

    monkeypatch.setattr(
        plugins.importlib.metadata, "entry_points", lambda group: [Entry] if group == plugins.GROUP else []
    )
    monkeypatch.setenv(plugins.VARIABLE, "first, second,installed.module,")
    assert plugins.names() == ["installed.module", "first", "second"]
    assert child_environment(folder="/tmp", result_fd=3)[plugins.VARIABLE] == "first, second,installed.module,"


def test_a_configuration_cannot_name_a_plugin():
    clean = check_config({"model_type": "llama", "plugin": "os", "plugins": ["os"], "LLMCOMPARE_PLUGINS": "os"})
    assert clean == {"model_type": "llama"}
