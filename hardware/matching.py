"""Which catalogue entry a detected device is. Names must agree word for word once trade marks are taken off: nothing is guessed.

A wrong match would draw a roof that the machine does not have; without a match the machine gets an entry of its own, with what was
detected and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

#: Words that makers and drivers add to a name and that tell no two devices apart.
_NOISE = {
    "nvidia",
    "amd",
    "intel",
    "apple",
    "google",
    "aws",
    "qualcomm",
    "tesla",
    "cpu",
    "processor",
    "generation",
    "r",
    "tm",
}
_MEMORY_WORD = re.compile(r"^\d+gb$")
_CORES = re.compile(r"\((\d+) cores, per socket\)")

#: Names under which drivers report devices that the catalogue calls otherwise. Only names that stand for one device.
_REPORTED_AS = {
    "NVIDIA H100 80GB HBM3": "nvidia-h100-sxm5-80gb",
    "NVIDIA H200": "nvidia-h200-sxm-141gb",
    "NVIDIA B200": "nvidia-b200-sxm-180gb",
}

#: A driver counts in binary units and keeps some memory for itself; beyond this difference it is another device.
_MEMORY_TOLERANCE = 0.1


def words(name: str) -> frozenset[str]:
    """The words of a device's name that matter: "Tesla V100-SXM2-32GB" → {v100, sxm2, 32gb}."""
    plain = re.sub(r"\([^)]*\)", " ", name.lower())
    plain = re.sub(r"@\s*[\d.]+\s*ghz", " ", plain)
    plain = re.sub(r"\b\d+-core\b", " ", plain)
    return frozenset(re.findall(r"[a-z0-9+.]+", plain)) - _NOISE


def match_accelerator(device: Mapping[str, Any], catalogue: Iterable[Mapping[str, Any]]) -> str | None:
    """The slug of the catalogue entry that ``device`` is, or None.

    ``device``: ``name`` and ``memory_bytes`` as its driver reports them. ``catalogue``: ``slug, name, memory_bytes`` of entries.
    A name without memory size is taken only when exactly one entry has that name and its memory agrees. A device that is cut into
    slices (``mig``) is none of the catalogue's: its slices are slower than the whole.
    """
    if device.get("mig"):
        return None
    entries = list(catalogue)
    slug = _REPORTED_AS.get(device["name"])
    if slug is not None:
        found = [entry for entry in entries if entry["slug"] == slug]
    else:
        reported = words(device["name"])
        found = [entry for entry in entries if words(entry["name"]) == reported]
        if not found and not any(_MEMORY_WORD.match(word) for word in reported):
            found = [entry for entry in entries if _without_memory(words(entry["name"])) == reported]
    found = [entry for entry in found if _memory_agrees(device.get("memory_bytes"), entry["memory_bytes"])]
    return found[0]["slug"] if len(found) == 1 else None


def match_cpu(cpu: str, cores: int | None, catalogue: Iterable[Mapping[str, Any]]) -> str | None:
    """The slug of the entry of this processor, or None.

    The catalogue's rates are those of one whole socket. A virtual machine with a few of its cores has other rates, and so has a machine
    with two: only the exact number of cores matches.
    """
    found = [
        entry
        for entry in catalogue
        if words(entry["name"]) == words(cpu) and (m := _CORES.search(entry["name"])) and int(m.group(1)) == cores
    ]
    return found[0]["slug"] if len(found) == 1 else None


def _without_memory(name: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in name if not _MEMORY_WORD.match(word))


def _memory_agrees(detected: int | None, listed: int | None) -> bool:
    if detected is None or listed is None:
        return True
    return abs(detected - listed) <= _MEMORY_TOLERANCE * listed
