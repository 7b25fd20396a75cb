"""What Vertex AI has and is asked for, as plain data: no type of Google's leaves this package. Times are ISO 8601 in UTC.

What the service does not say is None or empty, never a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class Plain:
    """A dataclass of plain values."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Container(Plain):
    """The image that serves a model. ``invoke``: every route of it can be reached, on dedicated endpoints only; then ``predict_route``
    is not used. ``deployment_timeout_s``: at most 7200. ``shared_memory_mb``: for servers that divide a model over devices."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 8080
    health_route: str = "/health"
    predict_route: str = "/predict"
    invoke: bool = False
    deployment_timeout_s: int | None = None
    shared_memory_mb: int | None = None


@dataclass(frozen=True)
class Machine(Plain):
    """What a deployment runs on. ``accelerator``: a name of Google's enum, such as ``NVIDIA_L4``; None on TPU machines, which take
    ``tpu_topology``. ``max_replicas`` None: as many as ``min_replicas``, so that no scaling moves a measurement."""

    machine_type: str
    accelerator: str | None = None
    accelerators: int = 0
    tpu_topology: str | None = None
    min_replicas: int = 1
    max_replicas: int | None = None
    spot: bool = False

    @property
    def most_replicas(self) -> int:
        return self.min_replicas if self.max_replicas is None else self.max_replicas


@dataclass(frozen=True)
class Model(Plain):
    """A model of the project's registry. ``ours``: it carries our labels, so it may be deleted."""

    name: str
    display_name: str
    labels: Mapping[str, str]
    ours: bool
    version: str | None = None
    image: str | None = None
    artifact_uri: str | None = None
    invoke: bool = False
    created: str | None = None


@dataclass(frozen=True)
class Deployed(Plain):
    """A model on an endpoint. ``created``: billing runs from about then. ``machine`` is None where the service chooses it.
    ``traffic``: percent of the endpoint's requests."""

    id: str
    model: str
    display_name: str
    traffic: int
    machine: Machine | None = None
    created: str | None = None


@dataclass(frozen=True)
class Endpoint(Plain):
    """An endpoint of the project. ``dns``: the host of a dedicated one. ``timeout_s``: longest request, None for the service's default
    (60 s shared, 600 s dedicated)."""

    name: str
    display_name: str
    labels: Mapping[str, str]
    ours: bool
    dedicated: bool
    dns: str | None = None
    timeout_s: float | None = None
    deployed: tuple[Deployed, ...] = ()
    created: str | None = None

    @property
    def id(self) -> str:
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class OpenModel(Plain):
    """A model of Model Garden. ``name``: ``publishers/P/models/M@VERSION``. ``machines``: what its publisher suggests."""

    name: str
    title: str
    publisher: str
    machines: tuple[Machine, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class OperationState(Plain):
    """A long operation as the service knows it now. ``error``: code and sentence (:class:`.errors.CloudError`) of one that failed.
    ``response``: what it made, as JSON in the service's own names. ``updated``: when the service last changed it."""

    name: str
    done: bool
    error: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None
    started: str | None = None
    updated: str | None = None


@dataclass(frozen=True)
class Series(Plain):
    """One line of Cloud Monitoring: ``points`` are (time, value) in order. No points: unknown, not zero."""

    metric: str
    unit: str
    labels: Mapping[str, str]
    points: tuple[tuple[str, float], ...]
