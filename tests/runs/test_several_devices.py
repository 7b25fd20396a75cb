"""Measurements on several devices of a host: what is refused when they are asked for, and what is said beforehand."""

from __future__ import annotations

import pytest

from llmcompare.common.errors import FieldErrors
from llmcompare.runs import exports, preview
from llmcompare.runs.compare import columns_of, notes
from llmcompare.runs.division import Division, division_of
from llmcompare.runs.facts import fact_sections
from llmcompare.runs.models import Run
from llmcompare.runs.services import launch_run
from llmcompare.runs.tiles import metric_tiles
from llmcompare.sharing import public
from profiling import units
from tests.factories import TINY_LLAMA, make_hardware, make_host, make_model, make_run
from tests.runs.documents import estimate_document, metric

GPU = {"name": "NVIDIA Test", "memory_bytes": 10 * 10**9, "kind": "gpu"}
SHORT = {
    "weights_bytes": 6 * 10**9,
    "kv_cache_bytes": 0,
    "activation_peak_bytes": 0,
    "total_bytes": 6 * 10**9,
    "ttft_s": 0.1,
    "tpot_s": 0.01,
    "e2e_s": 1.0,
    "encode_s": None,
    "devices": 2,
    "ceilings": "measured",
    "warnings": [],
}


@pytest.fixture(autouse=True)
def estimate(monkeypatch):
    """What the engine says of one device."""
    monkeypatch.setattr(preview, "_estimate", lambda inputs: dict(SHORT))


def gpus(count: int):
    return make_host(hardware=make_hardware(), details={"accelerators": [GPU] * count, "ram_bytes": 10**12})


def processors(cores: int = 8, ram: int = 64 * 10**9):
    device = make_hardware(kind="cpu", peak_flops={})
    return make_host(hardware=device, details={"cores_physical": cores, "ram_bytes": ram})


def launch(owner, host, size: int, **fields) -> Run:
    model = make_model(**({"parameters": 8 * 10**9} | fields))
    return launch_run(
        owner=owner, kind="measure", model=model, host=host, workload={"tensor_parallel": size, "dtype": "bf16"}
    )


def refused(owner, host, size: int, **fields) -> dict[str, str]:
    with pytest.raises(FieldErrors) as caught:
        launch(owner, host, size, **fields)
    assert not Run.objects.exists()
    return caught.value.errors


def test_a_model_that_fits_on_two_gpus_and_not_on_one_can_be_measured_on_two(owner):
    assert set(refused(owner, gpus(2), 1)) == {"model"}, "16 GB on 10 GB"
    assert launch(owner, gpus(2), 2).spec["workload"]["tensor_parallel"] == 2


@pytest.mark.parametrize(
    ("host", "size", "words"),
    [
        (lambda: gpus(1), 2, ": 1. Enter at most"),
        (lambda: gpus(4), 8, ": 4. Enter at most"),
        (lambda: processors(cores=2), 4, ": 2, and each process"),
        (lambda: processors(cores=16), 8, "4 key/value heads"),
    ],
)
def test_more_devices_than_there_are_or_than_heads_are_refused_at_the_field(owner, host, size, words):
    config = TINY_LLAMA | {"num_attention_heads": 16, "num_key_value_heads": 4}
    errors = refused(owner, host(), size, config=config, parameters=1000)
    assert set(errors) == {"tensor_parallel"}
    assert words in errors["tensor_parallel"]


def test_gpus_of_different_kinds_do_not_share_a_model(owner):
    details = {"accelerators": [GPU, GPU | {"name": "NVIDIA Other"}], "ram_bytes": 10**12}
    host = make_host(hardware=make_hardware(), details=details)
    assert "different kinds" in refused(owner, host, 2, parameters=1000)["tensor_parallel"]


def test_processes_that_share_a_machine_need_its_memory_together(owner):
    assert set(refused(owner, processors(ram=11 * 10**9), 2, parameters=1000)) == {"model"}, "twice 6 GB"
    assert launch(owner, processors(ram=13 * 10**9), 2, parameters=1000)


def test_no_time_is_foretold_where_processes_share_a_machine(db):
    asked = {"model": make_model(), "hardware": None, "kind": "measure", "workload": {"tensor_parallel": 2}}
    alone = preview.preview(**asked | {"host": processors(), "workload": {}})
    assert alone["e2e_s"] == 1.0
    shared = preview.preview(**asked, host=processors())
    assert (shared["ttft_s"], shared["e2e_s"], shared["expected_wall_s"]) == (None, None, None)
    assert preview.preview(**asked, host=gpus(2))["e2e_s"] == 1.0


