"""Our registration with a real carrier's registrar: Kamailio, over UDP, TCP and TLS (domain rules 1.2, 1.3, 1.7)."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from peers.certificates import Certificate
from peers.fixtures import Peers
from peers.kamailio import Kamailio
from peers.ports import take_port

from config.model import Carrier, Rows
from config.snapshot import Snapshot
from edge.carriers.runner import Carriers
from edge.carriers.state import CarrierState
from edge.sip.endpoint import Endpoint
from edge.sip.events import Event, FlowClosed, ResponseReceived, TransactionTimedOut, TransportFailed
from edge.sip.flow import Address, Flow
from edge.transport.clock import RandomIds, SystemClock
from edge.transport.driver import Driver, Listener
from edge.transport.exchange import Exchange
from edge.transport.resolver import CaresDns, Resolver
from edge.transport.tls import client_context

pytestmark = pytest.mark.phones
ACCOUNT = "+49199296000001"
AUTH = "au-7788"


class Side:
    """Our side: the driver, the exchange and the carriers, without calls."""

    def __init__(self, driver: Driver, carriers: Carriers) -> None:
        self.driver = driver
        self.carriers = carriers
        self.closed: list[FlowClosed] = []
        self.moves: list[tuple[Flow, Flow]] = []

    async def until(self, name: str, check: Callable[[CarrierState], bool], seconds: float = 10.0) -> CarrierState:
        """Wait until the state of a carrier is as wanted; there is nothing to be told by, so it is looked at."""
        async with asyncio.timeout(seconds):
            while True:
                state = self.carriers.state(name)
                if state is not None and check(state):
                    return state
                await asyncio.sleep(0.02)


@asynccontextmanager
async def our_side(*carriers: Carrier, tls: ssl.SSLContext | None = None) -> AsyncIterator[Side]:
    """The carriers of a provisioning at work on loopback."""
    clock, ids = SystemClock(), RandomIds()
    bind = Address("127.0.0.1", take_port())
    bind6 = Address("::1", bind.port)
    listeners = [Listener(transport, at, at) for transport in ("udp", "tcp") for at in (bind, bind6)]  # type: ignore[arg-type]
    exchange: Exchange
    running: Carriers

    def handler(event: Event) -> None:
        if isinstance(event, ResponseReceived):
            exchange.response(event.tx, event.response)
        elif isinstance(event, TransactionTimedOut | TransportFailed):
            exchange.no_response(event.tx)
        elif isinstance(event, FlowClosed):
            running.flow_closed(event.flow)

    driver = Driver(Endpoint(ids), listeners, handler, clock=clock, tls_client=tls)
    exchange = Exchange(driver)
    dns = CaresDns()
    moves: list[tuple[Flow, Flow]] = []
    running = Carriers(
        driver,
        exchange,
        Resolver(dns, clock),
        clock,
        ids,
        lambda: 0.5,
        moved=lambda name, old, new: moves.append((old, new)),
    )
    await driver.start()
    try:
        running.apply(Snapshot(Rows(carriers=carriers)))
        side = Side(driver, running)
        side.moves = moves
        yield side
        await running.stop()
    finally:
        await driver.stop()
        await dns.close()


def carrier_at(kamailio: Kamailio, transport: str = "udp", password: str = "secret", expires: int = 600) -> Carrier:
    return Carrier(
        name="kamailio",
        domain="carrier.example",
        outbound_proxy=f"sip:{kamailio.server(transport)};transport={transport}",
        transport=transport,
        username=ACCOUNT,
        auth_username=AUTH,
        password=password,
        expires=expires,
    )


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_registers_and_unregisters(peers: Peers, certificate: Certificate, transport: str) -> None:
    """Challenge, credentials, binding in the carrier's table with our mark; Expires 0 at the end takes it back."""
    kamailio = peers.kamailio({AUTH: "secret"}, certificate=certificate)
    context = ssl.create_default_context(cafile=str(certificate.authority)) if transport == "tls" else None
    async with our_side(carrier_at(kamailio, transport), tls=context) as side:
        state = await side.until("kamailio", lambda s: s.state == "registered")
        assert state.up and state.flow is not None and state.flow.transport == transport and state.contact is not None
        (contact,) = kamailio.registered(ACCOUNT)
        assert contact == str(state.contact) and "line=" in contact
        way = await side.carriers.way("kamailio")
        assert way.flow == state.flow
    assert kamailio.registered(ACCOUNT) == []
    registers = [seen for seen in kamailio.trace if seen.direction == "in" and seen.text.startswith("REGISTER")]
    assert len(registers) == 3
    assert "Expires: 0" in registers[2].text and "nc=00000002" in registers[2].text


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_over_ipv6(peers: Peers, transport: str) -> None:
    """A carrier that is reached over IPv6 beside one over IPv4, each with a Contact of its own family."""
    six = peers.kamailio({AUTH: "secret"}, address="[::1]")
    four = peers.kamailio({AUTH: "secret"})
    async with our_side(replace(carrier_at(six, transport), name="six"), carrier_at(four, transport)) as side:
        state = await side.until("six", lambda s: s.state == "registered")
        assert state.contact is not None and state.contact.host == "::1"
        assert "[::1]" in six.registered(ACCOUNT)[0]
        state = await side.until("kamailio", lambda s: s.state == "registered")
        assert state.contact is not None and state.contact.host == "127.0.0.1"
    assert six.registered(ACCOUNT) == four.registered(ACCOUNT) == []


async def test_minimum_interval(peers: Peers) -> None:
    """T1.6: 423 is answered with the carrier's minimum at once."""
    kamailio = peers.kamailio({AUTH: "secret"}, min_expires=900)
    async with our_side(carrier_at(kamailio)) as side:
        state = await side.until("kamailio", lambda s: s.state == "registered")
        assert state.registered_until is not None
        assert 890 < state.registered_until - side.driver.now() <= 900


