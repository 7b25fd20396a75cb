"""Whether an endpoint may be registered with an address and a key, said before anything is stored.

The address is checked again whenever a worker connects (:mod:`profiling.remote.transport`): what a name leads to can change. Here it is for
the user's sake, so a name server that does not answer keeps nobody from saving.
"""

from __future__ import annotations

import ipaddress
from concurrent.futures import ThreadPoolExecutor

from django.utils.translation import gettext as _

from llmcompare.common.engine_texts import engine_text
from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints.targets import open_networks
from profiling.remote import addresses as rules
from profiling.remote.addresses import Refused, Server

#: Seconds that somebody waits for a name server.
RESOLVE_S = 3.0
MAX_KEY = 4096
_resolvers = ThreadPoolExecutor(4, thread_name_prefix="endpoint-names")

#: Where clouds answer their own machines. No server of a model is there, and a request to it can cost the machine's identity.
METADATA = tuple(
    ipaddress.ip_network(block) for block in ("169.254.0.0/16", "168.63.129.16/32", "fe80::/10", "fd00:ec2::/32")
)
#: Wider than this is no network of somebody's servers but a large part of all addresses.
WIDEST = {4: 8, 6: 16}


def check_address(url: str, *, private: bool) -> Server:
    """The parts of a user's address. ``private``: it may be in a network that administrators opened. Raises :class:`FieldErrors` at ``url``
    with the reason of :mod:`profiling.remote.addresses`."""
    try:
        found = rules.server(url)
        opened = rules.parse_networks(" ".join(open_networks())) if private else ()
        looked_up = _resolvers.submit(rules.addresses, found.host, found.port, opened, rules.system_resolve)
        looked_up.result(timeout=RESOLVE_S)
    except TimeoutError:
        pass
    except Refused as error:
        raise FieldErrors({"url": engine_text(str(error))}) from None
    return found


def checked_key(key: str) -> str:
    """The key without white space around it. Raises :class:`FieldErrors` at ``key``, without repeating it."""
    key = key.strip()
    if len(key) > MAX_KEY:
        raise FieldErrors({"key": _("The key is longer than {most} characters.").format(most=f"{MAX_KEY:,}")})
    if not all("!" <= character <= "~" for character in key):
        text = _("The key has spaces or characters that cannot be sent. Paste the key alone, without “Bearer”.")
        raise FieldErrors({"key": text})
    return key


def checked_network(text: str) -> str:
    """A network that an administrator opens, as it is kept. Raises :class:`FieldErrors` at ``network``."""
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError:
        raise FieldErrors({"network": _("Write a network such as 10.1.2.0/24, or one address.")}) from None
    if network.prefixlen < WIDEST[network.version]:
        text = _("This is a large part of all addresses. Open the networks of your servers one by one.")
        raise FieldErrors({"network": text})
    if any(one.version == block.version and one.overlaps(block) for one in _all_of(network) for block in METADATA):
        text = _("Clouds answer their own machines there, with credentials. It is not opened.")
        raise FieldErrors({"network": text})
    return str(network)


def _all_of(network: rules.Network) -> list[rules.Network]:
    """The network, and the IPv4 networks that its addresses carry: packets to the one arrive at the other."""
    found = [network]
    for block, begin in rules.CARRIERS:
        if isinstance(network, ipaddress.IPv6Network) and network.overlaps(block):
            length = min(max(network.prefixlen - begin, 0), 32)
            first = (int(network.network_address) >> (96 - begin)) & 0xFFFFFFFF if length else 0
            found.append(ipaddress.IPv4Network((first, length), strict=False))
    return found
