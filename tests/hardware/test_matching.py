"""Which catalogue entry a detected device is: exact names only, because a wrong match is a wrong roof."""

from __future__ import annotations

import pytest

from hardware.catalogue import catalogue_rows
from hardware.matching import match_accelerator, match_cpu

ROWS = catalogue_rows()
MIB = 2**20


@pytest.mark.parametrize(
    ("name", "mebibytes", "slug"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, "nvidia-h100-sxm5-80gb"),
        ("NVIDIA H100 PCIe", 81559, "nvidia-h100-pcie-80gb"),
        ("NVIDIA H200", 143771, "nvidia-h200-sxm-141gb"),
        ("NVIDIA H200 NVL", 143771, "nvidia-h200-nvl-141gb"),
        ("NVIDIA A100-SXM4-80GB", 81920, "nvidia-a100-sxm4-80gb"),
        ("NVIDIA A100 80GB PCIe", 81920, "nvidia-a100-pcie-80gb"),
        ("NVIDIA A100-PCIE-40GB", 40960, "nvidia-a100-pcie-40gb"),
        ("Tesla T4", 15360, "nvidia-t4-16gb"),
        ("Tesla V100-SXM2-32GB", 32768, "nvidia-v100-sxm2-32gb"),
        ("NVIDIA L4", 23034, "nvidia-l4-24gb"),
        ("NVIDIA GeForce RTX 4090", 24564, "nvidia-geforce-rtx-4090-24gb"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "nvidia-rtx-6000-ada-48gb"),
    ],
)
def test_drivers_names_find_their_entry(name, mebibytes, slug):
    assert match_accelerator({"name": name, "memory_bytes": mebibytes * MIB}, ROWS) == slug


@pytest.mark.parametrize(
    ("name", "mebibytes"),
    [
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376),
        ("Tesla V100-SXM2-16GB", 16384),
        ("NVIDIA GeForce RTX 3060", 8192),  # there is an 8 GB version with half the bandwidth
        ("NVIDIA H100", 81559),  # which one?
        ("NVIDIA GeForce RTX 4070 Ti", 12282),
        ("Some new card", 1024),
    ],
)
def test_a_name_that_is_not_exactly_one_device_matches_none(name, mebibytes):
    assert match_accelerator({"name": name, "memory_bytes": mebibytes * MIB}, ROWS) is None


def test_a_device_cut_into_slices_is_not_the_whole_device():
    device = {"name": "NVIDIA A100-SXM4-80GB", "memory_bytes": 81920 * MIB, "mig": True}
    assert match_accelerator(device, ROWS) is None


def test_a_processor_matches_only_with_all_its_cores():
    assert match_cpu("AMD EPYC 9654 96-Core Processor", 96, ROWS) == "amd-epyc-9654-96-cores-per-socket"
    assert match_cpu("Intel(R) Xeon(R) Platinum 8480+", 56, ROWS) == "intel-xeon-platinum-8480-56-cores-per-socket"
    assert match_cpu("AMD EPYC 9654 96-Core Processor", 2, ROWS) is None
    assert match_cpu("AMD EPYC 9654 96-Core Processor", 192, ROWS) is None
    assert match_cpu("AMD EPYC 9654P 96-Core Processor", 96, ROWS) is None
    assert match_cpu("AMD EPYC", None, ROWS) is None
