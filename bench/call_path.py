"""CPU of one inbound call in the signalling process, without sockets, relay, database and disk.

    python bench/call_path.py [CALLS] [--profile]

Everything from the datagram to the record and back runs as in the daemon: guard, parser, transactions, admission, dial
plan, call, SDP, logs (to nowhere), metrics and trace; a carrier and a phone made of text stand on both sides. Time is
CPU time and the best of many batches, so that it can be compared on a busy machine; bench/calls.py says what a call
costs in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import os
import pstats
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import uvloop

from config.model import NO_BUDGET, Account, Budget, Carrier, NumberRow, Route, RouteKind, Rows, Seat
from config.snapshot import Snapshot
from dialplan.model import ChannelClaim
from edge.b2bua.call import CallTimers
from edge.b2bua.calls import Calls
from edge.b2bua.engine import Engine
from edge.b2bua.sip_port import SipPort
from edge.cdr.record import CallRecord, to_json
from edge.channels.ledger import Ledger, LimitReached
from edge.daemon import GC_THRESHOLDS
from edge.defence.alarms import Alarms
from edge.defence.budgets import Budgets
from edge.defence.patterns import Patterns
from edge.defence.watch import Watched
from edge.inbound.admission import Admission
from edge.inbound.dispatch import Dispatch
from edge.inbound.identity import Identify
from edge.inbound.registrations import Registrations
from edge.inbound.steps.authenticate import Authenticator, DigestSettings
from edge.inbound.steps.identify import Identifier
from edge.inbound.steps.strangers import Strangers
from edge.observability.logging import LineWriter, configure
from edge.observability.metrics import Metrics
from edge.observability.trace import Tap
from edge.registrar.bindings import Aor, Binding
from edge.registrar.registrar import Registrar
from edge.sip.address import NameAddr
from edge.sip.auth.nonce import Nonces
from edge.sip.endpoint import Endpoint
from edge.sip.events import Event
from edge.sip.flow import Address, Flow
from edge.sip.timers import TimerConfig
from edge.transport.clock import RandomIds
from edge.transport.driver import Driver
from edge.transport.exchange import Exchange
from edge.transport.guard import Guard
from media.relay.rtpio import RtpIoRelay

BATCH = 100
SEATS = 50
LOCAL = Address("127.0.0.1", 5060)
CARRIER = Flow("udp", LOCAL, Address("127.0.0.20", 5060))
PHONE = Flow("udp", LOCAL, Address("127.0.0.31", 5062))
SDP = (
    "v=0\r\no=- 53655765 2353687637 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0 9 101\r\n"
    "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)


class Clock:
    """Time moves by 10 ms per call, so that timers end as at 100 calls a second."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def utcnow(self) -> datetime:
        return datetime(2026, 12, 1, tzinfo=UTC) + timedelta(seconds=self.at)


class Wire:
    """Stands for the UDP socket: datagrams go to `sent`."""

    def __init__(self) -> None:
        self.sent: deque[tuple[bytes, Flow]] = deque()

    def send(self, data: bytes, remote: Address) -> bool:
        self.sent.append((data, Flow("udp", LOCAL, remote)))
        return True


class Timers:
    """Stands for the loop in the driver: timers are looked at between calls, since time moves there only."""

    def __init__(self) -> None:
        self.call_soon = asyncio.get_running_loop().call_soon

    def call_later(self, _delay: float, _callback: object) -> Timers:
        return self

    def cancel(self) -> None: ...


