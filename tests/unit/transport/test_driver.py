"""The driver on real loopback sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Literal

import pytest
import uvloop
from structlog.testing import capture_logs

from edge.sip.build import response_to
from edge.sip.endpoint import Endpoint
from edge.sip.events import (
    AckReceived,
    Event,
    FlowClosed,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from edge.sip.flow import Address, Flow, Transport
from edge.sip.timers import TimerConfig
from edge.transport.clock import RandomIds, SystemClock
from edge.transport.driver import Driver, Listener
from edge.transport.errors import ConnectError, ListenError
from edge.transport.guard import Guard, GuardLimits, Verdict
from edge.transport.resolver import ResolvedHop
from edge.transport.tcp import StreamLimits

from .shell import flow_of, node, port, request, wire

ALL: list[Transport] = ["udp", "tcp", "tls"]
STREAMS: list[Transport] = ["tcp", "tls"]


async def exchange(transport: Transport, host: str) -> None:
    """OPTIONS and its 200, INVITE, 200 and ACK, then the callee asks over the same flow."""
    async with node(transport, host) as a, node(transport, host) as b:
        a.answering()
        b.answering()
        flow = await a.driver.flow_to(b.hop())
        tx = a.driver.send_request(request(), flow)
        event = await a.heard(ResponseReceived)
        assert isinstance(event, ResponseReceived) and event.tx == tx and event.response.status == 200
        via = event.response.top_via
        assert (via.transport, via.host, via.port) == (transport.upper(), host, a.address.port)
        assert via.params.get("rport") == str(flow_of(b.events[0]).remote.port)
        a.driver.send_request(request("INVITE"), flow)
        await a.heard(ResponseReceived, 2)
        a.driver.send_ack(request("ACK"), flow)
        await b.heard(AckReceived)
        b.driver.send_request(request("BYE"), flow_of(b.events[0]))
        received = await a.heard(RequestReceived)
        assert isinstance(received, RequestReceived) and received.request.method == "BYE"
        await b.heard(ResponseReceived)
        assert a.errors == b.errors == []
        assert (len(a.driver.connections), len(b.driver.connections)) == ((0, 0) if transport == "udp" else (1, 1))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ALL)
async def test_requests_both_ways_over_one_flow(transport: Transport, host: str) -> None:
    """18.1, 18.2, RFC 5626: requests and responses in both directions over the flow that one side opened."""
    await exchange(transport, host)


@pytest.mark.parametrize("transport", ALL)
def test_the_same_under_uvloop(transport: Transport) -> None:
    """The daemon runs on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(exchange(transport, "127.0.0.1"))


async def test_advertised_address_is_what_peers_are_told() -> None:
    """Behind a NAT the bound address is not the one to send to."""
    async with node(advertised=Address("203.0.113.5", 0)) as a, node() as b:
        flow = await a.driver.flow_to(b.hop())
        a.driver.send_request(request(), flow)
        event = await b.heard(RequestReceived)
        assert isinstance(event, RequestReceived)
        via = event.request.top_via
        assert (via.host, via.port) == ("203.0.113.5", a.address.port)
        assert via.params.get("received") == "127.0.0.1"
        assert a.driver.sent_by(flow) == f"203.0.113.5:{a.address.port}"


async def test_flow_of_an_earlier_run_is_served_by_the_socket_there_is() -> None:
    """A UDP flow read from the database reaches its peer also where our port changed."""
    async with node() as a, node() as b:
        b.answering()
        a.driver.send_request(request(), Flow("udp", Address("127.0.0.1", 9), b.address))
        assert isinstance(await a.heard(ResponseReceived), ResponseReceived)


# listeners


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_taken_port_is_named_with_its_remedy(transport: Transport) -> None:
    """The operator learns which address, why, and what to do; nothing stays bound."""
    number = port()
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    free = Address("127.0.0.1", port())
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", number))
        if transport == "tcp":
            taken.listen()
        with pytest.raises(
            ListenError, match=rf"{transport} 127\.0\.0\.1:{number}: the port is taken .* choose another"
        ):
            await bare([Listener("udp", free, free), listener(transport, "127.0.0.1", number)]).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(tuple(free))


async def test_foreign_address_is_named_with_its_remedy() -> None:
    """An address that this machine does not have."""
    with pytest.raises(ListenError, match=r"udp 203\.0\.113\.77:\d+: this machine has no such address; .*ip address"):
        await bare([listener("udp", "203.0.113.77", port())]).start()


async def test_tls_listener_without_certificate_is_refused() -> None:
    """A TLS listener needs a context."""
    with pytest.raises(ListenError, match="there is no certificate"):
        await bare([listener("tls", "127.0.0.1", port())]).start()


