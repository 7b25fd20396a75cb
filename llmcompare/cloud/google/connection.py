"""One project and region of Vertex AI, with one tenant's credentials. Worker tasks make one, use it, and close it.

Every request goes through clients that belong to this object. Nothing here waits for a long operation: what starts one gives its name,
and :meth:`Connection.operation` says how it stands, from any process. Every method may raise :class:`CloudError`, and nothing else that
Google's libraries raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from llmcompare.cloud.google import labels, logs, monitoring, names
from llmcompare.cloud.google.errors import CloudError, from_operation, translated
from llmcompare.cloud.google.inference import CALL_S, Inference
from llmcompare.cloud.google.resources import (
    Container,
    Endpoint,
    Machine,
    Model,
    OpenModel,
    OperationState,
    Series,
)

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


class Connection(Inference):
    """``instance``: names this installation in labels; the rest as :class:`.inference.Inference`."""

    def __init__(
        self,
        project: str,
        region: str,
        credentials: Credentials,
        base: str | None = None,
        host_for: Callable[[str], str] | None = None,
        *,
        instance: str,
    ) -> None:
        super().__init__(project, region, credentials, base, host_for)
        self.instance = labels.check_instance(instance)
        with translated():
            from google.cloud import aiplatform_v1 as v1

            options: dict[str, Any] = {
                "credentials": credentials,
                "transport": "rest",
                "client_options": {"api_endpoint": self.base},
            }
            self._models, self._endpoints = v1.ModelServiceClient(**options), v1.EndpointServiceClient(**options)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._models.transport.close()
        self._endpoints.transport.close()
        super().close()

    # --- what is there ---

    def list_models(self, *, ours_only: bool = False) -> list[Model]:
        """Models of the registry. Raises where the list is not complete: half a list is no list."""
        from llmcompare.cloud.google import messages

        with translated():
            pages = self._models.list_models(request={"parent": self.parent}, **_CALL)
            found = [messages.model(one, self.instance) for one in pages]
        return [one for one in found if one.ours or not ours_only]

    def list_endpoints(self, *, ours_only: bool = False) -> list[Endpoint]:
        """Endpoints with what is deployed on them. Raises where the list is not complete: never act on a failed listing."""
        from llmcompare.cloud.google import messages

        with translated():
            pages = self._endpoints.list_endpoints(request={"parent": self.parent}, **_CALL)
            found = [messages.endpoint(one, self.instance) for one in pages]
        return [one for one in found if one.ours or not ours_only]

    def endpoint(self, name: str) -> Endpoint:
        from llmcompare.cloud.google import messages

        with translated():
            found = self._endpoints.get_endpoint(request={"name": self._endpoint(name)}, **_CALL)
            return messages.endpoint(found, self.instance)

    def model(self, name: str) -> Model:
        from llmcompare.cloud.google import messages

        with translated():
            found = self._models.get_model(request={"name": names.within(self.parent, "model", name)}, **_CALL)
            return messages.model(found, self.instance)

    # --- what is changed: everything that begins takes minutes, and gives the name of an operation ---

    def upload_model(
        self, display_name: str, container: Container, artifact_uri: str = "", extra: Mapping[str, str] | None = None
    ) -> str:
        """Register a model. ``artifact_uri``: a ``gs://`` folder with its files, empty where the container knows. ``extra``: further labels.
        The operation's response has the model's name under ``model``."""
        from llmcompare.cloud.google import messages

        model = {
            "display_name": display_name,
            "artifact_uri": artifact_uri,
            "container_spec": messages.container_spec(container),
            "labels": labels.labels(self.instance, extra),
        }
        with translated():
            done = self._models.upload_model(request={"parent": self.parent, "model": model}, **_CALL)
        return str(done.operation.name)

    def create_endpoint(
        self,
        display_name: str,
        *,
        dedicated: bool = True,
        timeout_s: int | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> str:
        """An endpoint without models. ``dedicated``: 10 MB, streams and up to 3600 s (``timeout_s``); shared: 1.5 MB and 60 s.
        The operation's response has the endpoint's ``name``."""
        endpoint: dict[str, Any] = {
            "display_name": display_name,
            "dedicated_endpoint_enabled": dedicated,
            "labels": labels.labels(self.instance, extra),
        }
        if timeout_s is not None and dedicated:
            from google.protobuf import duration_pb2

            endpoint["client_connection_config"] = {"inference_timeout": duration_pb2.Duration(seconds=timeout_s)}
        with translated():
            done = self._endpoints.create_endpoint(request={"parent": self.parent, "endpoint": endpoint}, **_CALL)
        return str(done.operation.name)

    def deploy(
        self,
        endpoint: str,
        model: str,
        machine: Machine,
        *,
        display_name: str = "",
        traffic: Mapping[str, int] | None = None,
        service_account: str = "",
    ) -> str:
        """Put ``model`` on one of our endpoints: billing begins. ``traffic``: percent by id of what is deployed, the new one's is ``0``;
        by default it gets all. ``service_account``: who the container is, for instance to read a bucket."""
        from llmcompare.cloud.google import messages

        self._own(endpoint)
        request = {
            "endpoint": self._endpoint(endpoint),
            "deployed_model": {
                "model": names.within(self.parent, "model", model),
                "display_name": display_name,
                "dedicated_resources": messages.resources_spec(machine),
                "service_account": service_account,
            },
            "traffic_split": dict(traffic or {"0": 100}),
        }
        with translated():
            done = self._endpoints.deploy_model(request=request, **_CALL)
        return str(done.operation.name)

    def set_traffic(self, endpoint: str, traffic: Mapping[str, int]) -> Endpoint:
        """Percent by id of what is deployed; 100 in all. Takes effect at once."""
        from llmcompare.cloud.google import messages

        if sum(traffic.values()) != 100 or any(share < 0 for share in traffic.values()):
            raise CloudError("invalid", _("The shares of traffic must add up to 100 percent."))
        found = self._own(endpoint)
        if unknown := set(traffic) - {one.id for one in found.deployed}:
            raise CloudError(
                "invalid", _("Not deployed on this endpoint: {ids}.").format(ids=", ".join(sorted(unknown)))
            )
        with translated():
            changed = self._endpoints.update_endpoint(
                request={
                    "endpoint": {"name": self._endpoint(endpoint), "traffic_split": dict(traffic)},
                    "update_mask": {"paths": ["traffic_split"]},
                },
                **_CALL,
            )
            return messages.endpoint(changed, self.instance)

    def undeploy(self, endpoint: str, deployed_model_id: str) -> str:
        """Take a model off one of our endpoints: billing ends with it. What else is deployed there gets its share of traffic."""
        found = self._own(endpoint)
        shares = {one.id: one.traffic for one in found.deployed}
        with translated():
            done = self._endpoints.undeploy_model(
                request={
                    "endpoint": self._endpoint(endpoint),
                    "deployed_model_id": deployed_model_id,
                    "traffic_split": _without(shares, deployed_model_id),
                },
                **_CALL,
            )
        return str(done.operation.name)

    def delete_endpoint(self, name: str) -> str:
        """Only ours, and only without models on it."""
        self._own(name)
        with translated():
            return str(self._endpoints.delete_endpoint(request={"name": self._endpoint(name)}, **_CALL).operation.name)

    def delete_model(self, name: str) -> str:
        """Every version of a model of ours."""
        found = self.model(name.partition("@")[0])
        if not found.ours:
            raise _not_ours(found.display_name)
        with translated():
            done = self._models.delete_model(
                request={"name": names.within(self.parent, "model", name.partition("@")[0])}, **_CALL
            )
        return str(done.operation.name)

    def adopt(self, endpoint: str) -> Endpoint:
        """Label an endpoint that Model Garden made for us, which its id tells; one that has our labels stays as it is."""
        from llmcompare.cloud.google import messages

        found = self._own(endpoint)
        if labels.MANAGED in found.labels:
            return found
        with translated():
            changed = self._endpoints.update_endpoint(
                request={
                    "endpoint": {
                        "name": self._endpoint(endpoint),
                        "labels": labels.labels(self.instance, found.labels),
                    },
                    "update_mask": {"paths": ["labels"]},
                },
                **_CALL,
            )
            return messages.endpoint(changed, self.instance)

    def operation(self, name: str) -> OperationState:
        """How a long operation stands. That of a container that died has its last lines, where the logs may be read."""
        from google.api_core.exceptions import BadRequest, Forbidden, MethodNotImplemented, NotFound
        from google.protobuf.json_format import ParseError

        from llmcompare.cloud.google import messages

        name = names.within(self.parent, "operation", name)
        with translated():
            try:
                state = messages.operation(self._endpoints.get_operation({"name": name}, **_CALL))
            except (NotFound, Forbidden, BadRequest, MethodNotImplemented, ParseError):
                # The client asks below /ui/; /v1/ is the documented route, and JSON needs no message types.
                state = messages.operation_json(self._json("GET", f"{self.base}/v1/{name}"))
        if state.error and state.error["code"] == "container" and "/endpoints/" in name:
            lines = self.log_lines(name.split("/")[5])
            if lines:
                error = from_operation({"code": 9, "message": "Model server exited."}).to_json()
                error["sentence"] = logs.sentence(lines)
                state = OperationState(state.name, state.done, error, None, state.started, state.updated)
        return state

    # --- Model Garden ---

    def open_models(self, search: str = "") -> list[OpenModel]:
        """Models of Model Garden that can be deployed, by publisher and name."""
        from llmcompare.cloud.google import open_models

        with translated():
            return open_models.listed(self._credentials, self.elsewhere, search)

    def open_endpoint(self, mark: str) -> str:
        """The name of the endpoint that :meth:`deploy_open_model` makes for ``mark``, known before it is asked for."""
        return f"{self.parent}/endpoints/{labels.resource_id(self.instance, mark)}"

    def deploy_open_model(
        self,
        name: str,
        display_name: str,
        *,
        machine: Machine | None = None,
        accept_eula: bool = False,
        dedicated: bool = True,
        mark: str = "",
    ) -> tuple[str, str]:
        """Deploy a model of Model Garden on an endpoint of its own: the name of the operation, and the endpoint's. The operation's response
        has ``endpoint`` and ``model``. Call :meth:`adopt` once it is done. ``machine`` None: what its publisher suggests. ``mark``: 16
        hexadecimal digits; the endpoint is then at :meth:`open_endpoint` of them."""
        from llmcompare.cloud.google import open_models

        with translated():
            return open_models.deploy(
                self._credentials,
                self.base,
                self.parent,
                names.open_model(name),
                labels.resource_id(self.instance, mark),
                display_name=display_name,
                machine=machine,
                accept_eula=accept_eula,
                dedicated=dedicated,
            )

    # --- what the service watches ---

    def series(self, metric: str, endpoint_id: str, since: datetime, until: datetime) -> list[Series]:
        """One of :data:`.monitoring.METRICS` over a time. Empty where nothing was recorded (yet): points come minutes late."""
        url = f"{self.elsewhere or monitoring.ADDRESS}/v3/projects/{self.project}/timeSeries"
        return monitoring.read(self._json, url, metric, endpoint_id, since, until)

    def log_lines(self, endpoint_id: str, most: int = 20) -> list[str]:
        """The last lines that containers of an endpoint wrote, oldest first. Empty without the right to read logs: they are an extra."""
        try:
            return logs.read(self._json, self.elsewhere or logs.ADDRESS, self.project, endpoint_id, most)
        except CloudError:
            return []

    # --- below ---

    def _own(self, name: str) -> Endpoint:
        """The endpoint as it is now, if it is ours."""
        found = self.endpoint(name)
        if not found.ours:
            raise _not_ours(found.display_name)
        return found


#: No retries by the library: a task that fails is run again by the worker, which knows what else has happened.
_CALL: dict[str, Any] = {"timeout": CALL_S, "retry": None}


def _without(shares: Mapping[str, int], gone: str) -> dict[str, int]:
    """A traffic split (percent by id) without ``gone``, scaled to 100 percent. Where nobody else gets requests, the first of the others does:
    Google undeploys no model that has a share while others are there. Empty where nothing needs to be said."""
    rest = {key: share for key, share in shares.items() if key != gone}
    total = sum(rest.values())
    if not total:
        return {next(iter(rest)): 100} if rest and shares.get(gone) else {}
    scaled = {key: share * 100 // total for key, share in rest.items() if share}
    first = max(scaled, key=lambda key: scaled[key])
    scaled[first] += 100 - sum(scaled.values())
    return scaled


def _not_ours(display_name: str) -> CloudError:
    return CloudError(
        "not_ours", _("{name} was not made by this portal, so it is not changed.").format(name=display_name)
    )
