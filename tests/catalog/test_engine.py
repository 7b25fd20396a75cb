"""The catalogue and the real engine say the same of every model, and uploads are judged by the real engine."""

from __future__ import annotations

import pytest

from llmcompare.catalog import services
from llmcompare.catalog.catalogue import catalogue_rows, package_rows
from llmcompare.common.errors import FieldErrors
from profiling.client import EngineChild
from profiling.safety import check_config
from profiling.spec import ModelSpec
from tests.factories import TINY_LLAMA

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine():
    with EngineChild() as child:
        yield child


def test_the_engine_builds_every_catalogue_model_with_the_same_figures(engine):
    for row in [*catalogue_rows(), *package_rows().values()]:
        assert check_config(row["config"]) == row["config"], row["slug"]
        spec = ModelSpec(row["name"], row["config"], row["architecture"], row["kind"])
        facts = engine.request("inspect", {"model": spec.to_json()}, timeout_s=60)
        for name in ("parameters", "max_context", "kind", "model_type", "architecture"):
            assert facts[name] == row[name], (row["slug"], name)


def test_an_upload_is_inspected_by_the_real_engine(owner, engine, monkeypatch):
    monkeypatch.setattr(services, "warm_child", lambda: engine)
    model = services.upload_model(owner=owner, name="Tiny", config=TINY_LLAMA)
    assert model.parameters == model.facts["parameters"] > 0
    assert model.facts["weight_bytes"]["fp32"] == 4 * model.parameters
    # 2 layers × 2 key-value heads × 16 wide × (key and value) × 2 bytes
    assert model.facts["kv_cache_bytes_per_token"]["bf16"] == 256


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 7},
        {"architectures": ["NoSuchForCausalLM"]},
        {"architectures": ["os.system"]},
        {"model_type": "no_such_type"},
        {"hidden_size": "large"},
        {"num_hidden_layers": 10**9},
        {"auto_map": {"AutoModelForCausalLM": "evil--model.Evil"}},
    ],
)
def test_configurations_that_cannot_be_built_are_refused_at_the_field(owner, engine, monkeypatch, change):
    monkeypatch.setattr(services, "warm_child", lambda: engine)
    with pytest.raises(FieldErrors) as caught:
        services.upload_model(owner=owner, name="Broken", config=TINY_LLAMA | change)
    assert list(caught.value.errors) == ["config"]
    assert engine.alive
