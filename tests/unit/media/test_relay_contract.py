"""The contract of `media.relay.port`, on the real engine and real UDP sockets."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from media.relay.child import RelayChild
from media.relay.port import MediaRelay, RelayError, RelaySession, RelayStats, UnusableSdp
from media.relay.process import Bind, RelayOptions
from media.relay.rtpio import RtpIoRelay
from tests.unit.media.conftest import RelayUnderTest, none_left
from tests.unit.media.peers import DEADLINE, Peer, Told, rtp

pytestmark = pytest.mark.adapter

MakePeer = Callable[..., Peer]
StartRelay = Callable[..., RelayUnderTest]
RELAY = "127.0.0.1"


def nobody() -> None:
    raise AssertionError("a media timeout that should not have been")


async def connect(session: RelaySession, a: Peer, b: Peer) -> tuple[Told, Told]:
    """Offer of A, answer of B; what B was told, what A was told."""
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1"))
    return to_b, to_a


async def talk(a: Peer, b: Peer, to_b: Told, to_a: Told, sequence: int = 1, line: int = 0) -> None:
    """One packet each way, coming from the port the receiver was told to send to."""
    a.send((to_a.address, to_a.ports[line]), rtp(sequence, 0xA))
    assert await b.receive() == (rtp(sequence, 0xA), (to_b.address, to_b.ports[line]))
    b.send((to_b.address, to_b.ports[line]), rtp(sequence, 0xB))
    assert await a.receive() == (rtp(sequence, 0xB), (to_a.address, to_a.ports[line]))


async def ready_again(relay: MediaRelay) -> None:
    for _ in range(int(DEADLINE / 0.02)):
        if relay.ready:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the relay did not come back")


async def heard(sender: Peer, to: tuple[str, int], data: bytes, receiver: Peer) -> None:
    """Send until the receiver has it: the relay may have to learn the receiver's address first."""
    for _ in range(50):
        sender.send(to, data)
        with suppress(TimeoutError):
            while (await receiver.receive(0.1))[0] != data:
                pass
            return
    raise AssertionError("not heard")


def test_the_backend_is_a_media_relay(tmp_path: Path) -> None:
    """`RtpIoRelay` and its sessions are what the call engine is promised (checked by mypy as well)."""
    relay = RtpIoRelay(str(tmp_path / "s"))
    as_port: MediaRelay = relay
    session: RelaySession = relay.session("x", nobody)
    assert not as_port.ready and as_port.sessions == 0 and session.id == "x"


