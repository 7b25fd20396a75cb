"""Where requests of an endpoint go and with which headers: the one place that reads stored keys, called by workers only.

Every kind of endpoint has a resolver; apps above this one register theirs when they are ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from llmcompare.endpoints import crypto
from llmcompare.endpoints.models import Endpoint, PrivateNetwork
from profiling.remote.addresses import Network, Refused, Server, parse_networks, server


class Unavailable(ValueError):
    """No request can be sent to an endpoint; the text says why and what to do, for its user."""


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class Target:
    """Where requests go.

    ``url_base``: address up to ``/v1``, to which the route of ``api`` is appended; ``exact_url``: the whole address of every request
    instead. ``usage``: ask for the count of tokens in streams. ``allowed``: private networks that connections may go to, as text.
    ``headers``: to be called for every request, since a credential may be renewed meanwhile; it may raise :class:`Unavailable`. ``hide``
    takes credentials out of what a server said, before anything is stored.
    """

    url_base: str
    model: str
    api: str
    usage: bool = True
    allowed: tuple[str, ...] = ()
    headers: Callable[[], dict[str, str]] = field(default=dict, repr=False)
    exact_url: str | None = None
    hide: Callable[[str], str] = field(default=_as_it_is, repr=False)

    @property
    def networks(self) -> tuple[Network, ...]:
        """``allowed`` as :func:`profiling.remote.client.make_client` takes it."""
        return parse_networks(" ".join(self.allowed))


Resolver = Callable[[Endpoint], Target]
_resolvers: dict[str, Resolver] = {}


def register(kind: str, resolver: Resolver) -> None:
    """``resolver`` answers for endpoints of ``kind``. For ``AppConfig.ready``."""
    _resolvers[kind] = resolver


def resolve(endpoint: Endpoint) -> Target:
    """Where requests of ``endpoint`` go now. Raises :class:`Unavailable`."""
    if endpoint.deleted_at is not None:
        raise Unavailable(_("The endpoint is in the bin. Put it back first."))
    resolver = _resolvers.get(endpoint.kind)
    if resolver is None:
        raise Unavailable(_("Endpoints of this kind cannot be used here."))
    return resolver(endpoint)


def origin_of(found: Server) -> str:
    """Scheme, host and port: what a key is bound to."""
    host = f"[{found.host}]" if ":" in found.host else found.host
    return f"{found.scheme}://{host}:{found.port}"


def open_networks() -> tuple[str, ...]:
    """The private networks that administrators opened."""
    return tuple(PrivateNetwork.objects.filter(active=True).values_list("network", flat=True))


def openai(endpoint: Endpoint) -> Target:
    """A server of the OpenAI protocol. The address is read anew: rules may have become stricter since it was registered."""
    try:
        found = server(endpoint.url)
    except Refused as error:
        raise Unavailable(str(error)) from None
    key, api = stored_key(endpoint), endpoint.api or _seen_api(endpoint)

    def headers() -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    return Target(
        url_base=found.base,
        model=endpoint.model,
        api=api,
        usage=_asks_for_usage(endpoint, api),
        allowed=open_networks() if endpoint.private else (),
        headers=headers,
        hide=lambda text: without(key, text),
    )


def stored_key(endpoint: Endpoint) -> str:
    """The key in clear, empty where none is stored. Raises :class:`Unavailable` when it cannot be read any more."""
    if not endpoint.sealed_key:
        return ""
    try:
        return crypto.unseal(endpoint.sealed_key, origin_of(server(endpoint.url)))
    except Refused as error:
        raise Unavailable(str(error)) from None
    except crypto.Unreadable as error:
        raise Unavailable(str(error)) from None


def without(key: str, text: str) -> str:
    """``text`` without the key, also where an excerpt ends in the middle of it."""
    if not key:
        return text
    text = text.replace(key, "…")
    kept = text.removesuffix("…")
    for length in range(min(len(key), len(kept)), 3, -1):
        if kept.endswith(key[:length]):
            return kept[:-length] + "…"
    return text


def _seen_api(endpoint: Endpoint) -> str:
    """The route that was seen to work, else the one that most servers have."""
    abilities = (endpoint.probe or {}).get("abilities") or {}
    return abilities.get("api") or Endpoint.Api.CHAT.value


def _asks_for_usage(endpoint: Endpoint, api: str) -> bool:
    """Ask, unless the server was seen to refuse to be asked."""
    route = ((endpoint.probe or {}).get("routes") or {}).get(api) or {}
    return route.get("usage_asked") is not False
