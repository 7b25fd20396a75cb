"""Vision and audio front ends of models that read text: what they execute, and how long their part of the prompt is."""

from __future__ import annotations

import json

import pytest

from profiling.build import build
from profiling.cli import main
from profiling.front_ends import front_ends
from profiling.passes import Pass, trace
from profiling.spec import ModelSpec, SpecError
from tests.profiling.coverage_configs import config_of
from tests.profiling.test_trace import flops, tiny

#: LLaVA 1.5 in little: a CLIP tower of 3 blocks of 64 for images of 56 × 56 in patches of 14, two layers to 128.
LLAVA = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "text_config": {
        "model_type": "llama",
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
    },
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 64,
    },
}
SPEC = ModelSpec(name="little llava", config=LLAVA)


@pytest.mark.parametrize("images", [1, 3])
def test_a_vision_tower_and_its_projector_by_hand(images):
    item = trace(build(SPEC, "bf16"), Pass("encode", images, 1, front_end="image"))
    patches, width, inner, text = (56 // 14) ** 2, 64, 256, 128
    tokens = patches + 1  # and the class token, which the language model does not get
    patching = 2 * patches * width * 3 * 14 * 14
    block = 2 * tokens * (4 * width * width + 2 * width * inner) + 4 * tokens * tokens * width
    projector = 2 * patches * (width * text + text * text)
    assert flops(item) == images * (patching + 3 * block + projector)
    assert item.sequence_length == patches
    assert item.cache_bytes == 0
    assert item.recording.unknown == ()
    assert {path.split(".")[1] for path in item.outputs() if "." in path} == {"vision_tower", "multi_modal_projector"}


def test_images_of_one_prompt_count_like_prompts_of_one_image():
    built = build(SPEC, "bf16")
    apart = trace(built, Pass("encode", 6, 1, front_end="image"))
    together = trace(built, Pass("encode", 2, 3, front_end="image"))
    assert flops(apart) == flops(together)
    assert apart.sequence_length == together.sequence_length


def test_the_text_part_is_folded_and_the_front_end_is_complete():
    built = build(SPEC, "bf16")
    (fold,) = built.folds
    assert fold.path == "model.language_model.layers"
    assert (fold.kept, built.layers) == (2, 5)
    whole = trace(build(SPEC, "bf16", fold=False), Pass("prefill", 1, 20))
    assert flops(trace(built, Pass("prefill", 1, 20))) == flops(whole)


@pytest.mark.parametrize(
    ("model_type", "front_end", "tokens", "takes"),
    [
        ("llava", "image", 576, "336 × 336 pixels"),  # 24 × 24 patches
        ("llava_next", "image", 1176, "336 × 336 pixels in 3 tiles"),  # 24 × 24 + 24 × 25
        ("granite4_vision", "image", 300, "336 × 336 pixels in 3 tiles"),  # 12 × 12 + 12 × 13
        ("paligemma", "image", 256, "224 × 224 pixels"),  # 16 × 16
        ("gemma3", "image", 256, "896 × 896 pixels"),  # 64 × 64 pooled to 16 × 16
        ("qwen2_vl", "image", 256, "448 × 448 pixels"),  # 32 × 32 patches, merged by 2 × 2
        ("idefics3", "image", 49, "448 × 448 pixels"),  # 14 × 14 shuffled into 7 × 7
        ("minicpmv4_6", "image", 9, "192 × 192 pixels"),  # 12 × 12 merged twice by 2 × 2
        ("muse_glimmer", "image", 256, "448 × 448 pixels"),  # 32 × 32 merged by 2 × 2
        ("voxtral", "audio", 375, "3,000 frames"),  # 1,500 positions of 30 s, four to a token
        ("qwen2_audio", "audio", 750, "3,000 frames"),
    ],
)
def test_how_long_an_image_or_a_clip_is_in_the_prompt(model_type, front_end, tokens, takes):
    model = ModelSpec(name=model_type, config=config_of(model_type, "front_end"), architecture=_class(model_type))
    built = build(model, "bf16")
    assert front_ends(built.module) == (front_end,)
    made = trace(built, Pass("encode", 1, 1, front_end=front_end))
    assert (made.sequence_length, made.takes) == (tokens, takes)


def _class(model_type: str) -> str:
    from tests.profiling.coverage_configs import types

    return types()["front_end"][model_type]


def test_a_model_without_front_end_says_so():
    with pytest.raises(SpecError, match=r"LlamaForCausalLM has no front end for image input\."):
        trace(build(tiny(), "bf16"), Pass("encode", 1, 1, front_end="image"))


def test_the_command_line_lists_the_operators_of_a_front_end(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(LLAVA))
    assert (
        main(["trace", "--config", str(tmp_path), "--front-end", "image", "--json", str(tmp_path / "rows.json")]) == 0
    )
    rows = json.loads((tmp_path / "rows.json").read_text())["operators"]
    assert {"convolution", "sdpa", "native_layer_norm"} <= {row["operator"] for row in rows}
    assert "vision_tower" in capsys.readouterr().out
