"""Real phones and our own carrier registration at our registrar, through real sockets (RFC 3261 section 10)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peers.certificates import Certificate
from peers.fixtures import KINDS, Peers
from peers.phone import Account as PhoneAccount
from peers.phone import Phone
from peers.ports import take_ports

from config.model import Carrier, Ha1, Rows, Seat
from config.snapshot import Snapshot
from edge.carriers.runner import Carriers
from edge.inbound.steps.authenticate import Authenticated, Authenticator, Challenge, DigestSettings
from edge.registrar.bindings import Binding
from edge.registrar.qualify import Qualifier
from edge.registrar.registrar import Registrar
from edge.sip.auth.digest import ha1
from edge.sip.auth.nonce import Nonces
from edge.sip.build import response_to
from edge.sip.endpoint import Endpoint
from edge.sip.events import Event, FlowClosed, RequestReceived, ResponseReceived, TransactionTimedOut, TransportFailed
from edge.sip.flow import Address
from edge.transport.clock import RandomIds, SystemClock
from edge.transport.driver import Driver, Listener
from edge.transport.exchange import Exchange
from edge.transport.guard import Guard
from edge.transport.resolver import CaresDns, Resolver

pytestmark = pytest.mark.phones
REALM = "edge.example"


def seat(username: str) -> Seat:
    digests = (ha1(username, REALM, "secret", name) for name in ("MD5", "SHA-256"))
    return Seat(username, "K1", ha1=Ha1(*digests))


SNAPSHOT = Snapshot(Rows(seats=(seat("201"), seat("202"))))


class Edge:
    """A registrar on loopback, and nothing else."""

    def __init__(self, driver: Driver, registrar: Registrar, carriers: Carriers, port: int) -> None:
        self.driver = driver
        self.registrar = registrar
        self.port = port
        self.carriers = carriers
        self.changed = asyncio.Event()
        registrar.listen(lambda aor: self.changed.set())

    def server(self, transport: str) -> str:
        return f"127.0.0.1:{self.port + (1 if transport == 'tls' else 0)}"

    async def bindings(self, count: int, seconds: float = 10.0) -> list[Binding]:
        """Wait until seat 201 has so many bindings."""
        async with asyncio.timeout(seconds):
            while len(found := self.registrar.contacts("seat", "201", self.driver.now())) != count:
                self.changed.clear()
                await self.changed.wait()
        return found


@asynccontextmanager
async def running_edge(certificate: Certificate) -> AsyncIterator[Edge]:
    clock, ids, guard = SystemClock(), RandomIds(), Guard()
    registrar = Registrar(clock.utcnow)
    registrar.apply(SNAPSHOT)
    door = Authenticator(DigestSettings(REALM), Nonces(b"x" * 32), guard, registrar.has_bindings_from)

    def handler(event: Event) -> None:
        if isinstance(event, RequestReceived):
            if event.request.method != "REGISTER":
                driver.respond(event.tx, response_to(event.request, 200))
                return
            result = door.authenticate(event.request, event.flow, SNAPSHOT, driver.now())
            if isinstance(result, Authenticated):
                response, _ = registrar.handle(event.request, event.flow, result.who, driver.now())
            else:
                response = result.response if isinstance(result, Challenge) else response_to(event.request, 403)
            driver.respond(event.tx, response)
        elif isinstance(event, ResponseReceived):
            exchange.response(event.tx, event.response)
        elif isinstance(event, TransactionTimedOut | TransportFailed):
            exchange.no_response(event.tx)
        elif isinstance(event, FlowClosed):
            registrar.flow_closed(event.flow)
            carriers.flow_closed(event.flow)

    port = take_ports(2)
    plain, secure = Address("127.0.0.1", port), Address("127.0.0.1", port + 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    listeners = [Listener("udp", plain, plain), Listener("tcp", plain, plain), Listener("tls", secure, secure)]
    driver = Driver(Endpoint(ids), listeners, handler, clock=clock, guard=guard, tls_server=context)
    exchange = Exchange(driver)
    dns = CaresDns()
    carriers = Carriers(driver, exchange, Resolver(dns, clock), clock, ids, lambda: 0.5)
    qualifier = Qualifier(registrar, exchange, driver, ids, REALM, lambda: 1.0, interval=0.2)
    await driver.start()
    edge = Edge(driver, registrar, carriers, port)
    try:
        yield edge
        await carriers.stop()
    finally:
        qualifier.stop()
        await driver.stop()
        await dns.close()


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_phone_registers_and_goes(peers: Peers, certificate: Certificate, kind: str, transport: str) -> None:
    """Challenge (SHA-256 and MD5 offered), binding with its flow, removal when the phone ends."""
    async with running_edge(certificate) as edge:
        account = PhoneAccount("201", "secret", edge.server(transport), transport, REALM)
        phone: Phone = await asyncio.to_thread(peers.phone, kind, account)
        await asyncio.to_thread(phone.wait_registered)
        (binding,) = await edge.bindings(1)
        assert binding.flow is not None and binding.flow.transport == transport and binding.reachable
        assert (binding.uri.user or "").startswith("201")
        await asyncio.to_thread(peers.stop_phones)
        if transport == "udp":
            await edge.bindings(0)
        else:  # a phone may close its connection before its last REGISTER is answered
            async with asyncio.timeout(5):
                while any(b.flow for b in edge.registrar.live(edge.driver.now())):
                    edge.changed.clear()
                    await edge.changed.wait()


async def test_our_carrier_side_registers_here(certificate: Certificate) -> None:
    """Smoke: both halves of ours agree, over TCP; what one unregisters the other forgets."""
    async with running_edge(certificate) as edge:
        carrier = Carrier(
            "self",
            domain=REALM,
            outbound_proxy=f"sip:{edge.server('tcp')};transport=tcp",
            username="201",
            password="secret",
        )
        edge.carriers.apply(Snapshot(Rows(carriers=(carrier,))))
        (binding,) = await edge.bindings(1)
        assert "line" in binding.uri.params and binding.flow is not None
        edge.carriers.apply(Snapshot(Rows()))
        await edge.bindings(0)
