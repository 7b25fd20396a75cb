"""Run documents kept as test data for the pages. Write them anew with ``python -m tests.profiling.documents``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profiling.spec import HardwareSpec, ModelSpec, Workload

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "data" / "documents"


def catalogue() -> dict[str, dict[str, Any]]:
    """The entries of the model catalogue by id."""
    data = json.loads((ROOT / "llmcompare/catalog/data/model_configs.json").read_text())
    return {entry["id"]: entry for entry in data["models"]}


def catalogue_model(model_id: str) -> ModelSpec:
    """A model of the catalogue as the engine gets it."""
    entry = catalogue()[model_id]
    config = {"model_type": entry["model_type"], "architectures": [entry["model_class"]], **entry["config_kwargs"]}
    return ModelSpec(
        name=model_id, config=config, architecture=entry["model_class"], kind=entry["kind"], source="catalogue"
    )


def device(name: str) -> HardwareSpec:
    """A device of the hardware catalogue as the engine gets it."""
    data = json.loads((ROOT / "hardware/data/hardware_facts.json").read_text())
    entry = next(d for d in data["devices"] if d["name"] == name)
    return HardwareSpec(
        name=entry["name"],
        slug=entry["name"].lower().replace(" ", "-"),
        vendor=entry["vendor"],
        kind=entry["kind"],
        memory_bytes=int(entry["memory_gb"] * 1e9),
        memory_bandwidth=entry["memory_bandwidth_gb_s"] * 1e9,
        peak_flops={k: v * 1e12 if v else None for k, v in entry["peak_dense_tflops"].items()},
    )


DOCUMENTS = {
    "estimate_gpt2": ("gpt2", "H100 SXM5 80GB", Workload(input_tokens=512, output_tokens=64)),
    "estimate_llama3_70b_h100": ("llama-3-70b", "H100 SXM5 80GB", Workload(input_tokens=512, output_tokens=64)),
}


def make(name: str) -> dict[str, Any]:
    from profiling.estimate import estimate

    model, hardware, workload = DOCUMENTS[name]
    return estimate(catalogue_model(model), device(hardware), workload)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTS:
        text = json.dumps(make(name), allow_nan=False, separators=(",", ":"))
        (FOLDER / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
