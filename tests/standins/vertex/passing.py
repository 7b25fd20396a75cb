"""Requests for a model, passed to its container within the documented limits."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format

from tests.standins.vertex.refusal import Refusal, precondition
from tests.standins.vertex.world import World, parse

#: Comparison of endpoint types in Google's documentation: bytes of a request or an answer, and seconds.
SHARED_BYTES, DEDICATED_BYTES = 1_500_000, 10_000_000
SHARED_S, DEDICATED_S = 60.0, 600.0


@dataclass
class Passed:
    """An answer on its way: all of it, or parts as they come."""

    status: int
    headers: dict[str, str]
    content: bytes = b""
    parts: Iterator[bytes] | None = None
    cut_after: int | None = None


@dataclass
class Passing:
    world: World
    _turns: itertools.count = field(default_factory=itertools.count)

    def pass_on(self, method: str, name: str, body: bytes, content_type: str, route: str = "") -> Passed:
        """``method``: RawPredict, StreamRawPredict, Predict or Invoke (then with the container's ``route``)."""
        endpoint = self.world.endpoint(name)
        dedicated = endpoint.dedicated_endpoint_enabled
        most = DEDICATED_BYTES if dedicated else SHARED_BYTES
        if not endpoint.deployed_models:
            raise precondition(f"Endpoint {name} doesn't have any deployed models: no deployed models can answer.")
        if method in ("StreamRawPredict", "Invoke") and not dedicated:
            raise precondition("Custom models stream, and are invoked, on dedicated endpoints only.")
        if len(body) > most:
            raise Refusal(400, f"Request payload size exceeds the limit: {most} bytes.")
        deployed = self._choose(endpoint)
        container = self.world.containers[name, deployed.id]
        if container.invoke != (method == "Invoke"):
            raise precondition("A model has a predict route or an invoke prefix, not both.")
        headers = {"X-Vertex-AI-Deployed-Model-Id": deployed.id, "X-Vertex-AI-Model": deployed.model}
        limits = self.world.switches.limits
        wait_s = (
            limits.get("dedicated_s", endpoint.client_connection_config.inference_timeout.seconds or DEDICATED_S)
            if dedicated
            else limits.get("shared_s", SHARED_S)
        )
        sent = self._predict_body(body) if method == "Predict" else body
        try:
            connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=wait_s)
            connection.request("POST", route or container.predict, sent, {"Content-Type": content_type})
            answer = connection.getresponse()
            kind = answer.headers.get("Content-Type", "application/json")
            streams = "event-stream" in kind and method in ("StreamRawPredict", "Invoke")
            content = b"" if streams else answer.read()
        except TimeoutError:
            raise Refusal(504, f"Timed out after {wait_s:g} s waiting for the model server.") from None
        except (OSError, http.client.HTTPException):
            raise Refusal(503, "The model server is not reachable. It may have crashed.") from None
        cut = self.world.switches.take("cuts", method)
        if streams:
            return Passed(answer.status, headers | {"Content-Type": kind}, parts=_parts(answer), cut_after=cut)
        size = self.world.switches.take("oversizes", method) or len(content)
        if size > most:
            raise Refusal(400, f"Response size too large. Received at least {size} bytes; max is {most}.")
        if method == "Predict":
            return Passed(200, headers, self._predicted(content, answer.status, deployed))
        return Passed(answer.status, headers | {"Content-Type": kind}, content, cut_after=cut)

    def _choose(self, endpoint: Any) -> Any:
        """By the traffic split, in turns of a hundred."""
        place = next(self._turns) % 100
        for one in endpoint.deployed_models:
            place -= endpoint.traffic_split.get(one.id, 0)
            if place < 0:
                return one
        raise precondition("No deployed models of this endpoint get traffic.")

    def _predict_body(self, body: bytes) -> bytes:
        asked = parse(json.loads(body), v1.PredictRequest)
        found = json_format.MessageToDict(asked)
        return json.dumps({key: found[key] for key in ("instances", "parameters") if key in found}).encode()

    def _predicted(self, content: bytes, status: int, deployed: Any) -> bytes:
        """Through the messages of the service, which make every whole number a float."""
        if status >= 400:
            raise precondition(content.decode(errors="replace"))
        try:
            predictions = json.loads(content)["predictions"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(500, "The model server's answer has no predictions.") from None
        answer = parse({"predictions": predictions}, v1.PredictResponse)
        answer.deployed_model_id, answer.model = deployed.id, deployed.model
        return json.dumps(json_format.MessageToDict(answer)).encode()


def _parts(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What the container sends, when it sends it. A container that dies ends this with an exception of ``http.client``."""
    while part := answer.read1(2**16):
        yield part
    if not answer.isclosed():
        answer.close()
