"""``manage.py`` as a real process, from a bare interpreter to the project's own environment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from llmcompare import bootstrap
from tests.bootstrap.portal import alive_after
from tests.bootstrap.tiny import Project, bare_python


def stamp_of(project: Project) -> dict:
    return json.loads((project.venv / bootstrap.STAMP).read_text())


def test_a_bare_interpreter_gets_an_environment_and_the_next_start_changes_nothing(project):
    code, output = project.manage("up", "--port", "1")
    assert code == 0, output
    assert "will be downloaded" in output
    assert output.index("will be downloaded") < output.index("Making .venv")
    assert f"DJANGO {project.venv} ['up', '--port', '1']" in output
    assert not (project.venv / bootstrap.BUILDING).exists()
    before = (project.venv / bootstrap.STAMP).stat().st_mtime_ns

    code, output = project.manage("migrate")
    assert (code, output) == (0, f"DJANGO {project.venv} ['migrate']\n")
    assert (project.venv / bootstrap.STAMP).stat().st_mtime_ns == before

    # Inside somebody else's environment it still moves to its own.
    code, output = project.manage("shell", python=sys.executable)
    assert output == f"DJANGO {project.venv} ['shell']\n"


@pytest.mark.slow
def test_changed_requirements_are_installed_into_the_same_environment(project):
    project.manage("up")
    made = (project.venv / "pyvenv.cfg").stat().st_mtime_ns
    project.require("django==2.0")
    code, output = project.manage("up")
    assert code == 0, output
    assert "requirements.txt has changed" in output
    assert (project.venv / "pyvenv.cfg").stat().st_mtime_ns == made
    assert bootstrap.Environment.of(project.folder).installed()["django"] == "2.0"


@pytest.mark.slow
def test_a_moved_folder_gets_a_new_environment(project, tmp_path, wheels):
    project.manage("up")
    elsewhere = tmp_path / "elsewhere"
    project.folder.rename(elsewhere)
    project.folder = elsewhere
    code, output = project.manage("up")
    assert code == 0, output
    assert "moved or copied" in output
    assert f"DJANGO {elsewhere / '.venv'}" in output
    assert stamp_of(project)["venv"] == str(elsewhere / ".venv")


@pytest.mark.slow
def test_an_installation_that_was_killed_is_started_anew(project):
    process = project.start("up")
    for line in process.stdout:
        if "Making .venv" in line:
            break
    process.kill()
    process.communicate()
    assert (project.venv / bootstrap.BUILDING).exists()
    code, output = project.manage("up")
    assert code == 0, output
    assert "did not finish" in output
    assert "DJANGO" in output


@pytest.mark.slow
def test_a_terminated_installation_stops_pip_and_a_killed_one_keeps_others_out_until_its_pip_ends(project, wheels):
    """A source package stands in for a long download: building it waits for a file that the test makes."""
    go, marker = project.folder / "go", project.folder / "building"
    source = project.folder / "slow-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    )
    (source / "backend.py").write_text(
        "import os, pathlib, time\n"
        "def prepare_metadata_for_build_wheel(folder, config_settings=None):\n"
        f"    pathlib.Path({str(marker)!r}).write_text(str(os.getpid()))\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
        "    raise SystemExit('enough')\n"
        "build_wheel = prepare_metadata_for_build_wheel\n"
    )
    project.require("django==1.0", f"slow @ {source.as_uri()}")

    def until_building():
        process = project.start("up")
        output = ""
        # The file exists a moment before the number is in it.
        while not (marker.exists() and marker.read_text()):
            assert process.poll() is None, output
            time.sleep(0.05)
        builder = psutil.Process(int(marker.read_text()))
        marker.unlink()
        return process, builder.parent(), builder

    process, pip, builder = until_building()
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert "Interrupted" in output
    assert alive_after([pip, builder], 5) == []

    process, pip, builder = until_building()
    process.kill()
    process.communicate()
    assert pip.is_running()
    project.require("django==1.0")
    second = project.start("up")
    assert "Waiting for it" in second.stdout.readline()
    go.touch()
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert "DJANGO" in output


@pytest.mark.slow
def test_an_environment_whose_interpreter_is_gone_is_rebuilt_even_from_inside(project):
    project.manage("up")
    stamp = stamp_of(project)
    (project.venv / bootstrap.STAMP).write_text(json.dumps(stamp | {"python": "3.10"}))
    code, output = project.manage("up", python=project.venv / "bin/python")
    assert code == 0, output
    assert "another version of Python" in output
    assert "DJANGO" in output
    (project.venv / "bin/python").unlink()
    code, output = project.manage("up")
    assert code == 0, output
    assert "is gone" in output


@pytest.mark.slow
def test_two_starts_at_once_build_one_environment(project):
    first, second = project.start("up"), project.start("up")
    outputs = [p.communicate(timeout=120)[0] for p in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert sorted("Making .venv" in text for text in outputs) == [False, True]
    waited = next(text for text in outputs if "Making .venv" not in text)
    assert "Waiting for it" in waited
    assert all("DJANGO" in text for text in outputs)


@pytest.mark.slow
def test_without_a_torch_for_this_machine_everything_else_is_installed(project):
    project.require("django==1.0", "torch==2.13.0", "transformers==5.23.0")
    code, output = project.manage("up")
    assert code == 0, output
    assert "There is no torch for this machine" in output
    assert "there is no engine" in output
    assert "DJANGO" in output
    # Said again at the next start, without installing again.
    code, output = project.manage("up")
    assert "there is no engine" in output
    assert "Installing" not in output


@pytest.mark.slow
def test_weights_that_cannot_be_had_do_not_stop_the_start(project):
    project.require("django==1.0", weights="no-such-weights==1.0")
    code, output = project.manage("up")
    assert code == 0, output
    assert "could not be installed" in output
    assert "no-such-weights" in output
    assert "DJANGO" in output


@pytest.mark.slow
def test_torch_comes_from_the_index_that_was_named(project, tmp_path, wheels):
    from tests.bootstrap.tiny import make_wheel

    index = tmp_path / "index" / "torch"
    index.mkdir(parents=True)
    wheel = make_wheel(index, "torch", "2.13.0", {"torch.py": "ORIGIN = 'named index'\n"})
    (index / "index.html").write_text(f"<a href='{wheel.name}'>{wheel.name}</a>")
    project.require("django==1.0", "torch==2.13.0")
    named = index.parent.as_uri()
    # pip ignores every index under PIP_NO_INDEX, so this one test turns it off and names an empty index for the rest.
    (tmp_path / "empty").mkdir()
    code, output = project.manage(
        "up", LLMCOMPARE_TORCH_INDEX=named, PIP_NO_INDEX="0", PIP_INDEX_URL=(tmp_path / "empty").as_uri()
    )
    assert code == 0, output
    assert f"Installing torch from {named}" in output
    origin = subprocess.run(
        [project.venv / "bin/python", "-c", "import torch; print(torch.ORIGIN)"], capture_output=True, text=True
    )
    assert origin.stdout.strip() == "named index"


@pytest.mark.slow
def test_no_network_is_said_with_the_next_step(project):
    code, output = project.manage(
        "up", PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="1"
    )
    assert code != 0
    assert "cannot be reached" in output
    assert "HTTPS_PROXY" in output
    log = project.venv / bootstrap.LOG
    assert str(log) in output
    assert "127.0.0.1" in log.read_text()
    assert "Traceback" not in output


@pytest.mark.slow
def test_the_tests_bring_their_own_packages_and_hand_back_pytest_s_exit_code(project):
    project.require("django==1.0", dev="pytest==1.0")
    project.manage("up")
    code, output = project.manage("test", "tests/x.py")
    assert "The tests need packages of their own" in output
    assert "'-m', 'not slow and not exhaustive', 'tests/x.py'" in output
    assert "--cov" not in output
    assert code == 5
    code, output = project.manage("test", "--all", "--coverage", "-k", "name")
    assert "'-m', 'not exhaustive'" in output
    assert "--cov=profiling" in output
    assert "'-k', 'name'" in output
    assert "exhaustive" not in project.manage("test", "--exhaustive")[1]
    assert "Installing" not in output


@pytest.mark.slow
def test_what_only_slow_tests_need_goes_into_a_folder_of_its_own(project):
    project.require("django==1.0", dev="pytest==1.0")
    (project.folder / "requirements/transformers_serve.txt").write_text("tiny-weights==1.0\n")
    apart = project.venv / "transformers-serve"
    project.manage("test")
    assert not apart.exists()
    code, output = project.manage("test", "--all")
    assert code == 5, output
    assert "transformers_serve.txt" in output
    assert (apart / "tiny_weights.py").exists()
    assert "transformers_serve.txt" not in project.manage("test", "--all")[1], "it is there already"

    (project.folder / "requirements/transformers_serve.txt").write_text("tiny-dev==1.0\n")
    project.manage("test", "--all")
    assert sorted(path.name for path in apart.glob("*.py")) == ["tiny_dev.py"]

    (project.folder / "requirements/transformers_serve.txt").write_text("no-such-thing==1.0\n")
    code, output = project.manage("test", "--all")
    assert code == 5, "the other tests run all the same"
    assert "could not be installed" in output


@pytest.mark.slow
def test_an_environment_made_by_hand_is_taken_over_when_it_has_everything(project):
    subprocess.run([bare_python(), "-m", "venv", project.venv], check=True)
    pip = [project.venv / "bin/python", "-m", "pip", "install", "-q", "-r", project.folder / "requirements.txt"]
    subprocess.run(pip, check=True, env=project.environment())
    code, output = project.manage("up")
    assert code == 0, output
    assert "has everything" in output
    assert "Making .venv" not in output


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_or_read_only_disk_is_said(project, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        moved = small / "project"
        shutil.copytree(project.folder, moved)
        project.folder = moved
        code, output = project.manage("up")
        assert code != 0
        assert "too little space" in output
        with (small / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:  # until the disk is full
                filler.write(b"x" * 4096)
        code, output = project.manage("up")
        assert code != 0
        assert "disk is full" in output
        (small / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        code, output = project.manage("up")
        assert code != 0
        assert "cannot be written" in output
        assert "LLMCOMPARE_DATA" in output
        # With the data somewhere else, the project folder itself is what cannot be written.
        code, output = project.manage("up", LLMCOMPARE_DATA=str(tmp_path / "data"))
        assert code != 0
        assert "project folder cannot be written" in output
        assert "Traceback" not in output
    finally:
        subprocess.run(["umount", str(small)], check=True)
