"""Google's messages from and to our plain data. The only module that touches their fields; imported by :mod:`.connection` when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from django.utils.translation import gettext as _
from google.cloud import aiplatform_v1 as v1
from google.protobuf import duration_pb2, json_format

from llmcompare.cloud.google import labels
from llmcompare.cloud.google.errors import CloudError, from_operation
from llmcompare.cloud.google.resources import Container, Deployed, Endpoint, Machine, Model, OperationState


def when(found: Any) -> str | None:
    """A timestamp as ISO 8601 in UTC."""
    return found.astimezone(UTC).isoformat() if found else None


def container_spec(container: Container) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "image_uri": container.image,
        "command": list(container.command),
        "args": list(container.args),
        "env": [{"name": name, "value": value} for name, value in container.environment.items()],
        "ports": [{"container_port": container.port}],
        "health_route": container.health_route,
    }
    # The service takes one of the two only.
    spec |= {"invoke_route_prefix": "/*"} if container.invoke else {"predict_route": container.predict_route}
    if container.deployment_timeout_s is not None:
        spec["deployment_timeout"] = duration_pb2.Duration(seconds=container.deployment_timeout_s)
    if container.shared_memory_mb is not None:
        spec["shared_memory_size_mb"] = container.shared_memory_mb
    return spec


def resources_spec(machine: Machine) -> dict[str, Any]:
    """Raises :class:`CloudError` for an accelerator that the library does not know."""
    spec: dict[str, Any] = {"machine_type": machine.machine_type}
    if machine.accelerator:
        if machine.accelerator not in v1.AcceleratorType.__members__:
            raise CloudError(
                "invalid", _("Vertex AI has no accelerator named {name}.").format(name=machine.accelerator)
            )
        spec |= {
            "accelerator_type": getattr(v1.AcceleratorType, machine.accelerator).value,
            "accelerator_count": machine.accelerators,
        }
    if machine.tpu_topology:
        spec["tpu_topology"] = machine.tpu_topology
    return {
        "machine_spec": spec,
        "min_replica_count": machine.min_replicas,
        "max_replica_count": machine.most_replicas,
        "spot": machine.spot,
    }


def machine(resources: Any) -> Machine | None:
    """The machine of dedicated resources; None without."""
    if not resources or not resources.machine_spec.machine_type:
        return None
    spec = resources.machine_spec
    return Machine(
        machine_type=spec.machine_type,
        accelerator=spec.accelerator_type.name if spec.accelerator_type else None,
        accelerators=spec.accelerator_count,
        tpu_topology=spec.tpu_topology or None,
        min_replicas=resources.min_replica_count,
        max_replicas=resources.max_replica_count or None,
        spot=resources.spot,
    )


def model(found: Any, instance: str) -> Model:
    spec = found.container_spec
    return Model(
        name=found.name,
        display_name=found.display_name,
        labels=dict(found.labels),
        ours=labels.ours(found.labels, instance, found.name),
        version=found.version_id or None,
        image=spec.image_uri or None,
        artifact_uri=found.artifact_uri or None,
        invoke=bool(spec.invoke_route_prefix),
        created=when(found.create_time),
    )


def endpoint(found: Any, instance: str) -> Endpoint:
    timeout = found.client_connection_config.inference_timeout
    deployed = tuple(
        Deployed(
            id=one.id,
            model=one.model,
            display_name=one.display_name,
            traffic=found.traffic_split.get(one.id, 0),
            machine=machine(one.dedicated_resources),
            created=when(one.create_time),
        )
        for one in found.deployed_models
    )
    return Endpoint(
        name=found.name,
        display_name=found.display_name,
        labels=dict(found.labels),
        ours=labels.ours(found.labels, instance, found.name),
        dedicated=found.dedicated_endpoint_enabled,
        dns=found.dedicated_endpoint_dns.removeprefix("https://").rstrip("/") or None,
        timeout_s=timeout.total_seconds() if timeout else None,
        deployed=deployed,
        created=when(found.create_time),
    )


def operation(found: Any) -> OperationState:
    """A google.longrunning.Operation. Raises ``json_format.ParseError`` where it holds a message that is not loaded."""
    try:
        return operation_json(json_format.MessageToDict(found))
    except TypeError as error:  # that is what protobuf raises for an Any of an unknown type
        raise json_format.ParseError(str(error)) from None


def operation_json(found: Mapping[str, Any]) -> OperationState:
    """An operation as the service writes it in JSON."""
    times = (found.get("metadata") or {}).get("genericMetadata") or {}
    response = {key: value for key, value in (found.get("response") or {}).items() if key != "@type"}
    error = from_operation(found["error"]).to_json() if found.get("error") else None
    return OperationState(
        name=str(found.get("name") or ""),
        done=bool(found.get("done")),
        error=error,
        response=response if found.get("done") and not error else None,
        started=times.get("createTime"),
        updated=times.get("updateTime"),
    )
