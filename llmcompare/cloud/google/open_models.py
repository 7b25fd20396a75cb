"""Model Garden: open models that the service deploys with a container of its own. Only in Google's ``v1beta1``, whose import costs as much
again as everything else; so it is imported here, and this module where it is needed."""

from __future__ import annotations

import re
from typing import Any

from google.cloud import aiplatform_v1beta1 as v1beta1

from llmcompare.cloud.google import messages
from llmcompare.cloud.google.resources import Machine, OpenModel

#: The list is the same everywhere; Google's own library asks for it here.
REGION = "us-central1"
CALL_S = 60.0
MAX_MODELS = 2000
_NATIVE = "is_hf_wildcard(false)"


def _client(credentials: Any, base: str) -> Any:
    return v1beta1.ModelGardenServiceClient(
        credentials=credentials, transport="rest", client_options={"api_endpoint": base}
    )


def listed(credentials: Any, base: str | None, search: str = "") -> list[OpenModel]:
    """Models with a way to deploy them, at most 2000. ``search``: letters and digits of the name."""
    wanted = re.sub(r"[^A-Za-z0-9._-]", "", search)[:64].replace(".", r"\.")
    chosen = f' AND (model_user_id=~"(?i).*{wanted}.*" OR display_name=~"(?i).*{wanted}.*")' if wanted else ""
    client = _client(credentials, base or f"https://{REGION}-aiplatform.googleapis.com")
    try:
        pages = client.list_publisher_models(
            request={"parent": "publishers/*", "list_all_versions": True, "filter": _NATIVE + chosen},
            timeout=CALL_S,
            retry=None,
        )
        found = []
        for one in pages:
            ways = list(one.supported_actions.multi_deploy_vertex.multi_deploy_vertex)
            if ways:
                found.append(_open_model(one, ways))
            if len(found) == MAX_MODELS:
                break
    finally:
        client.transport.close()
    return sorted(found, key=lambda model: model.name)


def _open_model(found: Any, ways: list[Any]) -> OpenModel:
    _publishers, publisher, _models, name = found.name.split("/")[:4]
    machines = [machine for way in ways if (machine := messages.machine(way.dedicated_resources)) is not None]
    images = [way.container_spec.image_uri for way in ways if way.container_spec.image_uri]
    return OpenModel(
        name=f"{found.name}@{found.version_id}",
        title=ways[0].model_display_name or name,
        publisher=publisher,
        machines=tuple(dict.fromkeys(machines)),
        images=tuple(dict.fromkeys(images)),
    )


def deploy(
    credentials: Any,
    base: str,
    parent: str,
    name: str,
    own_id: str,
    *,
    display_name: str,
    machine: Machine | None,
    accept_eula: bool,
    dedicated: bool,
) -> tuple[str, str]:
    """Names of the operation and of the endpoint that it makes. ``own_id``: of :func:`.labels.resource_id`, since nothing that this request
    makes can be labelled by it."""
    request: dict[str, Any] = {
        "destination": parent,
        "publisher_model_name": name,
        "model_config": {"accept_eula": accept_eula, "model_user_id": own_id, "model_display_name": display_name},
        "endpoint_config": {
            "endpoint_display_name": display_name,
            "dedicated_endpoint_disabled": not dedicated,
            "endpoint_user_id": own_id,
        },
    }
    if machine is not None:
        request["deploy_config"] = {"dedicated_resources": messages.resources_spec(machine)}
    client = _client(credentials, base)
    try:
        done = client.deploy(request=request, timeout=CALL_S, retry=None)
    finally:
        client.transport.close()
    return str(done.operation.name), f"{parent}/endpoints/{own_id}"
