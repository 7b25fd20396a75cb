"""The hardware catalogue: exact figures, honest confidence, and a loader that respects what people edited."""

from __future__ import annotations

import json
from datetime import date

import pytest

from hardware.catalogue import FACTS_PATH, catalogue_rows, row_digest
from hardware.models import Hardware
from hardware.services import is_edited, load_catalogue


@pytest.fixture(scope="module")
def rows():
    return {row["slug"]: row for row in catalogue_rows()}


def test_every_device_has_a_row_of_its_own(rows):
    assert len(rows) == 89
    assert all(len(slug) <= 100 for slug in rows)


def test_figures_are_converted_exactly(rows):
    # Copied by hand from the data file: 80 GB, 3350 GB/s, 989.4 TFLOP/s, 50 MB, 900 GB/s, 700 W.
    h100 = rows["nvidia-h100-sxm5-80gb"]
    assert (h100["memory_bytes"], h100["memory_bandwidth"]) == (80_000_000_000, 3_350_000_000_000)
    assert h100["peak_flops"]["bf16"] == 989_400_000_000_000
    assert h100["peak_flops"]["fp8"] == 1_978_900_000_000_000
    assert (h100["cache_bytes"], h100["interconnect_bandwidth"], h100["tdp_w"]) == (50_000_000, 900_000_000_000, 700)
    # Figures whose products are not whole in binary arithmetic: 68.25 GB/s, 362.05 and 1.28 TFLOP/s, 3276.8 GB/s, 112.5 GB/s.
    assert rows["apple-m1-8-core-gpu"]["memory_bandwidth"] == 68_250_000_000
    assert rows["nvidia-l40s-48gb"]["peak_flops"]["fp16"] == 362_050_000_000_000
    assert rows["nvidia-jetson-orin-nano-8gb"]["peak_flops"]["fp32"] == 1_280_000_000_000
    assert rows["amd-instinct-mi250x-128gb"]["memory_bandwidth"] == 3_276_800_000_000
    assert rows["nvidia-a40-48gb"]["interconnect_bandwidth"] == 112_500_000_000


def test_every_figure_is_a_whole_number_of_base_units(rows):
    for row in rows.values():
        figures = [row[name] for name in ("memory_bytes", "memory_bandwidth", "cache_bytes", "interconnect_bandwidth")]
        figures += row["peak_flops"].values()
        assert all(figure is None or (isinstance(figure, int) and figure > 0) for figure in figures), row["slug"]


def test_unknown_figures_stay_unknown_and_claim_no_confidence(rows):
    v100 = rows["nvidia-v100-sxm2-32gb"]
    assert v100["peak_flops"]["bf16"] is None
    assert "peak_flops.bf16" not in v100["confidence"]
    assert rows["intel-core-i9-13900k"]["memory_bytes"] is None
    assert rows["google-tpu-v3"]["tdp_w"] is None
    for row in rows.values():
        named = {name for name, value in row["peak_flops"].items() if value is None}
        assert not named & {field.removeprefix("peak_flops.") for field in row["confidence"]}


def test_confidence_names_who_confirmed_and_what_nobody_did(rows):
    h100 = rows["nvidia-h100-sxm5-80gb"]["confidence"]
    assert h100["peak_flops.tf32"] == {"status": "confirmed", "sources": ["stas00/ml-engineering"]}
    assert len(h100["memory_bandwidth"]["sources"]) == 8
    assert h100["interconnect_bandwidth"] == {"status": "unconfirmed", "sources": []}
    mi300a = rows["amd-instinct-mi300a-128gb"]["confidence"]
    assert {entry["status"] for entry in mi300a.values()} == {"unconfirmed"}


def test_every_known_figure_has_a_confidence(rows):
    for row in rows.values():
        plain = {name for name in ("memory_bytes", "memory_bandwidth", "cache_bytes", "tdp_w") if row[name] is not None}
        peaks = {f"peak_flops.{dtype}" for dtype, value in row["peak_flops"].items() if value is not None}
        assert plain | peaks <= set(row["confidence"]), row["slug"]


def test_disagreements_keep_the_other_figure_in_our_units(rows):
    assert rows["nvidia-h100-sxm5-80gb"]["disagreements"] == [
        {
            "field": "memory_bandwidth",
            "source": "hahnyuan/LLM-Viewer",
            "value": 3_072_000_000_000,
            "ours": 3_350_000_000_000,
        }
    ]


def test_loading_twice_changes_nothing(db):
    first = load_catalogue()
    stamps = dict(Hardware.objects.values_list("slug", "updated"))
    second = load_catalogue()
    assert (first.created, first.updated, first.kept) == (89, 0, ())
    assert (second.created, second.updated, second.unchanged, second.kept) == (0, 0, 89, ())
    assert dict(Hardware.objects.values_list("slug", "updated")) == stamps
    assert {row.compiled_on for row in Hardware.objects.all()} == {date(2026, 11, 23)}


def test_the_digest_survives_the_database(db):
    load_catalogue()
    for values in catalogue_rows():
        row = Hardware.objects.get(slug=values["slug"])
        assert row.catalogue_digest == row_digest(values)
        assert not is_edited(row), row.slug


def changed_file(tmp_path, slug_name, **figures):
    """The catalogue as a later version of the project might ship it."""
    facts = json.loads(FACTS_PATH.read_text())
    for device in facts["devices"]:
        if device["name"] == slug_name:
            device |= figures
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts))
    return path


def test_a_newer_catalogue_updates_rows_that_nobody_edited(db, tmp_path):
    load_catalogue()
    summary = load_catalogue(path=changed_file(tmp_path, "L4 24GB", tdp_w=75))
    assert (summary.updated, summary.unchanged) == (1, 88)
    row = Hardware.objects.get(slug="nvidia-l4-24gb")
    assert row.tdp_w == 75
    assert not is_edited(row)


def test_rows_that_an_admin_edited_are_never_overwritten_not_even_partly(db, tmp_path):
    load_catalogue()
    Hardware.objects.filter(slug="nvidia-l4-24gb").update(memory_bandwidth=3.1e11)
    summary = load_catalogue(path=changed_file(tmp_path, "L4 24GB", tdp_w=75))
    row = Hardware.objects.get(slug="nvidia-l4-24gb")
    assert (row.memory_bandwidth, row.tdp_w) == (3.1e11, 72)
    assert summary.kept == ("nvidia-l4-24gb",)
    assert summary.updated == 0


def test_an_entry_of_an_admin_with_a_catalogue_address_is_left_alone(db):
    Hardware.objects.create(slug="nvidia-l4-24gb", name="My L4", kind="gpu", source="admin")
    assert "nvidia-l4-24gb" in load_catalogue().kept
    assert Hardware.objects.get(slug="nvidia-l4-24gb").name == "My L4"
