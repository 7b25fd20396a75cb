"""Areas: what is drawn adds up, fits, and is the same every time; shared weights count once; huge trees stay drawable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.utils import translation

from llmcompare.runs import areas, layertable
from llmcompare.runs.areas import Area
from llmcompare.runs.charts.areas import SIZES, area_view
from llmcompare.runs.charts.layout import icicle, squarify, treemap
from llmcompare.runs.modelroles import role_of
from llmcompare.runs.viewoptions import read_options
from tests.run_page import documents

STORED = Path(__file__).parents[1] / "data" / "documents"


def stored(name):
    return json.loads((STORED / f"{name}.json").read_text())


def tree(document, measure, stage="prefill"):
    return areas.whole(document, layertable.fold(document["modules"], stage), measure, stage)


@pytest.mark.parametrize("sizes", [[6, 6, 4, 3, 2, 2, 1], [1], [1e9, 1e-9], [5.0] * 40])
def test_rectangles_have_their_share_and_stay_inside(sizes):
    placed = squarify(sizes, 10, 20, 600, 400)
    for size, (x, y, width, height) in zip(sizes, placed, strict=True):
        assert width * height == pytest.approx(size / sum(sizes) * 600 * 400, rel=1e-6)
        assert 10 - 1e-6 <= x <= x + width <= 610 + 1e-6
        assert 20 - 1e-6 <= y <= y + height <= 420 + 1e-6


def test_the_example_of_the_paper_is_laid_out_as_in_the_paper():
    """Bruls et al., section 3: areas 6, 6, 4, 3, 2, 2, 1 in 6 × 4: the first two share a column of width 3."""
    first, second, third, *_ = squarify([6, 6, 4, 3, 2, 2, 1], 0, 0, 6, 4)
    assert first == pytest.approx((0, 0, 3, 2))
    assert second == pytest.approx((0, 2, 3, 2))
    assert third[:2] == pytest.approx((3, 0))


def test_nothing_to_draw_draws_nothing():
    assert squarify([], 0, 0, 10, 10) == []
    assert squarify([1, 2], 0, 0, 0, 10) == [(0, 0, 0, 0), (0, 0, 0, 0)]
    empty = documents.estimate()
    empty["modules"]["rows"], empty["memory"] = [], {}
    assert area_view(empty, {}, read_options({}, empty)) is None


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_memory_is_drawn_in_every_language(language):
    document = stored("estimate_gpt2")
    rows = layertable.fold(document["modules"], "prefill")
    with translation.override(language):
        found = area_view(document, rows, read_options({"area": "memory"}, document))
    assert (found["measure"], found["unit"]) == ("memory", "B")
    assert found["raw"] == pytest.approx(document["memory"]["estimate"]["total_bytes"], rel=1e-3)
    without = {"memory": document["memory"]}
    with translation.override(language):
        assert areas.measures_of(without, {}) == ["memory"]


@pytest.mark.parametrize("name", ["estimate_gpt2", "estimate_llama3_70b_h100", "measure_smollm2"])
def test_parts_of_real_documents_add_up_to_their_whole(name):
    document = stored(name)
    found = tree(document, "time")
    assert found.root.total == pytest.approx(document["stages"]["prefill"]["latency_s"], rel=1e-6)
    assert sum(part.own for part in areas.parts_of(found.root)) == pytest.approx(found.root.total)
    memory = tree(document, "memory")
    assert memory.root.total == pytest.approx(document["memory"]["estimate"]["total_bytes"], rel=1e-3)


def test_weights_that_two_modules_share_count_once():
    found = tree(stored("measure_smollm2"), "memory")
    assert found.shared_by == ("lm_head",)
    assert "lm_head" not in {part.path for part in areas.parts_of(found.root)}


def test_weights_that_modules_do_not_add_up_to_are_not_divided():
    document = stored("estimate_llama3_70b_h100")
    document["memory"]["estimate"]["weights_bytes"] /= 4  # one of four devices
    found = tree(document, "memory")
    assert found.note
    assert [p.own for p in areas.parts_of(found.root) if p.name == "Weights"] == [
        document["memory"]["estimate"]["weights_bytes"]
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", ["treemap", "icicle"])
def test_texts_fit_their_boxes_and_the_picture_is_the_same_every_time(view, size):
    document = stored("estimate_llama3_70b_h100")
    rows = layertable.fold(document["modules"], "prefill")
    options = read_options({"view": view}, document)
    drawn = area_view(document, rows, options)
    assert drawn == area_view(document, rows, options)
    picture = next(d for d in drawn["drawings"] if d["size"] == size)
    for cell in picture["cells"]:
        x, width, height = (float(cell[key]) for key in ("x", "width", "height"))
        assert x + width <= float(picture["width"]) + 0.05
        assert float(cell["y"]) + height <= float(picture["height"]) + 0.05
        for line in cell["lines"]:
            assert len(line["text"]) * 6.7 <= width
            assert float(line["y"]) <= float(cell["y"]) + height


def test_an_icicle_puts_children_under_their_parents():
    found = areas.drawable(tree(stored("estimate_gpt2"), "time").root)
    boxes, height = icicle(found, 1000)
    assert boxes[0].width == pytest.approx(1000)
    assert max(box.y + box.height for box in boxes) == pytest.approx(height)
    for box in boxes:
        inside = [b for b in boxes if b.depth == box.depth + 1 and box.x - 1e-6 <= b.x < box.x + box.width - 1e-6]
        assert sum(b.width for b in inside) <= box.width + 1e-6


def test_thousands_of_modules_are_few_parts_that_still_add_up():
    found = tree(documents.unfolded(400), "time")
    drawn = areas.drawable(found.root)
    boxes = treemap(drawn, 1180, 440)
    assert len(boxes) < 600
    assert sum(b.area.total for b in boxes if not b.frame) == pytest.approx(found.root.total)


def test_hostile_names_and_figures_do_no_harm():
    document = documents.estimate()
    for row in document["modules"]["rows"]:
        row[3] = row[4] = "<b>&'\"" * 50
        row[13] = -1.0 if row[1] == "lm_head" else row[13]
    assert area_view(document, layertable.fold(document["modules"], "prefill"), read_options({}, document))


@pytest.mark.parametrize(
    ("path", "class_name", "role"),
    [
        ("model.layers.0.self_attn.q_proj", "Linear", "attention"),
        ("transformer.h.0.mlp.c_proj", "Conv1D", "mlp"),
        ("transformer.h.0.ln_1", "LayerNorm", "norm"),
        ("model.layers.3.mlp.experts.7.up_proj", "Linear", "experts"),
        ("model.layers.0.self_attn.q_norm", "RMSNorm", "norm"),
        ("backbone.layers.0.mixer.in_proj", "Linear", "mixer"),
        ("model.embed_tokens", "Embedding", "embedding"),
        ("lm_head", "Linear", "head"),
        ("", "LlamaForCausalLM", "other"),
        ("model.layers.0", "LlamaDecoderLayer", "other"),
    ],
)
def test_roles_are_told_from_names(path, class_name, role):
    assert role_of(path, class_name) == role


def test_a_chain_of_single_modules_is_one_part():
    leaf = Area("a.b.c", "c", "mlp", 1.0, 1.0)
    chain = Area("a", "a", "other", 0, 1.0, children=[Area("a.b", "b", "other", 0, 1.0, times=3, children=[leaf])])
    drawn = areas.drawable(chain)
    assert (drawn.path, drawn.name, drawn.times, drawn.children) == ("a.b.c", "a.b.c", 3, [])
