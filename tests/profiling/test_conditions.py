"""Conditions: what counts against a measurement, what is unknown, and what the driver's words mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiling import conditions, device_state
from profiling.conditions import Sensors, Snapshot, between
from profiling.pooling import _conditions

BEGIN = Snapshot(wall=0.0, thread=0.0, process=0.0, busy=0.0, steal=0.0, total=0.0, load=(0.5, 0.5, 0.5))
END = Snapshot(wall=10.0, thread=9.9, process=9.9, busy=9.9, steal=0.0, total=20.0, load=(1.0, 0.5, 0.5))
COOL = Sensors(cpu_mhz=3000.0, cpu_max_mhz=3500.0, cpu_temperature_c=55.0, thermal_events=4)
GPU = {"clock_mhz": 1900.0, "max_clock_mhz": 1980.0, "temperature_c": 60.0, "power_w": 500.0, "throttle": []}


def seen(before: Sensors, after: Sensors, *, on_cpu: bool = True) -> dict:
    return between(BEGIN, END, threads=1, on_cpu=on_cpu, steady=True, sensors=(before, after))


def test_a_quiet_machine_with_sensors_is_neither_contended_nor_throttled():
    found = seen(COOL, COOL)
    assert (found["contended"], found["throttled"], found["reasons"]) == (False, False, [])
    assert (found["cpu_mhz"], found["cpu_temperature_c"], found["thermal_events"]) == (3000.0, 55.0, 0)
    assert not any(key.startswith("gpu_") for key in found), "no accelerator was used"


def test_what_cannot_be_read_is_null_and_says_nothing():
    found = seen(Sensors(), Sensors())
    assert found["throttled"] is None
    assert (found["contended"], found["reasons"]) == (False, [])
    for key in ("cpu_mhz", "cpu_max_mhz", "cpu_temperature_c", "thermal_events"):
        assert key in found
        assert found[key] is None


def test_a_low_clock_and_heat_are_throttling_not_contention():
    limit = conditions.CLOCK_LIMIT * 3500
    assert seen(COOL, replace(COOL, cpu_mhz=limit + 1))["throttled"] is False
    slow = seen(COOL, replace(COOL, cpu_mhz=limit - 1))
    assert (slow["throttled"], slow["contended"]) == (True, False)
    assert slow["reasons"] == ["The processor ran at 70 % of its highest clock."]
    hot = seen(COOL, replace(COOL, thermal_events=7))
    assert hot["reasons"] == ["Heat slowed cores down 3 times."]


def test_a_clock_without_its_highest_is_shown_but_tells_nothing():
    nominal = Sensors(cpu_mhz=2596.0)
    assert seen(nominal, nominal)["throttled"] is None


def test_a_processor_that_waits_for_an_accelerator_is_not_throttled():
    idle = replace(COOL, cpu_mhz=800.0, accelerator=GPU, foreign_processes=0)
    found = seen(idle, idle, on_cpu=False)
    assert (found["throttled"], found["contended"]) == (False, False)
    assert (found["gpu_clock_mhz"], found["gpu_throttle"], found["gpu_foreign_processes"]) == (1900.0, [], 0)


def test_limits_and_other_processes_on_an_accelerator_are_named():
    after = replace(COOL, accelerator=GPU | {"throttle": ["power cap"]}, foreign_processes=2)
    found = seen(COOL, after, on_cpu=False)
    assert (found["throttled"], found["contended"]) == (True, True)
    assert "Other processes on the accelerator: 2." in found["reasons"]
    assert "The accelerator's clock was held down by: power cap." in found["reasons"]


def test_without_a_driver_the_accelerators_keys_are_null():
    found = seen(Sensors(), Sensors(), on_cpu=False)
    assert found["gpu_throttle"] is None
    assert found["gpu_foreign_processes"] is None


@pytest.mark.parametrize(
    ("mask", "limits"),
    [
        ("0x0000000000000000", []),
        ("0x0000000000000001", []),  # idle
        ("0x0000000000000004", ["power cap"]),
        ("0x0000000000000048", ["hardware slowdown", "temperature (hardware)"]),
        ("[N/A]", None),
    ],
)
def test_the_drivers_mask_is_read(mask, limits):
    assert device_state.throttle_reasons(mask) == limits


def driver(tmp_path, monkeypatch, answers: dict[str, str]):
    """An ``nvidia-smi`` that answers by the first option it knows, and refuses any other."""
    cases = "\n".join(f"*'{word}'*) printf '%s\\n' '{text}'; exit 0;;" for word, text in answers.items())
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\necho refused >&2; exit 2\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")


def test_an_accelerator_is_read_through_its_driver(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, {"clocks_event_reasons": "1755, 1980, 64, 698.11, 0x0000000000000004"})
    assert device_state.accelerator_state() == {
        "clock_mhz": 1755.0,
        "max_clock_mhz": 1980.0,
        "temperature_c": 64.0,
        "power_w": 698.11,
        "throttle": ["power cap"],
    }


def test_an_older_driver_has_another_name_for_the_limits(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, {"clocks_throttle_reasons": "1410, 1410, [N/A], 250.00, 0x0"})
    state = device_state.accelerator_state()
    assert (state["temperature_c"], state["throttle"]) == (None, [])


def test_other_processes_are_counted_only_where_ours_is_listed(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, {"query-compute-apps": "100\n200\n300"})
    assert device_state.foreign_processes(200) == 2
    assert device_state.foreign_processes(7) is None, "another numbering: a container"


def test_without_a_driver_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_state.accelerator_state() is None
    assert device_state.foreign_processes(1) is None


def test_clocks_come_from_the_kernels_files_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.setattr(device_state, "CPU_FOLDER", tmp_path)
    monkeypatch.setattr(device_state.os, "sched_getaffinity", lambda pid: {0, 1})
    for cpu, clock in ((0, 3_000_000), (1, 2_000_000), (2, 800_000)):
        folder = tmp_path / f"cpu{cpu}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{clock}\n")
        (folder / "cpuinfo_max_freq").write_text("3500000\n")
    assert device_state.cpu_clocks() == {"cpu_mhz": 2500.0, "cpu_max_mhz": 3500.0}, "of the processors it may use"


def test_without_those_files_the_list_of_processors_is_read_and_the_highest_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(device_state, "CPU_FOLDER", tmp_path)
    monkeypatch.setattr(device_state.os, "sched_getaffinity", lambda pid: {1})
    monkeypatch.setattr(device_state, "PROC_CPUINFO", tmp_path / "cpuinfo")
    assert device_state.cpu_clocks() == {"cpu_mhz": None, "cpu_max_mhz": None}
    (tmp_path / "cpuinfo").write_text("cpu MHz\t\t: 1000.0\ncpu MHz\t\t: 2596.1\n")
    assert device_state.cpu_clocks() == {"cpu_mhz": 2596.1, "cpu_max_mhz": None}


def test_of_several_processes_the_worst_readings_stand():
    cool, hot = seen(COOL, COOL), seen(COOL, replace(COOL, cpu_mhz=2000.0, cpu_temperature_c=91.0, thermal_events=6))
    found = _conditions([cool, hot])
    assert (found["cpu_mhz"], found["cpu_temperature_c"], found["thermal_events"]) == (2000.0, 91.0, 2)
    assert found["throttled"] is True
    assert _conditions([cool, seen(Sensors(), Sensors())])["throttled"] is None, "unknown of one, so of all"
    assert "gpu_throttle" not in found


TWO = {"-i 0,1": "1755, 1980, 64, 698.11, 0x0000000000000000\n1200, 1980, 81, 300.00, 0x0000000000000040"}


def test_of_several_accelerators_the_one_that_holds_the_others_up_counts(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver(tmp_path, monkeypatch, TWO)
    state = device_state.accelerator_state(2)
    assert (state["clock_mhz"], state["temperature_c"], state["throttle"]) == (1200.0, 81.0, ["temperature (hardware)"])
    assert state["power_w"] == 698.11, "of one board, as energy is"


def test_that_several_accelerators_are_not_held_down_is_known_only_of_all(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5,6")
    driver(tmp_path, monkeypatch, {"-i 3,5": "1755, 1980, 64, 698.11, 0x0\n1755, 1980, [N/A], 300.00, [N/A]"})
    state = device_state.accelerator_state(2)
    assert (state["throttle"], state["temperature_c"], state["clock_mhz"]) == (None, None, 1755.0)


def test_further_ranks_are_no_foreign_processes(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver(tmp_path, monkeypatch, {"query-compute-apps=pid -i 0,1": "100\n200\n300"})
    assert device_state.foreign_processes(200, [300]) == 1
    assert device_state.foreign_processes(7, [300]) is None
