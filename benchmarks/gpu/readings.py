"""What must be true of a measured document, beside its latencies: memory, module times, sensors, energy, artifacts, operators, load."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any

from profiling.quantities import say

Document = Mapping[str, Any]
Reading = Callable[[Document], tuple[bool, str]]

#: Allocator peak, weights and cache against the estimate, and module times against the un-instrumented pass.
MEMORY_TOLERANCE, COVERAGE = 0.02, {"prefill": (0.90, 1.10), "decode": (0.80, 1.15)}


def memory(document: Document) -> tuple[bool, str]:
    """The allocator's peak in the timed workload, and its parts, against the estimate."""
    measured, estimated = document["metrics"]["peak_memory"]["value"], document["memory"]["estimate"]["total_bytes"]
    off = measured / estimated - 1
    rows = [dict(zip(document["memory"]["breakdown"]["columns"], row, strict=True)) for row in _rows(document)]
    parts = [row for row in rows if row["phase"] in ("prefill", "decode") and row["error_pct"] is not None]
    worst = max((abs(row["error_pct"]) / 100 for row in parts if row["part"] in ("weights", "cache")), default=1.0)
    words = [f"measured {say(measured, 'B')}, estimated {say(estimated, 'B')}, {off:+.2%}"]
    words += [f"{row['phase']} {row['part']} {row['error_pct']:+.2f} %" for row in parts]
    return abs(off) <= MEMORY_TOLERANCE and worst <= MEMORY_TOLERANCE, ", ".join(words)


def divided_memory(document: Document) -> tuple[bool, str]:
    """Weights and cache that the first of several devices holds, against the estimate of one of them."""
    parts = [dict(zip(document["memory"]["breakdown"]["columns"], row, strict=True)) for row in _rows(document)]
    kept = [row for row in parts if (row["phase"], row["part"]) in (("prefill", "weights"), ("decode", "cache"))]
    words = [f"{row['part']} {say(row['measured_bytes'], 'B')}, {row['error_pct']:+.2f} %" for row in kept]
    return len(kept) == 2 and all(abs(row["error_pct"]) / 100 <= MEMORY_TOLERANCE for row in kept), ", ".join(words)


def _rows(document: Document) -> list[list[Any]]:
    found: list[list[Any]] = document["memory"]["breakdown"]["rows"]
    return found


def allocator(document: Document) -> tuple[bool, str]:
    """Allocated, reserved and used memory of the device by phase, each at least as much as the one before."""
    good, words = True, []
    for row in document["memory"]["phases"]:
        three = [row[f"device_{name}_bytes"] for name in ("allocated_peak", "reserved_peak", "used")]
        if None in three:
            return False, f"{row['phase']}: unknown"
        good &= three[0] <= three[1] <= three[2]
        words.append(f"{row['phase']} {' ≤ '.join(say(value, 'B') for value in three)}")
    kinds = {row[2] for row in document["memory"]["timeline"]["rows"]}
    return good and "device_allocated" in kinds, ", ".join(words)


def modules(document: Document) -> tuple[bool, str]:
    """Module times against the un-instrumented pass, both by events on the device's stream."""
    words, good = [], True
    for stage, row in document["instrumentation"].items():
        low, high = COVERAGE[stage]
        good &= low <= row["coverage"] <= high
        words.append(f"{stage}: sum {row['coverage']:.1%} of the plain pass, hooks cost {row['overhead']:+.1%}")
    return good and bool(words), "; ".join(words)


def sensors(document: Document) -> tuple[bool, str]:
    """Clock, temperature and power of the device were read, and others on it looked for."""
    found = {name: value for name, value in document["conditions"].items() if name.startswith("gpu")}
    known = [name for name in ("gpu_clock_mhz", "gpu_temperature_c") if found.get(name) is not None]
    words = [f"{name} {value}" for name, value in found.items()]
    return len(known) == 2, ", ".join([*words, f"throttled {document['conditions']['throttled']}"])


def resources(document: Document) -> tuple[bool, str]:
    """Utilisation, memory and power over time, from another process; energy a token where the timed part was long enough."""
    section = document.get("resources") or {}
    columns = (section.get("timeline") or {}).get("columns", [])
    wanted = ("gpu_utilisation_pct", "gpu_memory_bytes", "gpu_power_w")
    words = []
    for name in wanted:
        values = [row[columns.index(name)] for row in section["timeline"]["rows"]] if name in columns else []
        read = [value for value in values if value is not None]
        words.append(f"{name} {len(read)} of {len(values)} read, highest {max(read):,.0f}" if read else f"no {name}")
    energy = document["metrics"].get("gpu_energy_per_token")
    words.append(f"energy {energy['value']:.3g} J a token ({energy['note']})" if energy else "no energy a token")
    return all(name in columns for name in wanted) and bool(energy), ", ".join(words)


def operators(document: Document) -> tuple[bool, str]:
    """Device time of the operators under the modules, of the pass that they were profiled in, and copies between host and device."""
    found = document["profiled"]
    at = {name: found["operators"]["columns"].index(name) for name in ("stage", "self_device_s")}
    words, good = [], bool(found["operators"]["rows"])
    for stage, entry in found["stages"].items():
        device = sum(row[at["self_device_s"]] or 0.0 for row in found["operators"]["rows"] if row[at["stage"]] == stage)
        plain = document["stages"].get(stage, {}).get("latency_s")
        good &= device > 0
        words.append(
            f"{stage}: {entry['passes']:g} passes, operators {say(device, 's')} on the device of {say(entry['total_s'], 's')} profiled"
            + (f", estimate {say(plain, 's')}" if plain else "")
        )
    copies = [f"{one['direction']} {one['count']}, {say(one['bytes'], 'B')}" for one in found["copies"]]
    return good, "; ".join([*words, *copies])


def artifacts(files: Mapping[str, bytes]) -> Reading:
    """The files are JSON, with kernels of the device in the trace and segments of its allocator in the snapshot."""

    def read(document: Document) -> tuple[bool, str]:
        words, content = [], {}
        for kind, data in files.items():
            content[kind] = json.loads(gzip.decompress(data))
            words.append(f"{kind} {say(len(data), 'B')}")
        kernels = sum(event.get("cat") == "kernel" for event in content.get("trace", {}).get("traceEvents", ()))
        segments = len((content.get("memory", {}).get("snapshot") or {}).get("segments", ()))
        missing = [w["message"] for w in document["warnings"] if "artifact" in w["code"]]
        words += [f"{kernels} kernels", f"{segments} segments", *missing]
        return kernels > 0 and segments > 0, ", ".join(words)

    return read


def load(document: Document) -> tuple[bool, str]:
    """Requests that were sent to the model: how many ended, their times and goodput."""
    section = document.get("load") or {}
    metrics = document["metrics"]
    names = [name for name in metrics if name.startswith(("request_", "goodput"))]
    words = [f"{name} {say(metrics[name]['value'], metrics[name]['unit'])}" for name in names if metrics[name]["value"]]
    return bool(section) and bool(words), ", ".join(words)
