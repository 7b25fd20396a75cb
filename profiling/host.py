"""What this machine is and what is free on it. Imports no torch: the portal asks too.

Every figure respects the limits that this process lives under: CPU affinity, and the processor and memory limits of its control
group (a container sees its share, not the machine).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from profiling.spec import HardwareSpec, digest

CPU_FLAGS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni",
    "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme",
)  # fmt: skip
CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")
PACKAGES = ("torch", "transformers", "numpy", "safetensors", "tokenizers", "gguf", "psutil")


def available_memory() -> int | None:
    """Bytes that a new process may take before something is swapped out or killed; ``None`` when the system does not say."""
    try:
        free = int(psutil.virtual_memory().available)
    except (OSError, RuntimeError):
        return None
    limit, used = cgroup_memory()
    return free if limit is None else max(0, min(free, limit - used))


def total_memory() -> int:
    """Bytes of memory of this machine, or of its control group where that is less."""
    total = int(psutil.virtual_memory().total)
    limit, _ = cgroup_memory()
    return total if limit is None else min(total, limit)


def anonymous_memory(pid: int) -> int:
    """Bytes that a process holds and that cannot be dropped (no mapped files); 0 when it is gone."""
    try:
        fields = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("Rss")
        )
        return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))
    except (OSError, KeyError, ValueError):
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def family(pid: int) -> list[int]:
    """A process and those that its main thread started (the ranks of a measurement on several devices), where the system tells them
    cheaply; else the process alone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *map(int, children)]


def family_memory(pid: int) -> int:
    """:func:`anonymous_memory` of all of a :func:`family`."""
    return sum(anonymous_memory(one) for one in family(pid))


def cgroup_memory(root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP) -> tuple[int | None, int]:
    """(limit or ``None``, bytes in use without droppable file cache) of the control group with the least left, version 2 or 1."""
    tightest: tuple[int | None, int] = (None, 0)
    for folder in _cgroup_folders(root, membership):
        for limit_name, used_name, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is None or used is None or limit >= 1 << 60:
                continue
            used = max(0, used - _key_value((folder / limit_name).with_name("memory.stat")).get(cache_key, 0))
            if tightest[0] is None or limit - used < tightest[0] - tightest[1]:
                tightest = limit, used
    return tightest


def cgroup_cpus(root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP) -> float | None:
    """Processors' worth of time that the control group may use, or ``None`` without a limit."""
    shares = []
    for folder in _cgroup_folders(root, membership):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            shares.append(int(quota) / int(period))
        old_quota, old_period = _number(folder / "cpu/cpu.cfs_quota_us"), _number(folder / "cpu/cpu.cfs_period_us")
        if old_quota and old_period and old_quota > 0:
            shares.append(old_quota / old_period)
    return min(shares, default=None)


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """This process's own control group and those above it: a limit on any of them counts."""
    path = next((line[3:] for line in _read(membership).splitlines() if line.startswith("0::")), "/")
    own = root / path.strip("/")
    return [folder for folder in (own, *own.parents) if folder == root or root in folder.parents]


def cores() -> tuple[int, int]:
    """(physical, logical) cores that this process may use, at least one each."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    logical = len(allowed)
    siblings = set()
    for cpu in allowed:
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            siblings = set()
            break
    physical = len(siblings) or min(psutil.cpu_count(logical=False) or logical, logical)
    share = cgroup_cpus()
    if share is not None:
        logical = max(1, min(logical, int(share) or 1))
        physical = min(physical, logical)
    return max(1, physical), max(1, logical)


def cpu_info() -> dict[str, Any]:
    """``model``, ``vendor``, ``isa`` (the flags that matter to matrix products) and ``caches`` (level → bytes, one instance each)."""
    text = _read(Path("/proc/cpuinfo"))
    first: dict[str, str] = {}
    for line in text.split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        first[name.strip()] = value.strip()
    flags = set((first.get("flags") or first.get("Features") or "").split())
    model = first.get("model name") or _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()
    vendor = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}.get(first.get("vendor_id", ""), "")
    if not vendor:
        vendor = next(
            (name for name in ("Apple", "AMD", "Intel", "Ampere", "NVIDIA") if name.lower() in model.lower()), ""
        )
    return {"model": model, "vendor": vendor, "isa": [name for name in CPU_FLAGS if name in flags], "caches": _caches()}


def _caches() -> dict[str, int]:
    """Data and unified caches of the first processor: ``{"L1d": bytes, "L2": bytes, "L3": bytes}``."""
    found: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (_read(index / name).strip() for name in ("type", "level", "size"))
        if kind in ("Data", "Unified") and size[-1:] in "KMG" and size[:-1].isdigit():
            name = f"L{level}" + ("d" if kind == "Data" else "")
            found[name] = int(size[:-1]) * {"K": 1024, "M": 1024**2, "G": 1024**3}[size[-1]]
    if not found:
        for name, key in (("L1d", "hw.l1dcachesize"), ("L2", "hw.l2cachesize"), ("L3", "hw.l3cachesize")):
            value = _sysctl(key)
            if value and value.isdigit() and int(value):
                found[name] = int(value)
    return found


def last_level_caches() -> int | None:
    """Bytes of all instances of the last-level cache that the processors of this process reach; None when the system does not say."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    levels = sorted(name for name in cpu_info()["caches"] if name != "L1d")
    if not levels:
        return None
    one, groups = cpu_info()["caches"][levels[-1]], set()
    for cpu in allowed:
        for index in Path(f"/sys/devices/system/cpu/cpu{cpu}/cache").glob("index*"):
            if _read(index / "level").strip() == levels[-1].removeprefix("L"):
                groups.add(_read(index / "shared_cpu_list").strip())
    return int(one) * max(1, len(groups))


