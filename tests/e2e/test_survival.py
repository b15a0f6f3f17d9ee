"""The daemon is killed in the middle of calls: they go on when it is there again, and the books are right."""

from __future__ import annotations

import json
import signal

import pytest
from peers import tones
from peers.messages import Seen
from peers.phone import Phone
from peers.pjsua import Pjsua
from peers.process import poll
from peers.raw import Raw
from peers.world import SEATS, SOMEBODY, STATIC_ADDRESS, UNASSIGNED, World

pytestmark = pytest.mark.phones

LATER = ["unshare", "--time", "--fork", "--kill-child", "--monotonic", "46"]
"""Starts a program whose monotonic clock is 46 s ahead (a time namespace, which wants root)."""


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


def test_a_call_left_to_the_next_process(world: World) -> None:
    """`systemctl restart` (SIGUSR1): the process ends at once with status 0 and hangs nobody up; the next one has the
    call, and its registrations with carriers were not taken back."""
    alice = world.phone("pjsua2", "alice", tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010, address="127.0.0.32")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    process, left = world.edge.process, live(world)
    process.process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 0
    assert len(world.edge.events("edge.leaving")) == 1
    assert world.kamailio.registered("line-udp") != []
    world.edge.kill()
    tones.talk()
    world.edge.start()
    assert [(c["id"], c["started_at"]) for c in live(world)] == [(c["id"], c["started_at"]) for c in left]
    bob.hangup()
    alice.wait_closed()
    row = record(world, left[0]["id"])
    assert (row["outcome"], row["released_by"]) == ("answered", "b")
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)


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


# -- session timers (RFC 4028) -----------------------------------------------------------------------------------------


def test_peer_refreshes_its_session(world: World) -> None:
    """UPDATE and re-INVITE of a caller that keeps the session timer are answered as before the crash."""
    phone = world.phone("baresip", "alice")
    carrier = world.carrier_calls("uac_refreshes", SEATS["alice"][1], pause_ms=500)
    phone.wait_incoming()
    phone.answer()
    phone.wait_established()
    crash(world)
    trace = carrier.wait()
    phone.wait_closed()
    for method in ("UPDATE", "INVITE"):
        answer = trace.responses(200, method, "in")[-1]
        assert answer.header("Session-Expires") == "90;refresher=uac", answer.text


def test_edge_refreshes_sessions(world: World) -> None:
    """The edge keeps the timers of both legs: after the restart it refreshes when it would have (UPDATE to the caller,
    who allows it, re-INVITE to the called, who does not), on each leg alone. The new process's clock is 46 s ahead, so
    that half of the interval is over."""
    phone = world.sipp_phone("alice", "uas_is_refreshed")
    carrier = world.carrier_calls("uac_is_refreshed", SEATS["alice"][1])
    phone.wait_for(method="ACK")
    tones.talk(0.1)
    world.edge.kill()
    program, world.edge.program = world.edge.program, [*LATER, *world.edge.program]
    try:
        world.edge.start()
        called, caller = phone.wait(), carrier.wait()
        poll(lambda: not live(world), "the call is over")
        assert world.edge.metric("sip_edge_internal_errors_total") == 0
    finally:
        world.edge.program = program
        world.edge.kill()
        world.edge.start()
    update, reinvite = caller.requests("UPDATE", "in")[0], called.requests("INVITE", "in")[-1]
    assert update.header("Session-Expires") == reinvite.header("Session-Expires") == "90;refresher=uac"
    assert reinvite.body == called.requests("INVITE", "in")[0].body
    assert len(called.requests("INVITE", "in")) == 2 and len(caller.requests("INVITE", "in")) == 0


# -- several contacts --------------------------------------------------------------------------------------------------


