"""Uploaded configurations: what is refused and how, what is kept, and who sees it."""

from __future__ import annotations

import io
import json
import random
import time
from contextlib import suppress

import pytest
from django.urls import reverse

from llmcompare.catalog import services
from llmcompare.catalog.configs import parse_config
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from profiling.client import EngineError
from tests.factories import TINY_LLAMA, make_model

FACTS = {
    "architecture": "LlamaForCausalLM",
    "model_type": "llama",
    "kind": "decoder",
    "parameters": 106_816,
    "active_parameters": 106_816,
    "layers": 2,
    "max_context": 256,
    "weight_bytes": {"fp32": 427_264, "bf16": 213_632},
    "kv_cache_bytes_per_token": {"fp32": 512, "bf16": 256},
}


class Engine:
    """In place of the warm child: answers, or fails as told; remembers what it was asked."""

    def __init__(self):
        self.answer, self.asked = FACTS, []

    def request(self, op, payload=None, **options):
        self.asked.append((op, payload))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def engine(monkeypatch):
    engine = Engine()
    monkeypatch.setattr(services, "warm_child", lambda: engine)
    return engine


def refusal(text, limit=1_000_000) -> str:
    with pytest.raises(FieldErrors) as caught:
        parse_config(text, limit=limit)
    assert list(caught.value.errors) == ["config"]
    return caught.value.errors["config"]


# --- reading ---


def test_a_plain_object_is_read_as_it_is():
    assert parse_config(b'\xef\xbb\xbf{"a": [1, 2.5, null, "x"]}', limit=100) == {"a": [1, 2.5, None, "x"]}


def test_infinity_is_read_as_transformers_writes_it():
    config = b'{"model_type": "mamba2", "time_step_limit": [0.0, Infinity]}'
    assert parse_config(config, limit=100)["time_step_limit"] == [0.0, {"__float__": "Infinity"}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("model_type: llama", "not JSON"),
        ('{"a": 1', "not JSON"),
        ("[1]", "one JSON object"),
        ('"text"', "one JSON object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 1' + "0" * 5000 + "}", "too large"),
        ('{"layers": 1, "layers": 2}', "“layers” occurs twice"),
        ('{"a": {"b": 1, "b": 1}}', "twice"),
        ('{"a": "\\u0000"}', "not text"),
        ('{"a": "\\ud800"}', "not text"),
        (b"\x80\x02}q\x00", "UTF-8"),
        ('{"a":' * 30 + "1" + "}" * 30, "nested"),
        ("[" * 200_000, "nested"),
        ('{"a": "' + "x" * 2000 + '"}', "2,009 bytes"),
    ],
)
def test_everything_else_is_refused_with_its_reason(text, says):
    assert says in refusal(text, limit=1000 if says.endswith("bytes") else 1_000_000)


def test_brackets_in_text_are_not_nesting():
    assert parse_config(json.dumps({"a": "[" * 100 + '\\"{'}), limit=1000)


def test_hostile_quotes_cost_no_time():
    started = time.process_time()  # not the clock: other tests share the cores
    refusal('{"' + '\\"' * 499_000)
    refusal('"' * 999_999)
    assert time.process_time() - started < 2


def test_random_bytes_are_never_more_than_a_message():
    chance = random.Random(7)
    whole = json.dumps(TINY_LLAMA).encode()
    for _ in range(300):
        text = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            text[chance.randrange(len(text))] = chance.randrange(256)
        with suppress(FieldErrors):  # any other exception fails the test
            assert isinstance(parse_config(bytes(text), limit=10_000), dict)


# --- keeping ---


def test_an_upload_becomes_a_private_model_with_facts(owner, stranger, engine):
    model = services.upload_model(owner=owner, name="  My   llama ", config=TINY_LLAMA)
    assert (model.name, model.source, model.owner, model.kind) == ("My llama", "upload", owner, "decoder")
    assert (model.parameters, model.max_context, model.facts) == (106_816, 256, FACTS)
    assert model.config_sha256 == model.to_spec().config_sha256()
    assert engine.asked == [("inspect", {"model": model.to_spec().to_json()})]
    assert not LanguageModel.objects.visible_to(stranger).exists()