def accelerators() -> list[dict[str, Any]]:
    """NVIDIA devices as their driver reports them: ``name, memory_bytes, driver, power_limit_w``; empty without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = "--query-gpu=name,memory.total,driver_version,power.limit,mig.mode.current"
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [program, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [device for line in done.stdout.splitlines() if (device := _accelerator(line)) is not None]


def _accelerator(line: str) -> dict[str, Any] | None:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 5 or not parts[1].replace(".", "").isdigit():
        return None
    name, memory, driver, power, mig = parts
    return {
        "name": name,
        "kind": "gpu",
        "vendor": "NVIDIA",
        "memory_bytes": int(float(memory) * 1024**2),
        "driver": driver,
        "power_limit_w": float(power) if power.replace(".", "", 1).isdigit() else None,
        "mig": mig == "Enabled",
    }


def package_versions() -> dict[str, str | None]:
    """Installed versions of the packages that decide results; ``None`` when one is absent. Nothing is imported."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def engine_available() -> tuple[bool, str]:
    """(whether models can be run here, why not). Looks for the packages without importing them."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return (
            False,
            f"Not installed here: {', '.join(missing)}. Install requirements.txt, then start the worker again.",
        )
    return True, ""


def detect() -> dict[str, Any]:
    """Everything about this host that results depend on. ``fingerprint`` is the digest of what its speed depends on.

    Keys: ``name, os, kernel, machine, virtualised, python, packages, cpu {model, vendor, isa, caches}, cores_physical, cores_logical,
    ram_bytes, available_bytes, cache_bytes`` (last level, one instance), ``accelerators, engine, engine_note, fingerprint``.
    """
    cpu = cpu_info()
    physical, logical = cores()
    ram = total_memory()
    devices = accelerators()
    engine, note = engine_available()
    levels = sorted(name for name in cpu["caches"] if name != "L1d")
    packages = package_versions()
    identity = {
        "cpu": cpu,
        "cores": [physical, logical],
        "ram_gib": round(ram / 1024**3),
        "accelerators": [[device["name"], device["memory_bytes"]] for device in devices],
        "torch": packages["torch"],
    }
    return {
        "name": platform.node(),
        "os": _os_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "virtualised": "hypervisor" in _read(Path("/proc/cpuinfo")) if sys.platform.startswith("linux") else None,
        "python": platform.python_version(),
        "packages": packages,
        "cpu": cpu,
        "cores_physical": physical,
        "cores_logical": logical,
        "ram_bytes": ram,
        "available_bytes": available_memory(),
        "cache_bytes": cpu["caches"][levels[-1]] if levels else None,
        "accelerators": devices,
        "engine": engine,
        "engine_note": note,
        "fingerprint": digest(identity),
    }


def hardware(found: dict[str, Any], *, accelerator: bool = True) -> HardwareSpec:
    """The device that runs models here, from what :func:`detect` found: the first accelerator, else the processor. Figures that the
    machine does not tell are left out."""
    if accelerator and found["accelerators"]:
        device = found["accelerators"][0]
        return HardwareSpec(name=device["name"], vendor=device["vendor"], memory_bytes=device["memory_bytes"])
    cpu = found["cpu"]
    return HardwareSpec(
        name=cpu["model"],
        vendor=cpu["vendor"],
        kind="cpu",
        memory_bytes=found["ram_bytes"],
        cache_bytes=found["cache_bytes"],
    )


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except (OSError, AttributeError):
        return f"{platform.system()} {platform.mac_ver()[0] or platform.version()}".strip()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _key_value(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _sysctl(name: str) -> str | None:
    """A macOS system value, or ``None`` elsewhere."""
    if sys.platform != "darwin":
        return None
    try:
        return subprocess.run(  # noqa: S603 - a fixed command
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
