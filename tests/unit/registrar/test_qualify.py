"""OPTIONS to contacts: how often, and what their answers mean. On the loop's virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from edge.registrar.qualify import Qualifier
from edge.sip.build import response_to
from edge.sip.flow import Flow
from edge.sip.message import Request

from .phones import TCP, UDP
from .rig import PBX, SEAT, Office

pytestmark = pytest.mark.looptime
HIDDEN = "<sip:201@10.0.0.5>"
PUBLIC = "<sip:hq@198.51.100.7:40000>"


class Wire:
    """Driver and exchange in one: the loop's clock, and requests that wait for an answer."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.sent: list[tuple[float, Request, Flow]] = []
        self.qualifier: Qualifier

    def now(self) -> float:
        self.office.clock.seconds = 1000 + asyncio.get_running_loop().time()
        return self.office.clock.seconds

    def request(self, request: Request, flow: Flow, handler: object) -> int:
        self.sent.append((self.now(), request, flow))
        return len(self.sent)

    def answer(self, number: int, status: int) -> None:
        self.qualifier.on_response(number, response_to(self.sent[number - 1][1], status))  # type: ignore[arg-type]

    def lose(self, number: int) -> None:
        self.qualifier.on_no_response(number)  # type: ignore[arg-type]


class Ids:
    def token(self) -> str:
        return "t"


def qualify(office: Office, interval: float = 30.0) -> Wire:
    wire = Wire(office)
    wire.qualifier = Qualifier(
        office.registrar, wire, wire, Ids(), "edge.example", lambda: 1.0, interval  # type: ignore[arg-type]
    )  # fmt: skip
    return wire


async def pass_time(wire: Wire, seconds: float) -> None:
    await asyncio.sleep(seconds)
    wire.now()


async def test_contact_behind_nat_is_asked_each_interval() -> None:
    """The NAT's mapping stays open; the request goes over the flow, to the contact, with a new Call-ID each."""
    office = Office()
    wire = qualify(office)
    office.send(SEAT, HIDDEN)
    for _ in range(3):
        await pass_time(wire, 30.1)
        wire.answer(len(wire.sent), 200)
    assert [round(t - 1000) for t, _, _ in wire.sent] == [30, 60, 90]
    _, request, flow = wire.sent[0]
    assert (request.method, request.uri, flow) == ("OPTIONS", "sip:201@10.0.0.5", UDP)
    wire.qualifier.stop()


async def test_others_are_asked_less_often() -> None:
    """A connection, or a public address, needs no NAT kept open: every fourth interval after the first."""
    office = Office()
    wire = qualify(office)
    office.send(PBX, PUBLIC, expires=600)
    office.send(SEAT, HIDDEN, flow=TCP, expires=600)
    await pass_time(wire, 31)
    assert len(wire.sent) == 2
    wire.answer(1, 200)
    wire.answer(2, 200)
    await pass_time(wire, 110)
    assert len(wire.sent) == 2
    await pass_time(wire, 11)
    assert len(wire.sent) == 4
    wire.qualifier.stop()


@pytest.mark.parametrize("status", [200, 404, 405, 486, 500])
async def test_silence_makes_unreachable_and_any_answer_reachable(status: int) -> None:
    """Tried last while silent; any final answer proves that somebody is there."""
    office = Office()
    wire = qualify(office)
    office.send(SEAT, HIDDEN, expires=600)
    await pass_time(wire, 31)
    wire.lose(1)
    assert not office.registrar.contacts("seat", "201", wire.now())[0].reachable
    await pass_time(wire, 31)
    wire.answer(2, 100)
    assert not office.registrar.contacts("seat", "201", wire.now())[0].reachable
    wire.answer(2, status)
    assert office.registrar.contacts("seat", "201", wire.now())[0].reachable
    wire.qualifier.stop()


async def test_no_second_request_while_one_is_under_way() -> None:
    """A dead contact is not asked twice at a time."""
    office = Office()
    wire = qualify(office)
    office.send(SEAT, HIDDEN, expires=600)
    await pass_time(wire, 61)
    assert len(wire.sent) == 1
    wire.lose(1)
    await pass_time(wire, 31)
    assert len(wire.sent) == 2
    wire.qualifier.stop()


async def test_ends_with_the_binding() -> None:
    """Who has gone is asked no more, and asked again when it comes back."""
    office = Office()
    wire = qualify(office)
    office.send(SEAT, HIDDEN)
    office.send(SEAT, "*", expires=0)
    await pass_time(wire, 200)
    assert wire.sent == []
    office.send(SEAT, HIDDEN)
    await pass_time(wire, 31)
    assert len(wire.sent) == 1
    wire.qualifier.stop()


async def test_restored_bindings_are_asked() -> None:
    """After a restart `start` takes up those that are there."""
    before, office = Office(), Office()
    before.send(SEAT, HIDDEN, expires=600)
    wire = qualify(office)
    office.registrar.restore(before.registrar.live(1000.0), 1000.0)
    wire.qualifier.start()
    await pass_time(wire, 31)
    assert len(wire.sent) == 1
    wire.qualifier.stop()


async def test_switched_off() -> None:
    """Interval 0 asks nobody."""
    office = Office()
    wire = qualify(office, 0.0)
    office.send(SEAT, HIDDEN)
    wire.qualifier.start()
    await pass_time(wire, 500)
    assert wire.sent == []
