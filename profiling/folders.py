"""Models and prompt files in folders of this machine: what lies under a root, whether it may be used and why not, what it is.

A root is a folder that somebody trusted for it named. Everything is reached by its real path, which must lie under the real path of
the root: when the root is named, when its content is listed, and again when a model is loaded. Weights are safetensors, or GGUF files;
no pickle is opened and no code of a folder is run. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiling.safety import check_config, parse_constant
from profiling.spec import SpecError, digest

#: Bounds on looking through a root.
MAX_DEPTH, MAX_ENTRIES, MAX_FOUND = 6, 20_000, 500
CONFIG_BYTES, INDEX_BYTES, HEADER_BYTES = 1_000_000, 50_000_000, 100_000_000

INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
PROMPTS = (".txt", ".jsonl")
#: Files that decide how text becomes tokens, and those that change what is loaded; each must lie under the root, too.
READ = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model"),
    *("chat_template.jinja", "sentencepiece.bpe.model", INDEX),
)

COVERS = (
    "config.json, index, header (names, shapes, formats) and size of every weight file, content of the tokenizer's files; "
    "not the values of the weights"
)
COVERS_GGUF = (
    "size of the file and its first 16 MiB (description, tokenizer, names of tensors); not all values of the weights"
)
GGUF_DIGEST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Found:
    """A model under a root. ``path``: from the root, "." for the root itself. ``bytes``: of the weights. ``problem``: why it cannot be
    used, empty where it can. ``digest`` stands for what ``covers`` says."""

    path: str
    name: str
    format: str = "safetensors"
    bytes: int = 0
    files: int = 0
    config: dict[str, Any] | None = None
    stored: str = ""
    digest: str = ""
    covers: str = COVERS
    problem: str = ""


@dataclass
class Listing:
    """What lies under a root; ``cut``: there is more than was looked at."""

    models: list[Found] = field(default_factory=list)
    prompts: list[tuple[str, int]] = field(default_factory=list)
    cut: bool = False


def real_root(text: str, at: str = "path") -> Path:
    """The real path of a root. Raises :class:`SpecError` at ``at`` for what is no folder that could be one."""
    path = Path(text)
    if "\x00" in text or not path.is_absolute():
        raise SpecError(at, "Enter the whole path of a folder on the server, such as /srv/models.")
    try:
        real = path.resolve(strict=True)
        readable = real.is_dir() and os.access(real, os.R_OK | os.X_OK)
    except (OSError, RuntimeError):
        raise SpecError(at, "There is no such folder on the server.") from None
    if not readable:
        raise SpecError(at, "This is not a folder that the portal may read.")
    if real == Path(real.anchor):
        raise SpecError(at, "The whole file system cannot be a root. Name the folder that holds the models.")
    return real


def inside(root: Path, relative: str, at: str = "model") -> Path:
    """The real path of ``relative`` under ``root``. Raises :class:`SpecError` when it does not exist or leads out of it."""
    gone = SpecError(at, "It is not there any more, or it lies outside its folder.")
    if "\x00" in relative or Path(relative).is_absolute():
        raise gone
    try:
        real_base = root.resolve(strict=True)
        real = (real_base / relative).resolve(strict=True)
    except (OSError, RuntimeError):
        raise gone from None
    if not real.is_relative_to(real_base):
        raise gone
    return real


def listing(root: Path, *, models: bool = True, prompts: bool = True) -> Listing:
    """What lies under ``root``, in order of its paths; links that leave it are not followed."""
    found = Listing()
    seen = 0
    for folder, names in _walk(root):
        seen += len(names)
        if seen > MAX_ENTRIES or len(found.models) + len(found.prompts) >= MAX_FOUND:
            found.cut = True
            break
        relative = folder.relative_to(root).as_posix()
        if models and _is_model(names):
            found.models.append(look(root, relative))
        for name in names:
            path = name if relative == "." else f"{relative}/{name}"
            if models and name.endswith(".gguf"):
                found.models.append(look(root, path))
            if prompts and name.endswith(PROMPTS):
                with contextlib.suppress(SpecError, OSError):
                    found.prompts.append((path, inside(root, path, "prompt_file").stat().st_size))
    return found


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of the files in it), folders in order. Linked folders are not entered: what they lead to has a path of its own."""
    for folder, folders, names in os.walk(root):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < MAX_DEPTH else []
        yield Path(folder), sorted(names)