async def test_packets_pass_both_ways_and_are_counted(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Ports are of the range; RTP and RTCP pass both ways; the statistics say who sent what."""
    a, b = peer(), peer()
    session = relay.session("call-1", nobody)
    assert relay.sessions == 0
    to_b, to_a = await connect(session, a, b)
    assert relay.sessions == 1
    for port in (*to_b.ports, *to_a.ports):
        assert 23000 <= port <= 23898 and port % 2 == 0
    await talk(a, b, to_b, to_a)
    for sequence in (2, 3, 6):
        a.send((RELAY, to_a.ports[0]), rtp(sequence, 0xA))
        await b.receive()
    stats = await session.delete()
    assert stats == RelayStats(from_a=4, from_b=1, to_a=1, to_b=4, lost_a=2, lost_b=0)


async def test_rtcp_passes_on_the_next_port(relay: RtpIoRelay, peer: MakePeer) -> None:
    """RFC 3605 is not needed between the relay and a peer: RTCP is one port above RTP."""
    a, b, rtcp_a, rtcp_b = peer(), peer(), peer(), peer()
    session = relay.session("rtcp", nobody)
    to_b, to_a = await connect(session, a, b)
    report = bytes.fromhex("80c90001000000aa")
    rtcp_b.send((RELAY, to_b.ports[0] + 1), report)
    rtcp_a.send((RELAY, to_a.ports[0] + 1), report)
    assert (await rtcp_b.receive())[0] == report
    await session.delete()


async def test_the_peers_text_does_not_cross(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Principle 5 and domain 2.3: nothing of o=, s= or the peer's address is seen on the other side."""
    a, b = peer(), peer()
    session = relay.session("call-of-alice", nobody)
    to_b, _ = await connect(session, a, b)
    for secret in ("o=phone", "Alice", "alice", "198.51.100.9", str(a.port)):
        assert secret not in to_b.text
    await session.delete()


async def test_learns_where_a_phone_behind_nat_sends_from(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Issue 2.7: packets from another address than the SDP's decide where media go; then the address is kept."""
    a, a_nat, b, thief = peer(), peer(), peer(), peer()
    session = relay.session("nat", nobody)
    to_b = Told.read(await session.forward(a.sdp(address="10.1.2.3", port=4000), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1"))
    await talk(a_nat, b, to_b, to_a)
    thief.send((RELAY, to_a.ports[0]), rtp(500, 0xBAD))
    a_nat.send((RELAY, to_a.ports[0]), rtp(2, 0xA))
    assert (await b.receive())[0] == rtp(2, 0xA)
    b.send((RELAY, to_b.ports[0]), rtp(2, 0xB))
    assert (await a_nat.receive())[0] == rtp(2, 0xB)
    assert thief.nothing_waits() and b.nothing_waits()
    await session.delete()


async def test_a_trusted_peer_is_not_latched_away_from(relay: RtpIoRelay, peer: MakePeer) -> None:
    """A carrier whose SDP is believed: packets of another host are neither relayed nor answered."""
    a, b, thief = peer("::1"), peer(), peer("127.0.0.2")
    session = relay.session("trusted", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", network="ip4"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", trusted=True, network="ip6"))
    thief.send((RELAY, to_b.ports[0]), rtp(1, 0xBAD))
    b.send((RELAY, to_b.ports[0]), rtp(1, 0xB))
    assert (await a.receive())[0] == rtp(1, 0xB)
    a.send(("::1", to_a.ports[0]), rtp(1, 0xA))
    assert (await b.receive())[0] == rtp(1, 0xA)
    assert thief.nothing_waits() and a.nothing_waits()
    await session.delete()


async def test_a_new_offer_keeps_the_ports_and_moves_the_peer(relay: RtpIoRelay, peer: MakePeer) -> None:
    """RFC 3264 section 8: a re-INVITE from either side keeps the relay's ports; media follow the new address."""
    a, b, b2 = peer(), peer(), peer()
    session = relay.session("re", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    again_a = Told.read(await session.forward(b2.sdp(), "b", "b1"))
    again_b = Told.read(await session.forward(a.sdp(), "a", "b1"))
    assert again_a.ports == to_a.ports and again_b.ports == to_b.ports
    await talk(a, b2, to_b, to_a, 2)
    await session.delete()


async def test_the_origin_version_rises_only_with_a_change(relay: RtpIoRelay, peer: MakePeer) -> None:
    """RFC 3264 section 8: the o= version of each dialog rises by one with each change and with nothing else."""
    a, b = peer(), peer()
    session = relay.session("versions", nobody)
    to_b, to_a = await connect(session, a, b)
    assert (to_b.version, to_a.version) == (1, 1)
    assert Told.read(await session.forward(a.sdp(), "a", "b1")).version == 1
    assert Told.read(await session.forward(a.sdp(direction="sendonly"), "a", "b1")).version == 2
    assert Told.read(await session.forward(a.sdp(direction="sendonly"), "a", "b2")).version == 1
    assert Told.read(await session.forward(a.sdp(), "a", "b1")).version == 3
    ids = {re.search(r"o=- (\d+)", told.text)[1] for told in (to_b, to_a)}  # type: ignore[index]
    assert len(ids) == 2
    await session.delete()


@pytest.mark.parametrize(
    ("direction", "address"), [("inactive", ""), ("sendonly", ""), ("sendrecv", "0.0.0.0")], ids=["i", "s", "rfc2543"]
)
async def test_hold_and_resume(relay: RtpIoRelay, peer: MakePeer, direction: str, address: str) -> None:
    """RFC 3264 section 8.4: hold passes in the form it came in, keeps the ports, and sound is back after it."""
    a, b = peer(), peer()
    session = relay.session("hold", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    held = Told.read(await session.forward(a.sdp(direction=direction, address=address), "a", "b1"))
    assert held.ports == to_b.ports
    assert f"a={direction}\r" in held.text
    assert held.address == (address or RELAY)
    await session.forward(b.sdp(direction="recvonly"), "b", "b1")
    assert Told.read(await session.forward(a.sdp(), "a", "b1")).ports == to_b.ports
    await session.forward(b.sdp(), "b", "b1")
    await talk(a, b, to_b, to_a, 2)
    await session.delete()


async def test_several_media_lines(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Each m= line has ports of its own; port 0 stays 0; what runs over TCP is put to 0 (RFC 3264 section 6)."""
    a, b, video_a, video_b = peer(), peer(), peer(), peer()
    session = relay.session("lines", nobody)
    tcp = "m=message 4000 TCP/MSRP *\r\n"
    off = "m=image 0 udptl t38\r\n"
    offer = a.sdp(more=f"m=video {video_a.port} RTP/AVP 99\r\n{tcp}{off}")
    to_b = Told.read(await session.forward(offer, "a", "b1"))
    answer = b.sdp(more=f"m=video {video_b.port} RTP/AVP 99\r\nm=message 0 TCP/MSRP *\r\n{off}")
    to_a = Told.read(await session.forward(answer, "b", "b1"))
    assert [p > 0 for p in to_b.ports] == [p > 0 for p in to_a.ports] == [True, True, False, False]
    assert len({*to_b.ports[:2], *to_a.ports[:2]}) == 4
    await talk(a, b, to_b, to_a)
    await talk(video_a, video_b, to_b, to_a, line=1)
    assert (await session.delete()).from_a == 2


async def test_a_call_turns_to_t38_and_back(relay: RtpIoRelay, peer: MakePeer) -> None:
    """UDPTL passes as it is, also from a fax whose port behind NAT is another than before; audio has its ports back."""
    a, b, fax_a, fax_b = peer(), peer(), peer(), peer()
    session = relay.session("fax", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    image = b"v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=image 4000 udptl t38\r\n"
    fax_to_a = Told.read(await session.forward(image + b"a=T38FaxVersion:0\r\n", "b", "b1"))
    fax_to_b = Told.read(await session.forward(image, "a", "b1"))
    assert "a=T38FaxVersion:0" in fax_to_a.text and "udptl t38" in fax_to_a.text
    udptl = bytes.fromhex("0000010600000000")
    fax_b.send((RELAY, fax_to_b.ports[0]), udptl)
    await heard(fax_a, (RELAY, fax_to_a.ports[0]), udptl + b"\1", fax_b)
    await heard(fax_b, (RELAY, fax_to_b.ports[0]), udptl + b"\2", fax_a)
    back_b, back_a = await connect(session, a, b)
    assert (back_b.ports, back_a.ports) == (to_b.ports, to_a.ports)
    await talk(a, b, to_b, to_a, 2)
    await session.delete()


async def test_a_passive_session_changes_nothing_but_the_origin(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Two joined calls have one session that relays; in the other's dialogs o= goes on as before (RFC 3264 section 8),
    also when its ports are gone."""
    a, b, c = peer(), peer(), peer()
    session, other = relay.session("carries", nobody), relay.session("passes", nobody)
    _, told_a = await connect(other, a, b)
    offer = await session.forward(c.sdp(), "a", "a")
    other.passive = True
    passed = Told.read(await other.forward(offer, "b", "b1"))
    assert passed.ports == Told.read(offer).ports and passed.version == told_a.version + 1
    assert passed.text.split("\r\n")[1].split()[1] == told_a.text.split("\r\n")[1].split()[1]
    assert passed.text.split("\r\n")[2:] == offer.decode().split("\r\n")[2:]
    figures = await other.delete()
    assert Told.read(await other.forward(offer, "b", "b1")).version == passed.version
    assert await other.delete() == figures
    await session.delete()


async def test_early_media_of_one_branch_then_the_answer_of_another(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Forked B legs: A hears the branch that spoke last, and the winner once it has answered."""
    a, b1, b2 = peer(), peer(), peer()
    session = relay.session("fork", nobody)
    to_b1 = Told.read(await session.forward(a.sdp(), "a", "b1"))
    to_b2 = Told.read(await session.forward(a.sdp(), "a", "b2"))
    assert to_b1.ports == to_b2.ports
    early = Told.read(await session.forward(b1.sdp(), "b", "b1", early=True))
    await talk(a, b1, to_b1, early)
    answer = Told.read(await session.forward(b2.sdp(), "b", "b2"))
    assert answer.ports == early.ports
    await talk(a, b2, to_b2, answer, 2)
    await session.delete()


async def test_ipv6_on_one_side_ipv4_on_the_other(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Issue 2.3 asks for both families; a call may have one on each side."""
    a, b = peer("::1"), peer()
    session = relay.session("families", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", network="ip4"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", network="ip6"))
    assert (to_b.address, to_a.address) == ("127.0.0.1", "::1")
    await talk(a, b, to_b, to_a)
    again = Told.read(await session.forward(a.sdp(), "a", "b1", network="ip4"))
    assert again.ports == to_b.ports and again.address == "127.0.0.1"
    await session.delete()


async def test_the_advertised_address_is_told(relay: RtpIoRelay, peer: MakePeer) -> None:
    """A relay behind NAT tells the address outside, and takes packets inside."""
    a, b = peer(), peer()
    session = relay.session("outside", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", network="nat"))
    assert to_b.address == "192.0.2.77" and "o=- " in to_b.text and "IN IP4 192.0.2.77" in to_b.text
    await session.forward(b.sdp(), "b", "b1")
    b.send((RELAY, to_b.ports[0]), rtp(1))
    await a.receive()
    await session.delete()


async def test_an_unknown_network_is_an_error_in_words(relay: RtpIoRelay, peer: MakePeer) -> None:
    """A wrong setting names itself and what there is."""
    session = relay.session("nowhere", nobody)
    with pytest.raises(RelayError, match=r"no network 'dmz'; it has ip4 \(127"):
        await session.forward(peer().sdp(), "a", "b1", network="dmz")
    assert await session.delete() == RelayStats()


async def test_bad_descriptions_take_no_ports(relay: RtpIoRelay) -> None:
    """What cannot be relayed is refused before the relay is asked."""
    session = relay.session("bad", nobody)
    msrp = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n"
    for body, status in ((b"nonsense", 400), (msrp, 488)):
        with pytest.raises(UnusableSdp) as refused:
            await session.forward(body, "a", "b1")
        assert refused.value.status == status
    assert relay.sessions == 0


async def test_delete_twice_gives_the_ports_back_once(relay: RtpIoRelay, peer: MakePeer) -> None:
    """The second delete gives the first's figures; after it nothing is forwarded."""
    a, b = peer(), peer()
    session = relay.session("twice", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    first, second = await asyncio.gather(session.delete(), session.delete())
    assert first == second == await session.delete() and first.from_a == 1
    assert await none_left(relay) == 0
    with pytest.raises(RelayError, match="released"):
        await session.forward(a.sdp(), "a", "b1")


async def test_delete_during_an_offer_leaves_nothing(relay: RtpIoRelay, peer: MakePeer) -> None:
    """A CANCEL while ports are being taken: commands keep their order, nothing leaks."""
    session = relay.session("glare", nobody)
    offer = asyncio.create_task(session.forward(peer().sdp(), "a", "b1"))
    await asyncio.sleep(0)
    await session.delete()
    await offer
    assert await none_left(relay) == 0 and relay.sessions == 0


async def test_an_offer_given_up_leaves_nothing(relay: RtpIoRelay, peer: MakePeer) -> None:
    """A call task that is cancelled while it waits for the relay does not shift the replies of others."""
    session = relay.session("gone", nobody)
    offer = asyncio.create_task(session.forward(peer().sdp(), "a", "b1"))
    await asyncio.sleep(0)
    offer.cancel()
    assert await relay.media_in_relay() == 1
    await session.delete()
    assert await none_left(relay) == 0


async def test_two_hundred_calls_at_once(relay: RtpIoRelay, relay_process: RelayUnderTest, peer: MakePeer) -> None:
    """All calls have ports of their own, and all descriptors are given back."""

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{relay_process.process.pid}/fd"))

    before = descriptors()
    a, b = peer(), peer()
    sessions = [relay.session(f"load-{n}", nobody) for n in range(200)]
    told = await asyncio.gather(*(connect(session, a, b) for session in sessions))
    ports = [port for to_b, to_a in told for port in (*to_b.ports, *to_a.ports)]
    assert len(set(ports)) == 400
    assert descriptors() > 800
    assert relay.sessions == await relay.media_in_relay() == 200
    await asyncio.gather(*(session.delete() for session in sessions))
    for _ in range(100):
        if descriptors() <= before + 4:
            break
        # The engine closes sockets in threads of its own, within a second.
        await asyncio.sleep(0.02)
    # The relay's own medium may have been made in between.
    assert descriptors() <= before + 4


async def test_two_clients_share_a_relay_and_one_takes_a_call_over(
    relay: RtpIoRelay, relay_process: RelayUnderTest, peer: MakePeer
) -> None:
    """Principle 7: a signalling process that comes again finds the relay and the media of its calls."""
    a, b = peer(), peer()
    first = RtpIoRelay(relay_process.path)
    await first.start()
    to_b, to_a = await connect(first.session("survivor", nobody), a, b)
    await first.stop()
    await talk(a, b, to_b, to_a)
    session = relay.session("survivor", nobody)
    again = Told.read(await session.forward(b.sdp(), "b", "b1"))
    assert again.ports == to_a.ports
    assert Told.read(await session.forward(a.sdp(), "a", "b1")).ports == to_b.ports
    await talk(a, b, to_b, to_a, 2)
    assert (await session.delete()).from_a == 2


async def test_a_session_the_relay_does_not_know(relay: RtpIoRelay, peer: MakePeer) -> None:
    """A call whose media are gone is told so, and does not get ports the far side knows nothing of."""
    a, b = peer(), peer()
    session = relay.session("unknown", nobody)
    await session.forward(a.sdp(), "a", "b1")
    await relay.clear()
    with pytest.raises(RelayError, match="does not know the media"):
        await session.forward(b.sdp(), "b", "b1")
    assert await session.delete() == RelayStats()


async def test_hostile_packets_do_not_harm(relay: RtpIoRelay, peer: MakePeer) -> None:
    """Truncated, oversized and senseless packets on RTP and RTCP ports: the call goes on."""
    a, b = peer(), peer()
    session = relay.session("hostile", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    for packet in (b"", b"\x80", b"\xff" * 11, b"\0" * 2048, b"\xbf\xff" + b"\xff" * 60, b"\x80\xc8" + b"\xff" * 6):
        a.send((RELAY, to_a.ports[0]), packet)
        a.send((RELAY, to_a.ports[0] + 1), packet)
    a.send((RELAY, to_a.ports[0]), rtp(2, 0xA))
    while (await b.receive())[0] != rtp(2, 0xA):
        pass
    b.send((RELAY, to_b.ports[0]), rtp(2, 0xB))
    assert (await a.receive())[0] == rtp(2, 0xB)
    await session.delete()


async def test_out_of_ports_is_an_error_in_words_and_passes(start_relay: StartRelay, peer: MakePeer) -> None:
    """A full relay refuses the new call and serves it when another ends."""
    process = start_relay("--ports", "23900-23913")
    relay = RtpIoRelay(process.path)
    await relay.start()
    a = peer()
    calls = [relay.session(f"full-{n}", nobody) for n in range(8)]
    with pytest.raises(RelayError, match="out of ports"):
        for session in calls:
            await session.forward(a.sdp(), "a", "b1")
    assert relay.sessions >= 4
    await calls[0].delete()
    for _ in range(200):
        with suppress(RelayError):
            await calls[7].forward(a.sdp(), "a", "b1")
            break
        # The engine closes the ports of the call before in threads of its own, within a second.
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the ports did not come back")
    for session in calls:
        await session.delete()
    assert relay.sessions == 0
    await relay.stop()


@pytest.fixture
async def impatient(start_relay: StartRelay) -> AsyncIterator[RtpIoRelay]:
    """A relay that gives a silent call one second, and one that is not answered two."""
    process = start_relay("--ports", "23900-23949", "--timeout", "1", "--setup-timeout", "2")
    client = RtpIoRelay(process.path, hold_timeout=60)
    await client.start()
    yield client
    await client.stop()


async def test_a_silent_call_is_told_once(impatient: RtpIoRelay, peer: MakePeer) -> None:
    """3.10-16: no packet from either side ends the call once; one on hold, or not answered yet, is left alone."""
    a, b = peer(), peer()
    silent, held = asyncio.Event(), asyncio.Event()
    dead = impatient.session("silent", silent.set)
    await connect(dead, a, b)
    on_hold = impatient.session("held", held.set)
    await on_hold.forward(a.sdp(direction="inactive"), "a", "b1")
    await on_hold.forward(b.sdp(direction="inactive"), "b", "b1")
    ringing = impatient.session("ringing", held.set)
    await ringing.forward(a.sdp(), "a", "b1")
    await ringing.forward(b.sdp(), "b", "b1", early=True)
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(silent.wait(), DEADLINE)
    assert asyncio.get_running_loop().time() - began < 3.5
    assert not held.is_set()
    with pytest.raises(RelayError, match="timed out"):
        await dead.forward(a.sdp(), "a", "b1")
    await dead.delete()
    await on_hold.delete()
    await ringing.delete()
    assert await none_left(impatient) == 0


async def test_an_early_dialog_has_the_longer_time(impatient: RtpIoRelay, peer: MakePeer) -> None:
    """A 183 with SDP but no packets may ring on; after the answer silence counts."""
    a, b = peer(), peer()
    order: list[str] = []
    done = asyncio.Event()

    def rung_out() -> None:
        order.append("ringing")
        done.set()

    ringing = impatient.session("ringing", rung_out)
    answered = impatient.session("answered", lambda: order.append("answered"))
    for session, early in ((ringing, True), (answered, False)):
        await session.forward(a.sdp(), "a", "b1")
        await session.forward(b.sdp(), "b", "b1", early=early)
    await asyncio.wait_for(done.wait(), DEADLINE)
    assert order == ["answered", "ringing"]
    await ringing.delete()
    await answered.delete()


async def test_a_second_medium_that_is_silent_ends_no_call(impatient: RtpIoRelay, peer: MakePeer) -> None:
    """Video that is switched off is no dead call: the first medium decides."""
    a, b, va, vb = peer(), peer(), peer(), peer()
    session = impatient.session("video", nobody)
    to_b = Told.read(await session.forward(a.sdp(more=f"m=video {va.port} RTP/AVP 99\r\n"), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(more=f"m=video {vb.port} RTP/AVP 99\r\n"), "b", "b1"))
    for sequence in range(1, 31):
        await talk(a, b, to_b, to_a, sequence)
        await asyncio.sleep(0.1)
    await talk(va, vb, to_b, to_a, line=1)
    await session.delete()


def child_options(tmp_path: Path) -> RelayOptions:
    return RelayOptions(str(tmp_path / "s"), (Bind("127.0.0.1"),), (23950, 23999))


async def test_a_killed_engine_is_noticed_and_started_again(tmp_path: Path, peer: MakePeer) -> None:
    """Principle 7: the relay dies, calls are told, `ready` goes, and new calls work after the restart."""
    child = RelayChild(child_options(tmp_path))
    relay = RtpIoRelay(child=child)
    await relay.start()
    assert relay.ready
    a, b = peer(), peer()
    lost = asyncio.Event()
    session = relay.session("victim", lost.set)
    await connect(session, a, b)
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(lost.wait(), DEADLINE)
    assert not relay.ready and relay.sessions == 0
    with pytest.raises(RelayError, match="ended and took the media"):
        await session.forward(a.sdp(), "a", "b1")
    with pytest.raises(RelayError, match="away"):
        await relay.session("too-soon", nobody).forward(a.sdp(), "a", "b1")
    assert await session.delete() == RelayStats()
    await ready_again(relay)
    assert relay.ready and child.starts == 2 and child.pid != pid
    session = relay.session("next", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    await session.delete()
    await relay.stop()
    assert child.pid is None
    assert os.listdir(tmp_path) == []


async def test_sigterm_with_calls_up(start_relay: StartRelay, peer: MakePeer) -> None:
    """The relay ends at once and cleanly, calls or no calls, and its clients know."""
    process = start_relay("--ports", "23950-23999")
    relay = RtpIoRelay(process.path)
    await relay.start()
    a, b = peer(), peer()
    lost = asyncio.Event()
    session = relay.session("cut", lost.set)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    process.process.terminate()
    await asyncio.wait_for(lost.wait(), DEADLINE)
    assert await asyncio.to_thread(process.process.wait, DEADLINE) == 0
    await relay.stop()


async def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """The signalling process is killed: no relay of its own is left behind, nor a socket."""
    program = (
        "import asyncio, sys\n"
        "from media.relay.child import RelayChild\n"
        "from media.relay.process import Bind, RelayOptions\n"
        "async def main():\n"
        "    child = RelayChild(RelayOptions(sys.argv[1], (Bind('127.0.0.1'),), (23950, 23999)))\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "s"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    words: list[bytes] = []
    while not words or not words[0].isdigit():
        words = (await asyncio.wait_for(parent.stdout.readline(), DEADLINE)).split()
    pid = int(words[0])
    parent.kill()
    await parent.communicate()
    for _ in range(250):
        if not alive(pid):
            break
        await asyncio.sleep(0.02)
    assert not alive(pid)
    assert os.listdir(tmp_path) == []


def alive(pid: int) -> bool:
    """Whether the process runs; one that is only waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_on_the_loop_of_the_daemon(tmp_path: Path) -> None:
    """The same on uvloop, which has transports and subprocesses of its own."""

    async def calls() -> RelayStats:
        relay = RtpIoRelay(child=RelayChild(child_options(tmp_path)))
        await relay.start()
        a, b = Peer(), Peer()
        session = relay.session("uv", nobody)
        to_b, to_a = await connect(session, a, b)
        await talk(a, b, to_b, to_a)
        stats = await session.delete()
        await relay.stop()
        a.close()
        b.close()
        return stats

    assert uvloop.run(calls()) == RelayStats(1, 1, 1, 1)
    assert os.listdir(tmp_path) == []


async def test_a_hung_engine_fails_in_time(start_relay: StartRelay, peer: MakePeer) -> None:
    """A relay that does not answer gives an error within the limit; its calls go on when it does again."""
    process = start_relay("--ports", "23950-23999")
    relay = RtpIoRelay(process.path, command_timeout=0.5)
    await relay.start()
    a, b = peer(), peer()
    session = relay.session("patient", nobody)
    await session.forward(a.sdp(), "a", "b1")
    process.process.send_signal(signal.SIGSTOP)
    try:
        # All threads have stopped when the parent can see it.
        await asyncio.to_thread(os.waitid, os.P_PID, process.process.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(RelayError, match=r"did not answer within 0\.5 s"):
            await session.forward(b.sdp(), "b", "b1")
        assert not relay.ready
    finally:
        process.process.send_signal(signal.SIGCONT)
    await ready_again(relay)
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1"))
    a.send((RELAY, to_a.ports[0]), rtp(1))
    await b.receive()
    await session.delete()
    await relay.stop()


async def test_no_relay_is_an_error_in_words(tmp_path: Path) -> None:
    """A path where nothing listens is named."""
    relay = RtpIoRelay(str(tmp_path / "none"), command_timeout=0.2)
    with pytest.raises(RelayError, match=r"no media relay at .*none: .*No such file"):
        await relay.start()


async def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A wrong address in the settings is reported, not retried for ever."""
    options = RelayOptions(str(tmp_path / "s"), (Bind("192.0.2.1"),), (23950, 23999))
    relay = RtpIoRelay(child=RelayChild(options))
    with pytest.raises(RelayError, match=r"192\.0\.2\.1: not an address of this machine"):
        await relay.start()