def test_one_of_two_phones_answers(world: World) -> None:
    """Both phones of a seat ring across the crash; the one that answers gets the call, the other stops ringing and
    lists no missed call."""
    alice = world.phone("pjsua2", "alice", tone=440)
    desk = world.phone("baresip", "bobby", tone=1010)
    other = world.phone("pjsua2", "bobby", address="127.0.0.32")
    assert isinstance(other, Pjsua)
    alice.dial(SEATS["bobby"][0])
    desk.wait_incoming()
    other.wait_incoming()
    crash(world)
    call = live(world)[0]["id"]
    desk.answer()
    alice.wait_established()
    other.wait_closed()
    (cancel,) = {message.text: message for message in other.trace.requests("CANCEL", "in")}.values()
    assert "SIP;cause=200" in cancel.header("Reason")
    tones.talk()
    alice.hangup()
    desk.wait_closed()
    assert record(world, call)["outcome"] == "answered"
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)


# -- transfers that the crash interrupts -------------------------------------------------------------------------------


def test_target_of_a_transfer_has_not_answered(world: World) -> None:
    """Alice joins bobby and carol, whose phone does not answer before the crash: the transfer is given up, alice hears
    it and still has both calls, with sound. The same transfer works then."""
    alice, bob, carol = consulting(world)
    carol.freeze()
    mark = alice.mark
    alice.transfer_attended(0, 1)
    alice.wait_for(r"^TRANSFER 100", after=mark)
    crash(world)
    carol.thaw()
    alice.wait_for(r"^TRANSFER 503", after=mark)
    assert len(live(world)) == 2
    tones.talk(2)
    mark = alice.mark
    alice.transfer_attended(0, 1)
    alice.wait_closed(after=mark)  # PJSIP takes no NOTIFY of a second REFER: it has an id (RFC 3515 section 2.4.6)
    tones.talk()
    bob.hangup()
    carol.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, carol.tone, only=False)
    tones.assert_heard(carol.recording, bob.tone, only=False)
    tones.assert_heard(carol.recordings[0], alice.tone, only=False)


def test_calls_are_being_joined(world: World) -> None:
    """Carol has taken alice's place with bobby, whose phone has not answered before the crash: alice is out of it, and
    the two talk after the restart, hold and hang up."""
    alice, bob, carol = consulting(world)
    bob.freeze()
    mark = alice.mark
    alice.transfer_attended(0, 1)
    alice.wait_for(r"^TRANSFER 200", after=mark)
    calls = [row["id"] for row in live(world)]
    crash(world)
    bob.thaw()
    alice.wait_closed(after=mark)
    assert [row["id"] for row in live(world)] == calls
    tones.talk(2)
    mark = carol.mark
    bob.hold()
    carol.wait_media("(remote-hold|none)", after=mark)
    bob.hangup()
    carol.wait_closed()
    assert [record(world, call)["outcome"] for call in calls] == ["answered", "answered"]
    world.peers.stop_phones()
    tones.assert_heard(bob.recording, carol.tone, only=False)
    tones.assert_heard(carol.recording, bob.tone, only=False)


def consulting(world: World) -> tuple[Pjsua, Pjsua, Pjsua]:
    """Alice has bobby on hold and talks to carol."""
    alice, bob, carol = (
        world.peers.pjsua(world.account(seat), tone=tone, address=f"127.0.0.3{n}")
        for n, (seat, tone) in enumerate((("alice", 440), ("bobby", 1010), ("carol", 1750)), 1)
    )
    for phone in (alice, bob, carol):
        phone.wait_registered()
    for other, seat in ((bob, "bobby"), (carol, "carol")):
        mark = alice.mark
        alice.dial(SEATS[seat][0])
        other.wait_incoming()
        other.answer()
        alice.wait_established(after=mark)
        other.wait_established()
        tones.talk(0.5)
        if other is bob:
            alice.hold()
    return alice, bob, carol


# -- dialogs that ended just before the crash --------------------------------------------------------------------------


def test_bye_of_the_edge_is_repeated(world: World) -> None:
    """A BYE that nobody had answered when the daemon died comes again from the next one, and no more once answered."""
    with Raw(world.edge.server(), address=STATIC_ADDRESS) as carrier:
        phone = talking(world, carrier)
        phone.hangup()
        bye = request(carrier, "BYE")
        crash(world)
        again = request(carrier, "BYE")
        assert again.text == bye.text
        carrier.send(answered(again))
        assert carrier.receive(1.2) == ""


