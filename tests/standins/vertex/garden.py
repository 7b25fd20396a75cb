"""Model Garden: a few open models, and their deployment on an endpoint of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.cloud import aiplatform_v1beta1 as v1beta1

from tests.standins.vertex.operations import V1BETA1
from tests.standins.vertex.refusal import Refusal, precondition
from tests.standins.vertex.world import World, emit, parse, parse_query

#: (publisher, model, version, deployable, needs a licence accepted)
MODELS = (
    ("google", "gemma3", "gemma-3-1b-it", True, True),
    ("meta", "llama3", "llama-3.2-1b-instruct", True, True),
    ("qwen", "qwen3", "qwen3-0.6b", True, False),
    ("google", "text-bison", "002", False, False),
)
IMAGE = "tests/echo:1"


def listed(query: Mapping[str, str], page: int = 2) -> dict[str, Any]:
    asked = parse_query(query, v1beta1.ListPublisherModelsRequest)
    wanted = asked.filter.partition("(?i).*")[2].partition(".*")[0].replace("\\.", ".")
    rows = [row for row in MODELS if wanted.lower() in f"{row[1]} {row[2]}".lower()]
    begin = int(asked.page_token or 0)
    answer: dict[str, Any] = {"publisherModels": [_model(*row) for row in rows[begin : begin + page]]}
    if begin + page < len(rows):
        answer["nextPageToken"] = str(begin + page)
    return answer


def _model(publisher: str, name: str, version: str, deployable: bool, _licence: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"publishers/{publisher}/models/{name}", "versionId": version}
    if deployable:
        spec = {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1}
        way = {
            "modelDisplayName": name,
            "containerSpec": {"imageUri": IMAGE},
            "dedicatedResources": {"machineSpec": spec, "minReplicaCount": 1},
            "title": "Deploy",
        }
        found["supportedActions"] = {"multiDeployVertex": {"multiDeployVertex": [way]}}
    return emit(parse(found, v1beta1.PublisherModel))


def deploy(world: World, parent: str, body: Mapping[str, Any]) -> dict[str, Any]:
    asked = parse(body, v1beta1.DeployRequest)
    known = {f"publishers/{p}/models/{m}@{v}": licence for p, m, v, deployable, licence in MODELS if deployable}
    name = asked.publisher_model_name
    if name not in known:
        raise Refusal(404, f"Publisher model {name} is not found.")
    if known[name] and not asked.model_config.accept_eula:
        raise precondition(f"The license of {name} must be accepted first: set accept_eula.")
    config = asked.endpoint_config
    title = config.endpoint_display_name or name
    endpoint = world.new_endpoint(
        parent,
        v1.Endpoint.pb()(display_name=title, dedicated_endpoint_enabled=not config.dedicated_endpoint_disabled),
        config.endpoint_user_id,
    )
    model = v1.Model.pb()(
        name=f"{parent}/models/{asked.model_config.model_user_id or next(world.ids)}",
        display_name=asked.model_config.model_display_name or title,
        version_id="1",
    )
    model.container_spec.image_uri = asked.model_config.container_spec.image_uri or IMAGE
    model.create_time.GetCurrentTime()
    deployed = v1.DeployedModel.pb()(id=str(next(world.ids)), model=model.name, display_name=title)
    resources = asked.deploy_config.dedicated_resources
    spec = deployed.dedicated_resources.machine_spec
    spec.machine_type = resources.machine_spec.machine_type or "g2-standard-12"
    spec.accelerator_type = resources.machine_spec.accelerator_type or v1.AcceleratorType.NVIDIA_L4.value
    spec.accelerator_count = resources.machine_spec.accelerator_count or 1
    deployed.dedicated_resources.min_replica_count = resources.min_replica_count or 1
    deployed.dedicated_resources.max_replica_count = resources.max_replica_count or 1

    def work() -> dict[str, Any]:
        with world.lock:
            world.endpoints[endpoint.name], world.models[model.name] = endpoint, model
        world.start_container(endpoint, model, deployed, {"0": 100})
        return {"publisherModel": name, "endpoint": endpoint.name, "model": model.name}

    metadata = f"{V1BETA1}DeployOperationMetadata"
    return world.operations.start("Deploy", parent, metadata, f"{V1BETA1}DeployResponse", work)
