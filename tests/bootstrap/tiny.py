"""A project folder with the real start-up code and tiny wheels instead of gigabytes: ``django`` here only prints what it is asked."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAKE_DJANGO = """
import sys
def execute_from_command_line(argv):
    print("DJANGO", sys.prefix, argv[1:], flush=True)
"""


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel as pip wants it, written by hand."""
    label = f"{name}-{version}"
    info = f"{label}.dist-info"
    contents = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in contents.items():
        sha = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={sha},{len(text.encode())}\n"
    contents[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    wheel = folder / f"{label}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return wheel


class Project:
    def __init__(self, folder: Path, wheels: Path):
        self.folder, self.wheels = folder, wheels
        (folder / "llmcompare").mkdir(parents=True)
        (folder / "requirements").mkdir()
        shutil.copy(ROOT / "manage.py", folder)
        for name in ("__init__", "bootstrap", "install", "testing", "env"):
            shutil.copy(ROOT / "llmcompare" / f"{name}.py", folder / "llmcompare")
        self.require("django==1.0", dev="tiny-dev==1.0", weights="tiny-weights==1.0")

    def require(self, *lines: str, dev: str | None = None, weights: str | None = None) -> None:
        (self.folder / "requirements.txt").write_text("\n".join(lines) + "\n")
        if dev is not None:
            (self.folder / "requirements/dev.txt").write_text(dev + "\n")
        if weights is not None:
            (self.folder / "requirements/weights.txt").write_text(weights + "\n")

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def environment(self, **changes: str) -> dict[str, str]:
        clean = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("PIP_", "LLMCOMPARE_", "COV_", "COVERAGE", "_LLMC"))
        }
        fixed = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return clean | fixed | {"LLMCOMPARE_DATA": str(self.folder / "data")} | changes

    def start(self, *arguments: str, python: str | Path | None = None, **changes: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(python or bare_python()), str(self.folder / "manage.py"), *arguments],
            env=self.environment(**changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def manage(self, *arguments: str, **changes: str) -> tuple[int, str]:
        """Exit code and output of ``manage.py``, started by a bare interpreter."""
        process = self.start(*arguments, **changes)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


def bare_python() -> Path:
    """The interpreter that the tests' own environment was made from: it has nothing installed for us."""
    return Path(getattr(sys, "_base_executable", sys.executable))
