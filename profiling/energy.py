"""Joules per token of the timed iterations, where the machine's counters could be read. Standard library only.

What is counted is the energy of a whole board or of all processor packages, idle power and other work on them included: it is an upper
bound on what the model took, and says so. Nothing is subtracted, and where no counter was read there is no figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.quantities import number
from profiling.units import metric

#: Source of ``resources.energy`` → metric.
METRICS = {"nvidia-smi": "gpu_energy_per_token", "RAPL": "package_energy_per_token"}
PHASE = "iterations"


def energy_metrics(document: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a measured document with ``resources`` and ``samples``; empty where the energy or the tokens are unknown."""
    tokens = _tokens(document)
    found = {}
    for entry in (document.get("resources") or {}).get("energy") or ():
        key, joules = METRICS.get(str(entry.get("source"))), number(entry.get("joules"))
        if entry.get("source") == "nvidia-smi" and "parallel" in document:
            continue  # one board of several was read
        if key and joules and tokens and entry.get("phase") == PHASE:
            note = f"{entry['of']}; {joules:.4g} J over {tokens:,} tokens"
            found[key] = metric(key, joules / tokens, "measured", n=1, note=note)
    return found


def _tokens(document: Mapping[str, Any]) -> int | None:
    """Output tokens of all timed iterations and sequences, tokens read in for an encoder; None where sequences of a batch differ."""
    samples, batch = document.get("samples") or {}, (document.get("workload") or {}).get("batch_size")
    columns = list(samples.get("columns") or ())
    if not {"phase", "warmup", "tokens"} <= set(columns) or not batch or document.get("batches"):
        return None
    at = {name: columns.index(name) for name in ("phase", "warmup", "tokens")}
    found = 0
    for row in samples.get("rows") or ():
        if not row[at["warmup"]]:
            # The first interval reads the prompt in and brings one token of each sequence; an encoder only reads.
            found += batch if row[at["phase"]] == "prefill" else row[at["tokens"]]
    return found or None