def listener(transport: Transport, host: str, number: int) -> Listener:
    return Listener(transport, Address(host, number), Address(host, number))


def bare(listeners: list[Listener]) -> Driver:
    return Driver(Endpoint(RandomIds()), listeners, lambda event: None, clock=SystemClock())


# errors of the handler and of the network


async def test_fault_of_the_handler_is_answered_logged_and_counted() -> None:
    """An internal error costs its own request a 500 and nobody else anything."""
    async with node() as a, node() as b:
        faults = iter([True])

        def script(event: Event) -> None:
            if isinstance(event, RequestReceived):
                if next(faults, False):
                    raise ValueError("planted")
                b.driver.respond(event.tx, response_to(event.request, 200))

        b.script = script
        flow = await a.driver.flow_to(b.hop())
        with capture_logs() as logs:
            a.driver.send_request(request(), flow)
            first = await a.heard(ResponseReceived)
        a.driver.send_request(request(call_id="second"), flow)
        second = await a.heard(ResponseReceived, 2)
        assert isinstance(first, ResponseReceived) and isinstance(second, ResponseReceived)
        assert [first.response.status, second.response.status] == [500, 200]
        assert b.errors == ["handler"]
        assert [(entry["event"], entry["sip_call_id"]) for entry in logs] == [("internal_error", "shell")]


async def test_fault_of_the_tap_loses_no_message() -> None:
    """Observation must not break calls."""
    async with node() as a, node() as b:
        b.answering()

        def tap(direction: str, data: bytes, flow: Flow, now: float) -> None:
            raise RuntimeError("planted")

        b.driver.tap = tap
        with capture_logs():
            a.driver.send_request(request(), await a.driver.flow_to(b.hop()))
            await a.heard(ResponseReceived)
        assert set(b.errors) == {"tap"}


async def test_datagram_that_is_too_large_fails_its_transaction() -> None:
    """EMSGSIZE: TransportFailed, told after send_request returned the transaction's name."""
    async with node() as a, node() as b:
        known: list[int] = []
        late: list[bool] = []
        a.script = lambda event: late.append(isinstance(event, TransportFailed) and event.tx in known)
        known.append(a.driver.send_request(request(body=b"x" * 66_000), await a.driver.flow_to(b.hop())))
        await a.heard(TransportFailed)
        assert late == [True]


async def test_large_datagram_arrives() -> None:
    """Requests of many fragments are sent over UDP all the same."""
    async with node() as a, node() as b:
        a.driver.send_request(request(body=b"x" * 60_000), await a.driver.flow_to(b.hop()))
        event = await b.heard(RequestReceived)
        assert isinstance(event, RequestReceived) and len(event.request.body) == 60_000


async def test_silent_peer_times_out() -> None:
    """17.1.2.2 on the real clock with T1 of 5 ms: the one timer is armed again and again."""
    async with node(timers=TimerConfig(t1=0.005, t2=0.04)) as a:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", port()))
            silent.setblocking(False)
            hop = ResolvedHop("udp", Address(*silent.getsockname()), "x")
            tx = a.driver.send_request(request(), await a.driver.flow_to(hop))
            assert await a.heard(TransactionTimedOut) == TransactionTimedOut(tx)
            copies = 0
            while True:
                try:
                    silent.recv(65535)
                except BlockingIOError:
                    break
                copies += 1
            assert 6 <= copies <= 12


async def test_ipv6_peer_without_ipv6_listener() -> None:
    """The error names what is missing."""
    async with node() as a:
        with pytest.raises(ConnectError, match="no UDP listener for IPv6"):
            await a.driver.flow_to(ResolvedHop("udp", Address("::1", 5060), "x"))


async def test_rude_datagrams_are_survived() -> None:
    """Rubbish changes nothing for the next request."""
    async with node() as a, node() as b:
        b.answering()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
            for data in (b"", b"\r\n\r\n", b"\xff" * 2000, b"SIP/2.0 200 OK\r\n\r\n", b"x" * 65_507):
                rude.sendto(data, b.address)
        a.driver.send_request(request(), await a.driver.flow_to(b.hop()))
        await a.heard(ResponseReceived)
        assert b.errors == []


async def test_guard_keeps_scanners_from_the_endpoint() -> None:
    """Domain 7.4a: dropped before parsing, without an answer."""
    refused: list[Verdict] = []
    async with node(guard=Guard(refused=refused.append)) as b, node() as a:
        b.answering()
        scanner = request(call_id="scan")
        scanner.headers.add("User-Agent", "friendly-scanner")
        flow = await a.driver.flow_to(b.hop())
        a.driver.send_request(scanner, flow)
        a.driver.send_request(request(), flow)
        await a.heard(ResponseReceived)
        assert refused == [Verdict.SCANNER] and len(b.events) == 1


