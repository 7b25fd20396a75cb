"""Configurations from strangers: what is refused, what is dropped, and that nothing else can happen."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiling.config_schema import collect, known
from profiling.safety import check_config
from profiling.spec import SpecError
from tests.profiling.documents import ROOT, catalogue, catalogue_model

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
}


def refusal(config, **kwargs) -> SpecError:
    with pytest.raises(SpecError) as caught:
        check_config(config, **kwargs)
    return caught.value


@pytest.mark.parametrize("model_id", sorted(catalogue()))
def test_every_catalogue_model_passes_unchanged(model_id):
    model = catalogue_model(model_id)
    assert check_config(model.config, model.architecture) == model.config


def test_the_input_is_copied():
    config = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    clean = check_config(config)
    clean["rope_parameters"]["rope_theta"] = 1
    assert config["rope_parameters"]["rope_theta"] == 10000.0


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "custom_pipelines", "allow_remote_code"])
@pytest.mark.parametrize("where", ["top", "nested"])
def test_remote_code_is_refused_by_name(key, where):
    extra = {key: {"AutoModel": "modeling_evil.Evil"}}
    config = {**LLAMA, **extra} if where == "top" else {**LLAMA, "text_config": {"model_type": "llama", **extra}}
    error = refusal(config)
    assert error.field == "config"
    assert key in str(error)


@pytest.mark.parametrize(
    "key", ["_attn_implementation", "_name_or_path", "__class__", "attn_implementation", "no_such_key", "index_path"]
)
def test_private_and_unknown_keys_are_dropped(key):
    assert check_config({**LLAMA, key: "someone/evil-kernels"}) == LLAMA
    nested = {**LLAMA, "text_config": {"model_type": "llama", "hidden_size": 8, key: "x"}}
    assert key not in check_config(nested)["text_config"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"num_hidden_layers": 2_001}, "num_hidden_layers"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"hidden_size": 200_001}, "hidden_size"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"vocab_size": 10_000_001}, "vocab_size"),
        ({"num_local_experts": 100_001}, "num_local_experts"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": 2_000, "num_local_experts": 10_000}, "experts"),
        ({"num_hidden_layers": 2_000, "hidden_size": 200_000, "intermediate_size": 2_000_000}, "100 trillion"),
        ({"num_hidden_layers": 10**5000}, "too large"),
        ({"rms_norm_eps": float("nan")}, "finite"),
        ({"rms_norm_eps": float("inf")}, "finite"),
        ({"model_type": "no_such_model"}, "no_such_model"),
        ({"model_type": None}, "model_type"),
        ({"model_type": ["llama"]}, "model_type"),
        ({"architectures": ["os.system"]}, "plain name"),
        ({"architectures": "LlamaForCausalLM"}, "list"),
        ({"hidden_act": "x" * 20_001}, "characters"),
        ({"layer_types": [["x"] * 400] * 400}, "values"),
        ({"bos_token_id": b"bytes"}, "JSON"),
        ({3: 4}, "key"),
    ],
)
def test_each_refusal_says_what_is_wrong(change, part):
    error = refusal({**LLAMA, **change})
    assert part in str(error)
    assert str(error).endswith((".", "here.", "key."))


def test_deep_nesting_is_refused():
    value: dict = {}
    for _ in range(5_000):
        value = {"rope_parameters": value}
    assert "nested" in str(refusal({**LLAMA, "rope_parameters": value}))


@pytest.mark.parametrize("value", [None, 3, "llama", ["model_type"]])
def test_only_an_object_is_a_configuration(value):
    assert "JSON object" in str(refusal(value))


@pytest.mark.parametrize("name", ["os.system", "", "A" * 101, "../x", 3])
def test_a_class_name_is_a_plain_name(name):
    assert refusal(LLAMA, architecture=name).field == "architecture"


_KEYS = st.sampled_from(
    [*LLAMA, "auto_map", "_x", "text_config", "num_local_experts", "layer_types", "id2label", "rope_parameters"]
) | st.text(max_size=12)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=4)
    | st.sampled_from(["llama", "gpt2", "mixtral"]),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(_KEYS, inner, max_size=6)
        | st.tuples(inner)
        | st.sets(st.integers())
    ),
    max_leaves=40,
)


@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_KEYS, _VALUES, max_size=12) | _VALUES, st.none() | st.text(max_size=20))
def test_whatever_goes_in_a_clean_config_or_one_sentence_comes_out(config, architecture):
    started = time.perf_counter()
    merged = {**LLAMA, **config} if isinstance(config, dict) else config
    try:
        clean = check_config(merged, architecture)
    except SpecError as caught:
        clean, error = None, caught
    if clean is None:
        assert error.field in ("config", "architecture")
        assert "\n" not in str(error)
        assert len(str(error)) < 400
    else:
        text = json.dumps(clean, allow_nan=False)
        assert check_config(json.loads(text)) == json.loads(text)
        assert not any(key.startswith("_") for key in clean)
    assert time.perf_counter() - started < 2


def test_checking_needs_neither_torch_nor_transformers():
    code = (
        "import sys; from profiling.safety import check_config; check_config({'model_type': 'llama'});"
        "import profiling.units, profiling.roofline, profiling.memory, profiling.conventions;"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


@pytest.mark.slow
def test_the_stored_schema_is_that_of_the_installed_transformers():
    collected = collect()
    assert (frozenset(collected["model_types"]), frozenset(collected["keys"])) == known()
