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


GGUF_PROGRAM = (
    PROGRAM.split("wide =")[0]
    + """
import gguf, os, sys
import numpy
from gguf.quants import dequantize
from tests.profiling import gguf_files

wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 9, "num_attention_heads": 16, "num_key_value_heads": 16}
gguf_files.CONFIG.update(wide)
path = Path(sys.argv[1])
if (writer := os.fork()) == 0:  # what writing takes is another process's
    gguf_files.write_gguf(path, gguf_files.tiny_model(), gguf.GGMLQuantizationType.Q8_0)
    os._exit(0)
os.waitpid(writer, 0)
model = ModelSpec(name="Wide", config=dict(gguf_files.CONFIG), weights="local", weights_path=str(path))
before = figure("VmRSS")
loaded = load(model, replace(tiny.WORKLOAD, dtype="fp32"), device)
size = sum(p.numel() * p.element_size() for p in loaded.parameters())
print(size, path.stat().st_size, figure("VmHWM") - before)
"""
)

TOO_LARGE = """
import re
from pathlib import Path
from dataclasses import replace
from profiling.failures import EngineError
from profiling.measure import measure
from tests.profiling import tiny

def figure(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=1))
large = tiny.LLAMA | {"hidden_size": 32768, "intermediate_size": 131072, "num_hidden_layers": 120, "num_attention_heads": 128, "num_key_value_heads": 8}
before = figure("VmHWM")
try:
    measure(replace(tiny.MODEL, config=large), tiny.HOST, tiny.WORKLOAD)
except EngineError as error:
    print(error.kind, error.phase, figure("VmHWM") - before)
    print(error.message)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_a_gguf_file_takes_no_second_copy(tmp_path):
    command = [sys.executable, "-c", GGUF_PROGRAM, str(tmp_path / "wide.gguf")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    size, file, peak = map(int, ran.stdout.split())
    assert size > 600e6
    # Pages of the mapped file count, and the largest tensor is there once more while it is dequantised.
    assert size <= peak < 1.25 * size + file, (
        f"{peak / size:.2f} times the weights, of a file of {file / size:.2f} times them"
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_what_cannot_fit_is_refused_before_any_memory_is_taken():
    ran = subprocess.run([sys.executable, "-c", TOO_LARGE], capture_output=True, text=True, timeout=300, check=True)
    first, message = ran.stdout.strip().split("\n")
    kind, phase, taken = first.split()
    assert (kind, phase) == ("memory", "load")
    assert int(taken) < 50e6
    assert "are free here" in message
