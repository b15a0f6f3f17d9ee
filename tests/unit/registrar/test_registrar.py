"""The registrar's answers, and what becomes of bindings when the world changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from config.model import Rows, Seat, Trunk
from config.snapshot import Snapshot
from edge.registrar.registrar import Registrar
from edge.sip.flow import Address, Flow

from .phones import TCP, UDP
from .rig import BULK, NOON, OTHER, PBX, SEAT, Office, with_password


def test_answer_lists_all_contacts_with_what_remains() -> None:
    """RFC 3261 section 10.3 step 8: 200 with every binding and its expires, and a Date."""
    office = Office()
    office.send(SEAT, "<sip:201@10.0.0.1>;q=0.3", expires=300)
    office.clock.seconds += 100
    response = office.send(SEAT, "<sip:201@10.0.0.2>", expires=600)
    assert response.status == 200
    assert response.headers.get_all("contact") == [
        "<sip:201@10.0.0.1>;q=0.3;expires=200",
        "<sip:201@10.0.0.2>;expires=600",
    ]
    assert response.headers.get("date") == "Sun, 22 Nov 2026 12:01:40 GMT"
    assert response.call_id == "c1" and response.cseq.method == "REGISTER"


def test_path_comes_back() -> None:
    """RFC 3327 section 5.3: the Path of the request is in the response."""
    response = Office().send(SEAT, "<sip:201@10.0.0.1>", path="<sip:p.example;lr>", supported="path")
    assert response.headers.get_all("path") == ["<sip:p.example;lr>"]


def test_outbound_is_confirmed() -> None:
    """RFC 5626 section 6: Require: outbound tells the phone that its flow is kept."""
    contact = '<sip:201@10.0.0.1>;+sip.instance="<urn:uuid:1>";reg-id=1'
    assert Office().send(SEAT, contact, supported="outbound").headers.get("require") == "outbound"
    assert "require" not in Office().send(SEAT, "<sip:201@10.0.0.1>", supported="outbound").headers


@pytest.mark.parametrize(
    ("who", "require", "status"),
    [(SEAT, "gin", 420), (PBX, "gin", 420), (BULK, "gin", 200), (SEAT, "path", 200), (SEAT, "foo, path", 420)],
)
def test_required_extensions(who: Seat | Trunk, require: str, status: int) -> None:
    """RFC 3261 section 10.3 step 2: 420 names what is not known; gin is for those provisioned so."""
    contact = "<sip:10.0.0.1;bnc>" if who is BULK else "<sip:x@10.0.0.1>"
    response = Office().send(who, contact, require=require)
    assert response.status == status
    if status == 420:
        assert response.headers.get("unsupported") == require.split(",")[0]


def test_too_brief() -> None:
    """423 with the minimum."""
    response = Office().send(SEAT, "<sip:201@10.0.0.1>", expires=5)
    assert (response.status, response.headers.get("min-expires")) == (423, "60")


def test_unreadable_contact() -> None:
    """The peer's fault, with the status that is owed."""
    office = Office()
    assert office.send(SEAT, "<sip:broken").status == 400
    assert office.send(SEAT, "<mailto:a@b>").status == 416
    assert office.uris("seat", "201") == []


def test_too_many_contacts() -> None:
    """max_contacts of the seat."""
    office = Office()
    office.send(SEAT, "<sip:a@10.0.0.1>", "<sip:b@10.0.0.1>")
    assert office.send(SEAT, "<sip:c@10.0.0.1>").status == 403


@pytest.mark.parametrize(("offset", "status"), [(1, 403), (0, 200), (-1, 200)])
def test_planned_trunk_is_refused_before_its_date(offset: int, status: int) -> None:
    """O3: 403 until valid_from."""
    planned = replace(PBX, valid_from=NOON + timedelta(days=offset))
    assert Office().send(planned, "<sip:hq@10.0.0.1>").status == status


@pytest.mark.parametrize(
    ("who", "status"), [(SEAT, 200), (OTHER, 403), (replace(OTHER, extension="201"), 200), (PBX, 200)]
)
def test_nobody_registers_for_another_seat(who: Seat | Trunk, status: int) -> None:
    """RFC 3261 section 10.3 step 4: To is 201; a seat of another name may not, a PBX may use a number of its own."""
    assert Office().send(who, "<sip:x@10.0.0.1>").status == status


def test_seats_and_trunks_do_not_mix() -> None:
    """A trunk and a seat of one username are two AORs."""
    office = Office()
    office.send(PBX, "<sip:hq@10.0.0.1>")
    assert office.uris("trunk", "hq") == ["sip:hq@10.0.0.1"] and office.uris("seat", "hq") == []
    assert office.registrar.counts() == {"seat": 0, "trunk": 1}


def test_changes_are_told_once_with_their_aor() -> None:
    """Whoever listens hears of changes only: not of queries and refusals."""
    office = Office()
    heard: list[str] = []
    office.registrar.listen(lambda aor: heard.append(aor.username))
    office.send(SEAT, "<sip:201@10.0.0.1>")
    office.send(SEAT)
    office.send(SEAT, "<sip:201@10.0.0.1>", expires=1)
    office.send(SEAT, "<sip:201@10.0.0.1>", expires=0)
    assert heard == ["201", "201"]


