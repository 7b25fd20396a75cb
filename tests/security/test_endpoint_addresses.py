"""An endpoint is no way into the network that the portal stands in: hostile addresses are refused at their field, before a packet leaves."""

from __future__ import annotations

import functools
import socket
import threading

import pytest

from llmcompare.endpoints import carrying, probing
from llmcompare.endpoints.models import Endpoint, PrivateNetwork
from profiling.remote import look as looking
from tests.endpoints.servers import running
from tests.factories import make_endpoint
from tests.profiling.remote.test_addresses import HOSTILE, NAMES
from tests.security.cast import browser_of, script_of

KEY = "sk-not-to-be-seen"
#: Ways to write 127.0.0.1, each with the port at which somebody listens.
HERE = [
    "http://127.0.0.1:{port}/v1",
    "http://127.1:{port}/v1",
    "http://2130706433:{port}/v1",
    "http://0x7f000001:{port}/v1",
    "http://0177.0.0.1:{port}/v1",
    "http://0.0.0.0:{port}/v1",
    "http://localhost:{port}/v1",
    "http://LOCALHOST.:{port}/v1",
    "http://[::1]:{port}/v1",
    "http://[::ffff:127.0.0.1]:{port}/v1",
    "http://[64:ff9b::7f00:1]:{port}/v1",
    "http://[2002:7f00:1::]:{port}/v1",
    "http://user:pass@127.0.0.1:{port}/v1",
    "http://example.com@127.0.0.1:{port}/v1",
    "http://127.0.0.1:{port}\\@example.com/v1",
]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_field_keys(settings, tmp_path):
    settings.DATA_DIR, settings.FIELD_KEYS = tmp_path, []


def resolve(host: str, port: int) -> list[str]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


@pytest.fixture(autouse=True)
def _hostile_name_server(monkeypatch):
    monkeypatch.setattr("profiling.remote.addresses.system_resolve", resolve)