def test_processes_on_one_processor_are_not_called_devices(owner):
    """“2 × Xeon” would be two machines."""
    assert launch(owner, gpus(2), 2).devices == 2
    assert launch(owner, processors(), 2).devices == 1
    assert make_run(owner, workload={"tensor_parallel": 2}).devices == 2, "an estimate of two"


@pytest.mark.parametrize(("shared", "words"), [(False, "of one of 2 devices"), (True, "of one of 2 processes")])
def test_the_memory_tile_says_of_what_it_is(shared, words):
    metrics = {"peak_memory": units.metric("peak_memory", 6e9, "measured", n=1)}
    errors = {
        "peak_memory": [
            {"level": level, "estimated": 5.5e9, "measured": 6e9, "error_pct": -8.3}
            for level in ("measured", "datasheet")
        ]
    }
    document = {
        "kind": "measure",
        "metrics": metrics,
        "errors": errors,
        "parallel": {"tensor_parallel": 2, "shared_machine": shared},
    }
    (tile,) = [tile for tile in metric_tiles(document) if tile["key"] == "peak_memory"]
    assert words in tile["brief"]
    assert [row["error"] for row in tile["estimates"]] == ["−8.3\u202f%"], (
        "no ceiling changes it, so it stands there once"
    )


def test_the_facts_of_a_run_say_how_it_was_divided():
    parallel = {"tensor_parallel": 2, "backend": "nccl", "shared_machine": False, "devices": ["NVIDIA A", "NVIDIA A"]}
    sections = {section["key"]: dict(section["rows"]) for section in fact_sections({"parallel": parallel})}
    assert sections["parallel"]["Devices"] == "NVIDIA A, NVIDIA A"
    assert "parallel" not in {section["key"] for section in fact_sections({})}


def measured_on_two(*, shared: bool) -> dict:
    document = estimate_document(memory=3 * 10**9) | {"kind": "measure"}
    document["metrics"]["peak_memory"] = metric(2 * 10**9, "B", "measured", "peak_memory/1")
    parallel = {"tensor_parallel": 2, "by": "transformers", "shared_machine": shared, "devices": ["A", "A"]}
    return document | {"parallel": parallel}


@pytest.mark.parametrize(
    ("shared", "throughput", "memory", "title"),
    [
        (False, "of all 2 devices", "of one of 2 devices", "Memory of one device"),
        (True, "of 2 processes on one machine", "of one of 2 processes", "Memory of one process"),
    ],
)
def test_figures_of_a_measurement_say_of_how_many_devices_they_are(owner, client, shared, throughput, memory, title):
    device = make_hardware(kind="cpu" if shared else "gpu", name="Chip")
    run = make_run(
        owner,
        kind="measure",
        hardware=device,
        document=measured_on_two(shared=shared),
        memory_bytes=3 * 10**9,
        workload={"tensor_parallel": 2},
    )
    tiles = {tile["key"]: str(tile) for tile in metric_tiles(run.document.data)}
    assert throughput in tiles["output_throughput"]
    assert memory in tiles["peak_memory"]
    client.force_login(owner)
    page = client.get(f"/runs/{run.public_id}/").content.decode()
    listed = client.get("/runs/").content.decode()
    assert title in page
    assert ("2 × " in listed) is not shared, "processes that share a machine are no two machines"
    assert ("of one process" if shared else "of one device") in listed
    (note,) = [note for note in notes(columns_of([run])) if "one process" in note or "one device" in note]
    assert ("not those of several devices" in note) is shared


def test_exports_and_shared_pages_say_how_a_measurement_was_divided(owner):
    run = make_run(owner, kind="measure", document=measured_on_two(shared=True), workload={"tensor_parallel": 2})
    shown = public.shared_object(run, include_text=False)
    assert shown["parallel"]["shared_machine"] is True
    rows = {(row[0], row[3]): row[4] for row in exports.run_rows(shown)}
    assert rows["parallel", "tensor_parallel"] == 2
    assert rows["parallel", "shared_machine"] is True


@pytest.mark.parametrize("parallel", [None, 2, "two", {"tensor_parallel": "x"}, {"tensor_parallel": -3}])
def test_what_cannot_be_read_of_a_document_from_outside_is_one_device(parallel):
    assert division_of({"parallel": parallel}) == Division(1)