def test_registered_hosts_are_known_for_exemption() -> None:
    """Rule 7.4c: while anybody is registered from there, and over a flow that lives."""
    office = Office()
    office.send(SEAT, "<sip:201@10.0.0.1>")
    office.send(PBX, "<sip:hq@10.0.0.1>", flow=TCP)
    assert UDP.remote.host == TCP.remote.host
    assert office.registrar.has_bindings_from(UDP.remote.host)
    office.send(SEAT, "*", expires=0)
    assert office.registrar.has_bindings_from(UDP.remote.host)
    office.registrar.flow_closed(TCP)
    assert not office.registrar.has_bindings_from(UDP.remote.host)


def test_expiry() -> None:
    """A binding that ran out is dropped and told; one refreshed is not."""
    office = Office()
    office.send(SEAT, "<sip:201@10.0.0.1>", expires=60)
    heard: list[str] = []
    office.registrar.listen(lambda aor: heard.append(aor.username))
    assert office.registrar.next_expiry() == 1060
    office.registrar.expire(1059)
    assert heard == []
    office.registrar.expire(1060)
    assert heard == ["201"] and office.registrar.counts() == {"seat": 0, "trunk": 0}
    assert not office.registrar.has_bindings_from(UDP.remote.host)


class TestProvisioning:
    """Snapshot swaps."""

    def test_removed_seat_and_trunk_lose_their_bindings(self) -> None:
        """Who is no longer provisioned is called no more; others stay."""
        office = Office()
        office.send(SEAT, "<sip:201@10.0.0.1>")
        office.send(PBX, "<sip:hq@10.0.0.1>")
        office.registrar.apply(Snapshot(Rows(seats=(SEAT,)), 2))
        assert office.uris("seat", "201") and not office.uris("trunk", "hq")

    def test_trunk_that_became_static(self) -> None:
        """It is known by its address now."""
        office = Office()
        office.send(PBX, "<sip:hq@10.0.0.1>")
        office.registrar.apply(Snapshot(Rows(trunks=(replace(PBX, mode="static"),)), 2))
        assert not office.uris("trunk", "hq")

    def test_new_password_ends_old_bindings(self) -> None:
        """A password is changed when somebody else has it: that somebody must not go on receiving calls."""
        office = Office(Snapshot(Rows(seats=(with_password(SEAT, "a"),)), 1))
        office.send(SEAT, "<sip:201@10.0.0.1>")
        office.registrar.apply(Snapshot(Rows(seats=(with_password(SEAT, "a"),)), 2))
        assert office.uris("seat", "201")
        office.registrar.apply(Snapshot(Rows(seats=(with_password(SEAT, "b"),)), 3))
        assert not office.uris("seat", "201")


class TestRestore:
    """After a restart."""

    def test_bindings_come_back_unless_registered_anew(self) -> None:
        """What the phone says now is newer than what the table says."""
        before = Office()
        before.send(SEAT, "<sip:old@10.0.0.1>")
        before.send(PBX, "<sip:hq@10.0.0.1>")
        after = Office()
        after.send(SEAT, "<sip:new@10.0.0.1>")
        after.registrar.restore(before.registrar.live(1000.0), 1000.0)
        assert after.uris("seat", "201") == ["sip:new@10.0.0.1"] and after.uris("trunk", "hq") == ["sip:hq@10.0.0.1"]

    def test_not_for_those_who_are_gone(self) -> None:
        """Removed from provisioning while the edge was down; or run out meanwhile."""
        before = Office()
        before.send(SEAT, "<sip:201@10.0.0.1>", expires=60)
        before.send(PBX, "<sip:hq@10.0.0.1>", expires=600)
        after = Registrar(before.clock.utcnow)
        after.apply(Snapshot(Rows(seats=(SEAT,)), 1))
        after.restore(before.registrar.live(1000.0), 1061.0)
        assert after.live(1061.0) == []


def test_a_device_that_comes_back_another_way_is_told() -> None:
    """Calls follow it: by its contact, its instance, or its Call-ID with another address; others are others."""
    office = Office()
    moves: list[tuple[Flow, Flow]] = []
    office.registrar.on_move = lambda kind, name, old, new: moves.append((old, new))
    ways = [Flow("udp", UDP.local, Address(f"198.51.100.{n}", 5060)) for n in range(5)]
    office.send(SEAT, "<sip:201@192.168.1.5>", flow=ways[0])
    office.send(SEAT, "<sip:201@192.168.1.5>", flow=ways[1])
    assert moves == [(ways[0], ways[1])], "its mapping in the NAT changed"
    office.send(SEAT, "<sip:201@10.0.0.9>", flow=ways[2])
    assert moves[1:] == [(ways[1], ways[2])], "it is in another network"
    moves.clear()
    office.send(OTHER, "<sip:202@192.168.1.5>", flow=ways[3])
    office.send(SEAT, "<sip:201@192.168.1.7>", flow=ways[4], call_id="another phone")
    office.send(SEAT, "<sip:201@192.168.1.7>", flow=ways[4], call_id="another phone")
    assert moves == []
