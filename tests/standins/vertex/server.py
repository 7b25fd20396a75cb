"""HTTP of the stand-in: routes, bearer tokens, answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from google.cloud import aiplatform_v1 as v1

from tests.standins.vertex import garden, watching
from tests.standins.vertex.passing import Passed, Passing
from tests.standins.vertex.refusal import Refusal
from tests.standins.vertex.world import PAGE, World, emit, parse_query

_PARENT = r"/v1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)"
_ONE = r"(?P<id>[^/:]+)"
ROUTES = [
    ("POST", "UploadModel", rf"{_PARENT}/models:upload"),
    ("GET", "ListModels", rf"{_PARENT}/models"),
    ("GET", "GetModel", rf"{_PARENT}/models/{_ONE}"),
    ("DELETE", "DeleteModel", rf"{_PARENT}/models/{_ONE}"),
    ("POST", "CreateEndpoint", rf"{_PARENT}/endpoints"),
    ("GET", "ListEndpoints", rf"{_PARENT}/endpoints"),
    ("GET", "GetEndpoint", rf"{_PARENT}/endpoints/{_ONE}"),
    ("PATCH", "UpdateEndpoint", rf"{_PARENT}/endpoints/{_ONE}"),
    ("DELETE", "DeleteEndpoint", rf"{_PARENT}/endpoints/{_ONE}"),
    ("POST", "DeployModel", rf"{_PARENT}/endpoints/{_ONE}:deployModel"),
    ("POST", "UndeployModel", rf"{_PARENT}/endpoints/{_ONE}:undeployModel"),
    ("POST", "Predict", rf"{_PARENT}/endpoints/{_ONE}:predict"),
    ("POST", "RawPredict", rf"{_PARENT}/endpoints/{_ONE}:rawPredict"),
    ("POST", "StreamRawPredict", rf"{_PARENT}/endpoints/{_ONE}:streamRawPredict"),
    ("POST", "Invoke", rf"{_PARENT}/endpoints/{_ONE}/invoke(?P<route>/.+)"),
    # REST clients of the library ask for operations below /ui/; /v1/ is the documented route.
    (
        "GET",
        "GetOperation",
        r"/(ui|v1|v1beta1)/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/(?P<rest>.*operations/\d+)",
    ),
    ("GET", "ListPublisherModels", r"/v1beta1/publishers/\*/models"),
    ("POST", "Deploy", r"/v1beta1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+):deploy"),
    ("GET", "ListTimeSeries", r"/v3/projects/(?P<project>[^/]+)/timeSeries"),
    ("POST", "ListLogEntries", r"/v2/entries:list"),
]
PASSED = ("Predict", "RawPredict", "StreamRawPredict", "Invoke")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, world: World) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.world, self.passing = world, Passing(world)
        #: (method of the service, path, project, status), in order: what tests look through for calls that must not have been made.
        self.requests: list[tuple[str, str, str, int]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        noted = ["", path, ""]
        try:
            if path.startswith("/control/"):
                return self._json(200, self._control(path.removeprefix("/control/"), body))
            found = self._served(path, query, body, noted)
            status = found.status if isinstance(found, Passed) else 200
            self.server.requests.append((noted[0], noted[1], noted[2], status))
            if isinstance(found, Passed):
                return self._pass(found)
            return self._json(200, found)
        except Refusal as error:
            self.server.requests.append((noted[0], noted[1], noted[2], error.status))
            after = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:g}"}
            return self._json(error.status, error.to_json(), after)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _answer

    def _served(self, path: str, query: dict[str, str], body: bytes, noted: list[str]) -> dict[str, Any] | Passed:
        world = self.server.world
        kind, _space, token = self.headers.get("Authorization", "").partition(" ")
        dns, path = _dedicated(path)
        name, found = _route(self.command, path)
        noted[:2] = [name, path]
        project = noted[2] = world.project_of(token if kind == "Bearer" else "")
        world.switches.check(name, project)
        given = found.groupdict()
        parent = world.parent(project, given.get("project") or project, given.get("region") or "-")
        if name in PASSED:
            endpoint = f"{parent}/endpoints/{given['id']}"
            if dns and dns != world.endpoint(endpoint).dedicated_endpoint_dns:
                raise Refusal(404, f"There is no endpoint behind {dns}.")
            content_type = self.headers.get("Content-Type", "application/json")
            return self.server.passing.pass_on(name, endpoint, body, content_type, given.get("route") or "")
        asked = _object(body)
        calls: dict[str, Callable[[], dict[str, Any]]] = {
            "UploadModel": lambda: world.upload_model(parent, asked),
            "ListModels": lambda: _page("models", world.models, parent, parse_query(query, v1.ListModelsRequest)),
            "GetModel": lambda: emit(world.model(f"{parent}/models/{given['id']}")),
            "DeleteModel": lambda: world.delete_model(f"{parent}/models/{given['id']}"),
            "CreateEndpoint": lambda: world.create_endpoint(parent, asked, query.get("endpointId", "")),
            "ListEndpoints": lambda: _page(
                "endpoints", world.endpoints, parent, parse_query(query, v1.ListEndpointsRequest)
            ),
            "GetEndpoint": lambda: emit(world.endpoint(f"{parent}/endpoints/{given['id']}")),
            "UpdateEndpoint": lambda: world.update_endpoint(
                f"{parent}/endpoints/{given['id']}", asked, query.get("updateMask", "")
            ),
            "DeleteEndpoint": lambda: world.delete_endpoint(f"{parent}/endpoints/{given['id']}"),
            "DeployModel": lambda: world.deploy(f"{parent}/endpoints/{given['id']}", asked),
            "UndeployModel": lambda: world.undeploy(f"{parent}/endpoints/{given['id']}", asked),
            "GetOperation": lambda: world.operations.get(f"{parent}/{given['rest']}"),
            "ListPublisherModels": lambda: garden.listed(query),
            "Deploy": lambda: garden.deploy(world, parent, asked),
            "ListTimeSeries": lambda: watching.time_series(world, query),
            "ListLogEntries": lambda: watching.log_entries(world, project, asked),
        }
        return calls[name]()

    def _control(self, name: str, body: bytes) -> dict[str, Any]:
        """What only tests ask for; see :mod:`.control` for the switches."""
        world, asked = self.server.world, _object(body)
        if name == "state":
            return world.state()
        if name == "requests":
            return {"requests": list(self.server.requests)}
        if name == "reset":
            world.reset()
            self.server.requests.clear()
        elif name == "token":
            world.tokens[asked["token"]] = asked["project"]
        elif name == "series":
            world.series.append(asked)
        elif name == "log":
            world.lines.setdefault(asked["endpoint_id"], []).extend(asked["lines"])
        elif name in ("endpoint", "model"):
            return world_seed(world, name, asked)
        elif name == "kill":
            for (_endpoint, deployed), container in list(world.containers.items()):
                if deployed == asked["deployed"]:
                    container.process.kill()
                    container.process.wait()
        else:
            world.switches.set(name, asked)
        return {}

    def _json(self, status: int, found: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._pass(Passed(status, {"Content-Type": "application/json"} | (headers or {}), json.dumps(found).encode()))

    def _pass(self, passed: Passed) -> None:
        """A ``cut`` closes the connection in the middle, without the end that HTTP has."""
        self.send_response(passed.status)
        for key, value in passed.headers.items():
            self.send_header(key, value)
        if passed.parts is None:
            self.send_header("Content-Length", str(len(passed.content)))
            self.end_headers()
            self.wfile.write(passed.content[: passed.cut_after])
            self.close_connection = self.close_connection or passed.cut_after is not None
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = passed.cut_after
        try:
            for part in passed.parts:
                piece = part if left is None else part[:left]
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if piece else b"")
                left = None if left is None else left - len(piece)
                if left is not None and left <= 0:
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")
        except Exception:  # the container died, or whoever asked has gone
            self.close_connection = True


def _dedicated(path: str) -> tuple[str, str]:
    """``/dedicated/DNS/v1/…``: how tests reach an endpoint by its own host name, which nothing resolves here."""
    found = re.fullmatch(r"/dedicated/([^/]+)(/.*)", path)
    return (found[1], found[2]) if found else ("", path)


def _route(command: str, path: str) -> tuple[str, re.Match[str]]:
    for verb, name, pattern in ROUTES:
        found = re.fullmatch(pattern, path)
        if found is not None and verb == command:
            return name, found
    raise Refusal(404, f"The stand-in has no route {command} {path}.")


def _page(name: str, rows: dict[str, Any], parent: str, asked: Any) -> dict[str, Any]:
    mine = [emit(row) for key, row in sorted(rows.items()) if key.startswith(f"{parent}/")]
    begin, size = int(asked.page_token or 0), min(asked.page_size or PAGE, PAGE)
    answer: dict[str, Any] = {name: mine[begin : begin + size]} if mine else {}
    if begin + size < len(mine):
        answer["nextPageToken"] = str(begin + size)
    return answer


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        raise Refusal(400, "Invalid JSON payload received.") from None
    if not isinstance(found, dict):
        raise Refusal(400, "Invalid JSON payload received: not an object.")
    return found


def world_seed(world: World, kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    """A resource that somebody else made: ``{"project", "region", "resource": {…}}``."""
    from tests.standins.vertex.world import parse

    parent = world.parent(asked["project"], asked["project"], asked["region"])
    if kind == "endpoint":
        found = world.new_endpoint(parent, parse(asked["resource"], v1.Endpoint), asked.get("id", ""))
        world.endpoints[found.name] = found
        return emit(found)
    model = parse(asked["resource"], v1.Model)
    model.name = f"{parent}/models/{asked.get('id') or next(world.ids)}"
    model.version_id = "1"
    model.create_time.GetCurrentTime()
    world.models[model.name] = model
    return emit(model)
