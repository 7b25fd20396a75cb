"""Which addresses requests may go to. A user names the server, the request leaves from ours: without this, the portal would be a way
into the network it stands in.

An address is checked when a connection is made, after the name was resolved and for every address it resolved to, and the connection
goes to the address that was checked (:mod:`profiling.remote.transport`): a name that answers differently the second time gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Host and port to addresses as text. Raises :class:`OSError` when there are none.
Resolve = Callable[[str, int], Sequence[str]]

MAX_URL = 2000
PORTS = {"http": 80, "https": 443}
#: Routed publicly, but answered by the cloud's own host: Azure's agent.
PLATFORM = (ipaddress.ip_network("168.63.129.16/32"),)
#: Blocks whose addresses carry an IPv4 address that the packets end up at, and where its 32 bits begin (from the left).
CARRIERS = (
    (ipaddress.IPv6Network("::/96"), 96),  # IPv4-compatible (RFC 4291 §2.5.5.1)
    (ipaddress.IPv6Network("::ffff:0:0/96"), 96),  # IPv4-mapped (RFC 4291 §2.5.5.2)
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 96),  # IPv4-translated (RFC 2765)
    (ipaddress.IPv6Network("64:ff9b::/96"), 96),  # NAT64 (RFC 6052)
    (ipaddress.IPv6Network("2002::/16"), 16),  # 6to4 (RFC 3056)
)
#: No server of a model is there, whatever the standard library thinks: local NAT64, Teredo, deprecated site-local, 6to4 relays.
NEVER = tuple(
    ipaddress.ip_network(block) for block in ("64:ff9b:1::/48", "2001::/23", "fec0::/10", "192.88.99.0/24", "5f00::/16")
)


class Refused(ValueError):
    """An address that no request goes to, in one sentence for the user."""


@dataclass(frozen=True)
class Server:
    """Where the routes of a server begin. ``base`` has no trailing slash."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def base(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def server(url: str) -> Server:
    """The parts of a user's address. Resolves nothing. Raises :class:`Refused` with what is wrong."""
    if not isinstance(url, str) or not url.strip():
        raise Refused("Enter the address of the server, such as https://example.com/v1.")
    text = url.strip()
    if len(text) > MAX_URL or not text.isascii() or re.search(r"[\s\x00-\x1f\x7f\\<>\"{}|^`]", text):
        raise Refused("The address has characters that no web address has. International names are written as xn--….")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Refused("This is not a web address: check brackets and the port.") from None
    if parts.scheme not in PORTS:
        raise Refused("The address must begin with https:// or http://.")
    if "@" in parts.netloc:
        raise Refused("Leave user names and passwords out of the address; an API key has a field of its own.")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise Refused("Leave everything from ? or # on out of the address.")
    host = (parts.hostname or "").rstrip(".")
    if not host or (port is not None and not 1 <= port <= 65535):
        raise Refused("The address names no server, or a port that does not exist.")
    if ":" not in host and not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", host):
        raise Refused("The name of the server is not one: letters, digits, hyphens and dots.")
    if ".." in parts.path or "%" in parts.path or "//" in parts.path:
        raise Refused("Write the path of the address plainly, without .., // or %.")
    _check_numeric(host)
    return Server(parts.scheme, host, port or PORTS[parts.scheme], parts.path.rstrip("/"))


def _check_numeric(host: str) -> None:
    """Refuse what only looks like a name: 2130706433, 0x7f.1 and 017700000001 are all 127.0.0.1 to a resolver."""
    last = host.rsplit(".", 1)[-1]
    if ":" not in host and re.fullmatch(r"\d+|0x[0-9a-f]*", last):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise Refused("Write an IP address as four decimal numbers, such as 203.0.113.7.") from None
    if ":" in host:
        try:
            if ipaddress.IPv6Address(host).scope_id is not None:
                raise Refused("An IPv6 address with a zone (%) is one of this machine's own network.")
        except ipaddress.AddressValueError:
            raise Refused("This is not an IPv6 address.") from None


def system_resolve(host: str, port: int) -> list[str]:
    """Every address of ``host``, as the system knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def addresses(host: str, port: int, allowed: Iterable[Network] = (), resolve: Resolve = system_resolve) -> list[str]:
    """Addresses of ``host`` that a connection may be made to. If a single one of them is not public, none is.

    ``allowed``: networks that an administrator opened. Raises :class:`Refused`; never says which address a name has, so that nobody
    can read the inner network's names from the answers.
    """
    try:
        found = [host] if _literal(host) else list(resolve(host, port))
    except (OSError, UnicodeError):
        raise Refused(f"The name {host} has no address. Check its spelling.") from None
    if not found:
        raise Refused(f"The name {host} has no address. Check its spelling.")
    networks = tuple(allowed)
    for text in found:
        if not permitted(text, networks):
            raise Refused(
                f"{host} is an address inside of a private or reserved network, where no request goes from here. "
                "An administrator can open networks for endpoints."
            )
    return found


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def permitted(text: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether requests may go to this IP address: it is public, or in a network of ``allowed``."""
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    if "%" in text:
        return False
    ends = [address, *_carried(address)]
    if any(_within(end, allowed) for end in ends):
        return True
    return all(_public(end) for end in ends)


def _carried(address: Address) -> list[Address]:
    """The IPv4 address inside of an IPv6 one: packets to the one arrive at the other."""
    if address.version == 4:
        return []
    value = int(address)
    return [
        ipaddress.IPv4Address((value >> (128 - begin - 32)) & 0xFFFFFFFF)
        for block, begin in CARRIERS
        if address in block
    ]


def _public(address: Address) -> bool:
    if _within(address, PLATFORM) or _within(address, NEVER) or address.is_multicast:
        return False
    if address.version == 6 and any(address in block for block, _ in CARRIERS):
        return True  # judged by the IPv4 address that it carries
    return address.is_global and not address.is_reserved


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks as a setting lists them: ``10.1.2.0/24, 127.0.0.1``. Raises :class:`ValueError` that names the one that is none."""
    found = []
    for part in re.split(r"[\s,]+", text.strip()):
        if part:
            try:
                found.append(ipaddress.ip_network(part))
            except ValueError:
                raise ValueError(f"{part!r} is not a network such as 10.1.2.0/24.") from None
    return tuple(found)
