"""Folders with models, as tests need them: config.json and safetensors written by hand, without torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tests.profiling.tiny import LLAMA

SIZES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}


def write_safetensors(path: Path, tensors: dict[str, Any]) -> None:
    """``tensors``: name → shape of F32, or (format, shape); the values are zeros."""
    header, end = {}, 0
    for name, about in tensors.items():
        dtype, shape = about if isinstance(about, tuple) else ("F32", about)
        begin, size = end, SIZES[dtype]
        for length in shape:
            size *= length
        end = begin + size
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def make_model_folder(
    folder: Path, *, config: dict[str, Any] | None = None, weights: bool = True, tensors: dict[str, Any] | None = None
) -> Path:
    """What looks like a tiny Llama; it can be looked at, not loaded."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA | (config or {})))
    if weights:
        write_safetensors(folder / "model.safetensors", tensors or {"w": [4, 4]})
    return folder
