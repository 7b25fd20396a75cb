"""Machines that Vertex AI deploys models on: ``data/vertex_machines.json``, compiled from dated public sources.

Prices in it are **Compute Engine on-demand list prices**; Vertex AI adds a fee of its own and none of its own prices could be read. A price counts
for a region only where its source says so (:func:`listed_price`): everything else is unknown, never zero and never "about".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data") / "vertex_machines.json"

#: A source's marker that a figure was derived and not checked: it is not shown.
UNCHECKED = "check before showing"
US_REGIONS = "US regions"

#: Series → the slug of the same device in the hardware catalogue, for the estimate beside a deployment.
HARDWARE = {
    "NVIDIA L4": "nvidia-l4-24gb",
    "NVIDIA A100 40GB": "nvidia-a100-sxm4-40gb",
    "NVIDIA A100 80GB": "nvidia-a100-sxm4-80gb",
    "NVIDIA H100 80GB": "nvidia-h100-sxm5-80gb",
    "NVIDIA H100 Mega 80GB": "nvidia-h100-sxm5-80gb",
    "NVIDIA H200 141GB": "nvidia-h200-sxm-141gb",
    "NVIDIA B200": "nvidia-b200-sxm-180gb",
    "NVIDIA GB200": "nvidia-gb200-per-gpu",
    "NVIDIA RTX PRO 6000": "nvidia-rtx-pro-6000-blackwell-server-96gb",
    "TPU v5e": "google-tpu-v5e",
    "TPU v6e": "google-tpu-v6e-trillium",
    "TPU7x": "google-tpu-v7x-ironwood",
}


@dataclass(frozen=True)
class ListedPrice:
    """A Compute Engine on-demand list price of one machine, USD per hour. ``region`` and ``dated`` as its source says, empty where it does not."""

    usd_per_hour: Decimal
    region: str
    dated: str
    basis: str
    source: str

    def holds_in(self, region: str) -> bool:
        """Whether the source says that it is the price of ``region``. A price without a date is nobody's: it may be years old."""
        if not self.dated:
            return False
        return self.region == region or (self.region == US_REGIONS and region.startswith("us-"))


@dataclass(frozen=True)
class Machine:
    """A machine type. Memory in GB (10⁹ bytes) as the catalogue of machine types gives it; None: unknown."""

    name: str
    series: str
    vcpus: int
    memory_gb: float
    accelerator: str
    accelerator_type: str
    accelerator_count: int
    accelerator_memory_gb: float | None
    tpu_topology: str
    support: str
    listed: ListedPrice | None

    @property
    def is_tpu(self) -> bool:
        """TPU machines take no accelerator type but a topology. Our own container runs on CPU and CUDA, not on them."""
        return bool(self.tpu_topology)

    @property
    def hardware_slug(self) -> str:
        """The accelerator in the hardware catalogue; empty where it is not there."""
        return HARDWARE.get(self.accelerator, "")

    @property
    def label(self) -> str:
        """``g2-standard-8: 1 × NVIDIA L4, 8 vCPU, 32 GB``."""
        chips = f"{self.accelerator_count} × {self.accelerator}" if self.accelerator else "no accelerator"
        return f"{self.name}: {chips}, {self.vcpus} vCPU, {self.memory_gb:g} GB"


@cache
def machines() -> dict[str, Machine]:
    """Every machine type by its name, in the order of the file (by series, then size)."""
    return {entry["machine_type"]: _machine(entry) for entry in json.loads(DATA.read_text())["machines"]}


@cache
def compiled() -> str:
    """The day on which the file was compiled, ISO."""
    return str(json.loads(DATA.read_text())["compiled"])


def _machine(entry: dict[str, Any]) -> Machine:
    return Machine(
        name=entry["machine_type"],
        series=entry["series"],
        vcpus=entry["vcpus"],
        memory_gb=entry["memory_gb"],
        accelerator=entry["accelerator"] or "",
        accelerator_type=entry["vertex_accelerator_type"] or "",
        accelerator_count=entry["accelerator_count"],
        accelerator_memory_gb=entry["accelerator_memory_gb_each"],
        tpu_topology=entry.get("tpu_topology") or "",
        support=entry.get("vertex_support") or "",
        listed=_listed(entry["compute_engine_on_demand"]),
    )


def _listed(price: dict[str, Any]) -> ListedPrice | None:
    if price["usd_per_hour"] is None or UNCHECKED in price["basis"]:
        return None
    return ListedPrice(
        usd_per_hour=Decimal(str(price["usd_per_hour"])),
        region=price["region"] or "",
        dated=price["date"] or "",
        basis=price["basis"],
        source=price["source"] or "",
    )


def cheapest(region: str) -> Machine | None:
    """The machine with the lowest price that is known for ``region``, TPUs left out (our container does not run on them)."""
    known = [m for m in machines().values() if m.listed and m.listed.holds_in(region) and not m.is_tpu]
    return min(known, key=lambda m: m.listed.usd_per_hour if m.listed else Decimal(0), default=None)
