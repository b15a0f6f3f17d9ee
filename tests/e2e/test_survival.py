"""The daemon is killed in the middle of calls: they go on when it is there again, and the books are right."""

from __future__ import annotations

import json

import pytest
from peers import tones
from peers.phone import Phone
from peers.pjsua import Pjsua
from peers.process import poll
from peers.world import SEATS, SOMEBODY, World

pytestmark = pytest.mark.phones


def crash(world: World) -> None:
    """The daemon dies as by `kill -9`, and systemd starts it again."""
    tones.talk(0.1)  # the journal may be 20 ms behind
    world.edge.kill()
    world.edge.start()


def live(world: World) -> list[dict[str, object]]:
    return world.edge.rows("calls")


def record(world: World, call: object) -> dict[str, object]:
    """The record of a call, from the database."""
    found: dict[str, object] = {}

    def written() -> bool:
        status, body = world.edge.get(f"/why/{call}")
        found.update(json.loads(body) if status == 200 else {})
        return found.get("table") == "call_records"

    poll(written, "the record is in the database")
    return found


def test_established_call_between_phones(world: World) -> None:
    """Sound goes on while the daemon is away, and a BYE crosses afterwards; nobody gets a 481."""
    alice = world.phone("pjsua2", "alice", tone=440)
    bob = world.phone("baresip", "bobby", tone=1010)
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    tones.talk(0.1)
    before = live(world)
    world.edge.kill()
    tones.talk()
    world.edge.start()
    after = live(world)
    assert [(c["id"], c["started_at"]) for c in after] == [(c["id"], c["started_at"]) for c in before]
    assert world.edge.metric("sip_edge_relay_sessions") == 1
    alice.hangup()
    bob.wait_closed()
    poll(lambda: not live(world), "the call is over")
    row = record(world, before[0]["id"])
    assert (row["outcome"], row["released_by"]) == ("answered", "a")
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010, at_least=2)


def test_established_call_over_a_carrier(world: World) -> None:
    """A carrier's call and its channels: leases are there at once after the restart, and given back with the BYE."""
    phone = world.phone("pjsua2", "alice", tone=570)
    carrier = world.carrier_calls("uac_until_bye", SEATS["alice"][1])
    assert SOMEBODY in phone.wait_incoming()
    phone.answer()
    phone.wait_established()
    poll(lambda: live(world)[0]["state"] == "up", "the call is up")
    held = world.edge.metric("sip_edge_channels_in_use")
    assert held > 0
    crash(world)
    assert world.edge.metric("sip_edge_channels_in_use") == held
    tones.talk()
    phone.hangup()
    carrier.wait()
    world.peers.stop_phones()
    tones.assert_heard(phone.recording, 570)


def test_changes_of_a_session(world: World) -> None:
    """Hold and resume cross after the restart, from either side, and sound comes back."""
    alice = world.phone("pjsua2", "alice", tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010, address="127.0.0.32")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    crash(world)
    bob.hold()
    bob.resume()
    crash(world)
    alice.hold()
    crash(world)
    alice.resume()
    tones.talk()
    bob.hangup()
    alice.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bob.recording, 440)


def test_answer_of_a_ringing_phone(world: World) -> None:
    """A phone that rings is answered while the daemon is away: the caller gets the answer."""
    alice = world.phone("baresip", "alice", tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010)
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    alice.wait_ringing()
    tones.talk(0.1)
    world.edge.kill()
    bob.answer()
    world.edge.start()
    call = live(world)[0]["id"]
    alice.wait_established()
    tones.talk()
    alice.hangup()
    bob.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bob.recording, 440)
    assert record(world, call)["outcome"] == "answered"


def test_caller_gives_up(world: World) -> None:
    """CANCEL after the restart: the phone stops ringing, the record says so once."""
    alice = world.phone("pjsua2", "alice")
    bob = world.phone("baresip", "bobby")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    alice.wait_ringing()
    crash(world)
    call = live(world)[0]["id"]
    alice.hangup()
    bob.wait_closed()
    alice.wait_closed()
    assert record(world, call)["outcome"] == "cancelled"


def test_called_refuses_after_the_restart(world: World) -> None:
    """A late 486 reaches the caller, with its ACKs on both sides."""
    alice = world.phone("pjsua2", "alice")
    bob = world.phone("pjsua2", "bobby", address="127.0.0.32")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    alice.wait_ringing()
    crash(world)
    call = live(world)[0]["id"]
    bob.hangup(486)
    assert "486" in alice.wait_closed()
    assert record(world, call)["outcome"] == "busy"


def test_hung_up_while_the_daemon_is_away(world: World) -> None:
    """A BYE that nobody answered is repeated by its phone, and taken after the restart."""
    alice = world.phone("pjsua2", "alice")
    bob = world.phone("baresip", "bobby")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    tones.talk(0.1)
    call = live(world)[0]["id"]
    world.edge.kill()
    alice.hangup()
    world.edge.start()
    bob.wait_closed()
    assert record(world, call)["released_by"] == "a"


