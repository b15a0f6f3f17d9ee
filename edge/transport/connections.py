"""The TCP and TLS connections of a driver: which are open, who may open one, and how they outlive an upgrade.

Bytes of a connection go to the endpoint; who holds the connections (`Driver`) pumps what follows of that.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import structlog

from edge.sip.endpoint import Endpoint
from edge.sip.flow import Address, Flow, Transport
from edge.transport import handover, tls_keeper
from edge.transport.certificate import speaks_for
from edge.transport.certified import CertifiedPeers
from edge.transport.clock import Clock
from edge.transport.errors import ConnectError
from edge.transport.guard import Guard, Verdict
from edge.transport.handover import KeptConnection
from edge.transport.resolver import ResolvedHop
from edge.transport.tcp import StreamConnection, StreamLimits
from edge.transport.tls_channel import TlsChannel

_log = structlog.get_logger(__name__)


class Connections:
    """All connections, by their numbers."""

    def __init__(
        self,
        endpoint: Endpoint,
        pump: Callable[[], None],
        failed: Callable[[Exception], None],
        *,
        clock: Clock,
        guard: Guard | None,
        limits: StreamLimits,
        tls_client: ssl.SSLContext | None,
        tls_wildcards: bool,
    ) -> None:
        """`pump` is called after the endpoint has heard something, `failed` where that raised."""
        self.limits = limits
        self.tls_client = tls_client
        """For TLS connections of ours; may be replaced while running."""
        self.tls_wildcards = tls_wildcards
        """Whether certificates that they see may have wildcards."""
        self.handshake_failed: Callable[[str, Exception], None] = lambda host, error: None
        """Hears of a peer that did not finish its TLS handshake."""
        self.certified_peers = CertifiedPeers()
        self._endpoint = endpoint
        self._pump = pump
        self._failed = failed
        self._clock = clock
        self._guard = guard
        # numbers go on from the clock, so that a connection of an earlier run is never taken for one of this run
        self._last_number = int(clock.utcnow().timestamp()) << 20
        self._connections: dict[int, StreamConnection] = {}
        self._per_source: dict[str, int] = {}
        self._shaking: dict[str, int] = {}
        self._handshakes = 0
        self._ours: dict[tuple[Transport, Address, str], StreamConnection] = {}
        self._connecting: dict[tuple[Transport, Address, str], asyncio.Task[StreamConnection]] = {}
        self._all_closed: asyncio.Event | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._held: list[Callable[[], None]] | None = []
        if guard is not None:
            guard.on_ban = self._close_all_of

    def __len__(self) -> int:
        """Open connections."""
        return len(self._connections)

    def get(self, flow: Flow) -> StreamConnection | None:
        """The open connection of a flow."""
        return self._connections.get(flow.connection)

    def listener(self, flow: Flow) -> Address | None:
        """The address that a connection was accepted at; None for one of ours, or one that is gone."""
        connection = self._connections.get(flow.connection)
        return connection.listener if connection is not None else None

    async def take_over(self) -> None:
        """Go on with what the program before this one left."""
        left = handover.take()
        for kept in left:
            await self._take_over(kept)
        if left:
            _log.info("connections.taken_over", left=len(left), open=len(self._connections))

    def start(self) -> None:
        """Whoever starts the connections has the loop for himself until now: what came over them follows."""
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(_SWEEP_EVERY, self._close_idle)
        loop.call_soon(self._begin)

    def _begin(self) -> None:
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

    async def stop(self, seconds: float) -> None:
        """Close them all; they get `seconds` to write what they still hold."""
        self._held = None
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
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

    async def flow_to(self, hop: ResolvedHop) -> Flow:
        """An open connection of ours to an address, or a new one. Raises ConnectError."""
        key = (hop.transport, hop.address, hop.server_name if hop.transport == "tls" else "")
        connection = self._ours.get(key)
        if connection is not None and not connection.closed:
            return connection.flow
        task = self._connecting.get(key)
        if task is None:
            task = self._connecting[key] = asyncio.ensure_future(self._connect(*key))
            task.add_done_callback(lambda done: self._connected(key, done))
        return (await asyncio.shield(task)).flow  # others may be waiting for it too

    def close(self, flow: Flow) -> None:
        """Close a connection once everything is written."""
        connection = self._connections.get(flow.connection)
        if connection is not None:
            connection.close()

    def certified(self, flow: Flow) -> tuple[str, ...]:
        """What the certificate that the peer of a TLS connection to us has shown names, in lower case: its SIP domains
        (RFC 5922 section 7.1) and addresses. Verified; empty where it showed none."""
        connection = self._connections.get(flow.connection)
        return connection.names if connection is not None and connection.listener is not None else ()

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
            self._failed(error)
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
        self._sweep = asyncio.get_running_loop().call_later(_SWEEP_EVERY, self._close_idle)

    def _source(self, connection: StreamConnection) -> str:
        host = connection.flow.remote.host
        return host if self._guard is None else self._guard.source_of(host)

    def accepted(self, transport: Transport, listener: Address, context: ssl.SSLContext | None) -> StreamConnection:
        """What reads a connection that somebody opens to a listener."""
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


_SWEEP_EVERY = 30.0
_STRANGERS_SHARE = 0.75
"""Of all connections, as long as they are strangers' to take."""


def _names(names: tuple[str, ...]) -> str:
    hint = " (wildcards are not allowed in SIP; tls_wildcards allows them)" if any("*" in n for n in names) else ""
    return f"it names {', '.join(names[:5]) or 'nobody'}{hint}"
