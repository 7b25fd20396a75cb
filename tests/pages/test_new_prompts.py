"""Several prompts on the new-run page: sent, chosen or typed; too long is said at the field, and nothing is lost."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from llmcompare.catalog.models import Folder, LanguageModel
from llmcompare.runs import preview as previews
from llmcompare.runs import prompttokens
from llmcompare.runs.models import Run
from profiling.client import EngineError
from tests import factories
from tests.pages.conftest import estimate_document

LINES = '"What is it?"\n{"prompt": "Name three\\u00a0colours."}\n"Why?"\n'


class Engine:
    """Stands in for the engine child: counts words as tokens."""

    def __init__(self):
        self.asked, self.error = [], None

    def request(self, op, payload, **options):
        self.asked.append((op, payload))
        if op == "tokens":
            if self.error:
                raise self.error
            return {"tokens": [len(text.split()) for text in payload["prompts"]], "chat_template": False}
        return estimate_document()


@pytest.fixture
def engine(monkeypatch):
    child = Engine()
    for module in (previews, prompttokens):
        monkeypatch.setattr(module, "warm_child", lambda: child)
        module.answers.clear()
    return child


@pytest.fixture
def filled(db, tmp_path, engine):
    hardware = factories.make_hardware()
    host = factories.make_host(hardware=hardware, details={"ram_bytes": 64 * 10**9})
    model = factories.make_model(weights="local", weights_path=str(tmp_path))
    numbers = {"batch_size": "2", "input_tokens": "64", "output_tokens": "16", "iterations": "3", "warmup": "1"}
    about = {"visibility": "private", "title": "My title", "idempotency_key": "key-1"}
    return {"kind": "measure", "model": model.slug, "host": host.slug, "dtype": "fp32"} | numbers | about


def sent(name="questions.jsonl", text=LINES) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text if isinstance(text, bytes) else text.encode())


def error_at(response, field) -> str:
    page = response.content.decode()
    error = page[page.index(f'id="id_{field}_error"') :]
    return error[: error.index("</div>")]


def test_a_file_of_prompts_becomes_the_prompts_of_the_run(owner_client, filled):
    response = owner_client.post("/runs/new/", filled | {"prompt_file": sent()})
    assert response.status_code == 302, response.context["form"].errors
    run = Run.objects.get()
    assert run.spec["workload"]["prompts"] == ["What is it?", "Name three\u00a0colours.", "Why?"]
    again = owner_client.get(f"/runs/new/?from={run.public_id}").context["form"]
    assert [json.loads(line) for line in again["prompts"].value().splitlines()] == run.spec["workload"]["prompts"]


def test_what_a_file_held_comes_back_with_the_form_and_can_be_sent_again(owner_client, filled):
    response = owner_client.post("/runs/new/", filled | {"prompt_file": sent(), "batch_size": "9"})
    assert response.status_code == 422
    assert "Enter at most 3" in error_at(response, "batch_size")
    text = response.context["form"]["prompts"].value()
    assert "Name three" in text
    assert owner_client.post("/runs/new/", filled | {"prompts": text}).status_code == 302
    assert len(Run.objects.get().spec["workload"]["prompts"]) == 3


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (sent(text=b"\xff\xfe"), "UTF-8"),
        (sent(text='"a"\nb'), "Line 2 is not JSON"),
        (sent(text=""), "no prompt"),
        (sent("a.txt", "x" * 1_000_001), "1,000,000 bytes"),
    ],
    ids=["bytes", "line", "empty", "large"],
)
def test_a_file_that_is_none_is_said_at_the_field_and_the_rest_is_kept(owner_client, filled, file, words):
    response = owner_client.post("/runs/new/", filled | {"prompt_file": file})
    assert response.status_code == 422
    assert words in error_at(response, "prompt_file")
    assert 'value="My title"' in response.content.decode()
    assert not Run.objects.exists()


def test_the_preview_counts_the_tokens_and_says_what_is_padded(owner_client, filled, engine):
    html = owner_client.post("/runs/new/preview/", filled | {"prompt_file": sent()}).content.decode()
    assert "3 prompts" in html
    assert "1 to 3 tokens" in html
    estimated = next(payload for op, payload in engine.asked if op == "estimate")
    assert estimated["spec"]["workload"]["input_tokens"] == 3  # what the estimate is of
    assert "prompts" not in {name for name, value in estimated["spec"]["workload"].items() if value}


@pytest.mark.parametrize("field", ["prompt", "prompts"])
def test_a_prompt_longer_than_the_context_is_refused_at_its_field_before_launch(owner_client, filled, field):
    long = "word " * 250
    values = {"prompt": long} if field == "prompt" else {"prompts": json.dumps(long) + '\n"b"\n'}
    preview = owner_client.post("/runs/new/preview/", filled | values).content.decode()
    assert "250 tokens" in preview
    assert "256" in preview
    response = owner_client.post("/runs/new/", filled | values)
    assert response.status_code == 422
    assert "Shorten it by 10 tokens" in error_at(response, field)
    assert not Run.objects.exists()


def test_an_engine_that_does_not_answer_keeps_nobody_from_measuring(owner_client, filled, engine):
    engine.error = EngineError(phase="start", kind="timeout", message="busy")
    assert owner_client.post("/runs/new/", filled | {"prompt_file": sent()}).status_code == 302


def test_prompt_files_of_registered_folders_can_be_chosen_and_nothing_else(owner_client, filled, tmp_path):
    root = (tmp_path / "prompts").resolve()
    root.mkdir()
    (root / "a.jsonl").write_text(LINES)
    (tmp_path / "secret.txt").write_text("nobody may read this")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    Folder.objects.create(slug="ours", name="Ours", path=str(root), holds="prompts")
    page = owner_client.get("/runs/new/?kind=measure").content.decode()
    assert "ours:a.jsonl" in page
    assert "link.txt" not in page
    for chosen in ("ours:link.txt", "ours:../secret.txt", "ours:/etc/passwd", "none:a.jsonl"):
        assert owner_client.post("/runs/new/", filled | {"prompt_from": chosen}).status_code == 422
    assert owner_client.post("/runs/new/", filled | {"prompt_from": "ours:a.jsonl"}).status_code == 302
    assert len(Run.objects.get().spec["workload"]["prompts"]) == 3


def test_random_weights_have_no_tokenizer_and_a_prompt_beside_a_file_is_refused(owner_client, filled):
    both = owner_client.post("/runs/new/", filled | {"prompt_file": sent(), "prompt": "And this?"})
    assert "not both" in error_at(both, "prompt")
    LanguageModel.objects.update(weights="random")
    assert "no tokenizer" in error_at(owner_client.post("/runs/new/", filled | {"prompt_file": sent()}), "prompts")


def test_the_api_takes_a_list_of_prompts(owner_client, filled):
    values = {name: filled[name] for name in ("kind", "model", "host", "dtype")} | {"output_tokens": 4}
    post = lambda **more: owner_client.post("/api/v1/runs/", values | more, content_type="application/json")  # noqa: E731
    assert post(prompts=["a b", "c"], batch_size=2).status_code == 201
    assert Run.objects.get().spec["workload"]["prompts"] == ["a b", "c"]
    for wrong, field in (([], "prompts"), (["a", " "], "prompts"), ("text", "prompts"), (["x " * 300], "prompts")):
        answer = post(prompts=wrong)
        assert answer.status_code == 400
        assert field in answer.json()["errors"]