def _is_model(names: list[str]) -> bool:
    weights = any(name.endswith((".safetensors", *PICKLES)) for name in names)
    return "config.json" in names or (weights and not any(name.endswith(".gguf") for name in names))


def look(root: Path, relative: str) -> Found:
    """The model at ``relative`` under ``root``; what is wrong with it is its ``problem``."""
    shown = _name(root, relative)
    try:
        path = inside(root, relative)
        if relative.endswith(".gguf"):
            return _look_gguf(path, relative, shown)
        return _look_folder(root, path, relative, shown)
    except SpecError as error:
        return Found(relative, shown, problem=str(error))
    except OSError as error:
        return Found(relative, shown, problem=f"It cannot be read: {error.strerror or 'unknown reason'}.")


def _name(root: Path, relative: str) -> str:
    """What to call a model by where it lies; in a Hub cache (models--org--name/snapshots/revision) by its Hub id and revision."""
    parts = Path(relative).parts or (root.name,)
    if len(parts) >= 3 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return f"{parts[-3].removeprefix('models--').replace('--', '/')}@{parts[-1][:12]}"
    return Path(parts[-1]).stem if relative.endswith(".gguf") else parts[-1]


def used(root: Path, path: Path) -> Found:
    """The model at the real path ``path``, looked at anew. Raises :class:`SpecError` (field ``model``) where it cannot be used."""
    try:
        base = root.resolve(strict=True)
        relative = path.resolve(strict=True).relative_to(base).as_posix()
    except (OSError, RuntimeError, ValueError):
        raise SpecError("model", "The model's folder is not there any more, or it lies outside its root.") from None
    found = look(base, relative)
    if found.problem:
        raise SpecError("model", f"{found.name} cannot be used. {found.problem}")
    return found


# --- a folder with safetensors ----------------------------------------------------------------------------------------


def _look_folder(root: Path, folder: Path, relative: str, name: str) -> Found:
    names = sorted(entry.name for entry in folder.iterdir())
    weights = _weight_names(folder, root, relative, names)
    sizes, headers, formats = {}, {}, set()
    for one in weights:
        path = _file(root, relative, one)
        sizes[one] = path.stat().st_size
        headers[one], found = _header(path, one)
        formats |= found
    total = sum(sizes.values())
    about: dict[str, Any] = {"path": relative, "name": name, "bytes": total, "files": len(weights)}
    try:
        config = _config(root, relative)
        _refuse_code(root, relative, names)
        _refuse_formats(formats)
        texts = {one: _sha256(_file(root, relative, one)) for one in READ if one in names}
    except SpecError as error:
        return Found(**about, problem=str(error))
    stands_for = digest({"files": texts, "headers": headers, "sizes": sizes})
    return Found(**about, config=config, stored=", ".join(sorted(formats)), digest=stands_for)


def _file(root: Path, relative: str, name: str) -> Path:
    """A file of a model by its real path, which may be a link to elsewhere under the root (as in a Hub cache), not beyond."""
    try:
        path = inside(root, f"{relative}/{name}")
    except SpecError:
        raise SpecError("model", f"{name} is missing, or a link that leads out of the registered folder.") from None
    if not path.is_file():
        raise SpecError("model", f"{name} is not a file.")
    return path


def _weight_names(folder: Path, root: Path, relative: str, names: list[str]) -> list[str]:
    if "config.json" not in names:
        kind = "an adapter without its model" if "adapter_config.json" in names else "weights alone"
        raise SpecError("model", f"There is no config.json: this is {kind}.")
    if "adapter_config.json" in names:
        raise SpecError("model", "It is an adapter (adapter_config.json). Merge it into its model first.")
    if INDEX in names:
        index = _json(_file(root, relative, INDEX), INDEX, INDEX_BYTES)
        mapped = index.get("weight_map")
        if not isinstance(mapped, dict) or not mapped or not all(_plain(name) for name in mapped.values()):
            raise SpecError("model", f"{INDEX} does not say which files hold the weights.")
        return sorted(set(mapped.values()))
    if "model.safetensors" in names:
        return ["model.safetensors"]
    if any(name.endswith(".safetensors") for name in names):
        raise SpecError("model", f"Its safetensors are in several files, and {INDEX} that names them is missing.")
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        text = f"It has its weights only as {pickles[0]}, a format that can run code when it is opened. Convert them to safetensors."
        raise SpecError("model", text)
    raise SpecError("model", "It has no safetensors, so there is nothing to load.")