@pytest.mark.parametrize("transport", ALL)
async def test_tap_sees_each_message_of_both_directions(transport: Transport) -> None:
    """The trace holds whole messages whatever the transport."""
    async with node(transport) as a, node(transport) as b:
        seen: list[tuple[str, bytes]] = []

        def tap(direction: Literal["in", "out"], data: bytes, flow: Flow, now: float) -> None:
            seen.append((direction, data.split(b" ", 2)[0 if direction == "in" else 1]))

        b.driver.tap = tap
        b.answering()
        a.driver.send_request(request(), await a.driver.flow_to(b.hop()))
        await a.heard(ResponseReceived)
        assert seen == [("in", b"OPTIONS"), ("out", b"200")]


# connections


@pytest.mark.parametrize("transport", STREAMS)
async def test_connection_is_reused_and_opened_once(transport: Transport) -> None:
    """RFC 5923: many callers, one connection; after its end a new one."""
    async with node(transport) as a, node(transport) as b:
        flows = await asyncio.gather(*(a.driver.flow_to(b.hop()) for _ in range(5)))
        assert len(set(flows)) == 1 and await a.driver.flow_to(b.hop()) == flows[0]
        a.driver.connections.close(flows[0])
        assert await a.heard(FlowClosed) == FlowClosed(flows[0])
        assert await a.driver.flow_to(b.hop()) != flows[0]


async def test_tls_connections_are_not_shared_between_service_domains() -> None:
    """RFC 5922: a certificate checked for one domain says nothing of another."""
    async with node("tls", names=("one.example", "two.example")) as b, node("tls") as a:
        one, two = [await a.driver.flow_to(b.hop(name)) for name in ("one.example", "two.example")]
        assert one != two


async def test_tls_certificate_for_another_domain_is_refused() -> None:
    """RFC 5922, domain 1.3-13: the certificate must be for the service domain, and the error says so."""
    async with node("tls", names=("other.example",)) as b, node("tls") as a:
        with pytest.raises(ConnectError, match=r"certificate is not good for edge\.example"):
            await a.driver.flow_to(b.hop())
        assert len(a.driver.connections) == 0


async def test_tls_server_name_is_sent() -> None:
    """Domain 1.3-13, T1.5: SNI is the service domain, not the address or the SRV target."""
    async with node("tls") as b, node("tls") as a:
        names: list[str | None] = []
        assert b.driver._tls_server is not None
        b.driver._tls_server.sni_callback = lambda sock, name, context: names.append(name)
        await a.driver.flow_to(b.hop())
        assert names == ["edge.example"]


async def test_refused_connection_is_named() -> None:
    """Nobody listens."""
    async with node("tcp") as a:
        with pytest.raises(ConnectError, match=r"tcp 127\.0\.0\.1:\d+: .*(refused|Connect call failed)"):
            await a.driver.flow_to(ResolvedHop("tcp", Address("127.0.0.1", port()), "x"))


async def test_peer_that_never_finishes_the_handshake_times_out() -> None:
    """A connection of ours has a time limit, TLS included."""
    with socket.create_server(("127.0.0.1", port())) as mute:
        async with node("tls", limits=StreamLimits(connect=0.2)) as a:
            with pytest.raises(ConnectError, match=r"did not answer within 0\.2 s"):
                await a.driver.flow_to(ResolvedHop("tls", Address(*mute.getsockname()), "edge.example"))


async def test_request_over_a_connection_that_is_gone_fails() -> None:
    """A flow read back after a restart: a connection never comes back."""
    async with node("tcp") as a, node("tcp") as b:
        tx = a.driver.send_request(request(), Flow("tcp", a.address, b.address, 12345))
        assert await a.heard(TransportFailed) == TransportFailed(tx)


async def test_response_over_a_connection_that_is_gone_is_told() -> None:
    """18.2.2: the connection of the request is gone before the answer."""
    async with node("tcp") as b:
        _, writer = await asyncio.open_connection(*b.address)
        writer.write(wire("INVITE"))
        event = await b.heard(RequestReceived)
        assert isinstance(event, RequestReceived)
        writer.close()
        await b.heard(FlowClosed)
        b.driver.respond(event.tx, response_to(event.request, 200))
        assert await b.heard(TransportFailed) == TransportFailed(event.tx)


