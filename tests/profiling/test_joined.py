"""Estimates of text with images or audio clips beside it: the encode pass, the longer prompt, and sweeps over them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from profiling.build import build
from profiling.cli import main
from profiling.estimate import estimate
from profiling.forms.store import FormStore
from profiling.measure import check_measurable
from profiling.passes import Pass, trace
from profiling.spec import ModelSpec, SpecError, Workload
from profiling.sweep import from_document, sweep
from tests.profiling import tiny
from tests.profiling.documents import device
from tests.profiling.test_front_ends import LLAVA, SPEC
from tests.profiling.test_trace import flops

H100 = replace(device("H100 SXM5 80GB"), interconnect_bandwidth=900e9)
PATCHES, TEXT, IMAGES = 16, 20, 3
WORKLOAD = Workload(batch_size=2, input_tokens=TEXT, output_tokens=8, images=IMAGES)
LONGER = replace(WORKLOAD, images=0, input_tokens=TEXT + IMAGES * PATCHES)

#: Qwen2.5-Omni's thinker in little: images of 56 × 56 in patches of 14, merged by 2 × 2; 40 frames of sound, four to a token.
OMNI = {
    "model_type": "qwen2_5_omni_thinker",
    "architectures": ["Qwen2_5OmniThinkerForConditionalGeneration"],
    "text_config": {
        "model_type": "qwen2_5_omni_text",
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    },
    "vision_config": {
        "model_type": "qwen2_5_omni_vision_encoder",
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
        "image_size": 56,
    },
    "audio_config": {
        "model_type": "qwen2_5_omni_audio_encoder",
        "num_mel_bins": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "d_model": 64,
        "max_source_positions": 20,
        "n_window": 20,
        "output_dim": 64,
    },
}


def value(document, metric):
    return document["metrics"][metric]["value"]


def test_an_estimate_is_the_encode_pass_and_the_prefill_of_the_longer_prompt():
    made, longer = estimate(SPEC, H100, WORKLOAD), estimate(SPEC, H100, LONGER)
    encode = made["stages"]["encode"]
    assert list(made["stages"]) == list(made["graph"]) == ["encode", "prefill", "decode"]
    assert {name: made["stages"][name] for name in ("prefill", "decode")} == longer["stages"]
    assert value(made, "encode_time") == encode["latency_s"] > 0
    assert value(made, "ttft") == pytest.approx(encode["latency_s"] + value(longer, "ttft"), rel=1e-12)
    assert value(made, "e2e_latency") == pytest.approx(encode["latency_s"] + value(longer, "e2e_latency"), rel=1e-12)
    for same in ("prefill_time", "prefill_throughput", "mfu_prefill", "tpot", "decode_throughput", "mbu_decode"):
        assert made["metrics"][same] == longer["metrics"][same]
    assert made["workload"]["input_tokens"] == TEXT
    assert made["model"] == longer["model"]
    assert "Encoding of images" in made["metrics"]["ttft"]["note"]
    said = made["conventions"]["front_ends"]
    assert "1 image of 56 × 56 pixels takes 16 tokens" in said
    assert "prompt of a sequence has 68" in said
    assert "front_ends" not in longer["conventions"]


def test_the_encode_stage_by_hand():
    """Six images: a CLIP tower of 3 blocks of 64 over 17 vectors, two layers to the 128 of the language model over 16."""
    made = estimate(SPEC, H100, WORKLOAD)
    stage, count, width, inner, text = made["stages"]["encode"], 2 * IMAGES, 64, 256, 128
    vectors = PATCHES + 1
    patching = 2 * PATCHES * width * 3 * 14 * 14
    block = 2 * vectors * (4 * width * width + 2 * width * inner) + 4 * vectors * vectors * width
    projector = 2 * PATCHES * (width * text + text * text)
    assert stage["flops"] == count * (patching + 3 * block + projector)
    assert (stage["batch_size"], stage["tokens"], stage["context"]) == (2, IMAGES * PATCHES, 0)
    assert sum(stage["time_by_bound"].values()) == pytest.approx(stage["latency_s"])
    rows = [dict(zip(made["operators"]["columns"], row, strict=True)) for row in made["operators"]["rows"]]
    assert sum(row["flops"] for row in rows if row["stage"] == "encode") == stage["flops"]
    modules = [dict(zip(made["modules"]["columns"], row, strict=True)) for row in made["modules"]["rows"]]
    by_path = {row["path"]: row for row in modules if row["stage"] == "encode"}
    assert by_path["model.vision_tower"]["flops"] == count * (patching + 3 * block)
    assert by_path["model.language_model"]["flops"] == 0
    assert (
        by_path[""]["activation_peak_bytes"] == made["memory"]["estimate"]["stages"]["encode"]["activation_peak_bytes"]
    )
    nodes = {node["id"] for node in made["graph"]["encode"]["nodes"]}
    assert "model.multi_modal_projector.linear_1" in nodes
    assert not any("language_model" in node for node in nodes)


def test_memory_holds_the_front_end_and_the_highest_of_all_peaks():
    made = estimate(SPEC, H100, WORKLOAD)["memory"]["estimate"]
    complete = build(SPEC, "bf16", fold=False).module
    assert made["weights_bytes"] == 2 * sum(p.numel() for p in complete.parameters())
    many = estimate(SPEC, H100, replace(WORKLOAD, input_tokens=1, images=1, batch_size=1, output_tokens=1))
    peaks = {name: item["activation_peak_bytes"] for name, item in many["memory"]["estimate"]["stages"].items()}
    assert many["memory"]["estimate"]["activation_peak_bytes"] == max(peaks.values())
    # Keys and values of 5 layers of 128, in bf16, for text, patches and all output tokens but the last.
    assert made["kv_cache_bytes"] == 2 * (TEXT + IMAGES * PATCHES + 7) * 5 * 2 * 128 * 2


def test_a_front_end_is_neither_quantised_nor_divided():
    options = {"weights_dtype": "int4", "execution": "fused"}
    plain = estimate(SPEC, H100, replace(WORKLOAD, execution="fused"))
    quantised = estimate(SPEC, H100, replace(WORKLOAD, **options))
    assert quantised["stages"]["encode"] == plain["stages"]["encode"]
    assert (
        quantised["memory"]["estimate"]["weights_bytes"]
        == (estimate(SPEC, H100, replace(LONGER, **options))["memory"]["estimate"]["weights_bytes"])
    )
    two = estimate(SPEC, H100, replace(WORKLOAD, tensor_parallel=2))
    alone = estimate(SPEC, H100, WORKLOAD)
    assert two["stages"]["encode"] == alone["stages"]["encode"]
    peaks = {name: item["activation_peak_bytes"] for name, item in two["memory"]["estimate"]["stages"].items()}
    assert peaks["encode"] == alone["memory"]["estimate"]["stages"]["encode"]["activation_peak_bytes"]
    assert two["memory"]["estimate"]["activation_peak_bytes"] == max(peaks.values())
    halves = estimate(SPEC, H100, replace(WORKLOAD, data_parallel=2))
    assert halves["stages"]["encode"]["flops"] * 2 == alone["stages"]["encode"]["flops"]


def test_images_and_sound_are_encoded_in_stages_of_their_own():
    model = ModelSpec(name="little omni", config=OMNI)
    workload = replace(WORKLOAD, images=2, audios=1)
    made = estimate(model, H100, workload)
    built = build(model, "bf16")
    image, sound = (trace(built, Pass("encode", 2, n, front_end=kind)) for kind, n in (("image", 2), ("audio", 1)))
    assert (image.sequence_length, sound.sequence_length) == (4, 10)
    assert list(made["stages"]) == ["encode", "encode_audio", "prefill", "decode"]
    assert made["stages"]["encode"]["flops"] == flops(image)
    assert made["stages"]["encode_audio"]["flops"] == flops(sound)
    assert made["stages"]["prefill"]["tokens"] == TEXT + 2 * 4 + 10
    seconds = [made["stages"][name]["latency_s"] for name in ("encode", "encode_audio", "prefill")]
    assert value(made, "encode_time") == pytest.approx(sum(seconds[:2]))
    assert value(made, "ttft") == pytest.approx(sum(seconds))
    assert "1 audio clip of 40 frames takes 10 tokens" in made["conventions"]["front_ends"]
    alone = estimate(model, H100, replace(workload, images=0))
    assert alone["stages"]["encode"] == made["stages"]["encode_audio"]


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"images": 120, "input_tokens": 200}, "images", r"1,920 tokens of 120 images leave 128 of .* 2,048"),
        (
            {"images": 128},
            "images",
            "2,048 tokens of 128 images do not fit: this model takes at most 2,048, the text included",
        ),
        ({"images": 1, "output_tokens": 2020}, "output_tokens", r"1 image of the input takes 16 tokens"),
        ({"images": 0, "audios": 1}, "audios", "LlavaForConditionalGeneration has no front end for audio clips"),
        ({"images": -1}, "images", "whole number from 0"),
        ({"images": True}, "images", "whole number from 0"),
        ({"images": 10_001}, "images", "to 10000"),
    ],
)
def test_what_a_model_does_not_take_is_refused(changes, field, said):
    with pytest.raises(SpecError, match=said) as caught:
        estimate(SPEC, H100, replace(WORKLOAD, **changes))
    assert caught.value.field == field


@pytest.mark.parametrize(("config", "kind"), [(tiny.LLAMA, "decoder"), (tiny.BERT, "encoder"), (tiny.T5, "encdec")])
def test_models_of_text_alone_take_none(config, kind):
    with pytest.raises(SpecError) as caught:
        estimate(ModelSpec(name="Tiny", config=config, kind=kind), H100, Workload(input_tokens=9, images=1))
    assert caught.value.field == "images"


def test_images_outside_of_the_prompt_are_refused():
    vision = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "image_size": 56,
    }
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "vocab_size": 512, "cross_attention_layers": [1]}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = {"model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"]}
    model = ModelSpec(name="mllama", config=config | {"vision_config": vision, "text_config": text})
    with pytest.raises(SpecError, match="attends to images from layers of its own"):
        estimate(model, H100, WORKLOAD)


def test_a_measured_run_has_no_images():
    with pytest.raises(SpecError, match="leave it at 0, or run an estimate") as caught:
        check_measurable(WORKLOAD)
    assert caught.value.field == "images"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights_dtype": "int8", "kv_dtype": "fp8"},
        {"tensor_parallel": 2, "data_parallel": 2},
        {"prefix_tokens": 5},
    ],
)
def test_a_sweep_with_images_gives_the_figures_of_estimates(options, tmp_path):
    points = [
        {"batch_size": b, "input_tokens": s, "output_tokens": n, "images": i}
        for b, s, n, i in ((2, 20, 8, 3), (5, 700, 100, 1), (3, 9, 1, 2), (2, 9, 0, 2), (2, 20, 8, 0), (2, 20, 8, 200))
    ]
    table = sweep(SPEC, [H100], points, Workload(**options), store=FormStore(tmp_path))
    rows = list(table.rows())
    assert rows[-1]["error"].startswith("images: The 3,200 tokens of 200 images do not fit")
    for row, point in zip(rows[:-1], points, strict=False):
        assert (row["error"], row["method"]) == (None, "closed form")
        for name, expected in from_document(estimate(SPEC, H100, Workload(**options, **point))).items():
            assert row[name] == (None if expected is None else pytest.approx(expected, rel=1e-8)), name
        shares = [row[f"{part}_share"] for part in ("compute", "memory", "overhead", "network")]
        assert sum(shares) == pytest.approx(1)


def test_a_sweep_names_the_points_that_take_no_images(tmp_path):
    model = ModelSpec(name="Tiny", config=tiny.LLAMA)
    points = [{"images": 0}, {"images": 1}]
    table = sweep(model, [H100], points, Workload(input_tokens=9, output_tokens=4), store=FormStore(tmp_path))
    first, second = table.rows()
    assert first["error"] is None
    assert second["error"] == "images: LlamaForCausalLM has no front end for images: leave it at 0."


def test_the_command_line_says_what_images_take(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(LLAVA))
    model = ["--config", str(tmp_path), "-d", "nvidia-h100-sxm5-80gb", "--images", "2", "--output-tokens", "4"]
    assert main(["estimate", *model]) == 0
    printed = capsys.readouterr().out
    assert "1 image of 56 × 56 pixels takes 16 tokens" in printed
    assert "encode: " in printed
    assert main(["graph", *model, "--stage", "encode"]) == 0
    assert "multi_modal_projector" in capsys.readouterr().out