def _plain(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and "/" not in name and "\\" not in name


def _header(path: Path, name: str) -> tuple[str, set[str]]:
    """Digest of the header of a safetensors file and the formats in it. Raises :class:`SpecError` for a file that is none or not whole."""
    broken = SpecError("model", f"{name} is not a safetensors file.")
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= HEADER_BYTES:
            raise broken
        text = file.read(length)
    try:
        header = json.loads(text)
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        end = max(int(entry["data_offsets"][1]) for entry in tensors)
        formats = {str(entry["dtype"]) for entry in tensors}
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError):
        raise broken from None
    size = path.stat().st_size
    if size != 8 + length + end:
        raise SpecError(
            "model", f"{name} is not whole: {size:,} bytes instead of {8 + length + end:,}. Fetch it again."
        )
    return hashlib.sha256(text).hexdigest(), formats


def _config(root: Path, relative: str) -> dict[str, Any]:
    path = _file(root, relative, "config.json")
    raw = _json(path, "config.json", CONFIG_BYTES)
    if raw.get("quantization_config") is not None:
        text = "Its weights are quantised (quantization_config): this version runs plain ones only, and would read them wrongly."
        raise SpecError("model", text)
    clean = check_config(raw)
    if not clean.get("architectures"):
        raise SpecError("model", "Its config.json does not name the class that it is for (architectures).")
    return clean


def _refuse_code(root: Path, relative: str, names: list[str]) -> None:
    """``auto_map`` of the configuration is refused by its check; the tokenizer's own file can have one, too."""
    for name in ("tokenizer_config.json", "generation_config.json"):
        if name in names and "auto_map" in _json(_file(root, relative, name), name, 10 * CONFIG_BYTES):
            raise SpecError("model", f"{name} asks to run code of its own (auto_map); this is never done.")


def _refuse_formats(formats: set[str]) -> None:
    odd = sorted(name for name in formats if name.startswith(("F8", "F4", "F6", "U8", "I8")))
    if odd:
        raise SpecError(
            "model", f"Its weights are stored in {odd[0]}: this version runs plain floating-point weights only."
        )


def _json(path: Path, name: str, limit: int) -> dict[str, Any]:
    if path.stat().st_size > limit:
        raise SpecError("model", f"{name} has more than {limit:,} bytes.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=parse_constant)
    except (OSError, ValueError, RecursionError):
        raise SpecError("model", f"{name} is not JSON.") from None
    if not isinstance(value, dict):
        raise SpecError("model", f"{name} is not a JSON object.")
    return value


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gguf_note(stored: str) -> str:
    """What is said of a GGUF file's weights wherever results are. ``stored``: formats of its tensors."""
    return f"dequantised from GGUF ({stored})"[:200]


# --- a GGUF file -----------------------------------------------------------------------------------------------------


def _look_gguf(path: Path, relative: str, name: str) -> Found:
    """By its first bytes only: what it holds, the engine reads in a process of its own."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        begin = file.read(GGUF_DIGEST_BYTES)
    about: dict[str, Any] = {
        "path": relative,
        "name": name,
        "format": "gguf",
        "bytes": size,
        "files": 1,
        "covers": COVERS_GGUF,
    }
    if begin[:4] != b"GGUF" or len(begin) < 24:
        return Found(**about, problem="It is not a GGUF file.")
    (version,) = struct.unpack("<I", begin[4:8])
    if version not in (2, 3):
        return Found(**about, problem=f"It is a GGUF file of version {version}; versions 2 and 3 are read.")
    stands_for = digest({"bytes": size, "begin": hashlib.sha256(begin).hexdigest()})
    return Found(**about, digest=stands_for)
