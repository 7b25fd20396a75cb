"""The serving container as a real process with a tiny model: what it answers, what it measures, what it refuses, how it ends."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import socket
import time

import pytest

from profiling.remote.packed import unpack
from tests.profiling import tiny
from tests.profiling.tokenised import make_tokenised
from tests.serving.containers import free_port, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("container")]
LONG = tiny.LLAMA | {"eos_token_id": 1, "max_position_embeddings": 4096}
TEXT = "what is the capital of france"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("model")
    make_tokenised(found, LONG)
    return found


@pytest.fixture(scope="module")
def container(folder, tmp_path_factory):
    with running(tmp_path_factory.mktemp("log"), AIP_STORAGE_URI=str(folder)) as found:
        found.ready()
        yield found


@pytest.fixture(scope="module")
def generated(folder):
    """The text and the number of tokens of transformers' own ``generate``."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def generate(text: str, tokens: int) -> tuple[str, int]:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        new = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
        new = new[0, ids.shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True), len(new)

    return generate


def refusal(answer, code, says):
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (code, code)
    assert says in error["message"], error
    assert error["status"].isupper()


def test_predictions_are_the_text_of_generate_with_the_container_s_own_times(container, generated):
    found = container.predict(TEXT, "name three colours", max_tokens=12)["predictions"]
    for prompt, one in zip((TEXT, "name three colours"), found, strict=True):
        text, tokens = generated(prompt, 12)
        assert one["text"] == text
        assert one["usage"] == {
            "prompt_tokens": len(prompt.split()),
            "completion_tokens": tokens,
            "total_tokens": len(prompt.split()) + tokens,
        }
        server, times = one["server"], one["server"]["token_times_ns"]
        assert times == sorted(set(times))
        assert len(times) == tokens
        assert server["ttft_s"] == times[0] / 1e9
        assert server["e2e_s"] == times[-1] / 1e9
        if tokens > 1:
            assert server["tpot_s"] == pytest.approx((times[-1] - times[0]) / (tokens - 1) / 1e9)
        parts = server["queue_s"] + server["tokenize_s"] + server["prefill_s"]
        assert 0 < parts <= server["ttft_s"]
        assert "profile" not in one
    assert found[1]["server"]["queue_s"] > found[0]["server"]["ttft_s"], "the second waited for the first"


def test_a_profile_is_the_document_of_a_measurement_of_the_same_pass(container, folder):
    (found,) = container.predict(TEXT, max_tokens=6, profile=True, ignore_eos=True, seed=7)["predictions"]
    assert found["profile"]["dropped"] == []
    document = unpack(found["profile"])
    assert (document["kind"], document["schema"], document["workload"]["seed"]) == ("measure", "llmcompare-run", 7)
    server, metrics = found["server"], document["metrics"]
    assert metrics["ttft"]["value"] == pytest.approx(server["prefill_s"])
    assert metrics["tpot"]["value"] == pytest.approx(server["tpot_s"])
    assert document["output"]["texts"] == [found["text"]]
    from transformers import AutoModelForCausalLM

    paths = {path for path, _ in AutoModelForCausalLM.from_pretrained(folder).named_modules()}
    table = document["modules"]
    at = {name: table["columns"].index(name) for name in ("stage", "path", "exclusive_s")}
    for stage in ("prefill", "decode"):
        rows = [row for row in table["rows"] if row[at["stage"]] == stage]
        assert {row[at["path"]] for row in rows} == paths
        assert any(row[at["exclusive_s"]] for row in rows)
    assert document["graph"]["decode"]["nodes"]
    assert [row["phase"] for row in document["memory"]["phases"]] == ["start", "load", "prefill", "decode"]