def test_answer_of_a_carrier(world: World) -> None:
    """A call out over a carrier that challenges is answered after the restart."""
    network = world.network_answers("uas_bye", ring_ms=4000, talk_ms=1500)
    phone = world.phone("pjsua2", "carol", tone=1750)
    phone.dial(SOMEBODY)
    phone.wait_ringing()
    crash(world)
    phone.wait_established()
    phone.wait_closed()
    network.wait()
    world.peers.stop_phones()
    tones.assert_heard(phone.recording, 1750)


@pytest.mark.parametrize(("kind", "transport"), [("pjsua2", "tcp"), ("baresip", "tls")])
def test_phone_whose_connection_is_gone_hangs_up(world: World, kind: str, transport: str) -> None:
    """The daemon's end takes its connections along: what the phone does in the call comes over another, and is its."""
    alice, bob = between(world, kind, transport)
    call = live(world)[0]["id"]
    crash(world)
    tones.talk()
    alice.hangup()
    bob.wait_closed()
    row = record(world, call)
    assert (row["outcome"], row["released_by"]) == ("answered", "a")
    world.peers.stop_phones()
    tones.assert_heard(bob.recording, 440)


def test_phone_that_registers_again_is_reached(world: World) -> None:
    """What the other side does in the call waits until the phone has registered again, and takes its new connection."""
    alice, bob = between(world, "pjsua2", "tls")
    assert isinstance(alice, Pjsua)
    call = live(world)[0]["id"]
    crash(world)
    bob.hangup()
    poll(lambda: not live(world), "the call is over")
    alice.register()
    alice.wait_closed()
    assert record(world, call)["released_by"] == "b"


def between(world: World, kind: str, transport: str) -> tuple[Phone, Phone]:
    """A call that is up from a phone over a connection to one over UDP."""
    alice = world.phone(kind, "alice", transport, tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010, address="127.0.0.32")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    tones.talk(0.1)
    return alice, bob


def test_killed_again_and_again(world: World) -> None:
    """A call outlives three crashes, and has one record."""
    alice = world.phone("pjsua2", "alice", tone=440)
    bob = world.phone("baresip", "bobby", tone=1010)
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    tones.talk(0.1)
    call = live(world)[0]["id"]
    for _ in range(3):
        world.edge.kill()
        world.edge.start()
    bob.hangup()
    alice.wait_closed()
    assert record(world, call)["released_by"] == "b"
    world.edge.kill()
    world.edge.start()
    assert live(world) == []


def test_joined_by_a_transfer(world: World) -> None:
    """Bobby put alice and carol through and left; the daemon dies twice, they go on talking, and a BYE crosses both
    calls, each with its record."""
    alice = world.phone("pjsua2", "alice", tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010, address="127.0.0.32")
    carol = world.phone("baresip", "carol", tone=1750, address="127.0.0.33")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    bob.transfer(SEATS["carol"][0])
    carol.wait_incoming()
    carol.answer()
    carol.wait_established()
    bob.wait_closed()
    tones.talk(0.5)
    calls = [row["id"] for row in live(world)]
    assert len(calls) == 2
    crash(world)
    tones.talk()
    crash(world)
    assert [row["id"] for row in live(world)] == calls
    carol.hangup()
    alice.wait_closed()
    assert [record(world, call)["outcome"] for call in calls] == ["answered", "answered"]
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1750, only=False)
    tones.assert_heard(carol.recording, 440, only=False)


def test_emergency_call(world: World) -> None:
    """A call to 112 goes on over a crash, and ends with its called party's BYE."""
    network = world.carrier_answers("uas_bye", talk_ms=5000)
    phone = world.phone("pjsua2", "alice", tone=440)
    phone.dial("112")
    phone.wait_established()
    tones.talk(0.1)
    before = live(world)
    assert before[0]["direction"] == "emergency"
    crash(world)
    assert [(c["id"], c["direction"]) for c in live(world)] == [(before[0]["id"], "emergency")]
    phone.wait_closed()
    network.wait()
    assert record(world, before[0]["id"])["outcome"] == "answered"


def test_reliable_ringing(world: World) -> None:
    """Ringing that was acknowledged (PRACK, RFC 3262) before the crash is answered after it, and both talk."""
    bob = world.peers.pjsua(world.account("bobby"), tone=1010, prack_required=True, address="127.0.0.32")
    bob.wait_registered()
    alice = world.phone("pjsua2", "alice", tone=440, prack=True)
    bob.dial(SEATS["alice"][0])
    alice.wait_incoming()
    bob.wait_ringing()
    call = live(world)[0]["id"]
    poll(lambda: "PRACK" in world.edge.get(f"/trace/{call}?messages=0")[1], "the ringing is acknowledged")
    crash(world)
    alice.answer()
    bob.wait_established()
    alice.wait_established()
    tones.talk()
    bob.hangup()
    alice.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(bob.recording, 440)
    tones.assert_heard(alice.recording, 1010)
