"""The shell of the SIP core: sockets, one timer, and the pump between the endpoint and its user.

The only caller of `Endpoint`'s wire and timer methods. Everything runs in the loop's thread; the user's handler is
synchronous and may call back at any time.
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
from edge.transport import handover, inherited, tls_keeper
from edge.transport.certificate import speaks_for
from edge.transport.certified import CertifiedPeers
from edge.transport.clock import Clock
from edge.transport.entrance import Entrance
from edge.transport.errors import ConnectError, ListenError
from edge.transport.guard import Guard, Verdict
from edge.transport.handover import KeptConnection
from edge.transport.resolver import ResolvedHop
from edge.transport.tcp import StreamConnection, StreamLimits
from edge.transport.tls_channel import TlsChannel
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
        self.limits = limits or StreamLimits()
        self.handler = handler
        self.tap = tap
        self.elsewhere: Callable[[bytes, Flow], bool] = _nowhere
        """Asked to deliver a message whose connection is gone; False where it cannot."""
        self.handshake_failed: Callable[[str, Exception], None] = lambda host, error: None
        """Hears of a peer that did not finish its TLS handshake."""
        self.certified_peers = CertifiedPeers()
        self._endpoint = endpoint
        endpoint.trace = self._trace
        self._listeners = tuple(listeners)
        self._clock = clock
        self._guard = guard
        self._tls_server = tls_server
        self.tls_client = tls_client
        self.tls_wildcards = tls_wildcards
        self._internal_error = internal_error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._udp: dict[Address, UdpSocket] = {}
        self._servers: list[asyncio.Server | Entrance] = []
        self._listening: list[tuple[Transport, Address, int]] = []
        self._advertised: dict[tuple[Transport, Address], Address] = {}
        # numbers go on from the clock, so that a connection of an earlier run is never taken for one of this run
        self._last_number = int(clock.utcnow().timestamp()) << 20
        self._own: dict[str, str] = {}
        self._connections: dict[int, StreamConnection] = {}
        self._per_source: dict[str, int] = {}
        self._shaking: dict[str, int] = {}
        self._handshakes = 0
        self._ours: dict[tuple[Transport, Address, str], StreamConnection] = {}
        self._connecting: dict[tuple[Transport, Address, str], asyncio.Task[StreamConnection]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._pumping = False
        self._scheduled = False
        self._all_closed: asyncio.Event | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._held: list[Callable[[], None]] | None = []
        if guard is not None:
            guard.on_ban = self._close_all_of

    async def start(self) -> None:
        """Bind all listeners, then begin to read. Raises ListenError, with nothing left bound."""
        self._loop = loop = asyncio.get_running_loop()
        try:
            for listener in self._listeners:
                if listener.transport == "udp":
                    udp = UdpSocket(listener.bind, self._datagram)
                    self._udp[udp.local] = udp
                    self._listening.append(("udp", listener.bind, udp.descriptor))
                    self._advertise(listener, udp.local)
                    continue
                context = (listener.tls or self._tls_server) if listener.transport == "tls" else None
                if listener.transport == "tls" and context is None:
                    raise ListenError(
                        "tls", listener.bind, "there is no certificate", "configure one or remove the listener"
                    )
                sock = bound_socket(socket.SOCK_STREAM, listener.transport, listener.bind)
                self._listening.append((listener.transport, listener.bind, sock.fileno()))
                local = local_address(sock)
                self._advertise(listener, local)
                made = partial(self._connection, listener.transport, local, context)
                if context is not None:
                    self._servers.append(Entrance(self, sock, self.limits.handshake, made))
                else:
                    self._servers.append(await loop.create_server(made, sock=sock))
            left = handover.take()
            for kept in left:
                await self._take_over(kept)
            if left:
                _log.info("connections.taken_over", left=len(left), open=len(self._connections))
        except BaseException:
            await self.stop()
            raise
        inherited.close_rest()
        for udp in self._udp.values():
            udp.start()
        self._sweep = loop.call_later(_SWEEP_EVERY, self._close_idle)
        loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Whoever started the driver has had the loop for himself until now: what came over connections follows."""
        held, self._held = self._held, None
        for each in held or ():
            each()

    async def _take_over(self, kept: KeptConnection) -> None:
        """Go on with a connection of the program before this one."""
        loop = asyncio.get_running_loop()
        flow = kept.flow
        self._last_number = max(self._last_number, flow.connection)
        connection = StreamConnection(self, flow.transport, flow.connection, kept.listener, kept=kept)
        try:
            await loop.connect_accepted_socket(lambda: connection, socket.socket(fileno=kept.descriptor))
        except OSError:
            return  # its peer has gone meanwhile
        if kept.reached is not None and not connection.closed:
            self._ours[(flow.transport, kept.reached, kept.server_name)] = connection

    @property
    def unsent(self) -> bool:
        """A peer has not yet read what was sent to it over a connection."""
        return any(connection.unsent for connection in self._connections.values())

    def hand_over(self) -> int:
        """Leave all connections to the program that takes the place of this one; how many. To be called last: nothing
        is read or sent any more. A peer that does not read at this moment is left alone, for half a message may be
        on its way to it."""
        reached = {connection.number: key for key, connection in self._ours.items()}
        kept: list[KeptConnection] = []
        secured: list[tuple[int, TlsChannel, socket.socket]] = []
        for connection in self._connections.values():
            if connection.closed or connection.unsent:
                continue
            unread, spoke = self._endpoint.unread(connection.flow), connection.spoke
            descriptor, channel = connection.release()
            if channel is not None:
                try:
                    near, far = socket.socketpair()
                except OSError:  # no descriptors left
                    continue
                secured.append((descriptor, channel, far))
                descriptor = near.detach()
            _, address, server_name = reached.get(connection.number, (None, None, ""))
            kept.append(
                KeptConnection(
                    descriptor,
                    connection.flow,
                    connection.listener,
                    connection.names,
                    unread,
                    spoke,
                    address,
                    server_name,
                )
            )
        if secured:
            tls_keeper.keep(secured)
        handover.leave(kept)
        return len(kept)

    def taken_over(self) -> dict[Flow, Flow]:
        """Connections of the program before this one that are open, by their flow without its number."""
        return {c.flow._replace(connection=0): c.flow for c in self._connections.values() if c.kept is not None}

    def listening(self) -> list[tuple[Transport, Address, int]]:
        """The sockets of all listeners: transport, address as configured, descriptor."""
        return self._listening

    async def stop(self, seconds: float = 1.0) -> None:
        """Close everything; connections get `seconds` to write what they still hold."""
        self._held = None
        if self._sweep is not None:
            self._sweep.cancel()
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in self._connecting.values():
            task.cancel()
        if self._connections:
            self._all_closed = asyncio.Event()
            for connection in list(self._connections.values()):
                connection.close()
            try:
                async with asyncio.timeout(seconds):
                    await self._all_closed.wait()
            except TimeoutError:
                for connection in list(self._connections.values()):
                    connection.abort()
                await self._all_closed.wait()
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
        connection = self._connections.get(flow.connection) if flow.connection else None
        local = flow.local if connection is None or connection.listener is None else connection.listener
        found = self._advertised.get((flow.transport, local))
        if found is None:
            v6 = ":" in flow.local.host
            for (transport, bound), address in self._advertised.items():
                if transport == flow.transport and (":" in bound.host) == v6:
                    found = address
                    break
            else:
                return flow.local
        if found.host in _ANY:
            return Address(self._own_address(flow), found.port)
        return found

    def _own_address(self, flow: Flow) -> str:
        """The address of this machine that the peer of `flow` can answer to, where we listen on all of them."""
        if flow.local.host not in _ANY:
            return flow.local.host
        remote = flow.remote.host
        own = self._own.get(remote)
        if own is None:
            family = socket.AF_INET6 if ":" in remote else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((remote, 9))
                    own = str(probe.getsockname()[0])
                except OSError:
                    own = flow.local.host
            if len(self._own) >= _MOST_OWN:
                self._own.clear()
            self._own[remote] = own
        return own

    def sent_by(self, flow: Flow) -> str:
        """`advertised` as `host:port`."""
        return str(self.advertised(flow))

    def bound(self, transport: Transport) -> list[Address]:
        """The addresses that listeners of `transport` have."""
        return [address for kind, address in self._advertised if kind == transport]

    async def flow_to(self, hop: ResolvedHop) -> Flow:
        """A flow to an address: our UDP socket of its family, or an open connection of ours, or a new one.

        Raises ConnectError.
        """
        if hop.transport == "udp":
            udp = self._udp_for(hop.address)
            if udp is None:
                raise ConnectError(f"there is no UDP listener for {_family(hop.address)}, which {hop.address} needs")
            return Flow("udp", udp.local, hop.address)
        key = (hop.transport, hop.address, hop.server_name if hop.transport == "tls" else "")
        connection = self._ours.get(key)
        if connection is not None and not connection.closed:
            return connection.flow
        task = self._connecting.get(key)
        if task is None:
            task = self._connecting[key] = asyncio.ensure_future(self._connect(*key))
            task.add_done_callback(lambda done: self._connected(key, done))
        return (await asyncio.shield(task)).flow  # others may be waiting for it too

    def keep_alive(self, flow: Flow, seconds: float | None) -> None:
        """Send keep-alives over a connection, at random within the last sixth of each `seconds`; None ends it."""
        connection = self._connections.get(flow.connection)
        if connection is not None:
            connection.keep_alive(seconds)

    def close(self, flow: Flow) -> None:
        """Close a connection once everything is written."""
        connection = self._connections.get(flow.connection)
        if connection is not None:
            connection.close()

    def certified(self, flow: Flow) -> tuple[str, ...]:
        """What the certificate that the peer of a TLS connection to us has shown names, in lower case: its SIP domains
        (RFC 5922 section 7.1) and addresses. Verified; empty where it showed none."""
        connection = self._connections.get(flow.connection) if flow.connection else None
        return connection.names if connection is not None and connection.listener is not None else ()

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

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
        connection = self._connections.get(flow.connection)
        if connection is None:
            return self.elsewhere(data, flow)
        return connection.send(data)

    def is_open(self, flow: Flow) -> bool:
        """Whether something can be sent over a flow."""
        return flow.transport == "udp" or flow.connection in self._connections

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
            if event.flow.connection and (connection := self._connections.get(event.flow.connection)) is not None:
                connection.message_received()
        elif isinstance(event, PongReceived):
            if (connection := self._connections.get(event.flow.connection)) is not None:
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

    # connections

    def may_enter(self, host: str) -> bool:
        """A peer wants to shake hands (`Doorkeeper`): as many at once from one source as it may have connections."""
        if self._handshakes >= self.limits.handshakes or self._all_closed is not None:
            return False
        source = host if self._guard is None else self._guard.source_of(host)
        already = self._shaking.get(source, 0)
        if self._guard is not None:
            open_ones = already + self._per_source.get(source, 0)
            if self._guard.admit_connection(host, open_ones, self._clock.now()) is not Verdict.PASS:
                return False
        self._shaking[source] = already + 1
        self._handshakes += 1
        return True

    def entered(self, host: str, error: Exception | None) -> None:
        """A peer has shaken hands, or not (`Doorkeeper`)."""
        source = host if self._guard is None else self._guard.source_of(host)
        self._handshakes -= 1
        self._shaking[source] -= 1
        if not self._shaking[source]:
            del self._shaking[source]
        if error is not None:
            self.handshake_failed(host, error)

    def connection_made(self, connection: StreamConnection) -> bool:
        """A connection is open (`StreamUser`)."""
        if len(self._connections) >= self.limits.connections or self._all_closed is not None:
            return False
        flow = connection.flow
        source = self._source(connection)
        already = self._per_source.get(source, 0)
        if (
            connection.listener is not None
            and connection.kept is None
            and self._guard is not None
            and self._guard.admit_connection(
                flow.remote.host,
                already,
                self._clock.now(),
                crowded=len(self._connections) >= self.limits.connections * _STRANGERS_SHARE,
            )
            is not Verdict.PASS
        ):
            return False
        connection.heard_at = self._clock.now()
        self._connections[connection.number] = connection
        if connection.names and connection.listener is not None:
            self.certified_peers.add(flow, connection.names)
        self._per_source[source] = already + 1
        unread = connection.kept.unread if connection.kept is not None else b""
        self._endpoint.connection_made(flow, connection.listener is None, unread)
        return True

    def stream_received(self, connection: StreamConnection, data: bytes) -> None:
        """Bytes came over a connection (`StreamUser`)."""
        if self._held is not None:
            self._held.append(lambda: self.stream_received(connection, data))
            return
        if connection.number not in self._connections:
            return  # it has gone while they were held
        now = self._clock.now()
        connection.heard_at = now
        if (
            connection.listener is not None
            and self._guard is not None
            and self._guard.admit_stream(connection.flow.remote.host, len(data), now) is not Verdict.PASS
        ):
            connection.abort()
            return
        intact = False
        try:
            intact = self._endpoint.receive_stream(data, connection.flow, now)
        except Exception as error:
            self._failed("core", error)
        self._pump()
        if not intact:
            connection.close()
        elif connection.listener is not None:
            connection.unfinished(self._endpoint.unfinished(connection.flow))

    def connection_lost(self, connection: StreamConnection) -> None:
        """A connection is gone (`StreamUser`)."""
        if self._held is not None:
            self._held.append(lambda: self.connection_lost(connection))
            return
        del self._connections[connection.number]
        if connection.names and connection.listener is not None:
            self.certified_peers.remove(connection.flow, connection.names)
        source = self._source(connection)
        self._per_source[source] -= 1
        if not self._per_source[source]:
            del self._per_source[source]
        for key, ours in self._ours.items():
            if ours is connection:
                del self._ours[key]
                break
        self._endpoint.connection_lost(connection.flow, self._clock.now())
        self._pump()
        if self._all_closed is not None and not self._connections:
            self._all_closed.set()

    def _close_all_of(self, source: str) -> None:
        """Close the connections that a banned source has opened, once what is owed to it was written."""
        if source in self._per_source:
            for connection in list(self._connections.values()):
                if connection.listener is not None and self._source(connection) == source:
                    connection.close()

    def _close_idle(self) -> None:
        """Strangers that hold a connection and say nothing make room for others."""
        now = self._clock.now()
        for connection in list(self._connections.values()):
            if (
                connection.listener is not None
                and now - connection.heard_at > self.limits.idle
                and self._guard is not None
                and not self._guard.is_known(connection.flow.remote.host, now)
            ):
                connection.close()
        if self._loop is not None:
            self._sweep = self._loop.call_later(_SWEEP_EVERY, self._close_idle)

    def _source(self, connection: StreamConnection) -> str:
        host = connection.flow.remote.host
        return host if self._guard is None else self._guard.source_of(host)

    def _connection(
        self,
        transport: Transport,
        listener: Address | None,
        context: ssl.SSLContext | None,
    ) -> StreamConnection:
        self._last_number += 1
        channel = TlsChannel(context, server_side=True) if context is not None else None
        return StreamConnection(self, transport, self._last_number, listener, channel)

    async def _connect(self, transport: Transport, address: Address, server_name: str) -> StreamConnection:
        context = self.tls_client if transport == "tls" else None
        if transport == "tls" and context is None:
            raise ConnectError(f"{address} wants TLS, which is not configured")
        what = f"{transport} {address}"
        loop = asyncio.get_running_loop()
        strangers: list[tuple[str, ...]] = []

        def accept(names: tuple[str, ...]) -> bool:
            if speaks_for(names, server_name, wildcards=self.tls_wildcards):
                return True
            strangers.append(names)
            return False

        self._last_number += 1
        channel = TlsChannel(context, server_side=False, server_name=server_name) if context is not None else None
        connection = StreamConnection(
            self, transport, self._last_number, None, channel, accept if context is not None else None
        )
        try:
            async with asyncio.timeout(self.limits.connect):
                await loop.create_connection(lambda: connection, *address)
                await connection.opened
        except TimeoutError as error:
            raise ConnectError(f"{what} did not answer within {self.limits.connect:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise ConnectError(
                f"{what}: its certificate is not good for {server_name}: {error.verify_message}"
            ) from error
        except ssl.SSLError as error:
            raise ConnectError(f"{what}: TLS failed: {error.reason}") from error
        except OSError as error:
            raise ConnectError(f"{what}: {error.strerror or error}") from error
        finally:
            if not connection.opened.done() or connection.opened.cancelled():
                connection.abort()
        if strangers:
            raise ConnectError(f"{what}: its certificate is not good for {server_name}: {_names(strangers[0])}")
        if connection.number not in self._connections:
            raise ConnectError(f"{what} closed at once, or we have too many connections")
        self._ours[(transport, address, server_name)] = connection
        return connection

    def _connected(self, key: tuple[Transport, Address, str], done: asyncio.Task[StreamConnection]) -> None:
        del self._connecting[key]
        if not done.cancelled():
            done.exception()  # seen, also where all who waited for it have gone

    def _advertise(self, listener: Listener, local: Address) -> None:
        host, port = listener.advertised
        self._advertised[(listener.transport, local)] = Address(host, port or local.port)


_MESSAGES = (RequestReceived, AckReceived, ResponseReceived)
_ANY = frozenset(("0.0.0.0", "::"))
_MOST_OWN = 4096
_SWEEP_EVERY = 30.0
_STRANGERS_SHARE = 0.75
"""Of all connections, as long as they are strangers' to take."""


def _names(names: tuple[str, ...]) -> str:
    hint = " (wildcards are not allowed in SIP; tls_wildcards allows them)" if any("*" in n for n in names) else ""
    return f"it names {', '.join(names[:5]) or 'nobody'}{hint}"


def _nowhere(data: bytes, flow: Flow) -> bool:
    return False


def _family(address: Address) -> str:
    return "IPv6" if ":" in address.host else "IPv4"


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"
