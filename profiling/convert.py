"""GGUF to safetensors, in an engine process: one folder that transformers can load, made completely or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiling.failures import EngineError
from profiling.weights import MARKER, is_ready

CONVERTER = "gguf-to-safetensors/1"


def convert_gguf(source: str, target: str, progress: Any = None) -> dict[str, Any]:
    """Write config, weights (bf16), tokenizer and chat template of the GGUF file ``source`` to the folder ``target``.

    The folder appears under its name only when everything in it is on disk, the marker last; a lock lets one process do the work
    while others wait and then find it done. Returns the marker. Raises :class:`EngineError` when the file cannot be converted.
    """
    report = progress or (lambda stage, fraction, message: None)
    source_path, target_path = Path(source), Path(target)
    if not source_path.is_file():
        raise EngineError(
            phase="convert", kind="missing", message="The GGUF file is not there. Install the package again."
        )
    target_path.parent.mkdir(parents=True, exist_ok=True)
    report("wait", 0.0, "Waiting for another conversion to end")
    with _locked(target_path.with_name(f".{target_path.name}.lock")):
        if not is_ready(target_path):
            _remove_leftovers(target_path)
            _convert(source_path, target_path, report)
        return json.loads((target_path / MARKER).read_text())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file; the system releases it whatever happens to this process."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(target: Path) -> None:
    for leftover in [*target.parent.glob(f".{target.name}.making-*"), target]:
        shutil.rmtree(leftover, ignore_errors=True)


def _convert(source: Path, target: Path, report: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.making-", dir=target.parent))
    try:
        _write_model(source, folder, report)
        report("tokenizer", 0.8, "Writing the tokenizer")
        _write_tokenizer(source, folder)
        report("finish", 0.95, "Checking and moving into place")
        marker = {
            "converter": CONVERTER,
            "source": source.name,
            "source_sha256": _sha256(source),
            "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        }
        _sync(folder)
        (folder / MARKER).write_text(json.dumps(marker, indent=1))
        _sync(folder)
        os.rename(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    report("finish", 1.0, "Done")


def _write_model(source: Path, folder: Path, report: Any) -> None:
    import torch

    from profiling.gguf_files import load_gguf, read_config

    report("read", 0.05, "Reading the GGUF file")
    config, model_class = read_config(source)
    config.architectures = [model_class.__name__]
    report("dequantise", 0.3, "Dequantising the weights")
    # save_pretrained of a model that transformers loaded from GGUF refuses (it counts as quantised): this one took the values over.
    model = load_gguf(str(source), config, model_class, torch.bfloat16, "sdpa")
    report("write", 0.6, "Writing safetensors")
    model.save_pretrained(folder, safe_serialization=True)


def _write_tokenizer(source: Path, folder: Path) -> None:
    from profiling.gguf_files import gguf_tokenizer

    gguf_tokenizer(str(source)).save_pretrained(folder)


def _sync(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