def test_without_an_engine_the_model_is_kept_and_can_be_inspected_later(owner, engine):
    engine.answer = EngineError(phase="start", kind="killed", message="The engine process was ended.")
    model = services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA)
    assert (model.facts, model.parameters, model.max_context) == (None, None, 256)
    engine.answer = FACTS
    services.inspect_model(model=model)
    model.refresh_from_db()
    assert (model.facts, model.parameters) == (FACTS, 106_816)


def test_what_the_engine_refuses_is_not_kept(owner, engine):
    engine.answer = EngineError(phase="build", kind="config", field="config", message="hidden_size must be divisible.")
    with pytest.raises(FieldErrors) as caught:
        services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA)
    assert caught.value.errors == {"config": "hidden_size must be divisible."}
    assert not LanguageModel.objects.exists()


def test_code_in_a_configuration_is_refused_before_the_engine_sees_it(owner, engine):
    with pytest.raises(FieldErrors) as caught:
        services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA | {"auto_map": {"AutoModel": "evil.Model"}})
    assert "config" in caught.value.errors
    assert engine.asked == []


def test_a_configuration_must_name_its_class(owner, engine):
    config = {key: value for key, value in TINY_LLAMA.items() if key != "architectures"}
    with pytest.raises(FieldErrors) as caught:
        services.upload_model(owner=owner, name="Llama", config=config)
    assert "config" in caught.value.errors


def test_the_same_upload_twice_is_one_model(owner, engine):
    first = services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA)
    assert services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA).pk == first.pk
    with pytest.raises(FieldErrors) as caught:
        services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA | {"hidden_size": 128})
    assert "name" in caught.value.errors


def test_names_of_others_are_free_and_addresses_cannot_be_guessed(owner, stranger, engine):
    mine = services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA)
    theirs = services.upload_model(owner=stranger, name="Llama", config=TINY_LLAMA)
    assert mine.slug != theirs.slug
    assert len(mine.slug) >= len("llama-") + 8


@pytest.mark.parametrize("name", ["", "   ", "x" * 151, "a\u202eb", "a\u0007b"])
def test_names_that_cannot_be_shown_are_refused(owner, engine, name):
    with pytest.raises(FieldErrors) as caught:
        services.upload_model(owner=owner, name=name, config=TINY_LLAMA)
    assert list(caught.value.errors) == ["name"]


def test_there_is_an_end_to_uploads(owner, engine, monkeypatch):
    monkeypatch.setattr(services, "MAX_UPLOADS_PER_USER", 1)
    services.upload_model(owner=owner, name="One", config=TINY_LLAMA)
    with pytest.raises(FieldErrors, match="as many as one user may"):
        services.upload_model(owner=owner, name="Two", config=TINY_LLAMA)


def test_an_answer_about_an_older_configuration_is_not_kept(db, engine):
    model = make_model()
    LanguageModel.objects.update(config_sha256="0" * 64)
    services.inspect_model(model=model)
    assert LanguageModel.objects.get().facts is None


def test_inspecting_a_catalogue_model_leaves_its_catalogue_figures_alone(db, engine):
    model = make_model(source="catalogue", parameters=5)
    services.inspect_model(model=model)
    model.refresh_from_db()
    assert (model.parameters, model.facts) == (5, FACTS)


# --- the page ---


def send(client, name="My model", text=None, file=None):
    data = {"name": name, "text": text or ""}
    if file is not None:
        data["file"] = io.BytesIO(file)
        data["file"].name = "config.json"
    return client.post(reverse("catalog:upload"), data)


def test_a_pasted_and_a_chosen_configuration_both_arrive(owner_client, engine):
    answer = send(owner_client, name="Pasted", text=json.dumps(TINY_LLAMA))
    assert answer.status_code == 302
    assert answer.url == reverse("catalog:detail", args=[LanguageModel.objects.get().slug])
    assert send(owner_client, name="Chosen", file=json.dumps(TINY_LLAMA).encode()).status_code == 302
    assert LanguageModel.objects.get(name="Chosen").config["hidden_size"] == 64


