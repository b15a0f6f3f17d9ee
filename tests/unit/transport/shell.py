"""Drivers on loopback for shell tests."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trustme

from edge.sip.build import response_to
from edge.sip.endpoint import Endpoint
from edge.sip.events import Event, RequestReceived
from edge.sip.flow import Address, Flow, Transport
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.timers import TimerConfig
from edge.transport.clock import RandomIds, SystemClock
from edge.transport.driver import Driver, Listener
from edge.transport.guard import Guard
from edge.transport.resolver import ResolvedHop
from edge.transport.tcp import StreamLimits

_ports = itertools.count(21000)
AUTHORITY = trustme.CA()


def port() -> int:
    """A port that no other test of this run has."""
    return next(_ports)


def server_tls(*names: str) -> ssl.SSLContext:
    """A server's context with a certificate for `names`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    AUTHORITY.issue_cert(*names).configure_cert(context)
    return context


def client_tls() -> ssl.SSLContext:
    """A client's context that trusts AUTHORITY."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@dataclass
class Node:
    """A driver, what it heard, and a script."""

    driver: Driver
    endpoint: Endpoint
    address: Address
    transport: Transport
    events: list[Event] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    script: Callable[[Event], None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()
        if self.script is not None:
            self.script(event)

    async def heard(self, kind: type, count: int = 1) -> Event:
        """Wait until `count` events of a class came; the last of them."""
        async with asyncio.timeout(10):
            while len(found := [e for e in self.events if isinstance(e, kind)]) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]

    def answering(self, status: int = 200) -> None:
        """Answer each request."""

        def script(event: Event) -> None:
            if isinstance(event, RequestReceived):
                self.driver.respond(event.tx, response_to(event.request, status))

        self.script = script

    def hop(self, server_name: str = "edge.example") -> ResolvedHop:
        """The way to this node."""
        return ResolvedHop(self.transport, self.address, server_name)


@asynccontextmanager
async def node(
    transport: Transport = "udp",
    host: str = "127.0.0.1",
    *,
    timers: TimerConfig | None = None,
    guard: Guard | None = None,
    limits: StreamLimits | None = None,
    advertised: Address | None = None,
    names: tuple[str, ...] = ("edge.example",),
) -> AsyncIterator[Node]:
    """A running driver with one listener."""
    address = Address(host, port())
    endpoint = Endpoint(RandomIds(), timers or TimerConfig())
    made: list[Node] = []
    driver = Driver(
        endpoint,
        [Listener(transport, address, advertised or address)],
        lambda event: made[0].on_event(event),
        clock=SystemClock(),
        guard=guard,
        tls_server=server_tls(*names) if transport == "tls" else None,
        tls_client=client_tls() if transport == "tls" else None,
        limits=limits,
        internal_error=lambda where: made[0].errors.append(where),
    )
    made.append(Node(driver, endpoint, address, transport))
    await driver.start()
    try:
        yield made[0]
    finally:
        await driver.stop()


def request(method: str = "OPTIONS", body: bytes = b"", call_id: str = "shell") -> Request:
    """A request without Via."""
    return Request(
        method,
        "sip:bob@edge.example",
        Headers(
            [
                ("Max-Forwards", "70"),
                ("From", "<sip:alice@edge.example>;tag=a"),
                ("To", "<sip:bob@edge.example>"),
                ("Call-ID", call_id),
                ("CSeq", f"1 {method}"),
            ]
        ),
        body,
    )


def wire(method: str = "OPTIONS", branch: str = "z9hG4bKraw", more: str = "") -> bytes:
    """A request for a bare socket."""
    made = request(method, call_id=branch)
    made.headers.insert_first("Via", f"SIP/2.0/TCP 127.0.0.1:9;branch={branch};rport")
    for line in filter(None, more.split("\r\n")):
        made.headers.add(*line.split(": ", 1))
    return made.to_bytes()


def flow_of(event: Event) -> Flow:
    """Where a request came from."""
    assert isinstance(event, RequestReceived)
    return event.flow