def test_bye_comes_again_after_the_crash(world: World) -> None:
    """The answer to a BYE is lost with the daemon: the next one answers it with 200 too. Nothing else can be meant."""
    with Raw(world.edge.server(), address=STATIC_ADDRESS) as carrier:
        phone = talking(world, carrier)
        carrier.send(within("BYE", 2))
        assert carrier.status() == 200
        phone.wait_closed()
        crash(world)
        carrier.send(within("BYE", 2))
        assert carrier.status() == 200
        carrier.send(within("INFO", 3))
        assert carrier.status() == 481
        crash(world)
        carrier.send(within("BYE", 4))
        assert carrier.status() == 200


def test_refused_just_before_the_crash(world: World) -> None:
    """What is told of a refused call outlives the process that refused it, though the spool may not have it yet."""
    mark = world.edge.mark
    with Raw(world.edge.server(), address=STATIC_ADDRESS) as carrier:
        invite(world, carrier, UNASSIGNED)
        answer = carrier.final()
        tones.talk(0.06)
        (refused,) = world.edge.events("call.refused", mark)
        world.edge.kill()
        world.edge.start()
        assert answer is not None and answer.status == 404
        assert record(world, refused["call"])["outcome"] == "refused"
        poll(lambda: str(refused["call"]) in world.edge.get("/refusals")[1], "it is among the refused calls")


_dialog: dict[str, str] = {}


def talking(world: World, carrier: Raw) -> Phone:
    """The carrier calls alice's phone, which answers; they talk."""
    phone = world.phone("pjsua2", "alice")
    invite(world, carrier, SEATS["alice"][1])
    phone.wait_incoming()
    phone.answer()
    answer = carrier.final()
    assert answer is not None and answer.status == 200
    _dialog.update({name: answer.header(name) for name in ("From", "To", "Call-ID", "Contact")})
    carrier.send(within("ACK", 1))
    phone.wait_established()
    tones.talk(0.2)
    return phone


def invite(world: World, carrier: Raw, called: str) -> None:
    """The carrier calls."""
    sdp = (
        f"v=0\r\no=- 1 1 IN IP4 {STATIC_ADDRESS}\r\ns=-\r\nc=IN IP4 {STATIC_ADDRESS}\r\nt=0 0\r\n"
        "m=audio 9 RTP/AVP 8\r\n"
    )
    _dialog["Via"] = f"SIP/2.0/UDP {STATIC_ADDRESS}:{carrier.port};rport;branch=z9hG4bK"
    carrier.send(
        f"INVITE sip:{called}@{world.edge.server()} SIP/2.0\r\nVia: {_dialog['Via']}-1\r\n"
        f"From: <sip:{SOMEBODY}@static.example>;tag=a\r\nTo: <sip:{called}@static.example>\r\n"
        f"Call-ID: parted-{carrier.port}\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"
        f"Contact: <sip:carrier@{STATIC_ADDRESS}:{carrier.port}>\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"
    )


def within(method: str, cseq: int) -> str:
    """A request of the carrier in the dialog."""
    return (
        f"{method} {_dialog['Contact'].strip('<>')} SIP/2.0\r\nVia: {_dialog['Via']}-{method}-{cseq}\r\n"
        + "".join(f"{name}: {_dialog[name]}\r\n" for name in ("From", "To", "Call-ID"))
        + f"CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )


def request(carrier: Raw, method: str) -> Seen:
    """The next request of this method that comes to the carrier."""
    while text := carrier.receive(5):
        seen = Seen("in", text)
        if not seen.is_response and seen.method == method:
            return seen
    raise AssertionError(f"no {method} came")


def answered(asked: Seen) -> str:
    """200 to a request."""
    lines = [f"{name}: {asked.header(name)}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
    return "\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""])
