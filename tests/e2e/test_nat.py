"""Phones at home behind a real NAT, in network namespaces: mappings that change, connections that vanish, bad lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import tones
from peers.certificates import Certificate
from peers.edge import Edge
from peers.fixtures import Peers, artifacts
from peers.nat import OTHER_PHONE, PHONE, Nat, why_not
from peers.phone import Account, Phone
from peers.ports import take_port
from peers.process import poll
from peers.switchboard import Switchboard

_WHY_NOT = why_not()
pytestmark = [pytest.mark.phones, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)]

SEATS = {"alice": "201", "bobby": "202", "carol": "203", "david": "204", "erika": "205"}
CARRIER = "127.0.0.20"


def password(name: str) -> str:
    return f"{name}-Pass-7351"


class Town:
    """The edge, a home behind a NAT, and people outside it."""

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self.nat = Nat(folder)
        self.second: Nat | None = None
        self.folder = folder
        self.switchboard = Switchboard(CARRIER, take_port())
        self.edge = Edge(
            folder / "edge", address=self.nat.outside, certificate=certificate, settings={"connection_timeout": 5}
        )
        self.peers: Peers

    def start(self) -> None:
        self.edge.start()
        self.edge.provision(
            {
                "version": 1,
                "carriers": [
                    {
                        "name": "static", "mode": "static", "domain": "static.example", "sources": [CARRIER],
                        "outbound_proxy": f"sip:{CARRIER}:{self.switchboard.port}", "t38": "off",
                    }
                ],
                "accounts": [{"id": "K1", "status": "active", "area_code": "228", "parallel_calls": 50}],
                "trunks": [
                    {
                        "name": "pbx", "account": "K1", "mode": "static", "default_number": "+4922838609",
                        "sources": [f"{self.nat.outside.rpartition('.')[0]}.0/24"],
                    }
                ],
                "seats": [
                    {
                        "username": name, "account": "K1", "password": password(name), "extension": extension,
                        "primary_number": f"+492283860{extension[-1]}",
                    }
                    for name, extension in SEATS.items()
                ],
                "blocks": [
                    {
                        "prefix": "+49228386", "digits": 2, "account": "K1", "carrier": "static", "channels": 50,
                        "ranges": [
                            *(
                                {"prefix": f"+492283860{extension[-1]}", "route": {"seat": name}}
                                for name, extension in SEATS.items()
                            ),
                            {"prefix": "+4922838609", "route": {"trunk": "pbx"}},
                        ],
                    }
                ],
            }
        )  # fmt: skip

    def account(self, seat: str, transport: str = "udp") -> Account:
        return Account(seat, password(seat), self.edge.server(transport), transport, expires=300)

    def at_home(
        self,
        kind: str,
        seat: str,
        transport: str = "udp",
        *,
        nat: Nat | None = None,
        address: str = PHONE,
        **options: object,
    ) -> Phone:
        phone = self.peers.phone(
            kind, self.account(seat, transport), address=address, inside=(nat or self.nat).inside, **options
        )
        phone.wait_registered(15)
        return phone

    def outside(self, kind: str, seat: str, **options: object) -> Phone:
        phone = self.peers.phone(kind, self.account(seat), address=self.nat.outside, **options)
        phone.wait_registered(15)
        return phone

    def where(self, seat: str) -> list[str]:
        """The flows that a seat is registered over."""
        return [str(row["flow"]) for row in self.edge.rows("registrations") if row["name"] == seat]

    def stop(self) -> None:
        self.switchboard.stop()
        for nat in (self.nat, self.second):
            if nat is not None:
                nat.stop()


@pytest.fixture(scope="module")
def standing(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[Town]:
    with artifacts(request) as folder:
        town = Town(folder, certificate)
        try:
            town.start()
            yield town
            town.edge.stop()
        finally:
            town.edge.discard()
            town.stop()


@pytest.fixture
def town(standing: Town, folder: Path, certificate: Certificate) -> Iterator[Town]:
    mark = standing.edge.mark
    standing.peers = Peers(folder, certificate)
    try:
        yield standing
    finally:
        standing.peers.stop()
        standing.nat.line("alive delay 0 loss 0")
    standing.edge.assert_at_rest(mark)


def answered(caller: Phone, called: Phone, number: str) -> None:
    marks = caller.mark, called.mark
    caller.dial(number)
    called.wait_incoming(after=marks[1])
    called.answer()
    caller.wait_established(after=marks[0])
    called.wait_established(after=marks[1])


def test_calls_through_a_nat(town: Town) -> None:
    """In to it, out of it, and between two phones in the same home, with each kind of phone and UDP and TCP: everybody
    hears the other. Contacts, Via and SDP name addresses that lead nowhere from here."""
    alice = town.at_home("pjsua2", "alice", tone=440)
    carol = town.at_home("baresip", "carol", "tcp", tone=740, address=OTHER_PHONE)
    david = town.at_home("linphone", "david", tone=1300, address=OTHER_PHONE)
    bobby = town.outside("pjsua2", "bobby", tone=1010)
    erika = town.outside("baresip", "erika", tone=1750)
    for seat in ("alice", "carol", "david"):
        (flow,) = town.where(seat)
        assert town.nat.public in flow, "the flow is the NAT's, not the phone's"

    answered(bobby, alice, SEATS["alice"])
    answered(carol, erika, SEATS["erika"])
    tones.talk(1.5)
    for phone, other in ((bobby, alice), (erika, carol)):
        phone.hangup()
        other.wait_closed()
    heard = [(bobby.recording, 440), (alice.recording, 1010), (carol.recording, 1750), (erika.recording, 740)]
    answered(david, alice, SEATS["alice"])
    tones.talk(1.5)
    alice.hangup()
    david.wait_closed()
    heard += [(david.recording, 440), (alice.recording, 1300)]
    town.peers.stop_phones()
    for recording, tone in heard:
        tones.assert_heard(recording, tone)


def test_address_changes_in_a_call(town: Town) -> None:
    """The home gets another public address while a call is up: the phone registers again and re-INVITEs, both sides
    hear each other over the new mapping, and the other side's BYE finds the phone. Then it can be called."""
    alice = town.at_home("pjsua2", "alice", tone=440)
    bobby = town.outside("pjsua2", "bobby", tone=1010)
    answered(bobby, alice, SEATS["alice"])
    tones.talk(1)
    before = town.where("alice")
    town.nat.move()
    alice.register()  # type: ignore[attr-defined]
    poll(lambda: town.nat.public in str(town.where("alice")), "the phone is registered over its new mapping")
    assert town.where("alice") != before
    alice.hold()
    alice.resume()
    tones.talk(3)
    bobby.hangup()
    alice.wait_closed(5)
    bobby.wait_closed(5)
    for phone, tone in ((alice, 1010), (bobby, 440)):
        tones.assert_heard(phone.recording, tone, at_least=2.5)
    answered(bobby, alice, SEATS["alice"])
    alice.hangup()
    bobby.wait_closed()


