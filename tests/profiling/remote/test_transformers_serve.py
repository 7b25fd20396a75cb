"""Against a real server of somebody else's: ``transformers serve`` with a tiny model. It never sends ``[DONE]``, sends usage unasked, and puts
several tokens into one event or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from profiling.load import Load
from profiling.remote.addresses import parse_networks
from profiling.remote.client import make_client
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.spec import Workload
from tests.serving.containers import free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
PACKAGES = Path(sys.prefix) / "transformers-serve"
LOOPBACK = parse_networks("127.0.0.0/8")
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def make_model(folder: Path) -> None:
    """A tiny Llama that goes on and on (its end token is never the likeliest), with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)} | {"<end>": 256}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    fast.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=256,
        pad_token_id=256,
        tie_word_embeddings=False,
    )
    torch.manual_seed(3)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[256] = 0
        letters = [vocabulary[letter] for letter in "abcdefghijklmnopqrstuvwxyz"]
        others = [number for number in range(256) if number not in letters]
        model.lm_head.weight[others] = 0  # whole characters only, so that every token is text
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address up to ``/v1``, and the model's name: the folder."""
    if not (PACKAGES / "fastapi").is_dir():
        reason = "the packages of requirements/transformers_serve.txt are missing: python3 manage.py test --all installs them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("tiny")
    cache = tmp_path_factory.mktemp("cache")
    make_model(folder)
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": str(PACKAGES),
        "HF_HUB_CACHE": str(cache),
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }
    log = cache / "server.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, cwd=cache, stdout=file, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 180
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if time.monotonic() > end or process.poll() is not None:
                pytest.fail(f"transformers serve did not start ({process.poll()}): {log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def client():
    return make_client(LOOPBACK)


def column(document, name):
    at = document["requests"]["columns"].index(name)
    return [row[at] for row in document["requests"]["rows"]]


def test_one_request_after_the_other(server):
    base, model = server
    workload = Workload(prompt="hello", output_tokens=48, warmup=1, time_limit_s=120.0)
    found = measure_endpoint(Endpoint("serve", base, model), workload, Load(requests=4), client)
    json.dumps(found, allow_nan=False)
    assert found["failures"] == []
    assert found["load"]["served"] == 4
    assert column(found, "output_tokens") == [48] * 4
    assert all(tokens > len("hello") for tokens in column(found, "input_tokens"))
    assert column(found, "finish") == ["length"] * 4
    metrics = found["metrics"]
    for first, token, last in zip(
        column(found, "first_event_ns"), column(found, "first_token_ns"), column(found, "last_token_ns"), strict=True
    ):
        assert first <= token < last
    # Events are no tokens: a time per event would be wrong by as much as these two numbers differ.
    assert metrics["endpoint_tpot"]["value"] > 0
    assert metrics["endpoint_tpot"]["n"] == 4
    span = [
        (last - token) / 47 / 1e9
        for token, last in zip(column(found, "first_token_ns"), column(found, "last_token_ns"), strict=True)
    ]
    assert sorted(span)[1] <= metrics["endpoint_tpot"]["value"] <= sorted(span)[2]
    assert len(found["output"]["texts"][0]) == 48, "every token of this model is a letter"


def test_several_users_at_once(server):
    base, model = server
    workload = Workload(input_tokens=12, output_tokens=16, warmup=1, time_limit_s=200.0)
    load = Load(mode="closed", concurrency=4, requests=12, ttft_s=60.0, tpot_s=60.0)
    found = measure_endpoint(Endpoint("serve", base, model), workload, load, client)
    assert found["failures"] == []
    assert (found["load"]["due"], found["load"]["served"]) == (12, 12)
    assert sorted(column(found, "request")) == list(range(12))
    assert column(found, "output_tokens") == [16] * 12
    assert found["metrics"]["goodput_share"]["value"] == 1.0
    assert found["metrics"]["request_output_throughput"]["value"] > 0
    overlapping = sum(
        later < earlier
        for later, earlier in zip(column(found, "sent_ns")[1:], column(found, "last_token_ns"), strict=False)
    )
    assert overlapping >= 3, "users did not wait for each other"


def test_the_server_never_says_done_and_that_is_no_failure(server):
    base, model = server
    body = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 4, "stream": True}
    with (
        httpx.Client(trust_env=False, timeout=60) as http,
        http.stream("POST", f"{base}/chat/completions", json=body) as answer,
    ):
        lines = [line for line in answer.iter_lines() if line]
    assert "data: [DONE]" not in lines
    assert any('"usage"' in line for line in lines)
