"""The folder that a model is fetched into. It lasts as long as the process; what a process that was killed left behind goes at the next start.

Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "llmcompare-model-"
#: Descriptors of the folders of this process. The system lets go of their locks when it ends, however it ends.
_held: dict[Path, int] = {}


def make() -> Path:
    """A fresh folder of this process in the system's folder for such. Removes those that belong to no process any more."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_left(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # another process that starts may have taken it for left behind before it was locked
            _held[folder] = descriptor
            return folder
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Take a folder of :func:`make` away again."""
    shutil.rmtree(folder, ignore_errors=True)
    if (descriptor := _held.pop(folder, None)) is not None:
        os.close(descriptor)


def _remove_left(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # somebody's who is at work
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
