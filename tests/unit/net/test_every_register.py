"""Each datagram of a phone's registration, refresh and farewell lost, doubled, late: the registrar knows what the phone
believes (RFC 3261 sections 10.3 and 17.2.2)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from config.model import Rows, Seat
from config.snapshot import Snapshot
from edge.registrar.registrar import Registrar
from edge.sip.build import response_to
from edge.sip.events import Event, RequestReceived, ResponseReceived, TransactionTimedOut

from .network import VirtualNetwork
from .test_every_datagram import FAULTS

SEAT = Seat("alice", "K1")
EXPIRES = (600, 600, 0)
EVERY = 60.0
"""Seconds between them: more than the registrar's transactions live."""


class Registering:
    """A phone, and a registrar that challenges whoever comes without credentials."""

    def __init__(self) -> None:
        self.network = VirtualNetwork()
        self.phone = self.network.host("A")
        self.edge = self.network.host("E")
        self.registrar = Registrar(lambda: datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
        self.registrar.apply(Snapshot(Rows(seats=(SEAT,)), 1))
        self.handled = 0
        self.cseq = 0
        self.finals: list[int] = []
        self.known: list[int] = []
        """How many contacts the registrar has whenever the phone has heard an answer."""
        self.phone.on_event = self._heard
        self.edge.on_event = self._asked
        for number, expires in enumerate(EXPIRES):
            self.network.at(number * EVERY, lambda expires=expires: self._send(expires, proof=False))

    def _send(self, expires: int, *, proof: bool) -> None:
        self.cseq += 1
        self.expires = expires
        request = self.phone.request("REGISTER", self.edge, "register-1", self.cseq)
        request.headers.set("To", f"<sip:alice@{self.edge.address.host}>")
        request.headers.add("Contact", f"<sip:alice@{self.phone.address}>;expires={expires}")
        if proof:
            request.headers.add("Authorization", 'Digest username="alice"')
        self.phone.send(request, self.edge)

    def _asked(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            response = response_to(event.request, 401)
            if "authorization" in event.request.headers:
                self.handled += 1
                response, _ = self.registrar.handle(event.request, event.flow, SEAT, self.network.now)
            self.edge.endpoint.respond(event.tx, response, self.network.now)

    def _heard(self, event: Event) -> None:
        if isinstance(event, TransactionTimedOut):
            self.finals.append(408)
        elif isinstance(event, ResponseReceived) and event.response.status == 401:
            self._send(self.expires, proof=True)
        elif isinstance(event, ResponseReceived) and event.response.status >= 200:
            self.finals.append(event.response.status)
            self.known.append(len(self.registrar.contacts("seat", "alice", self.network.now)))

    def run(self) -> Registering:
        self.network.run(400)
        return self


def assert_right(one: Registering) -> None:
    assert one.finals == [200, 200, 200] and one.known == [1, 1, 0]
    assert one.registrar.contacts("seat", "alice", one.network.now) == []
    assert len(one.phone.endpoint) == len(one.edge.endpoint) == 0


def test_registration_without_faults() -> None:
    one = Registering().run()
    assert_right(one)
    assert one.handled == 3 and len(one.network.log) == 12


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_fault_changes_nothing(fault: object) -> None:
    """The phone hears one answer each, and the registrar decides once."""
    for number in range(12):
        one = Registering()
        one.network.fate = fault(number)  # type: ignore[operator]
        one.run()
        assert_right(one)
        assert one.handled == 3, f"{number}: {one.network.log}"


def test_copy_after_its_transaction() -> None:
    """A datagram that comes again 40 s later finds no transaction: its CSeq is old, and nothing changes."""
    for number in range(12):
        one = Registering()
        one.network.fate = lambda n, number=number: [0.01, 40.0] if n == number else [0.01]  # type: ignore[misc]
        one.run()
        assert_right(one)