def test_an_error_stands_at_its_field_and_nothing_typed_is_lost(owner_client, engine):
    text = '{"model_type": "llama", "auto_map": {"AutoModel": "evil.py"}, "note": "<b>"}'
    page = send(owner_client, name="<script>alert(1)</script>", text=text)
    html = page.content.decode()
    assert page.status_code == 200
    assert list(page.context["form"].errors) == ["text"]
    assert "evil.py" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>alert(1)" not in html
    assert not LanguageModel.objects.exists()


def test_the_text_of_a_refused_file_comes_back_for_editing(owner_client, engine):
    page = send(owner_client, file=b'{"model_type": "llama", "hidden_size": NaN}')
    assert list(page.context["form"].errors) == ["file"]
    assert "hidden_size" in page.context["form"]["text"].value()
    assert "hidden_size" in page.content.decode()


def test_large_files_and_files_that_are_no_text_are_refused(owner_client, engine, settings):
    page = send(owner_client, file=b'{"a": "' + b"x" * settings.CONFIG_UPLOAD_BYTES + b'"}')
    assert "at most 1,000,000" in page.context["form"].errors["file"][0]
    page = send(owner_client, file=b"\x00\xff\xfe\x00weights")
    assert "UTF-8" in page.context["form"].errors["file"][0]


def test_an_empty_form_says_what_is_missing(owner_client, engine):
    page = send(owner_client, name="")
    assert set(page.context["form"].errors) == {"name", "file"}


def test_html_in_a_name_is_text_everywhere(owner_client, engine):
    name = '<img src=x onerror="alert(1)">'
    send(owner_client, name=name, text=json.dumps(TINY_LLAMA))
    model = LanguageModel.objects.get()
    for page in ("catalog:list", "catalog:detail", "catalog:rename", "catalog:delete"):
        args = [] if page == "catalog:list" else [model.slug]
        assert "<img src=x" not in owner_client.get(reverse(page, args=args)).content.decode()


def test_the_page_of_a_model_can_ask_the_engine(owner_client, engine):
    model = make_model(facts=None)
    address = reverse("catalog:inspect", args=[model.slug])
    assert "has not inspected" in owner_client.get(reverse("catalog:detail", args=[model.slug])).content.decode()
    engine.answer = EngineError(phase="start", kind="killed", message="It was ended.")
    html = owner_client.post(address, HTTP_HX_REQUEST="true").content.decode()
    assert "It was ended." in html
    assert 'hx-trigger="submit"' in html  # or the page would ask again and again
    engine.answer = FACTS | {"note": "Inspected in fp32."}
    html = owner_client.post(address, HTTP_HX_REQUEST="true").content.decode()
    assert "Inspected in fp32." in html
    assert "has not inspected" not in html
    assert "256\u202fB" in html  # cache per token
    assert owner_client.get(address).status_code == 405


class Busy(Engine):
    """While it looks at a configuration, the same form comes again."""

    def __init__(self, meanwhile):
        super().__init__()
        self.meanwhile = meanwhile

    def request(self, op, payload=None, **options):
        if len(self.asked) == 0:
            self.asked.append((op, payload))
            self.meanwhile()
        return super().request(op, payload, **options)


def test_the_same_upload_twice_at_the_same_moment_is_one_model(owner, monkeypatch):
    engine = Busy(lambda: services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA))
    monkeypatch.setattr(services, "warm_child", lambda: engine)
    model = services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA)
    assert LanguageModel.objects.get(owner=owner) == model


def test_another_upload_of_the_name_at_the_same_moment_is_refused(owner, monkeypatch):
    other = TINY_LLAMA | {"hidden_size": 128}
    engine = Busy(lambda: services.upload_model(owner=owner, name="Llama", config=other))
    monkeypatch.setattr(services, "warm_child", lambda: engine)
    with pytest.raises(FieldErrors) as caught:
        services.upload_model(owner=owner, name="Llama", config=TINY_LLAMA)
    assert "name" in caught.value.errors
    assert LanguageModel.objects.get(owner=owner).config["hidden_size"] == 128
