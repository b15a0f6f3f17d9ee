"""Endpoints joined by a network of a virtual clock: every delay, loss and order is written in the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from edge.sip.build import response_to
from edge.sip.endpoint import Endpoint, Event, RequestReceived, ResponseReceived
from edge.sip.flow import Address, Flow, Transport
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId


class CountingIds:
    """Tokens that say who made them and when."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def token(self) -> str:
        self.count += 1
        return f"{self.name}{self.count:08d}"


@dataclass
class Sent:
    """A message as the wire saw it."""

    at: float
    source: str
    target: str
    line: str
    lost: bool
    data: bytes = b""

    def __repr__(self) -> str:
        return f"{self.at:8.3f} {self.source}→{self.target} {self.line}{' LOST' if self.lost else ''}"


@dataclass
class Link:
    """One direction between two hosts. `lose` and `delay_of` look at the start line and the running number from 0."""

    delay: float = 0.01
    lose: Callable[[str, int], bool] = lambda line, number: False
    delay_of: Callable[[str, int], float] | None = None
    count: int = 0


class Host:
    """An endpoint with a script: `on_event` reacts, `events` remembers."""

    def __init__(self, network: VirtualNetwork, name: str, address: Address, timers: TimerConfig) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.endpoint = Endpoint(CountingIds(name), timers)
        self.events: list[tuple[float, Event]] = []
        self.on_event: Callable[[Event], None] = lambda event: None

    def seen(self, kind: type) -> list[Event]:
        """Events of a class."""
        return [event for _, event in self.events if isinstance(event, kind)]

    def statuses(self) -> list[int]:
        """Statuses of the responses that the user of this endpoint heard."""
        return [event.response.status for _, event in self.events if isinstance(event, ResponseReceived)]

    def methods(self) -> list[str]:
        """Methods of the new requests that the user heard."""
        return [event.request.method for _, event in self.events if isinstance(event, RequestReceived)]

    def request(self, method: str, other: Host, call_id: str = "call-1", cseq: int = 1) -> Request:
        """A plain request to `other`."""
        return Request(
            method,
            f"sip:bob@{other.address}",
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", f"<sip:alice@{self.address.host}>;tag=from-{self.name}"),
                    ("To", f"<sip:bob@{other.address.host}>"),
                    ("Call-ID", call_id),
                    ("CSeq", f"{cseq} {method}"),
                ]
            ),
        )

    def send(self, request: Request, other: Host) -> TransactionId:
        tx = self.endpoint.send_request(request, self.network.flow(self, other), str(self.address), self.network.now)
        self.network.settle(self)
        return tx

    def ack(self, request: Request, other: Host) -> None:
        self.endpoint.send_ack(request, self.network.flow(self, other), str(self.address), self.network.now)
        self.network.settle(self)

    def cancel(self, tx: TransactionId) -> None:
        self.endpoint.cancel(tx, self.network.now)
        self.network.settle(self)

    def answer(self, event: RequestReceived, status: int) -> None:
        self.endpoint.respond(event.tx, response_to(event.request, status), self.network.now)
        self.network.settle(self)


@dataclass
class VirtualNetwork:
    """Hosts, the links between them and the only clock there is."""

    transport: Transport = "udp"
    timers: TimerConfig = field(default_factory=TimerConfig)
    now: float = 0.0
    hosts: dict[Address, Host] = field(default_factory=dict)
    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    log: list[Sent] = field(default_factory=list)
    fate: Callable[[int], list[float]] | None = None
    """When the datagram with this running number arrives, from its sending on: at once or late, twice, never."""
    _flying: list[tuple[float, int, Host, Host, bytes]] = field(default_factory=list)
    _plans: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    _opened: set[tuple[str, str]] = field(default_factory=set)

    def host(self, name: str) -> Host:
        """Add a host."""
        address = Address(f"192.0.2.{len(self.hosts) + 1}", 5060)
        self.hosts[address] = host = Host(self, name, address, self.timers)
        return host

    def link(self, source: Host, target: Host) -> Link:
        """The link of one direction, to be changed."""
        return self.links.setdefault((source.name, target.name), Link())

    def flow(self, source: Host, target: Host) -> Flow:
        """The flow from one host to another: always the same connection on streams."""
        number = 0
        if self.transport != "udp":
            number = 1 + sorted(self.hosts).index(source.address) + sorted(self.hosts).index(target.address) * 100
            if (source.name, target.name) not in self._opened:
                self._opened.add((source.name, target.name))
                source.endpoint.connection_made(Flow(self.transport, source.address, target.address, number), True)
        return Flow(self.transport, source.address, target.address, number)

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heappush(self._plans, (when, self._count, do))

    def settle(self, host: Host) -> None:
        """Take what an endpoint wants sent and told."""
        while True:
            outgoing = host.endpoint.outgoing()
            for out in outgoing:
                self._fly(host, out.data, out.flow)
            event = host.endpoint.next_event()
            if event is None:
                if not outgoing:
                    return
                continue
            host.events.append((self.now, event))
            host.on_event(event)

    def _fly(self, host: Host, data: bytes, flow: Flow) -> None:
        target = self.hosts[flow.remote]
        link = self.link(host, target)
        line = data.partition(b"\r\n")[0].decode().removeprefix("SIP/2.0 ").removesuffix(" SIP/2.0")
        lost = link.lose(line, link.count)
        delay = link.delay if link.delay_of is None else link.delay_of(line, link.count)
        link.count += 1
        arrivals = [delay] if self.fate is None else self.fate(len(self.log))
        lost = lost or not arrivals
        self.log.append(Sent(round(self.now, 3), host.name, target.name, line.partition(" sip:")[0], lost, data))
        for delay in () if lost else arrivals:
            self._count += 1
            heappush(self._flying, (self.now + delay, self._count, host, target, data))

    def run(self, until: float) -> None:
        """Let time pass, event by event."""
        for host in self.hosts.values():
            self.settle(host)
        while True:
            moments: list[tuple[float, int, Host | None]] = []
            if self._flying:
                moments.append((self._flying[0][0], 0, None))
            if self._plans:
                moments.append((self._plans[0][0], 1, None))
            for host in self.hosts.values():
                deadline = host.endpoint.next_deadline()
                if deadline is not None:
                    moments.append((deadline, 2, host))
            due = min(moments, key=lambda m: m[:2], default=None)
            if due is None or due[0] > until:
                self.now = until
                return
            self.now = max(self.now, due[0])
            if due[1] == 0:
                _, _, source, target, data = heappop(self._flying)
                flow = Flow(self.transport, target.address, source.address, 0)
                if self.transport == "udp":
                    target.endpoint.receive_datagram(data, flow, self.now)
                else:
                    target.endpoint.receive_stream(data, self._incoming(source, target), self.now)
                self.settle(target)
            elif due[1] == 1:
                heappop(self._plans)[2]()
            elif due[2] is not None:
                due[2].endpoint.handle_timer(self.now)
                self.settle(due[2])

    def _incoming(self, source: Host, target: Host) -> Flow:
        """The target's side of the connection between two hosts, whoever opened it."""
        if (target.name, source.name) in self._opened:
            return self.flow(target, source)
        number = -self.flow(source, target).connection
        flow = Flow(self.transport, target.address, source.address, number)
        if (source.name, f"{target.name} accepted") not in self._opened:
            self._opened.add((source.name, f"{target.name} accepted"))
            target.endpoint.connection_made(flow, False)
        return flow

    def sent(self, source: Host | None = None) -> list[str]:
        """Start lines on the wire, of one host or all."""
        return [s.line for s in self.log if source is None or s.source == source.name]
