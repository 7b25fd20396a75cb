"""Everything that the stand-in has: projects, models, endpoints, what is deployed. Messages are Google's own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format

from tests.standins.vertex.containers import Container, Died
from tests.standins.vertex.control import Switches
from tests.standins.vertex.operations import EMPTY, V1, Failed, Operations, now
from tests.standins.vertex.refusal import Refusal, precondition

#: Smaller than Google's, so that every list is read in pages.
PAGE = 2
NUMBER = 4_000_000_001


def parse(body: Mapping[str, Any], message: Any) -> Any:
    """``body`` as a message of the library. A field that it does not have is refused, as the service does."""
    try:
        return json_format.ParseDict(dict(body), message.pb()())
    except json_format.ParseError as error:
        raise Refusal(400, f"Invalid JSON payload received. {error}") from None


def parse_query(query: Mapping[str, str], message: Any) -> Any:
    """The query of a GET as a message of the library, as :func:`parse` does it. What begins with ``$`` is of HTTP, not of the method."""
    words = {"true": True, "false": False}
    return parse({key: words.get(value, value) for key, value in query.items() if not key.startswith("$")}, message)


def emit(found: Any) -> dict[str, Any]:
    return json_format.MessageToDict(found, use_integers_for_enums=True)


@dataclass
class World:
    """``tokens``: bearer token → project id. ``storage``: the folder behind ``gs://local/``."""

    storage: Path | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    switches: Switches = field(default_factory=Switches)
    models: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[str, Any] = field(default_factory=dict)
    containers: dict[tuple[str, str], Container] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    series: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock, self.ids = threading.RLock(), itertools.count(501)
        self.operations = Operations(self.switches)
        self.ending = threading.Event()

    # --- who asks, and for what ---

    def project_of(self, token: str) -> str:
        if token not in self.tokens:
            raise Refusal(401, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
        return self.tokens[token]

    def number(self, project: str) -> str:
        """The service names resources by the project's number, whichever of the two it was asked by."""
        with self.lock:
            return self.numbers.setdefault(project, str(NUMBER + len(self.numbers)))

    def parent(self, project: str, asked: str, region: str) -> str:
        if asked not in (project, self.number(project)):
            raise Refusal(
                403, f"Permission 'aiplatform.endpoints.list' denied on resource '//aiplatform/projects/{asked}'."
            )
        return f"projects/{self.number(project)}/locations/{region}"

    # --- models ---

    def upload_model(self, parent: str, body: Mapping[str, Any]) -> dict[str, Any]:
        model = parse(body, v1.UploadModelRequest).model
        if not model.display_name:
            raise Refusal(400, "display_name is required.")
        spec = model.container_spec
        if not spec.image_uri:
            raise Refusal(400, "container_spec.image_uri is required.")
        if spec.invoke_route_prefix and spec.predict_route:
            raise Refusal(400, "Only one of predict_route and invoke_route_prefix can be set.")
        model.name, model.version_id = f"{parent}/models/{next(self.ids)}", "1"
        model.create_time.GetCurrentTime()
        model.supported_deployment_resources_types.append(v1.Model.DeploymentResourcesType.DEDICATED_RESOURCES.value)

        def work() -> dict[str, Any]:
            with self.lock:
                self.models[model.name] = model
            return {"model": model.name, "modelVersionId": "1"}

        metadata = f"{V1}UploadModelOperationMetadata"
        return self.operations.start("UploadModel", model.name, metadata, f"{V1}UploadModelResponse", work)

    def model(self, name: str) -> Any:
        _projects, project, rest = name.partition("@")[0].split("/", 2)  # by id or by number
        found = self.models.get(f"projects/{self.numbers.get(project, project)}/{rest}")
        if found is None:
            raise Refusal(404, f"The Model does not exist: {name}")
        return found

    def delete_model(self, name: str) -> dict[str, Any]:
        model = self.model(name)
        with self.lock:
            used = [e for e in self.endpoints.values() if any(d.model == model.name for d in e.deployed_models)]
        if used:
            raise precondition("The Model is deployed. Undeploy it first.")
        metadata = f"{V1}DeleteOperationMetadata"
        return self.operations.start("DeleteModel", model.name, metadata, EMPTY, lambda: self._drop(self.models, model))

    def _drop(self, rows: dict[str, Any], found: Any) -> dict[str, Any]:
        with self.lock:
            rows.pop(found.name, None)
        return {}

    # --- endpoints ---

    def create_endpoint(self, parent: str, body: Mapping[str, Any], own_id: str = "") -> dict[str, Any]:
        endpoint = self.new_endpoint(parent, parse(body, v1.Endpoint), own_id)

        def work() -> dict[str, Any]:
            with self.lock:
                self.endpoints[endpoint.name] = endpoint
            return {"name": endpoint.name, "displayName": endpoint.display_name}

        metadata = f"{V1}CreateEndpointOperationMetadata"
        return self.operations.start("CreateEndpoint", endpoint.name, metadata, f"{V1}Endpoint", work)

    def new_endpoint(self, parent: str, endpoint: Any, own_id: str = "") -> Any:
        if not endpoint.display_name:
            raise Refusal(400, "display_name is required.")
        if any(len(key) > 64 or key != key.lower() for key in endpoint.labels):
            raise Refusal(400, "Label keys are lower-case and at most 64 characters long.")
        endpoint.name = f"{parent}/endpoints/{own_id or next(self.ids)}"
        if endpoint.name in self.endpoints:
            raise Refusal(409, f"The Endpoint {endpoint.name} already exists.")
        endpoint.create_time.GetCurrentTime()
        if endpoint.dedicated_endpoint_enabled:
            _p, number, _l, region, _e, ident = endpoint.name.split("/")
            endpoint.dedicated_endpoint_dns = f"{ident}.{region}-{number}.prediction.vertexai.goog"
        return endpoint

    def endpoint(self, name: str) -> Any:
        found = self.endpoints.get(name)
        if found is None:
            raise Refusal(404, f"The Endpoint does not exist: {name}")
        return found

    def update_endpoint(self, name: str, body: Mapping[str, Any], mask: str) -> dict[str, Any]:
        endpoint, change = self.endpoint(name), parse(body, v1.Endpoint)
        with self.lock:
            for path in mask.split(","):
                if path in ("trafficSplit", "traffic_split"):
                    self._set_traffic(endpoint, dict(change.traffic_split))
                elif path == "labels":
                    endpoint.labels.clear()
                    endpoint.labels.update(change.labels)
                else:
                    raise Refusal(400, f"Field {path!r} of the update mask is not known here.")
            endpoint.update_time.GetCurrentTime()
        return emit(endpoint)

    def _set_traffic(self, endpoint: Any, split: dict[str, int]) -> None:
        known = {one.id for one in endpoint.deployed_models}
        if set(split) - known:
            raise Refusal(400, f"Traffic split has unknown deployed models: {sorted(set(split) - known)}")
        if split and sum(split.values()) != 100:
            raise Refusal(400, "The traffic percentage values must add up to 100.")
        endpoint.traffic_split.clear()
        endpoint.traffic_split.update(split)

    def delete_endpoint(self, name: str) -> dict[str, Any]:
        endpoint = self.endpoint(name)
        if endpoint.deployed_models:
            raise precondition(f"The Endpoint {name} has deployed models. Undeploy them first.")
        if self.operations.under_way(name, "DeployModel"):
            # What the service does is not documented; one that refuses is the harder of the two for a client.
            raise precondition(f"There are other operations running on the Endpoint {name}.")
        metadata = f"{V1}DeleteOperationMetadata"
        return self.operations.start(
            "DeleteEndpoint", name, metadata, EMPTY, lambda: self._drop(self.endpoints, endpoint)
        )

    # --- deployments ---

    def deploy(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        endpoint, asked = self.endpoint(name), parse(body, v1.DeployModelRequest)
        deployed = asked.deployed_model
        model = self.model(deployed.model)
        self._check_machine(deployed.dedicated_resources)
        split = dict(asked.traffic_split)
        if sum(split.values()) != 100 or "0" not in split:
            raise Refusal(400, "The traffic split must name the new model as 0 and add up to 100.")
        if model.container_spec.invoke_route_prefix and not endpoint.dedicated_endpoint_enabled:
            raise precondition("A model with invoke_route_prefix can only be deployed to a dedicated endpoint.")
        deployed.id = deployed.id or str(next(self.ids))
        deployed.display_name = deployed.display_name or model.display_name
        deployed.model, deployed.model_version_id = model.name, model.version_id

        def work() -> dict[str, Any]:
            self.start_container(endpoint, model, deployed, split)
            return {"deployedModel": emit(deployed)}

        metadata = f"{V1}DeployModelOperationMetadata"
        return self.operations.start("DeployModel", endpoint.name, metadata, f"{V1}DeployModelResponse", work)

    def _check_machine(self, resources: Any) -> None:
        spec = resources.machine_spec
        if not spec.machine_type:
            raise Refusal(400, "dedicated_resources.machine_spec.machine_type is required.")
        if resources.min_replica_count < 1 or 0 < resources.max_replica_count < resources.min_replica_count:
            raise Refusal(400, "min_replica_count must be at least 1 and at most max_replica_count.")
        if spec.machine_type.startswith("ct") and (spec.accelerator_type or not spec.tpu_topology):
            raise Refusal(400, "TPU machines take tpu_topology and no accelerator_type.")
        if bool(spec.accelerator_type) != bool(spec.accelerator_count):
            raise Refusal(400, "accelerator_type and accelerator_count go together.")

    def start_container(self, endpoint: Any, model: Any, deployed: Any, split: dict[str, int]) -> None:
        """Runs in an operation. Raises :class:`Failed` as the service ends a deployment."""
        ident = endpoint.name.rsplit("/", 1)[-1]
        spec = model.container_spec
        container = Container(
            spec, endpoint_id=ident, deployed_id=deployed.id, storage=model.artifact_uri, local_storage=self.storage
        )
        with self.lock:
            self.containers[endpoint.name, deployed.id] = container
        try:
            container.wait_ready(spec.deployment_timeout.seconds or 300, self.ending)
        except Died as error:
            self._stop(endpoint.name, deployed.id)
            raise Failed(9, str(error)) from None
        with self.lock:
            if endpoint.name not in self.endpoints:
                self._stop(endpoint.name, deployed.id)
                raise Failed(5, "The endpoint was deleted meanwhile.")
            deployed.create_time.GetCurrentTime()
            endpoint.deployed_models.append(deployed)
            self._set_traffic(endpoint, {deployed.id if key == "0" else key: share for key, share in split.items()})

    def undeploy(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        endpoint, asked = self.endpoint(name), parse(body, v1.UndeployModelRequest)
        ident = asked.deployed_model_id
        if ident not in {one.id for one in endpoint.deployed_models}:
            raise Refusal(404, f"DeployedModel {ident} is not found on the endpoint.")
        rest = dict(asked.traffic_split)
        # UndeployModelRequest.traffic_split: a model goes only if it has no traffic, loses it by this field, or is the last.
        if len(endpoint.deployed_models) > 1 and (rest or endpoint.traffic_split).get(ident):
            raise precondition(f"The DeployedModel {ident} has traffic assigned to it.")
        if rest and sum(rest.values()) != 100:
            raise Refusal(400, "The rest of the traffic split must add up to 100.")

        def work() -> dict[str, Any]:
            with self.lock:
                kept = [one for one in endpoint.deployed_models if one.id != ident]
                del endpoint.deployed_models[:]
                endpoint.deployed_models.extend(kept)
                self._set_traffic(endpoint, rest)
            self._stop(name, ident)
            return {}

        metadata = f"{V1}UndeployModelOperationMetadata"
        return self.operations.start("UndeployModel", name, metadata, f"{V1}UndeployModelResponse", work)

    def _stop(self, endpoint: str, deployed: str) -> None:
        with self.lock:
            container = self.containers.pop((endpoint, deployed), None)
        if container is not None:
            self.lines.setdefault(endpoint.rsplit("/", 1)[-1], []).extend(container.lines())
            container.stop()

    def log(self, endpoint_id: str) -> list[str]:
        """What containers of an endpoint wrote, oldest first."""
        with self.lock:
            running = [one for (name, _d), one in self.containers.items() if name.endswith(f"/{endpoint_id}")]
            return [*self.lines.get(endpoint_id, []), *(line for one in running for line in one.lines())]

    # --- all of it ---

    def state(self) -> dict[str, Any]:
        with self.lock:
            pids = {deployed: one.process.pid for (_name, deployed), one in self.containers.items()}
            return {
                "time": now(),
                "models": [emit(one) for one in self.models.values()],
                "endpoints": [emit(one) for one in self.endpoints.values()],
                "containers": pids,
            }

    def reset(self) -> None:
        self.switches.reset()
        for endpoint, deployed in list(self.containers):
            self._stop(endpoint, deployed)
        with self.lock:
            for rows in (self.models, self.endpoints, self.lines):
                rows.clear()
            self.series.clear()
