"""Connections are open before a load begins; a request that had to wait for one says so, and none is left out of the figures."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from profiling.load import Load
from profiling.remote import transport
from profiling.remote.client import make_client
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.remote.levels import Sweep
from profiling.remote.load import connections_ahead
from profiling.remote.protocol import Question
from profiling.remote.request import Answer, ask
from profiling.remote.stream import connect
from profiling.spec import Workload
from tests.profiling.remote.serving import LOOPBACK, client, running, serving, well_behaved

COLD = Workload(input_tokens=5, output_tokens=4, warmup=0, time_limit_s=60.0)
#: How long a handshake takes here: more than everything else of a request together.
SHAKE_S = 0.3


def measured(handler, load, workload=COLD, sweep=None, make=client, **options):
    with running(handler, **options) as (base, requests):
        found = measure_endpoint(Endpoint("here", base, "tiny"), workload, load, make, sweep=sweep)
    assert found["failures"] == []
    return found, requests


def rows(found, name):
    at = found["requests"]["columns"].index(name)
    return [row[at] for row in found["requests"]["rows"]]


def codes(found):
    return [warning["code"] for warning in found["warnings"]]


@pytest.fixture
def slow_handshakes(monkeypatch):
    async def slowly(*where):
        begun = time.perf_counter_ns()
        await asyncio.sleep(SHAKE_S)
        stream = await connect(*where)
        stream.begun_ns = begun
        return stream

    monkeypatch.setattr(transport, "connect", slowly)


def test_no_user_pays_for_opening_a_connection(slow_handshakes):
    found, requests = measured(well_behaved, Load(requests=12, concurrency=4))
    assert len({id(one.writer) for one in requests}) == 4
    assert found["metrics"]["endpoint_ttft"]["n"] == 12
    assert found["metrics"]["endpoint_ttft"]["max"] < SHAKE_S
    opened = [took for took in rows(found, "connect_s") if took is not None]
    assert len(opened) == 4
    assert min(opened) >= SHAKE_S
    assert rows(found, "connect_waited") == [False] * 12
    client_side = found["client"]
    assert (client_side["connections_ahead"], client_side["connections_waited"]) == (4, 0)
    assert client_side["connect_max_s"] >= client_side["connect_median_s"] >= SHAKE_S
    assert "new_connections" not in codes(found)


def test_every_level_of_a_sweep_finds_the_connections_of_its_new_users_open(slow_handshakes):
    found, requests = measured(well_behaved, Load(requests=4), sweep=Sweep((1, 2, 4), gain=0.01))
    sent = len(found["sweep"]["levels"]["rows"])
    assert sent > 1
    assert not any(rows(found, "connect_waited"))
    assert len({id(one.writer) for one in requests}) == 2 ** (sent - 1)


def test_nothing_is_sent_on_a_connection_before_the_load():
    """A model list, say, would be a request that nobody asked for."""
    found, requests = measured(well_behaved, Load(requests=3, concurrency=3))
    assert [one.path for one in requests] == ["/v1/chat/completions"] * 3
    assert found["client"]["connections_ahead"] == 3


def certificate(folder):
    """A server's context with a certificate for 127.0.0.1 of its own, and a client's that believes it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*private))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(file)
    return theirs, ssl.create_default_context(cafile=str(file))


def test_the_handshake_of_tls_is_over_before_the_load(tmp_path):
    theirs, ours = certificate(tmp_path)
    greeted = []

    async def greet(writer):  # the server calls it once TLS is up
        greeted.append(time.perf_counter_ns())

    def make():
        return make_client(LOOPBACK, verify=ours)

    found, requests = measured(well_behaved, Load(requests=6, concurrency=3), make=make, tls=theirs, greet=greet)
    assert len(greeted) == 3
    assert max(greeted) < min(one.got_ns for one in requests)
    assert found["client"]["connections_ahead"] == 3
    assert not any(rows(found, "connect_waited"))


def test_a_certificate_that_is_not_believed_is_said_by_the_request(tmp_path):
    theirs, _ = certificate(tmp_path)
    with running(well_behaved, tls=theirs) as (base, requests):
        found = measure_endpoint(Endpoint("here", base, "tiny"), COLD, Load(requests=2), client)
    assert [failure["kind"] for failure in found["failures"]] == ["connect"]
    assert "certificate" in found["failures"][0]["message"].lower()
    assert requests == []