async def test_peer_that_stops_reading_is_dropped_and_holds_up_nobody() -> None:
    """Races catalogue 18: the write buffer is bounded; others are served meanwhile."""
    async with node("tcp", limits=StreamLimits(write_buffer=100_000)) as b, node("tcp") as a:

        def script(event: Event) -> None:
            if isinstance(event, RequestReceived):
                response = response_to(event.request, 200)
                response.body = b"x" * 50_000
                b.driver.respond(event.tx, response)

        b.script = script
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(tuple(b.address))
            for i in range(400):  # 20 MB of answers, more than the kernel's buffers hold
                deaf.sendall(wire(branch=f"z9hG4bK{i}"))
            assert isinstance(await b.heard(FlowClosed), FlowClosed)
        a.driver.send_request(request(), await a.driver.flow_to(b.hop()))
        await a.heard(ResponseReceived)
        assert b.errors == [] and len(b.driver.connections) == 1


async def test_ping_is_answered() -> None:
    """RFC 5626 4.4.1: CRLFCRLF gets CRLF."""
    async with node("tcp") as b:
        reader, writer = await asyncio.open_connection(*b.address)
        writer.write(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        writer.close()


async def test_keep_alives_are_sent_and_a_peer_that_stops_answering_has_gone() -> None:
    """RFC 5626 4.4.1: CRLFCRLF within each period; no pong from a peer that gave one before: the flow is dead."""
    pings: list[bytes] = []
    answers = iter([b"\r\n", b"\r\n"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4):
            pings.append(data)
            writer.write(next(answers, b""))
        writer.close()

    number = port()
    async with await asyncio.start_server(serve, "127.0.0.1", number), node("tcp", limits=StreamLimits(pong=0.2)) as a:
        flow = await a.driver.flow_to(ResolvedHop("tcp", Address("127.0.0.1", number), "x"))
        a.driver.keep_alive(flow, 0.03)
        assert await a.heard(FlowClosed) == FlowClosed(flow)
        assert len(pings) >= 3 and set(pings) == {b"\r\n\r\n"}


async def test_peer_that_never_answered_a_keep_alive_is_kept() -> None:
    """RFC 6223: many servers know no pong; that is no reason to hang up."""
    got = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4 * 10)
        got.set()
        await reader.read()
        writer.close()

    number = port()
    async with await asyncio.start_server(serve, "127.0.0.1", number), node("tcp", limits=StreamLimits(pong=0.02)) as a:
        flow = await a.driver.flow_to(ResolvedHop("tcp", Address("127.0.0.1", number), "x"))
        a.driver.keep_alive(flow, 0.01)
        async with asyncio.timeout(5):
            await got.wait()
        assert len(a.driver.connections) == 1 and not a.events


async def test_connection_that_never_brings_a_message_is_closed() -> None:
    """Idle sockets of scanners do not pile up; pings are no message."""
    async with node("tcp", limits=StreamLimits(first_message=0.1)) as b:
        reader, writer = await asyncio.open_connection(*b.address)
        _speaker, spoken = await asyncio.open_connection(*b.address)
        spoken.write(wire())
        await b.heard(RequestReceived)
        writer.write(b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.read() == b"\r\n"
        assert len(b.driver.connections) == 1, "the one that spoke stays"
        for stream in (writer, spoken):
            stream.close()


async def test_connections_are_limited_in_all_and_per_source() -> None:
    """A source that opens sockets without end is turned away; so is everybody above the total."""
    guard = Guard(GuardLimits(connections=1))
    async with (
        node("tcp", guard=guard) as per_source,
        node("tcp", limits=StreamLimits(connections=1)) as in_all,
    ):
        for b in (per_source, in_all):
            _first, writer = await asyncio.open_connection(*b.address)
            writer.write(wire())
            await b.heard(RequestReceived)
            second, more = await asyncio.open_connection(*b.address)
            async with asyncio.timeout(5):
                with pytest.raises(ConnectionError):
                    if not await second.read():
                        raise ConnectionError
            assert len(b.driver.connections) == 1
            for stream in (writer, more):
                stream.close()


async def test_stream_of_another_protocol_is_closed() -> None:
    """Somebody speaks HTTP to the SIP port."""
    async with node("tcp") as b:
        reader, writer = await asyncio.open_connection(*b.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        assert b.errors == []


async def test_stop_closes_all_and_frees_the_ports() -> None:
    """After stop the same ports can be bound, and peers see the end of their connections."""
    async with node("tcp") as b:
        reader, writer = await asyncio.open_connection(*b.address)
        writer.write(wire())
        await b.heard(RequestReceived)
        await b.driver.stop()
        assert await reader.read() == b""
        writer.close()
        with socket.create_server(tuple(b.address)):
            pass
        assert len(b.driver.connections) == 0