def test_the_openai_protocol_streams_what_it_says_it_does(container, generated):
    messages = [{"role": "user", "content": TEXT}]
    asked = {"messages": messages, "max_tokens": 200, "ignore_eos": True, "stream_options": {"include_usage": True}}
    begin = time.perf_counter()
    events = container.events(**asked, llmcompare={"timing": True})
    assert [event for _, event in events][-1] == "[DONE]"
    (at_profile, ours) = events[-2]
    chunks = [(at, event) for at, event in events[:-2] if event["choices"]]
    assert {event["object"] for _, event in chunks} == {"chat.completion.chunk"}
    assert chunks[0][1]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1][1]["choices"][0]["finish_reason"] == "length"
    pieces = [(at, event["choices"][0]["delta"]["content"]) for at, event in chunks[1:-1]]
    usage = events[-3][1]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 200)
    assert (ours["object"], ours["choices"]) == ("llmcompare.profile", [])
    assert "profile" not in ours["llmcompare"]

    server = ours["llmcompare"]["server"]
    # What is seen from outside is what the container says, and the way.
    ttft, last = pieces[0][0] - begin, pieces[-1][0] - begin
    assert server["ttft_s"] <= ttft < server["ttft_s"] + 0.5
    assert last >= server["e2e_s"] * 0.99
    tpot = (last - ttft) / (200 - 1)
    assert tpot == pytest.approx(server["tpot_s"], rel=0.25, abs=1e-3)
    assert len({round(at, 6) for at, _ in pieces}) > 20, "tokens come as they are made, not all at the end"
    assert at_profile >= pieces[-1][0]

    plain = container.http.post("/v1/chat/completions", json={k: v for k, v in asked.items() if k != "stream_options"})
    found = plain.json()
    assert found["choices"][0]["message"]["content"] == "".join(text for _, text in pieces)
    assert found["object"] == "chat.completion"
    assert "llmcompare" not in found


def test_completions_go_on_with_the_text(container, generated):
    found = container.http.post("/v1/completions", json={"prompt": "a b", "max_tokens": 4}).json()
    assert found["choices"][0]["text"] == generated("a b", 4)[0]
    assert found["object"] == "text_completion"
    events = container.events("/v1/completions", prompt="a b", max_tokens=4)
    assert "".join(event["choices"][0]["text"] for _, event in events[:-1]) == found["choices"][0]["text"]


def test_a_profile_comes_at_the_end_of_a_stream_and_can_be_fetched(container):
    events = container.events("/predict", prompt="a b c", max_tokens=5, llmcompare={"profile": True})
    ours = events[-2][1]
    document = unpack(ours["llmcompare"]["profile"])
    assert document["workload"]["output_tokens"] == ours["llmcompare"]["server"]["token_times_ns"].__len__()
    again = container.http.get(f"/profile/{ours['id']}").json()
    assert unpack(again["profile"]) == document
    refusal(container.http.get("/profile/cmpl-none"), 404, "no such profile")


def test_health_and_models_say_what_is_served(container, folder):
    found = container.http.get("/health").json()
    assert (found["status"], found["model"], found["device"]) == ("ready", folder.name, "cpu")
    assert found["serves_on"] == ["cpu", "cuda"]
    (row,) = container.http.get("/v1/models").json()["data"]
    assert (row["id"], row["max_model_len"]) == (folder.name, 4096)
    assert 0 <= time.time() - row["created"] < 600


def test_what_cannot_be_answered_is_refused_in_google_s_shape(container):
    post = container.http.post
    refusal(post("/predict", content=b"{"), 400, "not JSON")
    refusal(
        post("/predict", json={"instances": [{"prompt": "a"}], "parameters": {"beams": 4}}), 400, "parameters.beams"
    )
    refusal(post("/predict", json={"instances": [{"prompt": " "}]}), 400, "no tokens")
    two = {"instances": [{"prompt": "a"}, {"prompt": " "}], "parameters": {"max_tokens": 1}}
    refusal(post("/predict", json=two), 400, "instances[1]: prompt: The prompt has no tokens")
    refusal(post("/predict", content=b'{"\\ud800": 1, "prompt": "a"}'), 400, "\\ud800 is no field")
    refusal(post("/v1/completions", json={"messages": [{"role": "user", "content": "a"}]}), 400, "needs a prompt")
    refusal(post("/v1/chat/completions", json={"prompt": "a"}), 400, "needs messages")
    too_long = {"prompt": "a", "max_tokens": 5000, "stream": True}
    refusal(post("/v1/completions", json=too_long), 400, "context of 4096 tokens")
    refusal(post("/predict", content=b" " * 10_000_001), 413, "10,000,000 bytes")
    refusal(container.http.get("/nowhere"), 404, "no such route")
    refusal(container.http.get("/predict"), 405, "GET")
    assert container.health().status_code == 200


