"""Sentences of the engine, as they are stored, in the reader's language."""

from __future__ import annotations

import re

import pytest
from django.utils.translation import override

from llmcompare.common.engine_texts import engine_html, engine_text
from profiling.explanations import explain
from profiling.safety import check_config
from profiling.spec import SpecError, Workload
from scripts.engine_sentences import in_source
from scripts.messages import CATALOGUE_OF_ENGINE, read
from tests.common.pages_in_chinese import latin_words, terms


@pytest.fixture(autouse=True)
def _chinese():
    with override("zh-hans"):
        yield


def english_in(text: str) -> list[str]:
    return [word for word in latin_words(text) if word.lower() not in terms()]


def refused(do) -> str:
    with pytest.raises(SpecError) as caught:
        do()
    return str(caught.value)


@pytest.mark.parametrize(
    ("do", "kept"),
    [
        (lambda: Workload(batch_size=0).check(), ["1"]),
        (lambda: Workload(dtype="fp7").check(), ["bf16"]),
        (lambda: check_config({"architectures": ["A"]}), ['"model_type"']),
        (lambda: check_config({"model_type": "llama", "hidden_size": 10**30}), []),
    ],
)
def test_what_the_engine_refuses_is_said_in_chinese(do, kept):
    said = engine_text(refused(do))
    assert english_in(said) == []
    assert re.search("[一-鿿]", said)
    assert all(value in said for value in kept)


def test_values_stand_where_they_belong():
    sentence = (
        "Input and output together exceed the model's 1024 positions: at most 24 output tokens are possible here."
    )
    assert engine_text(sentence) == "输入与输出合计超过模型的 1024 个位置：此处最多可输出 24 个词元。"


def test_phrases_inside_a_sentence_are_translated_too():
    error = explain(TypeError("unsupported operand type(s)"), "This configuration is not valid for llama")
    assert engine_text(error).startswith("此配置对 llama 无效：")
    sentence = '"hidden_size" must be a whole number, not a list.'
    assert engine_text(sentence) == '"hidden_size" 必须是整数，而不是列表。'


def test_several_sentences_are_translated_one_by_one():
    said = engine_text(
        "Prompt 3 has no tokens. Write some text. The engine is busy with other requests. Try again in a moment."
    )
    assert said == "提示词 3 没有词元。请写一些文本。引擎正忙于其他请求。请稍后重试。"


def test_what_is_not_known_stays_english_and_says_so():
    assert engine_text("A library said this.") == "A library said this."
    assert engine_html("A library said this.") == '<span lang="en">A library said this.</span> '
    page = engine_html("Cancelled. <b>A library said this.</b>")
    assert page == '已取消。<span lang="en">&lt;b&gt;A library said this.&lt;/b&gt;</span> '


def test_english_pages_have_the_sentence_as_it_is():
    with override("en"):
        assert engine_html("Cancelled.") == engine_text("Cancelled.") == "Cancelled."
    assert engine_text(None) == engine_text("") == ""


def test_a_hostile_sentence_takes_no_time():
    """A message of a library can be anything; matching takes time linear in it."""
    assert engine_text("at most " * 400) == "at most " * 400
    assert engine_text("a: " * 1200).count("a:") == 1200


def messages():
    return [message for message in read(CATALOGUE_OF_ENGINE) if message.id and message.string]


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.id[:60])
def test_every_sentence_is_found_by_its_pattern(message):
    """With values in it, it is the translation with the same values. A phrase inside others is taken as a value of a whole sentence."""
    names = re.findall(r"\{(\w+)\}", message.id)
    values = {name: f"xx{number}" for number, name in enumerate(dict.fromkeys(names), 1)}
    sentence = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], message.id)
    said = engine_text(sentence)
    missing = [value for name, value in values.items() if f"{{{name}}}" in message.string and value not in said]
    assert not missing, said
    assert english_in(said) == english_in(re.sub(r"\{\w+\}", "xx1", message.string)), said


def test_sentences_are_collected_with_their_values():
    source = '''
def f(limit):
    """A docstring is none."""
    raise ValueError(f"At most {limit:,} of {len(limit)} are possible." + f" Ask {WHOM}.")
    return "key", "two words", re.compile("a|b c")
'''
    assert in_source(source) == {"At most {limit} of {limit2} are possible. Ask {whom}.", "two words"}
