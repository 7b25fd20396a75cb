"""Sentences of the engine, as they are stored, in the reader's language."""

from __future__ import annotations

import re

import pytest
from django.utils.translation import override

from llmcompare.common.engine_texts import engine_html, engine_text, engine_value
from profiling.explanations import explain
from profiling.limits import check_context
from profiling.roofline import Ceilings
from profiling.safety import check_config
from profiling.small_products import warning
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


#: What the warning reads of the ceilings of a host whose products were timed by shape.
_CURVE = ((1 << 20, 1e9), (1 << 26, 1e9))
TIMED = Ceilings("measured", "bf16", "bf16", 1e12, 1e10, sized=((1, ((512, _CURVE), (8192, _CURVE))),))


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ({"decode": 0.123}, "占解码的 12.3 %。"),
        ({"prefill": 0.4, "decode": 0.3}, "占预填充的 40.0 % 和解码的 30.0 %。"),
        ({"encode": 0.5, "prefill": 0.4, "decode": 0.3}, "占编码的 50.0 %、预填充的 40.0 % 和解码的 30.0 %。"),
    ],
)
def test_lists_of_shares_inside_a_sentence_are_translated(shares, wanted):
    (found,) = warning(shares, TIMED)
    said = engine_text(found["message"])
    assert wanted in said
    assert english_in(said) == []


@pytest.mark.parametrize(
    ("images", "audios", "wanted"),
    [
        (1, 0, "1 张图像的 16 个词元"),
        (1200, 1, "1,200 张图像和 1 个音频片段的 19,216 个词元"),
    ],
)
@pytest.mark.parametrize("limit", [10, 100_000])
def test_counts_of_images_and_clips_are_translated(images, audios, wanted, limit):
    workload = Workload(images=images, audios=audios, input_tokens=100_000, output_tokens=1)
    error = refused(lambda: check_context("decoder", limit, workload, 16 * (images + audios)))
    said = engine_text(error)
    assert wanted in said
    assert english_in(said) == []


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (
            "1 image of 336 × 336 pixels in 5 tiles takes 2,880 tokens and 1 audio clip of 3,000 frames takes 1,500 tokens",
            "每个图像（336 × 336 像素、分为 5 个图块）占 2,880 个词元和每个音频片段（3,000 帧）占 1,500 个词元",
        ),
        ("batch 4, context 1,024", "批大小 4、上下文 1,024"),
        ("images or audio clips", "图像或音频片段"),
        ("a list or an object", "列表或对象"),
        # A list with something unknown in it stays as it is: half of it in either language would be worse.
        ("12.3 % of prefill and what nobody knows", "12.3 % of prefill and what nobody knows"),
        ("12.3 % of what nobody knows", "12.3 % of what nobody knows"),
        # Names and values to be entered are no words.
        ("trace, memory and bf16", "trace, memory and bf16"),
        ("closed, poisson or constant", "closed, poisson or constant"),
    ],
)
def test_a_value_that_is_a_list_is_translated_as_a_whole_or_not_at_all(value, wanted):
    assert engine_value(value) == wanted


def test_several_sentences_are_translated_one_by_one():
    said = engine_text(
        "Prompt 3 has no tokens. Write some text. The engine is busy with other requests. Try again in a moment."
    )
    assert said == "提示词 3 没有词元。请输入一些文本。引擎正忙于其他请求。请稍后重试。"


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
    long = ", ".join(f"{number} % of the things" for number in range(200))
    assert long in engine_text(f"Write {long} or nothing.")


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
