"""No request leaves for an address that is not public: refused before anything is connected to, whatever the address looks like."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from profiling.remote.addresses import Refused, addresses, parse_networks, permitted, server
from profiling.remote.client import make_client
from profiling.remote.protocol import Question
from profiling.remote.request import ask
from profiling.remote.transport import CheckedBackend

HOSTILE = [
    "http://127.0.0.1/v1",
    "http://127.1/v1",
    "http://127.0.0.1./v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "http://0x7f.0.0.1/v1",
    "http://0177.0.0.1/v1",
    "http://017700000001/v1",
    "http://0/v1",
    "http://0.0.0.0:8000/v1",
    "http://localhost/v1",
    "http://LOCALHOST:6379/v1",
    "http://localhost.localdomain/v1",
    "http://10.0.0.5/v1",
    "http://172.16.0.1/v1",
    "http://192.168.1.1/v1",
    "http://100.64.0.1/v1",
    "http://169.254.169.254/computeMetadata/v1",
    "http://metadata.google.internal/v1",
    "http://168.63.129.16/v1",
    "http://224.0.0.1/v1",
    "http://255.255.255.255/v1",
    "http://240.0.0.1/v1",
    "http://192.0.2.1/v1",
    "http://198.18.0.1/v1",
    "http://192.88.99.1/v1",
    "http://[::1]/v1",
    "http://[::]/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://[::ffff:7f00:1]/v1",
    "http://[::127.0.0.1]/v1",
    "http://[::ffff:0:127.0.0.1]/v1",
    "http://[64:ff9b::7f00:1]/v1",
    "http://[64:ff9b::a9fe:a9fe]/v1",
    "http://[64:ff9b:1::1]/v1",
    "http://[2002:7f00:1::]/v1",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/v1",
    "http://[fe80::1%25eth0]/v1",
    "http://[fe80::1]/v1",
    "http://[fd00:ec2::254]/v1",
    "http://[fec0::1]/v1",
    "http://[ff02::1]/v1",
    "http://[2001:db8::1]/v1",
    "http://user:secret@example.com/v1",
    "http://example.com@127.0.0.1/v1",
    "http://127.0.0.1\\@example.com/v1",
    "http://example.com#@127.0.0.1/v1",
    "http://example.com?x=1",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "unix:///var/run/docker.sock",
    "//127.0.0.1/v1",
    "http:127.0.0.1",
    "http://",
    "http://exa mple.com/v1",
    "http://example.com:99999/v1",
    "http://example.com:0/v1",
    "http://ⓛocalhost/v1",
    "http://１２７.0.0.1/v1",
    "http://example.com/../admin",
    "http://example.com/%2e%2e/admin",
    "http://mixed.example/v1",
]

#: What a hostile name server says. One public address does not make the others harmless.
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "localhost.localdomain": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "mixed.example": ["93.184.215.14", "10.0.0.1"],
    "example.com": ["93.184.215.14"],
}


class Leaving:
    """Where packets would leave."""

    def __init__(self, answer=None):
        self.connected: list[str] = []
        self.answer = answer

    async def __call__(self, host, port, *_):
        self.connected.append(host)
        raise self.answer or AssertionError(f"a packet left for {host}")


def resolve(host, port):
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused_before_a_packet_leaves(url):
    async def go():
        leaving = Leaving()
        backend = CheckedBackend((), resolve)
        backend._connect = leaving
        found = server(url)
        await backend.connect_tcp(found.host, found.port)

    with pytest.raises(Refused) as refused:
        asyncio.run(go())
    assert str(refused.value).endswith((".", "…"))
    assert "secret" not in str(refused.value)


def test_a_public_name_is_connected_to_by_the_address_that_was_checked():
    import httpcore

    async def go():
        backend = CheckedBackend((), resolve)
        backend._connect = leaving = Leaving(httpcore.ConnectError("closed"))
        with pytest.raises(httpcore.ConnectError):
            await backend.connect_tcp("example.com", 443)
        return leaving.connected

    assert asyncio.run(go()) == ["93.184.215.14"]


def test_a_name_that_changes_its_address_gains_nothing():
    """Rebinding: the first answer is public, the second is not. All connections go to the first; a new run is refused."""
    import httpcore

    answers = iter([["93.184.215.14"], ["127.0.0.1"]])

    async def twice(backend):
        backend._connect = leaving = Leaving(httpcore.ConnectError("closed"))
        for _ in range(2):
            with pytest.raises(httpcore.ConnectError):
                await backend.connect_tcp("rebind.example", 80)
        return leaving.connected

    def changing(host, port):
        return next(answers)

    assert asyncio.run(twice(CheckedBackend((), changing))) == ["93.184.215.14"] * 2
    with pytest.raises(Refused):
        asyncio.run(twice(CheckedBackend((), changing)))


def test_a_request_is_refused_in_a_sentence_and_says_no_inner_address():
    async def go():
        async with make_client(resolve=lambda host, port: ["10.11.12.13"]) as client:
            return await ask(client, "http://inner.example/v1", Question("m", "x"))

    answer = asyncio.run(go())
    assert answer.kind == "refused"
    assert "private or reserved" in answer.error
    assert "10.11" not in answer.error


def test_an_administrator_opens_networks():
    opened = parse_networks("127.0.0.0/8, 10.1.0.0/16 fd12::/16")
    assert permitted("127.0.0.1", opened)
    assert permitted("::ffff:10.1.2.3", opened)
    assert permitted("fd12::5", opened)
    assert not permitted("10.2.0.1", opened)
    assert not permitted("169.254.169.254", opened)
    assert addresses("localhost", 80, opened + parse_networks("::1"), resolve) == ["127.0.0.1", "::1"]
    with pytest.raises(ValueError, match=r"10\.1\.2\.3/8"):
        parse_networks("10.1.2.3/8")


@pytest.mark.parametrize(
    "public", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"]
)
def test_public_addresses_pass(public):
    assert permitted(public)
    assert ipaddress.ip_address(public)


def test_the_parts_of_an_address():
    assert server(" https://api.example.com/v1/ ").base == "https://api.example.com/v1"
    assert server("http://example.com:8080").base == "http://example.com:8080"
    assert server("http://[2606:2800:21f::1]:81/a").base == "http://[2606:2800:21f::1]:81/a"