class Ear:
    """A listening socket; ``heard`` counts whoever connected."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.port = self.socket.getsockname()[1]

    def heard(self) -> int:
        count = 0
        while True:
            try:
                connection, _ = self.socket.accept()
            except TimeoutError:
                return count
            connection.close()
            count += 1


@pytest.fixture
def ear():
    one = Ear()
    yield one
    one.socket.close()


def look_at(endpoint: Endpoint, resolve=resolve, monkeypatch=None) -> Endpoint:
    """As a worker does, with another name server."""
    monkeypatch.setattr(carrying.looking, "look", functools.partial(looking.look, resolve=resolve))
    probe = probing.ask(endpoint=endpoint, user=endpoint.owner)
    carrying.carry_out(probe_id=probe.pk, worker="here", shutdown=threading.Event())
    endpoint.refresh_from_db()
    return endpoint


def test_the_ear_hears(ear):
    socket.create_connection(("127.0.0.1", ear.port)).close()
    assert ear.heard() == 1


def test_hostile_addresses_are_refused_by_form_and_api_and_nobody_is_connected_to(owner, ear):
    addresses = [*HOSTILE, *(address.format(port=ear.port) for address in HERE)]
    assert len(addresses) > 30
    browser, script = browser_of(owner), script_of(owner)
    for url in addresses:
        page = browser.post("/endpoints/new/", {"name": "x", "url": url, "visibility": "private", "key": KEY})
        assert page.status_code == 200, url
        assert 'id="id_url_error"' in page.content.decode(), url
        answer = script.post(
            "/api/v1/endpoints/", {"name": "x", "url": url, "key": KEY}, content_type="application/json"
        )
        assert answer.status_code == 400, url
        assert list(answer.json()["errors"]) == ["url"], url
        assert KEY not in page.content.decode() + answer.content.decode()
    assert not Endpoint.objects.exists()
    assert ear.heard() == 0


def test_an_endpoint_is_not_turned_to_a_hostile_address_later(owner, ear):
    endpoint, script = make_endpoint(owner), script_of(owner)
    for address in HERE:
        url = address.format(port=ear.port)
        answer = script.patch(f"/api/v1/endpoints/{endpoint.public_id}/", {"url": url}, content_type="application/json")
        assert list(answer.json()["errors"]) == ["url"], url
    assert ear.heard() == 0


def test_what_is_stored_past_the_form_is_refused_where_the_connection_would_be_made(owner, ear, monkeypatch):
    for address in HERE:
        endpoint = look_at(make_endpoint(owner, url=address.format(port=ear.port)), monkeypatch=monkeypatch)
        assert not (endpoint.probe or {}).get("abilities"), address
    assert ear.heard() == 0


def test_a_name_that_is_public_when_it_is_entered_and_private_later_gains_nothing(owner, ear, monkeypatch):
    """Rebinding, seen from the form to the worker."""
    answers = iter([["93.184.215.14"], *[["127.0.0.1"]] * 20])

    def changing(host, port):
        return next(answers)

    monkeypatch.setattr("profiling.remote.addresses.system_resolve", changing)
    url = f"http://rebind.example:{ear.port}/v1"
    saved = browser_of(owner).post("/endpoints/new/", {"name": "x", "url": url, "visibility": "private", "key": KEY})
    assert saved.status_code == 302
    endpoint = Endpoint.objects.get()
    monkeypatch.setattr("llmcompare.endpoints.probing.MAX_ACTIVE", 9)
    look_at(endpoint, resolve=changing, monkeypatch=monkeypatch)
    assert "private or reserved" in endpoint.probe["problem"]
    assert ear.heard() == 0


def test_a_redirect_is_not_followed_and_does_not_get_the_key(owner, ear, monkeypatch):
    PrivateNetwork.objects.create(name="lab", network="127.0.0.0/8")

    async def elsewhere(request):
        await request.whole("", 307, Location=f"http://127.0.0.1:{ear.port}/v1/models")

    with running(elsewhere) as (base, requests):
        endpoint = make_endpoint(owner, url=base, key=KEY, private=True)
        look_at(endpoint, monkeypatch=monkeypatch)
    assert len(requests) > 1
    assert "not followed" in endpoint.probe["problem"]
    assert ear.heard() == 0


def test_a_closed_network_closes_its_endpoints(owner, ear, monkeypatch):
    network = PrivateNetwork.objects.create(name="lab", network="127.0.0.0/8", active=False)
    endpoint = make_endpoint(owner, url=f"http://127.0.0.1:{ear.port}/v1", private=True)
    look_at(endpoint, monkeypatch=monkeypatch)
    assert ear.heard() == 0
    network.delete()
    look_at(endpoint, monkeypatch=monkeypatch)
    assert ear.heard() == 0


@pytest.mark.parametrize(
    "network",
    [
        *("0.0.0.0/0", "::/0", "10.0.0.0/4", "169.254.169.254", "169.254.0.0/16", "168.0.0.0/8", "fd00:ec2::254"),
        *("fe80::/64", "fd00::/12", "10.1.2.3/8", "lab"),
        # The same written as an IPv6 address: mapped, NAT64, 6to4.
        *(
            "::ffff:169.254.169.254",
            "::ffff:0:0/96",
            "64:ff9b::/96",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::/48",
            "::/16",
        ),
    ],
)
def test_an_administrator_does_not_open_everything_or_where_clouds_answer_their_machines(staff, network):
    page = browser_of(staff).post("/admin/endpoints/privatenetwork/add/", {"name": "x", "network": network})
    assert page.status_code == 200
    assert "errorlist" in page.content.decode()
    assert not PrivateNetwork.objects.exists()


def test_an_administrator_opens_a_network_and_nobody_else_does(staff, owner):
    fields = {"name": "lab", "network": " 10.1.2.0/24", "active": "on"}
    assert browser_of(owner).post("/admin/endpoints/privatenetwork/add/", fields).status_code == 302
    assert not PrivateNetwork.objects.exists()
    browser_of(staff).post("/admin/endpoints/privatenetwork/add/", fields)
    assert PrivateNetwork.objects.get().network == "10.1.2.0/24"


@pytest.mark.parametrize("network", ["::1", "fd12:3456::/48", "64:ff9b::a01:200/120"])
def test_an_administrator_opens_an_ipv6_network(staff, network):
    browser_of(staff).post("/admin/endpoints/privatenetwork/add/", {"name": "lab", "network": network, "active": "on"})
    assert PrivateNetwork.objects.count() == 1
