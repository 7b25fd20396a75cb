"""Random weights are built in the format that was asked for: never a second copy, never first in a wider format."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import re
from pathlib import Path
import torch, transformers
from dataclasses import replace
from profiling.loading import load
from profiling.spec import ModelSpec
from tests.profiling import tiny

def figure(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

device = torch.device("cpu")
load(tiny.MODEL, replace(tiny.WORKLOAD, dtype="bf16"), device)  # what is imported and allocated once
wide = tiny.LLAMA | {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 9, "num_attention_heads": 16, "num_key_value_heads": 16}
before = figure("VmRSS")
loaded = load(replace(tiny.MODEL, config=wide), replace(tiny.WORKLOAD, dtype="bf16"), device)
size = sum(p.numel() * p.element_size() for p in loaded.parameters())
print(size, figure("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_building_random_weights_takes_no_second_copy():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=True)
    size, peak = map(int, ran.stdout.split())
    assert 250e6 < size < 400e6
    assert size <= peak < 1.4 * size, f"{peak / size:.2f} times the weights"