def test_who_goes_stops_the_work(container):
    """A short request waits for a long one before it, but not for one whose client has gone."""
    long = {"prompt": "a", "max_tokens": 4000, "ignore_eos": True}

    def left(path: str, body: dict, mark: bytes | None, *, leave: bool) -> float:
        """Seconds that a short request waited. ``mark``: of an answer that has begun."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", container.port)) as connection:
            connection.sendall(head + data)
            if mark is None:
                time.sleep(0.3)  # a whole answer shows nothing before its end
            else:
                assert mark in read_until(connection, mark)
            if not leave:
                return container.predict("a", max_tokens=1)["predictions"][0]["server"]["queue_s"]
        return container.predict("a", max_tokens=1)["predictions"][0]["server"]["queue_s"]

    stream, whole = long | {"stream": True}, {"instances": [{"prompt": "a"}], "parameters": dict(long)}
    del whole["parameters"]["prompt"]
    stayed = left("/v1/completions", stream, b"data: ", leave=False)
    assert left("/v1/completions", stream, b"data: ", leave=True) < stayed / 3
    assert left("/predict", whole, None, leave=True) < stayed / 3


def test_who_goes_while_sending_is_no_fault_of_the_container(container):
    before = len(container.log.read_text())
    with socket.create_connection(("127.0.0.1", container.port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert container.health().status_code == 200
    assert container.predict("a", max_tokens=1)["predictions"]
    assert container.log.read_text()[before:] == ""


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        part = connection.recv(65536)
        if not part:
            break
        found += part
    return found


def test_more_than_the_queue_holds_is_refused_with_a_sentence(folder, tmp_path):
    long = {"prompt": "a", "max_tokens": 2000, "ignore_eos": True}
    with (
        running(tmp_path, AIP_STORAGE_URI=str(folder), LLMCOMPARE_MAX_WAITING="2") as container,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        container.ready()
        answers = list(pool.map(lambda _: container.http.post("/v1/completions", json=long), range(8)))
        codes = sorted(answer.status_code for answer in answers)
        assert set(codes) == {200, 429}
        assert codes.count(200) >= 3, "one that is answered and two that wait"
        refused = next(answer for answer in answers if answer.status_code == 429)
        refusal(refused, 429, "at most 2 may")
        assert refused.headers["retry-after"] == "1"


def test_who_leaves_while_waiting_gives_their_place_away(folder, tmp_path):
    long = {"prompt": "a", "max_tokens": 4000, "ignore_eos": True}
    data = json.dumps(long).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with running(tmp_path, AIP_STORAGE_URI=str(folder), LLMCOMPARE_MAX_WAITING="1") as container:
        container.ready()
        with (
            socket.create_connection(("127.0.0.1", container.port)) as answered,
            socket.create_connection(("127.0.0.1", container.port)) as waits,
        ):
            for connection in (answered, waits):
                connection.sendall(head + data)
                time.sleep(0.3)
            short = {"prompt": "a", "max_tokens": 1}
            refusal(container.http.post("/v1/completions", json=short), 429, "at most 1 may")
            waits.close()
            time.sleep(0.3)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                third = pool.submit(container.http.post, "/v1/completions", json=short)
                time.sleep(0.3)
                answered.close()
                assert third.result(60).status_code == 200


def test_a_profile_that_does_not_fit_loses_named_layers(tmp_path):
    make_tokenised(tmp_path / "deep", LONG | {"num_hidden_layers": 80})
    limit = 50_000
    with running(tmp_path, AIP_STORAGE_URI=str(tmp_path / "deep"), LLMCOMPARE_MAX_ANSWER_BYTES=str(limit)) as container:
        container.ready()
        body = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 4, "llmcompare": {"profile": True}}
        answer = container.http.post("/v1/chat/completions", json=body)
        assert len(answer.content) <= limit
        found = answer.json()
        packed = found["llmcompare"]["profile"]
        assert packed["dropped"][0] == "model.layers.79"
        document = unpack(packed)
        assert document["metrics"]["ttft"]["value"] > 0
        whole = unpack(container.http.get(f"/profile/{found['id']}").json()["profile"])
        assert len(whole["modules"]["rows"]) > len(document.get("modules", {"rows": []})["rows"])

        instances = {"instances": [{"prompt": "a"}] * 2, "parameters": {"max_tokens": 1, "profile": True}}
        answer = container.http.post("/predict", json=instances)
        assert len(answer.content) <= limit
        assert all(one["profile"] or one["profile_error"] for one in answer.json()["predictions"])


def test_it_says_that_it_is_loading_and_ends_cleanly(folder, tmp_path):
    with running(tmp_path, AIP_STORAGE_URI=f"file://{folder}") as container:
        early = container.until(lambda answer: True)
        refusal(early, 503, "not ready yet")
        refusal(container.http.post("/predict", json={"instances": [{"prompt": "a"}]}), 503, "not ready yet")
        container.ready()
        assert container.predict("a", max_tokens=2)["predictions"]
        assert container.stop() == 0
        assert "Traceback" not in container.log.read_text()


def test_a_signal_lets_what_is_under_way_end_and_refuses_the_rest(folder, tmp_path):
    with (
        running(tmp_path, AIP_STORAGE_URI=str(folder)) as container,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        container.ready()
        first = pool.submit(container.events, "/v1/completions", prompt="a", max_tokens=1500, ignore_eos=True)
        busy = container.until(lambda answer: True)
        assert busy.status_code == 200
        second = pool.submit(container.http.post, "/v1/completions", json={"prompt": "a", "max_tokens": 1})
        time.sleep(0.3)  # both are with the container; there is nothing to see from outside
        container.process.send_signal(signal.SIGTERM)
        assert len(first.result(30)) > 1000
        answer = second.result(30)
        assert answer.status_code in (200, 503)
        assert container.process.wait(30) == 0
    with running(tmp_path / "loading", AIP_STORAGE_URI=str(folder)) as container:
        container.until(lambda answer: answer.status_code == 503)
        assert container.stop() == 0


def test_a_model_that_cannot_be_loaded_says_why_for_as_long_as_it_is_asked(folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[: 1000 if path.suffix == ".safetensors" else None])
    with running(tmp_path, AIP_STORAGE_URI=str(broken)) as container:
        answer = container.until(lambda answer: "could not be loaded" in answer.text)
        refusal(answer, 503, "broken cannot be used.")
        assert "not a safetensors file" in answer.text or "not whole" in answer.text
        refusal(container.http.post("/predict", json={"prompt": "a"}), 503, "could not be loaded")
        assert "could not be loaded" in container.log.read_text()
        assert str(tmp_path) not in answer.text


BREAKS = """
import serving.__main__ as main
from serving import models
real = models.load
def load(settings, progress):
    found = real(settings, progress)
    def breaks(module, arguments, options):
        if options["input_ids"].shape[1] == 3:
            breaks.broken = True
        if getattr(breaks, "broken", False):
            raise RuntimeError("CUDA error: device-side assert triggered")
    found.module.register_forward_pre_hook(breaks, with_kwargs=True)
    return found
