"""The shell of the SIP core: sockets, one timer, and the pump between the endpoint and its user.

With `Connections` the only caller of `Endpoint`'s wire and timer methods. Everything runs in the loop's thread; the
user's handler is synchronous and may call back at any time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import structlog

from edge.sip.build import response_to
from edge.sip.endpoint import Endpoint
from edge.sip.events import (
    AckReceived,
    Event,
    PongReceived,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from edge.sip.flow import Address, Flow, Transport
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId
from edge.sip.transaction.saved import SavedTransaction
from edge.transport import inherited
from edge.transport.advertised import Advertised
from edge.transport.clock import Clock
from edge.transport.connections import Connections
from edge.transport.entrance import Entrance
from edge.transport.errors import ConnectError, ListenError
from edge.transport.guard import Guard, Verdict
from edge.transport.resolver import ResolvedHop
from edge.transport.tcp import StreamLimits
from edge.transport.udp import UdpSocket, bound_socket, local_address

_log = structlog.get_logger(__name__)

Tap: TypeAlias = Callable[[Literal["in", "out"], bytes, Flow, float], None]
"""Sees every message on the wire: direction, bytes, flow, monotonic time."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to listen on; `advertised` is what peers are told (Via, Contact), which may differ behind a NAT.

    Where it is 0.0.0.0 or :: each peer is told the address that this machine reaches it from.
    Port 0 of `advertised` stands for the port that was bound. `tls` is a TLS listener's own context, where it wants
    something else of its peers than the others.
    """

    transport: Transport
    bind: Address
    advertised: Address
    tls: ssl.SSLContext | None = None


class Driver:
    """Runs an endpoint over real sockets."""

    def __init__(
        self,
        endpoint: Endpoint,
        listeners: Sequence[Listener],
        handler: Callable[[Event], None],
        *,
        clock: Clock,
        guard: Guard | None = None,
        tap: Tap | None = None,
        tls_server: ssl.SSLContext | None = None,
        tls_client: ssl.SSLContext | None = None,
        tls_wildcards: bool = False,
        limits: StreamLimits | None = None,
        internal_error: Callable[[str], None] | None = None,
    ) -> None:
        """`tls_server` is needed for TLS listeners that have no context of their own, `tls_client` for TLS connections
        of ours (it may be replaced while running), `tls_wildcards` allows wildcards in the certificates that they see.

        `internal_error` counts what should never happen: it gets the place (handler, core, tap).
        """
        self.handler = handler
        self.tap = tap
        self.elsewhere: Callable[[bytes, Flow], bool] = _nowhere
        """Asked to deliver a message whose connection is gone; False where it cannot."""
        self._endpoint = endpoint
        endpoint.trace = self._trace
        self._listeners = tuple(listeners)
        self._clock = clock
        self._guard = guard
        self._tls_server = tls_server
        self._internal_error = internal_error
        self.connections = Connections(
            endpoint,
            self._pump,
            partial(self._failed, "core"),
            clock=clock,
            guard=guard,
            limits=limits or StreamLimits(),
            tls_client=tls_client,
            tls_wildcards=tls_wildcards,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._udp: dict[Address, UdpSocket] = {}
        self._servers: list[asyncio.Server | Entrance] = []
        self._listening: list[tuple[Transport, Address, int]] = []
        self._advertised = Advertised()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._pumping = False
        self._scheduled = False

    async def start(self) -> None:
        """Bind all listeners, then begin to read. Raises ListenError, with nothing left bound."""
        self._loop = loop = asyncio.get_running_loop()
        try:
            for listener in self._listeners:
                if listener.transport == "udp":
                    udp = UdpSocket(listener.bind, self._datagram)
                    self._udp[udp.local] = udp
                    self._listening.append(("udp", listener.bind, udp.descriptor))
                    self._advertised.add("udp", udp.local, listener.advertised)
                    continue
                context = (listener.tls or self._tls_server) if listener.transport == "tls" else None
                if listener.transport == "tls" and context is None:
                    raise ListenError(
                        "tls", listener.bind, "there is no certificate", "configure one or remove the listener"
                    )
                sock = bound_socket(socket.SOCK_STREAM, listener.transport, listener.bind)
                self._listening.append((listener.transport, listener.bind, sock.fileno()))
                local = local_address(sock)
                self._advertised.add(listener.transport, local, listener.advertised)
                made = partial(self.connections.accepted, listener.transport, local, context)
                if context is not None:
                    self._servers.append(Entrance(self.connections, sock, made))
                else:
                    self._servers.append(await loop.create_server(made, sock=sock))
            await self.connections.take_over()
        except BaseException:
            await self.stop()
            raise
        inherited.close_rest()
        for udp in self._udp.values():
            udp.start()
        self.connections.start()

    def listening(self) -> list[tuple[Transport, Address, int]]:
        """The sockets of all listeners: transport, address as configured, descriptor."""
        return self._listening

    def dropped(self) -> dict[str, int]:
        """Datagrams that the kernel threw away since the start, by UDP listener (`udp:host:port`)."""
        return {f"udp:{udp.local}": udp.dropped for udp in self._udp.values()}

    async def stop(self, seconds: float = 1.0) -> None:
        """Close everything; connections get `seconds` to write what they still hold."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self.connections.stop(seconds)
        self._loop = None  # nothing is armed or scheduled any more
        for udp in self._udp.values():
            udp.close()
        self._udp.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def now(self) -> float:
        """Seconds on the clock that all times of the core are on."""
        return self._clock.now()

    # addresses and flows

    def advertised(self, flow: Flow) -> Address:
        """What the peer of `flow` is to be told as our address."""
        listener = self.connections.listener(flow) if flow.connection else None
        return self._advertised.to(flow, listener or flow.local)

    def sent_by(self, flow: Flow) -> str:
        """`advertised` as `host:port`."""
        return str(self.advertised(flow))

    def bound(self, transport: Transport) -> list[Address]:
        """The addresses that listeners of `transport` have."""
        return self._advertised.bound(transport)

    async def flow_to(self, hop: ResolvedHop) -> Flow:
        """A flow to an address: our UDP socket of its family, or an open connection of ours, or a new one.

        Raises ConnectError.
        """
        if hop.transport == "udp":
            udp = self._udp_for(hop.address)
            if udp is None:
                raise ConnectError(f"there is no UDP listener for {_family(hop.address)}, which {hop.address} needs")
            return Flow("udp", udp.local, hop.address)
        return await self.connections.flow_to(hop)

    def keep_alive(self, flow: Flow, seconds: float | None) -> None:
        """See `StreamConnection.keep_alive`."""
        connection = self.connections.get(flow)
        if connection is not None:
            connection.keep_alive(seconds)

    def certified(self, flow: Flow) -> tuple[str, ...]:
        """See `Connections.certified`."""
        return self.connections.certified(flow) if flow.connection else ()

    def transactions(self) -> dict[str, int]:
        """See `Endpoint.transactions`."""
        return self._endpoint.transactions()

    @property
    def resent(self) -> int:
        """Messages that transactions sent again because nothing came back, since the start."""
        return self._endpoint.resent

    # requests and responses; events that follow are handled after the call returned

    def send_request(self, request: Request, flow: Flow) -> TransactionId:
        """See `Endpoint.send_request`."""
        tx = self._endpoint.send_request(request, flow, self.sent_by(flow), self._clock.now())
        self._called()
        return tx

    def send_ack(self, request: Request, flow: Flow) -> None:
        """See `Endpoint.send_ack`."""
        self._endpoint.send_ack(request, flow, self.sent_by(flow), self._clock.now())
        self._called()

    def cancel(self, tx: TransactionId, reason: str | None = None) -> None:
        """See `Endpoint.cancel`."""
        self._endpoint.cancel(tx, self._clock.now(), reason)
        self._called()

    def respond(self, tx: TransactionId, response: Response) -> None:
        """See `Endpoint.respond`."""
        self._endpoint.respond(tx, response, self._clock.now())
        self._called()

    def ignore(self, tx: TransactionId) -> None:
        """See `Endpoint.ignore`."""
        self._endpoint.ignore(tx, self._clock.now())
        self._called()

    def local_tag(self, tx: TransactionId) -> str:
        """See `Endpoint.local_tag`."""
        return self._endpoint.local_tag(tx)

    # across a restart

    def save(self, tx: TransactionId) -> SavedTransaction | None:
        """See `Endpoint.save`."""
        return self._endpoint.save(tx)

    def save_client(self, request: Request) -> tuple[TransactionId, SavedTransaction] | None:
        """See `Endpoint.save_client`."""
        return self._endpoint.save_client(request)

    def restore(self, transaction: SavedTransaction, request: Request) -> TransactionId:
        """See `Endpoint.restore`; what it wants sent leaves at the next `wake`."""
        return self._endpoint.restore(transaction, request, self._clock.now())

    def wake(self) -> None:
        """Send what waits, and mind the timers."""
        self._called()

    # the pump

    def _called(self) -> None:
        if self._pumping:
            return
        self._send_all()
        self._arm()
        if self._endpoint.has_events and not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        self._pumping = True
        try:
            while True:
                self._send_all()
                event = self._endpoint.next_event()
                if event is None:
                    break
                self._handle(event)
        finally:
            self._pumping = False
        self._arm()

    def _send_all(self) -> None:
        outgoing = self._endpoint.outgoing()
        if not outgoing:
            return
        now = self._clock.now()
        for data, flow, tx in outgoing:
            if not self._send(data, flow):
                if tx is not None:
                    self._endpoint.send_failed(tx, now)
            elif self.tap is not None and len(data) > 4:  # keep-alives are no messages
                self._tap("out", data, flow, now)

    def _send(self, data: bytes, flow: Flow) -> bool:
        if flow.transport == "udp":
            udp = self._udp.get(flow.local) or self._udp_for(flow.remote)
            return udp is not None and udp.send(data, flow.remote)
        connection = self.connections.get(flow)
        if connection is None:
            return self.elsewhere(data, flow)
        return connection.send(data)

    def is_open(self, flow: Flow) -> bool:
        """Whether something can be sent over a flow."""
        return flow.transport == "udp" or self.connections.get(flow) is not None

    def send(self, data: bytes, flow: Flow) -> bool:
        """Send a message as it is over a flow that is open."""
        if not self.is_open(flow):
            return False
        sent = self._send(data, flow)
        if sent and self.tap is not None:
            self._tap("out", data, flow, self._clock.now())
        return sent

    def _handle(self, event: Event) -> None:
        if isinstance(event, _MESSAGES):
            if event.flow.connection and (connection := self.connections.get(event.flow)) is not None:
                connection.message_received()
        elif isinstance(event, PongReceived):
            if (connection := self.connections.get(event.flow)) is not None:
                connection.pong_received()
            return
        try:
            self.handler(event)
        except Exception as error:
            self._failed("handler", error, event)
            if isinstance(event, RequestReceived):
                self._endpoint.respond(event.tx, response_to(event.request, 500), self._clock.now())

    def _failed(self, where: str, error: Exception, event: Event | None = None) -> None:
        fields: dict[str, str] = {}
        if event is not None:
            fields["sip_event"] = type(event).__name__
            if isinstance(event, RequestReceived | AckReceived):
                fields["sip_call_id"] = event.request.headers.get("call-id") or ""
            elif isinstance(event, ResponseReceived):
                fields["sip_call_id"] = event.response.headers.get("call-id") or ""
            elif isinstance(event, TransactionTimedOut | TransportFailed):
                fields["tx"] = str(event.tx)
        _log.error("internal_error", where=where, exc_info=error, **fields)
        if self._internal_error is not None:
            self._internal_error(where)

    def _trace(self, data: bytes, flow: Flow, now: float) -> None:
        if self.tap is not None:
            self._tap("in", data, flow, now)

    def _tap(self, direction: Literal["in", "out"], data: bytes, flow: Flow, now: float) -> None:
        try:
            assert self.tap is not None
            self.tap(direction, data, flow, now)
        except Exception as error:
            self._failed("tap", error)

    def _arm(self) -> None:
        """Keep the one timer at or before the deadline; one that comes too early only looks again."""
        deadline = self._endpoint.next_deadline()
        if deadline is None or self._loop is None:
            return
        if self._timer is not None:
            if self._armed <= deadline:
                return
            self._timer.cancel()
        self._armed = deadline
        # never early: the loop counts in milliseconds and would come back again and again in the last one
        self._timer = self._loop.call_later(max(0.0, deadline - self._clock.now()) + 0.001, self._due)

    def _due(self) -> None:
        self._timer = None
        try:
            self._endpoint.handle_timer(self._clock.now())
        except Exception as error:
            self._failed("core", error)
        self._pump()

    # datagrams

    def _datagram(self, data: bytes, flow: Flow) -> None:
        now = self._clock.now()
        if self._guard is not None and self._guard.admit(data, flow.remote.host, now) is not Verdict.PASS:
            return
        try:
            self._endpoint.receive_datagram(data, flow, now)
        except Exception as error:
            self._failed("core", error)
        self._pump()

    def _udp_for(self, remote: Address) -> UdpSocket | None:
        """The socket to reach `remote` from: of its family, on loopback where the peer is there, else not."""
        v6 = ":" in remote.host
        candidates = [udp for udp in self._udp.values() if (":" in udp.local.host) == v6]
        loopback = _is_loopback(remote.host)
        for udp in candidates:
            if _is_loopback(udp.local.host) == loopback:
                return udp
        return candidates[0] if candidates else None


_MESSAGES = (RequestReceived, AckReceived, ResponseReceived)


def _nowhere(data: bytes, flow: Flow) -> bool:
    return False


def _family(address: Address) -> str:
    return "IPv6" if ":" in address.host else "IPv4"


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"