class Relay(RtpIoRelay):
    """A relay that answers at once, with the same ports."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self._networks = {"main": "127.0.0.1"}
        self.timeout, self.setup_timeout, self.notify, self.on_loopback = 60, 60, "x", True

    def places(self) -> tuple[Relay]:
        return (self,)

    def ask(self, text: bytes, wanted: int, within: float = 0.0) -> asyncio.Future[list[str]]:
        done: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        replies = ["35000 127.0.0.1"] * wanted if text[:1] in b"UL" else ["0 0 0 0"] * (wanted - 1) + ["0"]
        asyncio.get_running_loop().call_soon(done.set_result, replies)
        return done


class Channels:
    """Counts without other edges."""

    def __init__(self, clock: Clock) -> None:
        self._ledger, self._clock = Ledger(), clock

    async def admit(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> LimitReached | None:
        return self._ledger.admit(call_id, claims, self._clock.now())

    def release(self, call_id: str) -> None:
        self._ledger.release(call_id)

    def give_back(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> None:
        self._ledger.give_back(call_id, claims)


class World:
    """The rooms of the daemon, and both peers."""

    def __init__(self, defended: bool = True, trace_megabytes: int = 8) -> None:
        """`defended` False: without guard, domains, budgets and the search for patterns (bench/defences.py)."""
        self.clock = Clock()
        self.tap, self.metrics = Tap(trace_megabytes * 1024 * 1024), Metrics("1", "bench")
        numbers = [
            NumberRow(_number(n), 0, "K1", "static", route=Route(RouteKind.SEAT, f"desk{n}"), channels=100_000)
            for n in range(SEATS)
        ]
        seats = [Seat(f"desk{n}", "K1", extension=str(200 + n), primary_number=_number(n)) for n in range(SEATS)]
        carrier = Carrier("static", domain="static.example", mode="static", max_calls=100_000)
        budget = Budget(10**9, 10**9, 10**9, 10**9) if defended else NO_BUDGET
        account = Account("K1", parallel_calls=100_000, emergency_number=_number(0), budget=budget)
        snapshot = Snapshot(Rows((carrier,), (account,), (), tuple(seats), tuple(numbers)), 1)
        timers, ids = TimerConfig(), RandomIds()
        guard = Guard(exempt=[ip_network(CARRIER.remote.host)], known={PHONE.remote.host}.__contains__)
        self.driver = Driver(
            Endpoint(ids, timers),
            [],
            self._event,
            clock=self.clock,
            guard=guard if defended else None,
            tap=self._on_message,
        )
        self.wire = Wire()
        self.driver._udp[LOCAL] = cast(Any, self.wire)
        self.driver._loop = cast(Any, Timers())
        exchange = Exchange(self.driver, timers.transaction)
        port = SipPort(self.driver, exchange, ids)
        registrar = Registrar(self.clock.utcnow)
        registrar.apply(snapshot)
        registrar.restore(
            [
                Binding(
                    Aor("seat", seat.username),
                    NameAddr.parse(f"<sip:{seat.username}@127.0.0.31:5062;transport=UDP>"),
                    1e9,
                    "x",
                    1,
                    PHONE,
                )
                for seat in seats
            ],
            0.0,
        )
        self.records = 0
        self.calls = Calls()
        budgets = Budgets(self.clock.utcnow)
        budgets.apply(snapshot)
        alarms = Alarms("bench", self.clock.now, self.clock.utcnow, cast(Any, None), lambda kind: None)
        watched = Watched(self, budgets, Patterns(snapshot.accounts.get), alarms, self.clock.now)
        self.engine = Engine(
            name="bench",
            driver=self.driver,
            port=port,
            relay=Relay(),
            registrar=registrar,
            carriers=cast(Any, None),
            channels=Channels(self.clock),
            records=cast(Any, watched if defended else self),
            metrics=self.metrics,
            tap=self.tap,
            calls=self.calls,
            clock=self.clock,
            snapshot=lambda: snapshot,
            timers=timers,
            call_timers=CallTimers(),
            budgets=budgets,
            domain="sip-edge",
            reach=cast(Any, None),
            fitting=cast(Any, None),
            draw=lambda: 0.5,
            internal_error=self._fault,
        )
        sources = SimpleNamespace(
            registered_over=lambda request, flow: None,
            identify=lambda request, flow: carrier if flow == CARRIER else None,
        )
        identifier = Identifier(
            cast(Any, sources), registrar.at, frozenset(("127.0.0.1",)) if defended else frozenset()
        )
        authenticator = Authenticator(DigestSettings("sip-edge"), Nonces(b"x" * 32), guard, lambda host: False)
        identify = Identify(
            identifier, authenticator, lambda: snapshot, lambda name: lambda request, response: None, self.clock.now
        )
        admission = Admission(self.engine, identify)
        port.on_final = admission.ended
        registrations = Registrations(self.engine, authenticator, lambda then: then())
        self._dispatch = Dispatch(self.engine, exchange, admission, registrations, Strangers(identifier, guard))
        self.outside = 0.0
        self.done = 0

    def put(self, record: object) -> None:
        """Where records go."""
        if not isinstance(record, CallRecord) or record.outcome != "answered":
            raise SystemExit(f"a call failed: {record}")
        to_json(record)
        self.records += 1

    def _event(self, event: Event) -> None:
        self._dispatch.on_event(event)

    def _on_message(self, direction: Any, data: bytes, flow: Flow, now: float) -> None:
        self.tap.message(direction, data, flow, now)
        self.metrics.message(direction, flow.transport, data)

    def _fault(self, where: str, error: BaseException, **context: str) -> None:
        raise error

    async def call(self, n: int) -> None:
        """One call from INVITE to record."""
        self.clock.at += 0.01
        if (self.driver._endpoint.next_deadline() or 1e12) <= self.clock.at:
            self.driver._due()
        records = self.records
        self.driver._datagram(invite(n), CARRIER)
        spins = 0
        while self.records == records:
            while self.wire.sent:
                data, flow = self.wire.sent.popleft()
                began = time.thread_time()
                answers = carrier(data) if flow.remote == CARRIER.remote else phone(data)
                self.outside += time.thread_time() - began
                for answer in answers:
                    self.driver._datagram(answer, flow)
            await asyncio.sleep(0)
            spins += 1
            if spins > 1000:
                raise SystemExit(f"call {n} does not end")


def _number(n: int) -> str:
    return f"+492283860{n:02}"


def invite(n: int) -> bytes:
    """The carrier's INVITE of call `n`."""
    body = SDP.format("127.0.0.20")
    caller, called = f"+49301234{n % SEATS:03}", _number(n % SEATS)
    return (
        f"INVITE sip:{called}@127.0.0.1:5060;user=phone SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.20:5060;branch=z9hG4bK-{n}-1;rport\r\nMax-Forwards: 68\r\n"
        f"From: <sip:{caller}@static.example;user=phone>;tag=c{n}\r\nTo: <sip:{called}@127.0.0.1;user=phone>\r\n"
        f"Call-ID: {n}-4711@127.0.0.20\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <sip:{caller}@127.0.0.20:5060;transport=UDP>\r\n"
        "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK\r\nSupported: timer\r\n"
        "Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\n"
        f"P-Asserted-Identity: <sip:{caller}@static.example;user=phone>\r\nUser-Agent: carrier\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def carrier(data: bytes) -> list[bytes]:
    """ACK and BYE for the 200 of the INVITE."""
    text = data.decode()
    if not text.startswith("SIP/2.0 200") or "CSeq: 1 INVITE" not in text:
        return []
    fields = _fields(text)
    uri = fields["Contact"][1:-1]
    same = f"From: {fields['From']}\r\nTo: {fields['To']}\r\nCall-ID: {fields['Call-ID']}\r\nMax-Forwards: 70\r\n"
    via = fields["Via"].partition(";branch=")[2].partition("-1;")[0]
    return [
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.20:5060;branch={via}-{number};rport\r\n{same}"
        f"CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n".encode()
        for method, number, cseq in (("ACK", 5, 1), ("BYE", 7, 2))
    ]


def phone(data: bytes) -> list[bytes]:
    """180 and 200 for the INVITE, 200 for the BYE."""
    text = data.decode()
    method = text.partition(" ")[0]
    if method not in ("INVITE", "BYE"):
        return []
    fields = _fields(text)
    to = fields["To"] if ";tag=" in fields["To"] else f"{fields['To']};tag=p{fields['Call-ID']}"
    same = (
        f"Via: {fields['Via']}\r\nFrom: {fields['From']}\r\nTo: {to}\r\nCall-ID: {fields['Call-ID']}\r\n"
        f"CSeq: {fields['CSeq']}\r\n"
    )
    if method == "BYE":
        return [f"SIP/2.0 200 OK\r\n{same}Content-Length: 0\r\n\r\n".encode()]
    contact = "Contact: <sip:127.0.0.31:5062;transport=UDP>\r\n"
    body = SDP.format("127.0.0.31")
    return [
        f"SIP/2.0 180 Ringing\r\n{same}{contact}Content-Length: 0\r\n\r\n".encode(),
        f"SIP/2.0 200 OK\r\n{same}{contact}Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode(),
    ]


def _fields(text: str) -> dict[str, str]:
    return dict(line.partition(": ")[::2] for line in text.partition("\r\n\r\n")[0].split("\r\n")[1:])


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("calls", type=int, nargs="?", default=6000)
    arguments.add_argument("--profile", action="store_true", help="where the time goes, by function")
    chosen = arguments.parse_args()
    lines = LineWriter(os.open("/dev/null", os.O_WRONLY))
    configure(lines)
    gc.set_threshold(*GC_THRESHOLDS)
    world = World()
    gc.collect()
    gc.freeze()
    profile = cProfile.Profile()
    batches: list[float] = []
    for batch in range(chosen.calls // BATCH):
        if chosen.profile and batch == 5:
            profile.enable()
        world.outside = 0.0
        began = time.thread_time()
        for n in range(batch * BATCH, batch * BATCH + BATCH):
            await world.call(n)
        batches.append((time.thread_time() - began - world.outside) / BATCH)
    profile.disable()
    lines.close()
    batches.sort()
    print(
        f"{chosen.calls} calls: best batch {batches[0] * 1e6:.0f} µs a call, "
        f"a tenth under {batches[len(batches) // 10] * 1e6:.0f} µs, median {batches[len(batches) // 2] * 1e6:.0f} µs"
    )
    if chosen.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(60).sort_stats("cumtime").print_stats(90)


if __name__ == "__main__":
    uvloop.run(main())
