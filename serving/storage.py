"""A model's files from Cloud Storage. The client of Google's is imported here and only when such a model is asked for."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from profiling.failures import EngineError, describe
from profiling.quantities import say

#: Files that are fetched: weights in safetensors, and what is JSON or belongs to a tokenizer. No pickle, no code.
WANTED = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\.(safetensors|json|jinja)|tokenizer\.model|vocab\.txt|merges\.txt|spiece\.model|sentencepiece\.bpe\.model"
)
MAX_FILES = 1000

Progress = Callable[[str, float, str], None]


def parse(uri: str) -> tuple[str, str]:
    """Bucket and folder (with a slash at its end, or empty) of a ``gs://`` address. Raises :class:`EngineError`."""
    match = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", uri)
    if match is None or "\\" in uri or ".." in uri:
        raise _failed(f"{uri!r} is not an address in Cloud Storage such as gs://bucket/folder.", "spec")
    folder = (match[2] or "").strip("/")
    return match[1], f"{folder}/" if folder else ""


def fetch(uri: str, target: Path, max_bytes: int, progress: Progress) -> Path:
    """The files of a model under ``uri`` in ``target``; those in folders below it, and of other kinds, are left where they are.

    Raises :class:`EngineError` when there is none, they are more than ``max_bytes`` or than the disk has, or one does not arrive whole; none
    of them is left in ``target`` then.
    """
    bucket, prefix = parse(uri)
    progress("fetch", 0.0, f"Looking at {uri}")
    try:
        from google.cloud.storage import Client
    except ImportError as error:
        raise _failed("google-cloud-storage is not installed here, and gs:// addresses need it.", "missing") from error
    try:
        client = Client()
        blobs = list(client.list_blobs(bucket, prefix=prefix, delimiter="/", max_results=MAX_FILES + 1))
    except Exception as error:  # of the network, of credentials, of the service: each in words of its own
        raise _failed(f"{uri} cannot be listed. {describe(error)}", "missing") from error
    wanted = {name: blob for blob in blobs if WANTED.fullmatch(name := blob.name.removeprefix(prefix))}
    if len(blobs) > MAX_FILES:
        raise _failed(f"{uri} has more than {MAX_FILES:,} files. Put the model into a folder of its own.", "spec")
    if not wanted:
        raise _failed(f"There are no files of a model (safetensors, JSON, tokenizer) in {uri}.", "missing")
    total, free = sum(blob.size or 0 for blob in wanted.values()), shutil.disk_usage(target).free
    if total > max_bytes:
        raise _failed(f"The model has {say(total, 'B')}, and LLMCOMPARE_MAX_MODEL_BYTES allows {say(max_bytes, 'B')}.")
    if total > free:
        raise _failed(f"The model has {say(total, 'B')}, and {say(free, 'B')} are free on the disk of this machine.")
    try:
        _fetch_all(uri, wanted, target, total, progress)
    except BaseException:  # whoever ends the container, too: on a full disk the next start needs the place
        for name in wanted:
            (target / name).unlink(missing_ok=True)
        raise
    return target


def _fetch_all(uri: str, wanted: Mapping[str, Any], target: Path, total: int, progress: Progress) -> None:
    done = 0
    for name, blob in sorted(wanted.items()):
        progress("fetch", done / max(total, 1), f"Fetching {name} ({say(blob.size or 0, 'B')})")
        path = target / name
        try:
            blob.download_to_filename(str(path))  # compares the checksum that the service gives
        except Exception as error:
            if _disk_full(error):
                message = (
                    f"The disk of this machine became full while {name} of {uri} was fetched ({say(total, 'B')} in all, of which "
                    f"{say(done, 'B')} had arrived before it). What was fetched has been removed. Take a machine with a larger disk, "
                    "or a smaller model."
                )
                raise _failed(message) from error
            raise _failed(f"{name} of {uri} could not be fetched. {describe(error)}", "missing") from error
        if path.stat().st_size != blob.size:
            raise _failed(f"{name} of {uri} did not arrive whole.", "missing")
        done += blob.size or 0


def _disk_full(error: BaseException | None) -> bool:
    """Whether ``error``, or what it came of, is that of a disk without room; libraries put it into errors of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _failed(message: str, kind: str = "memory") -> EngineError:
    return EngineError(phase="fetch", kind=kind, field="AIP_STORAGE_URI", message=message)
