"""Models of the Hugging Face Hub by id and commit: looked at, and downloaded, in an engine process of their own that may use the network.

Off unless the installation turns it on. A branch or tag is resolved to a commit first, and only the commit is used from then on. Only
configuration, tokenizer and safetensors are fetched; sizes are checked before, digests after; nothing of a repository is run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profiling import folders
from profiling.failures import EngineError
from profiling.quantities import say
from profiling.spec import SpecError
from profiling.weights import MARKER, is_ready

DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_BYTES = 20 * 10**9
#: Stays free on the disk.
SPARE_BYTES = 10**9
TIMEOUT_S = 20.0
#: So much of a file is lost at most when its connection is cut.
CHUNK_BYTES = 2**20
SMALL_FILES = tuple(name for name in folders.READ if name != folders.INDEX)
#: Of each of them: what is larger is no configuration or tokenizer.
SMALL_BYTES = 100_000_000
COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w][\w./-]{0,199}))?")

OFF = "The Hub is off here. It is turned on with LLMCOMPARE_HUB=on; models can also be read from a folder, or by their config.json."


@dataclass(frozen=True)
class Look:
    """A repository at one commit. ``files``: name → bytes of what a download fetches; ``digests``: SHA-256 of those that the Hub says it of.
    ``problem``: why its weights cannot be used, empty where they can; an estimate needs the configuration only."""

    repo: str
    commit: str
    config: dict[str, Any]
    architecture: str
    files: dict[str, int]
    digests: dict[str, str]
    problem: str = ""

    @property
    def bytes(self) -> int:
        return sum(self.files.values())

    @property
    def name(self) -> str:
        return f"{self.repo}@{self.commit[:12]}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"bytes": self.bytes, "name": self.name}


def is_on() -> bool:
    return os.environ.get("LLMCOMPARE_HUB", "").strip().lower() in ("on", "1", "true", "yes")


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")


def max_bytes() -> int:
    """The largest download, of ``LLMCOMPARE_HUB_MAX_GB``."""
    text = os.environ.get("LLMCOMPARE_HUB_MAX_GB", "")
    try:
        return int(float(text) * 1e9) if text.strip() else MAX_BYTES
    except (ValueError, OverflowError):
        raise SpecError("hub", f"LLMCOMPARE_HUB_MAX_GB must be a number of GB, not {text!r}.") from None


def parse(text: str, at: str = "hub") -> tuple[str, str | None]:
    """``org/name`` or ``org/name@revision`` as repository and revision. Raises :class:`SpecError` at ``at``."""
    found = _ID.fullmatch(text.strip())
    if found is None or ".." in text or "--" in found["repo"]:
        raise SpecError(
            at, "Write organisation/name, or organisation/name@revision (a commit of 40 digits, a branch or a tag)."
        )
    return found["repo"], found["revision"]


def ask(operation: str, **payload: Any) -> dict[str, Any]:
    """Carry out ``hub_look`` or ``hub_download`` in an engine process that may use the network. Raises :class:`EngineError`."""
    from profiling.client import EngineChild

    options = {name: payload.pop(name) for name in ("on_progress", "should_stop", "timeout_s") if name in payload}
    if not is_on():
        raise EngineError(phase="hub", kind="unsupported", field="hub", message=OFF)
    with EngineChild() as engine:
        return engine.request(operation, payload | {"endpoint": endpoint(), "max_bytes": max_bytes()}, **options)


# --- in the engine process ------------------------------------------------------------------------------------------


def look(repo: str, revision: str | None, at: str) -> Look:
    """The repository at ``revision`` (None: its main branch), by the Hub at the address ``at``. Raises :class:`EngineError`."""
    with _network(at, repo, revision):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=at, token=False).model_info(
            repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S
        )
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit) or (revision and COMMIT.fullmatch(revision) and revision != commit):
        raise _failed("protocol", f"The Hub does not say which commit of {repo} it answers for.")
    known = {file.rfilename: file for file in info.siblings or ()}
    sizes = {name: file.size or 0 for name, file in known.items()}
    if "config.json" not in sizes:
        raise _failed("unsupported", f"{repo} has no config.json, so it is no model that transformers knows.")
    small = {name: sizes[name] for name in SMALL_FILES if name in sizes}
    if small["config.json"] > folders.CONFIG_BYTES or any(size > SMALL_BYTES for size in small.values()):
        raise _failed("unsupported", f"Configuration or tokenizer of {repo} are too large to be such.")
    with _temporary() as folder:
        _fetch(repo, commit, "config.json", folder, at)
        config = _config(folder)
        weights, problem = _weights(repo, commit, sizes, folder, at)
    if not problem and config.quantised:
        problem = "Its weights are quantised: this version runs plain ones only. An estimate works."
    files = small | weights
    digests = {name: large.sha256 for name in files if (large := known[name].lfs) is not None}
    return Look(repo, commit, config.clean, config.architecture, files, digests, problem)


def download(
    seen: Look, target: Path, at: str, limit: int, progress: Callable[[str, float, str], None] = lambda *_: None
) -> dict[str, Any]:
    """Fetch what ``seen`` names into the folder ``target``, which appears under its name only when everything in it is there and checked.

    What an interrupted download left beside it is used again. A lock lets one process do the work while others wait. Returns the marker.
    Raises :class:`EngineError`.
    """
    if seen.problem:
        raise _failed("unsupported", f"{seen.repo} cannot be measured. {seen.problem}")
    target.parent.mkdir(parents=True, exist_ok=True)
    progress("wait", 0.0, "Waiting for another download to end")
    with open(target.with_name(f".{target.name}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_ready(target):
            shutil.rmtree(target, ignore_errors=True)
            _download(seen, target, at, limit, progress)
        return json.loads((target / MARKER).read_text())


def _download(seen: Look, target: Path, at: str, limit: int, progress: Callable[[str, float, str], None]) -> None:
    making = target.with_name(f".{target.name}.making")
    making.mkdir(exist_ok=True)
    _check_room(seen, making, limit)
    done = 0
    for name, size in sorted(seen.files.items(), key=lambda entry: entry[1]):
        path = making / name
        if not (path.is_file() and path.stat().st_size == size):
            _fetch_on(seen.repo, seen.commit, name, path, size, at, _counted(progress, done, seen.bytes))
        if path.stat().st_size != size:
            path.unlink()
            raise _failed("protocol", f"{name} came with another size than the Hub had said. Try again.")
        _check_digest(path, seen.digests.get(name))
        done += size
    found = folders.look(making.parent, making.name)
    if found.problem:
        raise _failed("unsupported", f"{seen.repo} cannot be used. {found.problem}")
    files = {path.name: path.stat().st_size for path in sorted(making.iterdir()) if path.is_file()}
    marker = {"hub": seen.repo, "commit": seen.commit, "digest": found.digest, "stored": found.stored, "files": files}
    (making / MARKER).write_text(json.dumps(marker, indent=1))
    os.rename(making, target)
    progress("finish", 1.0, "Downloaded")


def _check_room(seen: Look, folder: Path, limit: int) -> None:
    if seen.bytes > limit:
        raise _failed(
            "memory",
            f"{seen.repo} has {say(seen.bytes, 'B')}, and at most {say(limit, 'B')} are downloaded here (LLMCOMPARE_HUB_MAX_GB). "
            "An estimate needs no weights.",
        )
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if seen.bytes - there + SPARE_BYTES > free:
        raise _failed(
            "memory", f"{seen.repo} has {say(seen.bytes, 'B')}, and {say(free, 'B')} are free on the disk here."
        )


def _check_digest(path: Path, wanted: str | None) -> None:
    if wanted is None:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.unlink()
        raise _failed("protocol", f"{path.name} is not what the Hub had said (its SHA-256 differs). Try again.")


@dataclass(frozen=True)
class _Config:
    clean: dict[str, Any]
    architecture: str
    quantised: bool


def _config(folder: Path) -> _Config:
    from profiling.safety import check_config, parse_constant

    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"), parse_constant=parse_constant)
    except (ValueError, RecursionError):
        raise _failed("config", "Its config.json is not JSON.") from None
    clean = check_config(raw)
    classes = clean.get("architectures")
    if not classes:
        raise _failed("config", "Its config.json does not name the class that it is for (architectures).")
    return _Config(clean, classes[0], raw.get("quantization_config") is not None)


def _weights(repo: str, commit: str, sizes: dict[str, int], folder: Path, at: str) -> tuple[dict[str, int], str]:
    """Files of the weights with their sizes, the index among them; and why there are none that can be used."""
    if folders.INDEX in sizes and sizes[folders.INDEX] <= folders.INDEX_BYTES:
        _fetch(repo, commit, folders.INDEX, folder, at)
        try:
            mapped = set(json.loads((folder / folders.INDEX).read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}, "The index of its weights cannot be read."
        wanted = [folders.INDEX, *sorted(str(name) for name in mapped)]
        missing = [name for name in wanted if name not in sizes or "/" in name]
        if missing:
            return {}, f"{missing[0][:100]}, which the index of its weights names, is not there."
        return {name: sizes[name] for name in wanted}, ""
    if "model.safetensors" in sizes:
        return {"model.safetensors": sizes["model.safetensors"]}, ""
    return {}, "It has no safetensors, and no other format is loaded. An estimate works."


def _fetch(repo: str, commit: str, name: str, folder: Path, at: str) -> None:
    with _network(at, repo, commit):
        from huggingface_hub import hf_hub_download

        hf_hub_download(repo, name, revision=commit, local_dir=folder, endpoint=at, token=False)


def _fetch_on(repo: str, commit: str, name: str, path: Path, size: int, at: str, bar: type) -> None:
    """Fetch a file, going on with what an earlier attempt left (``hf_hub_download`` begins anew in every call)."""
    part = path.with_name(f"{name}.part")
    if part.is_file() and part.stat().st_size > size:
        part.unlink()
    with _network(at, repo, commit), open(part, "ab") as file:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(repo, name, revision=commit, endpoint=at)
        options = {"headers": build_hf_headers(token=False), "expected_size": size, "tqdm_class": bar}
        http_get(url, file, resume_size=file.tell(), **options)  # type: ignore[arg-type]
    os.replace(part, path)


def _counted(progress: Callable[[str, float, str], None], before: int, total: int) -> type:
    """What ``huggingface_hub`` takes for the class of a progress bar: reports the bytes of all files to ``progress``. Draws nothing."""

    class Counted:
        def __init__(self, *arguments: Any, initial: float | None = 0, **options: Any) -> None:
            self._done = before + int(initial or 0)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *error: Any) -> None:
            pass

        def update(self, count: float | None = 1) -> None:
            self._done += int(count or 0)
            text = f"Downloading: {say(self._done, 'B')} of {say(total, 'B')}"
            progress("download", min(self._done / max(total, 1), 0.99), text)

        def __getattr__(self, name: str) -> Any:  # close, refresh, set_description, …
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda *arguments, **options: None

    return Counted


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _failed(kind: str, message: str) -> EngineError:
    return EngineError(phase="hub", kind=kind, field="hub", message=message)


@contextlib.contextmanager
def _network(at: str, repo: str, revision: str | None) -> Iterator[None]:
    """Within it, this process may use the network; what goes wrong becomes a sentence."""
    import httpx2
    import huggingface_hub.constants as constants
    from huggingface_hub import errors

    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True  # plain HTTP, which can be resumed and counted
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    host = at.partition("://")[2]
    try:
        yield
    except errors.GatedRepoError:
        raise _failed(
            "unsupported", f"{repo} is only for those who accepted its terms; models that need a login are not read."
        ) from None
    except errors.RevisionNotFoundError:
        raise _failed("missing", f"{repo} has no revision {revision}.") from None
    except errors.RepositoryNotFoundError:
        raise _failed(
            "missing", f"The Hub has no public model {repo}: look at the spelling. Private ones are not read."
        ) from None
    except errors.RemoteEntryNotFoundError:
        raise _failed("missing", f"A file of {repo} that the Hub listed is not there. Try again.") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise _failed("missing", f"The Hub ({host}) refused with status {status}. Try again later.") from None
    except (httpx2.HTTPError, OSError, errors.FileMetadataError, errors.LocalEntryNotFoundError) as error:
        if isinstance(error, OSError) and error.errno == 28:
            raise _failed(
                "memory", "The disk is full: the download was stopped. What is there is used again."
            ) from None
        message = f"The Hub ({host}) cannot be reached, or the connection was cut ({type(error).__name__}). Try again; what is there is used again."
        raise _failed("missing", message) from None
