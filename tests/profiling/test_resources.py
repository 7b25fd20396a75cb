"""Resource use over time: sampled by the parent, joined without losing peaks, and absent with a reason where it cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from profiling import resources
from profiling.client import EngineChild, EngineError
from profiling.processes import _with_resources, measure_in_processes
from profiling.protocol import Protocol
from profiling.resources import Package, ResourceSampler, energy, packages, pool_resources, thin
from tests.profiling import tiny
from tests.profiling.test_processes import Engines

COLUMNS = ["process_cores", "process_rss_bytes", "available_bytes"]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def busy():
    """A process that computes until its input ends."""
    code = "import threading, sys\nthreading.Thread(target=lambda: (sys.stdin.read(), __import__('os')._exit(0))).start()\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    yield process
    process.stdin.close()
    process.wait(10)


def sampled(pid: int, *steps: tuple[float, str], **options) -> dict | None:
    """The section after calls at these moments (seconds later each) in these phases."""
    clock = Clock()
    sampler = ResourceSampler(clock=clock, **options)
    sampler(pid, steps[0][1])
    for seconds, phase in steps:
        clock.now += seconds
        sampler(pid, phase)
    sampler.close()
    return sampler.section()


def test_a_sample_is_taken_when_one_is_due_and_at_a_change_of_phase(busy):
    section = sampled(
        busy.pid, (0.3, "load"), (0.1, "load"), (0.2, "load"), (0.15, "iterations"), (0.02, "memory"), (0.3, "memory")
    )
    at = section["timeline"]["columns"].index
    rows = section["timeline"]["rows"]
    assert [(row[at("phase")], row[at("seconds")]) for row in rows] == [
        ("load", 0.3),
        ("load", 0.3),
        ("load", 0.15),
        ("memory", 0.32),  # "iterations" was too short for its ticks to say anything
    ]
    assert [row[at("t_s")] for row in rows] == [0.0, 0.3, 0.6, 0.75]
    assert all(row[at("process_rss_bytes")] > 1e6 for row in rows)
    assert section["cost"]["samples"] == 4
    assert 0 < section["cost"]["cpu_s"] < 1


def test_what_cannot_be_read_has_no_column_and_a_reason(busy, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(resources, "POWERCAP", tmp_path)
    section = sampled(busy.pid, (0.3, "load"), accelerator=True)
    assert not {name for name in section["timeline"]["columns"] if name.startswith(("gpu_", "package_"))}
    assert {note["what"] for note in section["unavailable"]} == {"gpu", "package_power_w"}
    assert all(note["reason"] for note in section["unavailable"])
    assert section["energy"] == []
    assert set(section["units"]) == {"t_s", "seconds", *section["timeline"]["columns"][3:]}
    json.dumps(section, allow_nan=False)


def test_a_process_that_ends_meanwhile_ends_the_samples_alone(busy):
    clock = Clock()
    sampler = ResourceSampler(clock=clock)
    sampler(busy.pid, "load")
    clock.now += 0.5
    sampler(busy.pid, "load")
    busy.kill()
    busy.wait(10)
    clock.now += 0.5
    sampler(busy.pid, "load")
    sampler.close()
    section = sampler.section()
    assert len(section["timeline"]["rows"]) == 1
    assert {"what": "samples", "reason": "The process could no longer be observed."} in section["unavailable"]


def test_neighbours_are_joined_with_means_by_time_and_no_peak_is_lost():
    rows = [[0.0, 1.0, "load", 1.0, 10, 90], [1.0, 3.0, "load", 2.0, 50, 40], [4.0, 1.0, "iterations", 0.5, 20, 80]]
    assert thin(rows, COLUMNS, 2) == [[0.0, 4.0, "load", 1.75, 50, 40], [4.0, 1.0, "iterations", 0.5, 20, 80]]
    assert thin(rows, COLUMNS, 3) == rows
    assert thin(rows, COLUMNS, 1) == thin(rows, COLUMNS, 2), "phases are never joined"


def test_a_long_run_has_coarser_rows_of_equal_length():
    rows = [[float(i), 1.0, "iterations", 1.0, i, 1000 - i] for i in range(1000)]
    joined = thin(rows, COLUMNS, 240)
    assert 120 <= len(joined) <= 240
    assert {row[1] for row in joined} == {8.0}
    assert sum(row[1] for row in joined) == 1000
    assert max(row[4] for row in joined) == 999
    assert min(row[5] for row in joined) == 1


def test_an_unknown_value_is_not_counted_as_zero():
    rows = [[0.0, 1.0, "load", None, 10, 90], [1.0, 1.0, "load", 2.0, 10, 90], [2.0, 1.0, "load", None, 1, 1]]
    joined = thin([*rows[:2]], COLUMNS, 1)
    assert joined[0][3] == 2.0
    power = [
        [0.0, 2.0, "load", 100.0],
        [2.0, 1.0, "load", 50.0],
        [3.0, 1.0, "decode", None],
        [4.0, 1.0, "decode", 70.0],
    ]
    found = energy(power, ["gpu_power_w"])
    assert [(e["phase"], e["joules"], e["seconds"]) for e in found] == [("load", 250.0, 3.0)]
    assert found[0]["source"] == "nvidia-smi"


def test_joining_rows_does_not_hide_a_gap_in_the_power():
    rows = [[0.0, 1.0, "iterations", 100.0], [1.0, 1.0, "iterations", None], [2.0, 1.0, "iterations", 100.0]]
    joined = thin([*rows, [3.0, 1.0, "iterations", 100.0]], ["gpu_power_w"], 1)
    assert (len(joined), joined[0][1]) == (1, 4.0)
    assert energy(joined, ["gpu_power_w"]) == []


def rapl(folder, *counters: int):
    for index, value in enumerate(counters):
        package = folder / f"intel-rapl:{index}"
        package.mkdir(exist_ok=True)
        (package / "name").write_text(f"package-{index}\n")
        (package / "energy_uj").write_text(f"{value}\n")
        (package / "max_energy_range_uj").write_text("1000000\n")


def test_energy_counters_are_summed_over_packages_and_may_begin_anew(tmp_path):
    rapl(tmp_path, 900_000, 100_000)
    core = tmp_path / "intel-rapl:0:0"
    core.mkdir()
    (core / "name").write_text("core\n")
    found, reason = packages(tmp_path)
    assert (len(found), reason) == (2, "")
    rapl(tmp_path, 100_000, 400_000)
    assert sum(package.joules() for package in found) == pytest.approx(0.2 + 0.3)
    assert isinstance(found[0], Package)


def test_counters_for_the_administrator_alone_are_said_to_be_so(tmp_path, monkeypatch):
    rapl(tmp_path, 1)

    def refuse(self, folder):
        raise PermissionError

    monkeypatch.setattr(Package, "__init__", refuse)
    assert packages(tmp_path) == ([], "The processor's energy counters (RAPL) may be read by the administrator alone.")


def test_power_of_the_processor_comes_from_its_counters(busy, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "POWERCAP", tmp_path)
    rapl(tmp_path, 0)
    clock = Clock()
    sampler = ResourceSampler(clock=clock)
    sampler(busy.pid, "load")
    rapl(tmp_path, 600_000)
    clock.now += 0.5
    sampler(busy.pid, "load")
    section = sampler.section()
    row = dict(zip(section["timeline"]["columns"], section["timeline"]["rows"][0], strict=True))
    assert row["package_power_w"] == pytest.approx(1.2)
    assert section["energy"][0] | {"of": ""} == {
        "source": "RAPL",
        "of": "",
        "phase": "load",
        "joules": 0.6,
        "seconds": 0.5,
    }


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("93, 1024, 640.12", {"gpu_utilisation_pct": 93.0, "gpu_memory_bytes": 1024**3, "gpu_power_w": 640.12}),
        ("5, 10, [N/A]", {"gpu_utilisation_pct": 5.0, "gpu_memory_bytes": 10 * 1024**2, "gpu_power_w": None}),
        ("Unable to determine the device handle", {}),
    ],
)
def test_the_drivers_lines_are_read(line, values):
    assert resources.reading(line) == values


def test_the_drivers_stream_is_one_process_and_ends_with_the_samples(busy, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 50, 100, 300.0\necho ready >&2\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    stream = resources.DriverStream.open()
    while not (values := stream.latest()):
        assert stream._process.poll() is None
    assert values["gpu_power_w"] == 300.0
    assert stream.latest() == values, "it stands until it is old"
    stream.close()
    assert stream._process.poll() is not None


@pytest.mark.parametrize(("knows", "watts"), [(True, 300.0), (False, 50.0)])
def test_power_is_that_of_now_where_the_driver_tells_it(knows, watts, tmp_path, monkeypatch):
    """``power.draw`` is the mean of the last second: of a short phase it would be the power before it."""
    program = tmp_path / "nvidia-smi"
    refuse = "" if knows else 'case "$*" in *instant*) exit 2;; esac\n'
    answer = 'case "$*" in *instant*) echo 50, 100, 300.0;; *) echo 50, 100, 50.0;; esac\n'
    program.write_text(f'#!/bin/sh\n{refuse}{answer}case "$*" in *-lms*) exec sleep 60;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    stream = resources.DriverStream.open()
    try:
        while not (values := stream.latest()):
            assert stream._process.poll() is None
    finally:
        stream.close()
    assert values["gpu_power_w"] == watts


def section(first: float, *rows) -> dict:
    return {
        "interval_s": 0.25,
        "units": {},
        "timeline": {"columns": ["t_s", "seconds", "phase", *COLUMNS], "rows": [list(row) for row in rows]},
        "energy": [{"source": "RAPL", "of": "x", "phase": "load", "joules": first, "seconds": 1.0}],
        "cost": {"samples": len(rows), "cpu_s": 0.001, "cores": 0.001},
        "unavailable": [{"what": "gpu", "reason": "No."}],
    }


def test_processes_follow_each_other_in_one_timeline():
    row = (0.0, 1.5, "load", 1.0, 10, 90)
    found = pool_resources([section(3.0, row), None, section(4.0, row, (1.5, 0.5, "iterations", 2.0, 20, 80))])
    assert found["timeline"]["columns"][0] == "process"
    assert [(r[0], r[1], r[3]) for r in found["timeline"]["rows"]] == [
        (0, 0.0, "load"),
        (2, 1.5, "load"),
        (2, 3.0, "iterations"),
    ]
    assert found["energy"] == [{"source": "RAPL", "of": "x", "phase": "load", "joules": 7.0, "seconds": 2.0}]
    assert (found["cost"]["samples"], len(found["unavailable"])) == (3, 1)
    assert pool_resources([None, None]) is None


def test_energy_of_a_process_in_which_less_could_be_read_counts():
    """Its tokens do: half of the joules over all of the tokens was half of the energy per token."""
    row = (0.0, 2.0, "iterations", 1.0, 10, 90)
    whole, less = section(3.0, row), section(4.0, row)
    less["timeline"] = {"columns": whole["timeline"]["columns"][:-1], "rows": [list(row[:-1])]}
    found = pool_resources([whole, less])
    assert [(entry["joules"], entry["seconds"]) for entry in found["energy"]] == [(7.0, 2.0)]
    assert [r[0] for r in found["timeline"]["rows"]] == [0]
    assert found["cost"] == {"samples": 2, "cpu_s": 0.002, "cores": 0.0005}


def test_fifty_processes_fit_the_cap():
    rows = [(float(i), 1.0, "iterations", 1.0, 1, 1) for i in range(240)]
    found = pool_resources([section(1.0, *rows)] * 50)
    assert len(found["timeline"]["rows"]) <= resources.DOCUMENT_ROWS


def test_a_measurement_without_samples_says_nothing_of_resources():
    engines = Engines(EngineError(phase="load", kind="memory", message="No.", partial=None))
    with pytest.raises(EngineError) as caught:
        measure_in_processes(tiny.request(iterations=1)["spec"], Protocol(processes=1), engine=engines)
    assert caught.value.partial is None


def test_sampling_happens_in_the_parent_and_not_in_the_measured_process(monkeypatch):
    """The measured process has neither the sampler nor a thread for it; the parent samples the child's number, not its own."""
    seen: list[tuple[int, int]] = []
    sample = ResourceSampler._sample

    def spy(self, process, now):
        seen.append((os.getpid(), process.pid))
        sample(self, process, now)

    monkeypatch.setattr(ResourceSampler, "_sample", spy)
    spec = tiny.request(iterations=30)["spec"]
    children: list[int] = []

    class Child(EngineChild):
        def __init__(self) -> None:
            super().__init__()
            children.append(self.pid)

    document = measure_in_processes(spec, Protocol(processes=1), engine=Child)
    assert {pair[0] for pair in seen} == {os.getpid()}
    assert {pair[1] for pair in seen} == set(children)
    assert os.getpid() not in children
    section = document["resources"]
    at = section["timeline"]["columns"].index
    assert {"iterations", "load"} & {row[at("phase")] for row in section["timeline"]["rows"]}
    assert max(row[at("process_cores")] for row in section["timeline"]["rows"]) > 0.2
    assert section["cost"]["cores"] < 0.05, "sampling must cost next to nothing"

    import_test = "import sys, profiling.measure; print('profiling.resources' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", import_test], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("shared", "of"), [(False, "the first board alone"), (None, "the whole board")])