async def test_sha_256(peers: Peers) -> None:
    """RFC 8760 against somebody else's implementation."""
    kamailio = peers.kamailio({AUTH: "secret"}, algorithm="SHA-256")
    async with our_side(carrier_at(kamailio)) as side:
        await side.until("kamailio", lambda s: s.state == "registered")


async def test_wrong_password(peers: Peers) -> None:
    """T1.21: one try with the password, then a fault that says what to mend."""
    kamailio = peers.kamailio({AUTH: "secret"})
    async with our_side(carrier_at(kamailio, password="wrong")) as side:
        state = await side.until("kamailio", lambda s: s.state == "fault")
        assert "user or password refused" in state.detail and not state.up
        with pytest.raises(Exception, match="user or password refused"):
            await side.carriers.way("kamailio")
    assert kamailio.registered(ACCOUNT) == []


async def test_refreshes(peers: Peers, certificate: Certificate) -> None:
    """T1.20, T1.21 over each transport: at 80 to 90 % of the lifetime, over the same flow, one Call-ID, a rising CSeq.

    The nonce has run out meanwhile, and what is `stale` is answered with the new one.
    """
    kamailio = peers.kamailio({AUTH: "secret"}, certificate=certificate, nonce_expire=2)
    transports = ("udp", "tcp", "tls")
    carriers = [
        replace(carrier_at(kamailio, t, expires=7), name=t, username=f"{ACCOUNT}{n}") for n, t in enumerate(transports)
    ]
    async with our_side(*carriers, tls=client_context(certificate.authority)) as side:
        before = [await side.until(t, lambda s: s.state == "registered") for t in transports]
        for transport, old in zip(transports, before, strict=True):
            until = old.registered_until
            new = await side.until(transport, lambda s, until=until: s.registered_until != until)  # type: ignore[misc]
            assert new.registered_until is not None and until is not None
            assert 0.8 * 7 <= new.registered_until - until < 0.9 * 7 + 1
            assert (new.flow, new.since, new.state) == (old.flow, old.since, "registered")
        trace = kamailio.trace
    for number in range(3):
        sent = [m for m in trace.requests("REGISTER", "in") if f"{ACCOUNT}{number}@" in m.header("To")]
        assert [m.header("CSeq") for m in sent[:4]] == [f"{n} REGISTER" for n in range(1, 5)]
        assert len({m.header("Call-ID") for m in sent}) == 1
        nonces = [re.search(r'nonce="([^"]+)"', m.header("Authorization")) for m in sent[1:4]]
        first, again, fresh = (found.group(1) for found in nonces if found is not None)
        assert first == again != fresh, "the nonce that has run out is given up for the one that came with stale=true"


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_lost_connection_is_registered_again_at_once(
    peers: Peers, certificate: Certificate, transport: str
) -> None:
    """T1.24: within a second, over a new connection; the carrier has one binding, the new one."""
    kamailio = peers.kamailio({AUTH: "secret"}, certificate=certificate)
    async with our_side(carrier_at(kamailio, transport), tls=client_context(certificate.authority)) as side:
        before = await side.until("kamailio", lambda s: s.state == "registered")
        assert before.flow is not None
        side.driver.connections._connections[before.flow.connection].abort()
        after = await side.until("kamailio", lambda s: s.state == "registered" and s.flow != before.flow, 1)
        assert len(kamailio.registered(ACCOUNT)) == 1
        assert side.moves == [(before.flow, after.flow)], "calls follow"


async def test_only_tls_for_the_service_domain(peers: Peers, certificate: Certificate) -> None:
    """RFC 5922: a certificate for somebody else keeps us from registering, and the state says whose it is."""
    kamailio = peers.kamailio({AUTH: "secret"}, address="127.0.0.12", certificate=certificate)
    context = client_context(certificate.authority)
    async with our_side(carrier_at(kamailio, "tls"), tls=context) as side:
        state = await side.until("kamailio", lambda s: s.state == "retrying")
        assert "not good for 127.0.0.12: it names edge.example" in state.detail
    assert not kamailio.trace


async def test_carrier_restarts(peers: Peers) -> None:
    """T1.24: its connections are gone, so the registration is; the state says so at once."""
    kamailio = peers.kamailio({AUTH: "secret"})
    async with our_side(carrier_at(kamailio, "tcp")) as side:
        await side.until("kamailio", lambda s: s.state == "registered")
        kamailio.stop()
        state = await side.until("kamailio", lambda s: s.state == "retrying")
        assert not state.up and state.detail


async def test_changed_carrier_restarts_and_others_go_on(peers: Peers) -> None:
    """A new password registers anew; a new limit touches nothing; a removed carrier is unregistered."""
    kamailio = peers.kamailio({AUTH: "secret", "second": "word"})
    first = carrier_at(kamailio)
    second = replace(first, name="second", username="second", auth_username="second", password="wrong")
    async with our_side(first, second) as side:
        before = await side.until("kamailio", lambda s: s.state == "registered")
        await side.until("second", lambda s: s.state == "fault")
        limited = replace(first, max_calls=5)
        side.carriers.apply(Snapshot(Rows(carriers=(limited, replace(second, password="word")))))
        await side.until("second", lambda s: s.state == "registered")
        after = side.carriers.state("kamailio")
        assert after is not None and after.since == before.since
        assert len(kamailio.registered("second")) == 1
        side.carriers.apply(Snapshot(Rows(carriers=(limited,))))
        assert side.carriers.state("second") is None
        await asyncio.to_thread(kamailio.wait_message, "Expires: 0")
    assert kamailio.registered("second") == []
