"""An endpoint's run inside of an engine process: the request has the frozen inputs, where to go, and the headers of the first request.

Headers that are renewed, and the wish to stop, come over the same pipe while the load runs (:mod:`profiling.feed`). Headers are in no
argument, no environment and no file, and :func:`profiling.remote.endpoint.measure_endpoint` takes them out of the document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from profiling import feed
from profiling.remote.addresses import parse_networks
from profiling.remote.client import make_client
from profiling.remote.counting import TokenizerCounter
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.remote.spec import EndpointSpec, at_once
from profiling.spec import ModelSpec


def run(
    request: Mapping[str, Any],
    progress: Callable[[str, float, str], None],
    partial: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """``request``: ``spec`` (:class:`EndpointSpec`), ``target`` (``base, exact_url, api, usage, allowed``), ``headers``. Raises
    :class:`profiling.spec.SpecError`."""
    spec, target = EndpointSpec.from_json(request["spec"]), request["target"]
    workload, load, sweep = spec.parts()
    asked = spec.endpoint
    endpoint = Endpoint(
        name=asked["name"],
        base=target["base"],
        model=asked["model"],
        api=target["api"],
        usage=target["usage"],
        unique=asked["unique_prompts"],
        exact_url=target.get("exact_url"),
        profile=asked["profile"],
    )
    allowed = parse_networks(" ".join(target["allowed"]))
    try:
        found = measure_endpoint(
            endpoint,
            workload,
            load,
            lambda: make_client(allowed, connections=max(at_once(load, sweep), 100)),
            sweep=sweep,
            headers=lambda: feed.latest("headers", request["headers"]),
            counter=_counter(spec),
            progress=progress,
            cancelled=lambda: bool(feed.latest("stop", False)),
            partial=lambda found: partial(_whole(found, spec)),
        )
    finally:
        feed.forget()
    return _whole(found, spec)


def _counter(spec: EndpointSpec) -> TokenizerCounter | None:
    """The tokenizer of the model that the user named; of one without files there is none."""
    if spec.model is None or spec.model.get("weights") != "local" or not spec.model.get("weights_path"):
        return None
    return TokenizerCounter(ModelSpec.from_json(spec.model))


def _whole(found: dict[str, Any], spec: EndpointSpec) -> dict[str, Any]:
    """With what the user says stands behind the endpoint: nobody looked, so it is no ``model`` and no ``hardware`` of the document."""
    said = {
        "model": (spec.model or {}).get("name"),
        "hardware": (spec.hardware or {}).get("name"),
    }
    return found | {"endpoint": found["endpoint"] | {"kind": spec.endpoint["kind"], "said": said}}