def test_the_energy_of_one_of_several_boards_says_so(shared, of):
    energies = [{"source": "nvidia-smi", "of": "the whole board", "phase": "load", "joules": 1.0, "seconds": 1.0}]
    energies.append(energies[0] | {"source": "RAPL", "of": "packages"})

    class Sampler:
        def section(self) -> dict:
            return {"energy": energies, "unavailable": []}

    parallel = {} if shared is None else {"parallel": {"tensor_parallel": 2, "shared_machine": shared}}
    found = _with_resources(parallel, Sampler())["resources"]
    assert [entry["of"] for entry in found["energy"]] == [of, "packages"]
    assert bool(found["unavailable"]) is (shared is False)


def test_a_rank_that_ends_takes_nothing_off_what_was_used():
    """Its whole life of processor time is gone from the system's figures at once: it must not look like other work meanwhile."""
    rank = "import time\nwhile time.process_time() < 0.6: pass\nprint('spent', flush=True)\ninput()"
    engine = (
        "import subprocess, sys\n"
        f"rank = subprocess.Popen([sys.executable, '-c', {rank!r}])\n"
        "input()\nrank.kill()\nrank.wait()\nprint('gone', flush=True)\ninput()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", engine], **pipes) as process:
        clock = Clock()
        sampler = ResourceSampler(clock=clock)
        sampler(process.pid, "load")
        assert process.stdout.readline() == "spent\n"
        for line in (None, "gone\n"):
            if line:
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == line
            clock.now += 0.3
            sampler(process.pid, "load")
        process.kill()
    table = sampler.section()["timeline"]
    own, other = (table["columns"].index(name) for name in ("process_cores", "other_cores"))
    before, after = table["rows"]
    assert before[own] > 1.9, "0.6 s within 0.3 s of this clock"
    assert 0 <= after[own] < 0.5
    assert after[other] < 1
