"""What the engine says of the machine, checked against what the system says and against made-up control groups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from profiling import host
from profiling.conditions import Snapshot, between


def test_the_description_is_json_and_agrees_with_the_system():
    found = json.loads(json.dumps(host.detect()))
    assert 1 <= found["cores_physical"] <= found["cores_logical"] <= os.cpu_count()
    assert 0 < found["available_bytes"] <= found["ram_bytes"] <= psutil.virtual_memory().total
    assert found["cpu"]["model"]
    assert found["packages"]["torch"]
    assert found["engine"] is True
    assert len(found["fingerprint"]) == 64


def test_the_fingerprint_is_the_same_every_time_and_follows_the_processor(monkeypatch):
    before = host.detect()["fingerprint"]
    assert host.detect()["fingerprint"] == before
    monkeypatch.setattr(host, "cpu_info", lambda: {"model": "Other", "vendor": "", "isa": [], "caches": {}})
    assert host.detect()["fingerprint"] != before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="needs two cores")
def test_cores_follow_the_affinity():
    code = "import os; os.sched_setaffinity(0, {0}); from profiling import host; print(host.cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 1)"


def make_group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_the_tightest_limit_of_the_control_groups_counts(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("0::/outer/inner\n")
    root = tmp_path / "fs"
    make_group(root, "outer", memory_max="4000000000", memory_current="1500000000", cpu_max="150000 100000")
    (root / "outer/memory.stat").write_text("anon 900000000\ninactive_file 500000000\n")
    make_group(root, "outer/inner", memory_max="max", memory_current="900000000", cpu_max="max 100000")
    assert host.cgroup_memory(root, membership) == (4000000000, 1000000000)
    assert host.cgroup_cpus(root, membership) == 1.5


def test_no_control_group_means_no_limit(tmp_path):
    assert host.cgroup_memory(tmp_path, tmp_path / "none") == (None, 0)
    assert host.cgroup_cpus(tmp_path, tmp_path / "none") is None


def test_memory_and_cores_respect_the_limits(monkeypatch):
    monkeypatch.setattr(host, "cgroup_memory", lambda: (2 * 10**9, 5 * 10**8))
    monkeypatch.setattr(host, "cgroup_cpus", lambda: 1.0)
    assert host.available_memory() <= 1.5e9
    assert host.total_memory() == 2 * 10**9
    assert host.cores() == (1, 1)


def test_accelerators_come_from_the_driver_or_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.accelerators() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 550.54, 700.00, Disabled'\necho 'broken line'\n")
    program.chmod(0o755)
    (device,) = host.accelerators()
    assert device["name"] == "NVIDIA H100 80GB HBM3"
    assert device["memory_bytes"] == 81559 * 1024**2
    assert (device["driver"], device["power_limit_w"], device["mig"]) == ("550.54", 700.0, False)
    program.write_text("#!/bin/sh\nexit 9\n")
    assert host.accelerators() == []


def test_a_missing_engine_is_said_in_words(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    available, note = host.engine_available()
    assert not available
    assert "torch, transformers" in note


def snapshot(**values: float) -> Snapshot:
    zero = dict.fromkeys(("wall", "thread", "process", "busy", "steal", "total"), 0.0)
    return Snapshot(**(zero | values), load=(0.0, 0.0, 0.0))


def test_a_quiet_machine_is_not_called_contended(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    end = snapshot(wall=10, thread=9.9, process=19, busy=19.2, total=40)
    found = between(snapshot(), end, threads=2, on_cpu=True, steady=True)
    assert found["contended"] is False
    assert found["reasons"] == []
    assert found["wall_over_cpu"] == pytest.approx(10 / 9.9)


def test_others_that_had_room_are_no_contention_but_others_without_are(monkeypatch):
    end = snapshot(wall=10, thread=9.9, process=19, busy=29, total=40)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert between(snapshot(), end, threads=2, on_cpu=True, steady=None)["contended"] is False
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = between(snapshot(), end, threads=2, on_cpu=True, steady=None)
    assert found["contended"] is True
    assert "1.0 of 2 cores" in found["reasons"][0]


def test_waiting_for_the_processor_and_stolen_time_are_seen():
    found = between(snapshot(), snapshot(wall=10, thread=5, total=20, steal=2), threads=1, on_cpu=True, steady=None)
    assert found["contended"] is True
    assert "50 %" in found["reasons"][0]
    assert found["steal_pct"] == 10
    on_device = between(snapshot(), snapshot(wall=10, thread=5, total=20), threads=1, on_cpu=False, steady=False)
    assert on_device["wall_over_cpu"] is None
    assert on_device["contended"] is False
    assert "trend" in on_device["reasons"][0]