def test_requests_that_wait_for_a_new_connection_are_marked_and_counted(slow_handshakes):
    """A server that closes after each answer makes every request but the first wait."""

    async def closing(request):
        await request.head(Connection="close")
        await request.text("a ")
        await request.text("b")
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": usage})
        await request.event("[DONE]")
        await request.end()
        request.writer.close()

    found, _ = measured(closing, Load(requests=3))
    assert rows(found, "connect_waited") == [False, True, True]
    assert all(took >= SHAKE_S for took in rows(found, "connect_s"))
    assert found["metrics"]["endpoint_ttft"]["n"] == 3
    assert found["metrics"]["endpoint_ttft"]["max"] >= SHAKE_S
    assert found["client"]["connections_waited"] == 2
    (warning,) = [one["message"] for one in found["warnings"] if one["code"] == "new_connections"]
    assert warning.startswith("2 of 3 requests waited")


def test_a_connection_that_the_server_gave_up_meanwhile_is_not_used():
    async def go():
        greeted = []

        async def greet(writer):
            greeted.append(writer)
            if len(greeted) == 1:
                writer.close()

        async with serving(well_behaved, greet=greet) as (base, _), client() as http:
            await http.open_ahead(base, 1)
            while not greeted:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # until its end has arrived here
            answer = await ask(http, base, Question("tiny", "x"))
            return answer, len(greeted)

    answer, connections = asyncio.run(go())
    assert (answer.error, answer.connect_waited, connections) == (None, True, 2)


def test_what_is_open_already_is_not_opened_again_and_all_is_closed_at_the_end():
    async def go():
        greeted = []

        async def greet(writer):
            greeted.append(writer)

        async with serving(well_behaved, greet=greet) as (base, _):
            async with client() as http:
                assert (await ask(http, base, Question("tiny", "x"))).error is None
                await http.open_ahead(base, 3)
                await http.open_ahead(base, 3)
                while len(greeted) < 3:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            return len(greeted), sum(writer.transport.is_closing() for writer in greeted)

    assert asyncio.run(go()) == (3, 3)


def test_where_nobody_listens_the_request_says_so():
    async def go():
        async with client() as http:
            await http.open_ahead("http://127.0.0.1:9/v1", 3)
            return await ask(http, "http://127.0.0.1:9/v1", Question("tiny", "x"))

    answer = asyncio.run(go())
    assert (answer.kind, answer.connect_ns) == ("connect", None)


def test_opening_ahead_goes_to_checked_addresses_only(monkeypatch):
    left = []

    async def leaving(*where):
        left.append(where)
        raise AssertionError("a packet left")

    monkeypatch.setattr(transport, "connect", leaving)

    async def go():
        async with make_client(resolve=lambda host, port: ["10.11.12.13"]) as http:
            await http.open_ahead("http://inner.example/v1", 4)

    asyncio.run(go())
    assert left == []


def answer(seconds):
    return Answer(0, last_token_ns=round(seconds * 1e9))


def test_an_open_loop_has_as_many_connections_open_as_are_in_use_together():
    """Rate × time of an answer, three standard deviations higher: 10/s × 2 s are 20, and hardly ever more than 34."""
    load = Load(mode="poisson", rate=10.0, requests=1000)
    assert connections_ahead(load, [answer(2.0), answer(2.0), answer(60.0)]) == 35
    assert connections_ahead(load, []) == 1
    assert connections_ahead(load, [Answer(0).fail("connect", "No.")]) == 1
    assert connections_ahead(Load(mode="poisson", rate=10.0, requests=5), [answer(2.0)]) == 5
    assert connections_ahead(Load(mode="poisson", rate=5000.0, requests=5000), [answer(2.0)]) == 256
    assert connections_ahead(Load(requests=5, concurrency=64), []) == 5


def test_requests_of_an_open_loop_find_their_connections_open(slow_handshakes):
    warm = Workload(input_tokens=5, output_tokens=4, warmup=2, time_limit_s=60.0)
    found, _ = measured(well_behaved, Load(mode="constant", rate=20.0, requests=10), warm)
    assert not any(rows(found, "connect_waited"))
    assert found["metrics"]["endpoint_ttft"]["max"] < SHAKE_S
