"""What the start-up refuses, and in which words. Quick: functions with the circumstances as arguments."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import manage
from llmcompare import bootstrap, install
from llmcompare.bootstrap import BootstrapError
from tests.bootstrap.tiny import ROOT

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 13, 0), (3, 14, 2)])
def test_supported_pythons(version):
    assert manage.python_problem(version, "posix") is None


@pytest.mark.parametrize(
    ("version", "os_name", "words"),
    [
        ((2, 7, 18), "posix", ["Python 2.7", "too old", "3.11 to 3.14"]),
        ((3, 10, 13), "posix", ["Python 3.10", "too old", "3.11 to 3.14"]),
        ((3, 15, 0), "posix", ["Python 3.15", "too new", "profiling", "cProfile", "3.11 to 3.14"]),
        ((3, 16, 0), "posix", ["Python 3.16", "too new", "profiling"]),
        ((3, 12, 0), "nt", ["WSL2"]),
    ],
)
def test_unsupported_pythons_are_refused_by_name(version, os_name, words):
    problem = manage.python_problem(version, os_name)
    assert [word for word in words if word not in problem] == []


def test_an_old_interpreter_gets_the_reason_not_a_syntax_error(tmp_path):
    old = next(
        (
            path
            for name in ("python2.7", "python3.6", "python3.8", "python3.9", "python3.10")
            for path in candidates(name)
        ),
        None,
    )
    if old is None:
        pytest.skip("no old Python on this machine")
    done = subprocess.run([old, ROOT / "manage.py", "up"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "too old" in done.stderr
    assert "SyntaxError" not in done.stderr


def candidates(name: str) -> list[str]:
    """Interpreters that really start: version managers put names on the PATH that do not."""
    found = [shutil.which(name), *map(str, Path.home().glob(f".pyenv/versions/*/bin/{name}"))]
    return [p for p in found if p and subprocess.run([p, "--version"], capture_output=True).returncode == 0]


def test_another_python_on_the_path_is_named(tmp_path):
    (tmp_path / "python3.12").write_text("#!/bin/sh\n")
    (tmp_path / "python3.12").chmod(0o755)
    assert manage.other_python(str(tmp_path)) == "python3.12"
    assert manage.other_python(str(tmp_path / "nothing")) is None


def test_a_python_without_venv_names_the_package():
    with pytest.raises(BootstrapError) as caught:
        bootstrap.check_can_make_environments(have=lambda name: name != "ensurepip", release=DEBIAN)
    assert "ensurepip" in str(caught.value)
    assert "apt-get install python3." in str(caught.value)
    with pytest.raises(BootstrapError, match="venv and ensurepip"):
        bootstrap.check_can_make_environments(have=lambda name: None, release="ID=fedora")
    bootstrap.check_can_make_environments(have=lambda name: object(), release=DEBIAN)


def test_too_little_space_is_refused_before_anything_is_fetched():
    with pytest.raises(BootstrapError, match=r"1\.0 GB are free, at least 3 GB"):
        install.check_disk(10**9, "linux", torch_index="")
    install.check_disk(50 * 10**9, "linux", torch_index="")


def test_the_download_is_announced_for_what_this_machine_will_fetch():
    cuda = install.download_note("linux", "x86_64", torch_index="", dev=False)
    assert "3.0 GB" in cuda
    assert "LLMCOMPARE_TORCH_INDEX" in cuda
    assert "291 MB" in install.download_note("linux", "x86_64", torch_index="http://index", dev=False)
    assert "379 MB" in install.download_note("linux", "x86_64", torch_index="http://index", dev=True)
    assert "0.4 GB" in install.download_note("darwin", "arm64", torch_index="", dev=False)
    assert "if there is one for this machine" in install.download_note("darwin", "x86_64", torch_index="", dev=False)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            ["disk is full", "TMPDIR"],
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...): Failed to establish a new"
            " connection: [Errno -3] Temporary failure in name resolution'\nERROR: No matching distribution found for django==5.2.19",
            ["index cannot be reached", "HTTPS_PROXY"],
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement django==5.2.19 (from versions: none)\n"
            "ERROR: No matching distribution found for django==5.2.19",
            ["knows no django", "cannot be reached", "PIP_INDEX_URL"],
        ),
        ("ERROR: No matching distribution found for gguf==0.19.0", ["offers no gguf"]),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'", ["write access"]),
        ("ERROR: something nobody foresaw", ["something nobody foresaw"]),
    ],
)
def test_pip_s_troubles_in_plain_words(output, words, tmp_path):
    text = install.explain(output, tmp_path / "the.log")
    assert [word for word in [*words, str(tmp_path / "the.log")] if word not in text] == []


def test_a_network_trouble_is_not_taken_for_a_missing_torch():
    broken = "NewConnectionError\nERROR: No matching distribution found for torch==2.13.0"
    assert install._is_about_engine(broken) is None
    assert install._is_about_engine("ERROR: No matching distribution found for torch==2.13.0") == "torch"
    assert install._is_about_engine("ERROR: No matching distribution found for nvidia-nccl-cu13") == "nvidia-nccl-cu13"
    assert install._is_about_engine("ERROR: No matching distribution found for django==5.2.19") is None


@pytest.mark.parametrize(
    ("number", "word"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written")],
)
def test_file_errors_name_the_place(number, word, tmp_path):
    text = install.explain_os_error(OSError(number, os.strerror(number), str(tmp_path / "file")), tmp_path)
    assert word in text
    assert str(tmp_path / "file") in text


def test_a_folder_named_venv_that_is_something_else_is_left_alone(tmp_path):
    folder = tmp_path / ".venv"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(BootstrapError, match="no virtual environment"):
        bootstrap._remove(folder)
    assert (folder / "thesis.txt").exists()


def test_progress_lines(capsys):
    said: list[str] = []
    progress = install.Progress(said.append, live=False)
    for line in [
        "Collecting torch==2.13.0",
        "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (526.6 MB)",
        "  Downloading tiny-1.0-py3-none-any.whl.metadata (1.5 kB)",
        "Installing collected packages: torch, tiny, other",
    ]:
        progress.line(line)
    progress.close()
    assert said[0] == "  downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (526.6 MB)"
    assert said[1].startswith("  unpacking 3 packages")
    assert said[2].startswith("  527 MB downloaded")
    assert len(said) == 3


def test_ci_runs_every_test_and_skips_nothing():
    text = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "export CI=true" in text
    assert text.rstrip().endswith("exec python3 manage.py test --all")
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0