def test_other_side_hangs_up_after_a_change(town: Town) -> None:
    """The mapping changes and the phone does no more than register again: what the edge sends in the call follows."""
    alice = town.at_home("pjsua2", "alice", tone=440)
    bobby = town.outside("baresip", "bobby", tone=1010)
    answered(alice, bobby, SEATS["bobby"])
    town.nat.move()
    alice.register()  # type: ignore[attr-defined]
    poll(lambda: town.nat.public in str(town.where("alice")), "the phone is registered over its new mapping")
    bobby.hangup()
    alice.wait_closed(5)


def test_connection_vanishes(town: Town) -> None:
    """A phone on TCP loses its network without a word and comes back in another one: it is called there at once, and
    the dead connection is found and unbound."""
    town.second = second = town.second or Nat(town.folder)
    gone = town.at_home("baresip", "alice", "tcp")
    (dead,) = town.where("alice")
    town.nat.line("dead")
    gone.kill()  # type: ignore[attr-defined]
    mark = town.edge.mark
    alice = town.at_home("baresip", "alice", "tcp", nat=second, tone=440)
    bobby = town.outside("pjsua2", "bobby", tone=1010)
    answered(bobby, alice, SEATS["alice"])
    tones.talk(1.5)
    bobby.hangup()
    alice.wait_closed()
    poll(lambda: dead not in town.where("alice"), "the dead connection is unbound", 15)
    poll(lambda: bool(town.edge.events("registration.flow_lost", mark)), "and said to be lost")
    assert len([flow for flow in town.where("alice") if second.public in flow]) == 1
    town.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bobby.recording, 440)


def test_bad_line(town: Town) -> None:
    """100 ms delay and 5 % loss each way between us and a PBX: every call is set up and ended, by repetition alone."""
    before = town.nat.line("delay 0.1 loss 0.05")
    calls = 20
    carrier = town.peers.sipp("uas_answer", address=CARRIER, calls=calls)
    town.switchboard.target = (CARRIER, carrier.port)
    home = town.peers.sipp(
        "uac_basic", remote=town.edge.server(), address=PHONE, inside=town.nat.inside, calls=calls, rate=5,
        called="+4930123456", host=town.edge.server(), caller="+4922838609", talk_ms=500,
    )  # fmt: skip
    home.wait()
    carrier.wait()
    assert town.nat.line() > before, "the line was not bad"