models.load, main.BROKEN_S = load, 1.0
main.os._exit(main.main())
"""


def test_a_container_whose_device_broke_says_so_and_ends_to_be_started_anew(folder, tmp_path):
    with running(tmp_path, ("-c", BREAKS), AIP_STORAGE_URI=str(folder)) as container:
        container.ready()
        assert container.predict("a b", max_tokens=2)["predictions"]
        assert container.health().status_code == 200
        refusal(container.http.post("/predict", json={"prompt": "a b c"}), 503, "device-side assert")
        refusal(container.health(), 503, "must be restarted")
        refusal(container.http.post("/predict", json={"prompt": "a b"}), 503, "must be restarted")
        assert container.process.wait(30) == 3
        assert "does not compute any more" in container.log.read_text()


def test_settings_and_ports_that_cannot_be_used_end_it_with_a_sentence(folder, tmp_path):
    with running(tmp_path / "none") as container:
        assert container.process.wait(60) == 2
        assert "Set AIP_STORAGE_URI" in container.log.read_text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port := free_port()))
        taken.listen()
        with running(tmp_path / "port", AIP_STORAGE_URI=str(folder), AIP_HTTP_PORT=str(port)) as container:
            assert container.process.wait(60) == 1
            assert "address already in use" in container.log.read_text()


def test_random_weights_of_the_catalogue_need_no_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny.LLAMA))
    with running(tmp_path / "log", LLMCOMPARE_MODEL=str(tmp_path), LLMCOMPARE_RANDOM_WEIGHTS="1") as container:
        container.ready()
        (found,) = container.predict("hello", max_tokens=3, profile=True)["predictions"]
        assert found["usage"]["prompt_tokens"] == 5
        document = unpack(found["profile"])
        assert {"random_weights", "byte_tokens"} <= {warning["code"] for warning in document["warnings"]}
