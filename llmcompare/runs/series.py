"""Which runs repeat one another: a series has one model, one place, one workload and one kind; and what each was made with.

Pure functions on frozen specs and run documents. What only says how long was measured (iterations, processes, limits, seed) does not
part a series; a changed configuration, a prompt, a data type or an option does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.spec import Workload, digest

#: Fields of the workload that say how it was measured, not what.
_HOW = frozenset({"iterations", "warmup", "seed", "time_limit_s"})
#: Always part of the key; other fields only where they are not at their default, so that a new option leaves old series together.
_ALWAYS = ("batch_size", "input_tokens", "output_tokens", "dtype")
KEY_LENGTH = 32


def series_key(spec: Mapping[str, Any], host: str = "") -> str:
    """The series of a run: 32 hexadecimal digits. ``spec``: the frozen ``RunSpec``; ``host``: slug of the host, "" where there is none.

    Figures of hardware are no part of it: when they are corrected, the estimates before and after are one series with a step.
    """
    model, hardware, workload = (spec.get(name) or {} for name in ("model", "hardware", "workload"))
    defaults = Workload().to_json()
    asked = {
        name: value
        for name, value in workload.items()
        if name not in _HOW and (name in _ALWAYS or value != defaults.get(name))
    }
    key = {
        "kind": spec.get("kind"),
        "model": {"config": model.get("config"), "architecture": model.get("architecture")},
        "weights": model.get("weights_digest") or model.get("weights"),
        "place": f"host {host}" if host else f"hardware {hardware.get('slug') or hardware.get('name')}",
        "workload": asked,
        "load": spec.get("load") or None,
    }
    return digest(key)[:KEY_LENGTH]


def endpoint_series_key(spec: Mapping[str, Any]) -> str:
    """The series of a run of an endpoint, from its frozen ``EndpointSpec``: the same endpoint at the same address, the same model of its
    server, the same requests. Its first address has no part in the key, as in the keys of runs from before addresses were told apart."""
    endpoint = spec.get("endpoint") or {}
    asked = {name: value for name, value in (spec.get("workload") or {}).items() if name not in _HOW}
    key = {
        "kind": spec.get("kind"),
        "endpoint": {name: endpoint.get(name) for name in ("id", "model", "api", "unique_prompts")}
        | ({"place": endpoint["place"]} if endpoint.get("place") else {}),
        "workload": asked,
        "load": spec.get("load"),
        "sweep": spec.get("sweep"),
    }
    return digest(key)[:KEY_LENGTH]


def versions_of(document: Mapping[str, Any]) -> dict[str, str]:
    """With what a run was made, as far as it says: ``engine``, ``torch``, ``transformers``, ``python``, ``driver`` → version."""
    producer, environment = (document.get(name) for name in ("producer", "environment"))
    producer = producer if isinstance(producer, Mapping) else {}
    environment = environment if isinstance(environment, Mapping) else {}
    found = {
        "engine": producer.get("version"),
        "torch": producer.get("torch"),
        "transformers": producer.get("transformers"),
        "python": producer.get("python"),
        "driver": next((d.get("driver") for d in _devices(environment) if d.get("driver")), None),
    }
    return {name: str(value)[:60] for name, value in found.items() if value}


def _devices(environment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = environment.get("accelerators")
    return [device for device in listed if isinstance(device, Mapping)] if isinstance(listed, list) else []


def contended_of(document: Mapping[str, Any]) -> bool | None:
    """Whether other work disturbed a measurement; None where the document does not say (estimates)."""
    conditions = document.get("conditions")
    found = conditions.get("contended") if isinstance(conditions, Mapping) else None
    return found if isinstance(found, bool) else None
