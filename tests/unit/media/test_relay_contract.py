"""The contract of `media.relay.port`, on real engines and real UDP sockets: the relay of our own, and rtpengine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from media.relay.port import MediaRelay, RelayError, RelaySession, RelayStats, UnusableSdp
from media.relay.rtpio import RtpIoRelay
from tests.unit.media.conftest import AnyRelay, none_left
from tests.unit.media.peers import Peer, Told, rtp
from tests.unit.media.talk import RELAY, connect, heard, nobody, talk

pytestmark = pytest.mark.adapter

MakePeer = Callable[..., Peer]


def test_the_backend_is_a_media_relay(tmp_path: Path) -> None:
    """`RtpIoRelay` and its sessions are what the call engine is promised (checked by mypy as well)."""
    relay = RtpIoRelay(str(tmp_path / "s"))
    as_port: MediaRelay = relay
    session: RelaySession = relay.session("x", nobody)
    assert not as_port.ready and as_port.sessions == 0 and session.id == "x"


async def test_packets_pass_both_ways_and_are_counted(relay: AnyRelay, peer: MakePeer) -> None:
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
    # rtpengine knows of loss by RTCP alone, and nobody sent any
    lost = (None, None) if relay.bridges else (2, 0)
    assert stats == RelayStats(4, 1, 1, 4, *lost, jitter_a=stats.jitter_a)
    assert (stats.jitter_a is None) == relay.bridges


async def test_rtcp_passes_on_the_next_port(relay: AnyRelay, peer: MakePeer) -> None:
    """RFC 3605 is not needed between the relay and a peer: RTCP is one port above RTP."""
    a, b, rtcp_a, rtcp_b = peer(), peer(), peer(), peer()
    session = relay.session("rtcp", nobody)
    to_b, to_a = await connect(session, a, b)
    report = bytes.fromhex("80c90001000000aa")
    rtcp_b.send((RELAY, to_b.ports[0] + 1), report)
    rtcp_a.send((RELAY, to_a.ports[0] + 1), report)
    assert (await rtcp_b.receive())[0] == report
    await session.delete()


async def test_the_peers_text_does_not_cross(relay: AnyRelay, peer: MakePeer) -> None:
    """Principle 5 and domain 2.3: nothing of o=, s= or the peer's address is seen on the other side."""
    a, b = peer(), peer()
    session = relay.session("call-of-alice", nobody)
    to_b, _ = await connect(session, a, b)
    for secret in ("o=phone", "Alice", "alice", "198.51.100.9", str(a.port)):
        assert secret not in to_b.text
    await session.delete()


async def test_learns_where_a_phone_behind_nat_sends_from(relay: AnyRelay, peer: MakePeer) -> None:
    """Issue 2.7: packets from another address than the SDP's decide where media go; then the address is kept."""
    a, a_nat, b, thief = peer(), peer(), peer(), peer()
    session = relay.session("nat", nobody)
    to_b = Told.read(await session.forward(a.sdp(address="10.1.2.3", port=4000), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    await talk(a_nat, b, to_b, to_a)
    thief.send((RELAY, to_a.ports[0]), rtp(500, 0xBAD))
    a_nat.send((RELAY, to_a.ports[0]), rtp(2, 0xA))
    assert (await b.receive())[0] == rtp(2, 0xA)
    b.send((RELAY, to_b.ports[0]), rtp(2, 0xB))
    assert (await a_nat.receive())[0] == rtp(2, 0xB)
    assert thief.nothing_waits() and b.nothing_waits()
    await session.delete()


async def test_a_trusted_peer_is_not_latched_away_from(relay: AnyRelay, peer: MakePeer) -> None:
    """A carrier whose SDP is believed: packets of another host are neither relayed nor answered."""
    a, b, thief = peer("::1"), peer(), peer("127.0.0.2")
    session = relay.session("trusted", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", network="ip4"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True, trusted=True, network="ip6"))
    thief.send((RELAY, to_b.ports[0]), rtp(1, 0xBAD))
    b.send((RELAY, to_b.ports[0]), rtp(1, 0xB))
    assert (await a.receive())[0] == rtp(1, 0xB)
    a.send(("::1", to_a.ports[0]), rtp(1, 0xA))
    assert (await b.receive())[0] == rtp(1, 0xA)
    assert thief.nothing_waits() and a.nothing_waits()
    await session.delete()


async def test_a_new_offer_keeps_the_ports_and_moves_the_peer(relay: AnyRelay, peer: MakePeer) -> None:
    """RFC 3264 section 8: a re-INVITE from either side keeps the relay's ports; media follow the new address."""
    a, b, b2 = peer(), peer(), peer()
    session = relay.session("re", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    again_a = Told.read(await session.forward(b2.sdp(), "b", "b1"))
    again_b = Told.read(await session.forward(a.sdp(), "a", "b1", answer=True))
    assert again_a.ports == to_a.ports and again_b.ports == to_b.ports
    await talk(a, b2, to_b, to_a, 2)
    await session.delete()


async def test_the_origin_version_rises_only_with_a_change(relay: AnyRelay, peer: MakePeer) -> None:
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
async def test_hold_and_resume(relay: AnyRelay, peer: MakePeer, direction: str, address: str) -> None:
    """RFC 3264 section 8.4: hold passes in the form it came in, keeps the ports, and sound is back after it."""
    a, b = peer(), peer()
    session = relay.session("hold", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    held = Told.read(await session.forward(a.sdp(direction=direction, address=address), "a", "b1"))
    assert held.ports == to_b.ports
    assert f"a={direction}\r" in held.text
    assert held.address == (address or RELAY)
    await session.forward(b.sdp(direction="recvonly"), "b", "b1", answer=True)
    assert Told.read(await session.forward(a.sdp(), "a", "b1")).ports == to_b.ports
    await session.forward(b.sdp(), "b", "b1", answer=True)
    await talk(a, b, to_b, to_a, 2)
    await session.delete()


async def test_several_media_lines(relay: AnyRelay, peer: MakePeer) -> None:
    """Each m= line has ports of its own; port 0 stays 0; what runs over TCP is put to 0 (RFC 3264 section 6)."""
    a, b, video_a, video_b = peer(), peer(), peer(), peer()
    session = relay.session("lines", nobody)
    tcp = "m=message 4000 TCP/MSRP *\r\n"
    off = "m=image 0 udptl t38\r\n"
    offer = a.sdp(more=f"m=video {video_a.port} RTP/AVP 99\r\n{tcp}{off}")
    to_b = Told.read(await session.forward(offer, "a", "b1"))
    answer = b.sdp(more=f"m=video {video_b.port} RTP/AVP 99\r\nm=message 0 TCP/MSRP *\r\n{off}")
    to_a = Told.read(await session.forward(answer, "b", "b1", answer=True))
    assert [p > 0 for p in to_b.ports] == [p > 0 for p in to_a.ports] == [True, True, False, False]
    assert len({*to_b.ports[:2], *to_a.ports[:2]}) == 4
    await talk(a, b, to_b, to_a)
    await talk(video_a, video_b, to_b, to_a, line=1)
    assert (await session.delete()).from_a == 2


async def test_a_call_turns_to_t38_and_back(relay: AnyRelay, peer: MakePeer) -> None:
    """UDPTL passes as it is, also from a fax whose port behind NAT is another than before; audio has its ports back."""
    a, b, fax_a, fax_b = peer(), peer(), peer(), peer()
    session = relay.session("fax", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    image = b"v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=image 4000 udptl t38\r\n"
    fax_to_a = Told.read(await session.forward(image + b"a=T38FaxVersion:0\r\n", "b", "b1"))
    fax_to_b = Told.read(await session.forward(image, "a", "b1", answer=True))
    assert "a=T38FaxVersion:0" in fax_to_a.text and "udptl t38" in fax_to_a.text
    udptl = bytes.fromhex("0000010600000000")
    fax_b.send((RELAY, fax_to_b.ports[0]), udptl)
    await heard(fax_a, (RELAY, fax_to_a.ports[0]), udptl + b"\1", fax_b)
    await heard(fax_b, (RELAY, fax_to_b.ports[0]), udptl + b"\2", fax_a)
    back_b, back_a = await connect(session, a, b)
    assert (back_b.ports, back_a.ports) == (to_b.ports, to_a.ports)
    await talk(a, b, to_b, to_a, 2)
    await session.delete()


async def test_a_passive_session_changes_nothing_but_the_origin(relay: AnyRelay, peer: MakePeer) -> None:
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


async def test_early_media_of_one_branch_then_the_answer_of_another(relay: AnyRelay, peer: MakePeer) -> None:
    """Forked B legs: A hears the branch that spoke last, and the winner once it has answered."""
    a, b1, b2 = peer(), peer(), peer()
    session = relay.session("fork", nobody)
    to_b1 = Told.read(await session.forward(a.sdp(), "a", "b1"))
    to_b2 = Told.read(await session.forward(a.sdp(), "a", "b2"))
    assert to_b1.ports == to_b2.ports
    early = Told.read(await session.forward(b1.sdp(), "b", "b1", answer=True, early=True))
    await talk(a, b1, to_b1, early)
    answer = Told.read(await session.forward(b2.sdp(), "b", "b2", answer=True))
    assert answer.ports == early.ports
    await talk(a, b2, to_b2, answer, 2)
    await session.delete()


async def test_ipv6_on_one_side_ipv4_on_the_other(relay: AnyRelay, peer: MakePeer) -> None:
    """Issue 2.3 asks for both families; a call may have one on each side."""
    a, b = peer("::1"), peer()
    session = relay.session("families", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", network="ip4"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True, network="ip6"))
    assert (to_b.address, to_a.address) == ("127.0.0.1", "::1")
    await talk(a, b, to_b, to_a)
    again = Told.read(await session.forward(a.sdp(), "a", "b1", network="ip4"))
    assert again.ports == to_b.ports and again.address == "127.0.0.1"
    await session.delete()


async def test_an_unknown_network_is_an_error_in_words(relay: AnyRelay, peer: MakePeer) -> None:
    """A wrong setting names itself and what there is."""
    session = relay.session("nowhere", nobody)
    with pytest.raises(RelayError, match=r"no network 'dmz'; it has ip4 "):
        await session.forward(peer().sdp(), "a", "b1", network="dmz")
    assert await session.delete() == RelayStats()


async def test_bad_descriptions_take_no_ports(relay: AnyRelay) -> None:
    """What cannot be relayed is refused before the relay is asked."""
    session = relay.session("bad", nobody)
    msrp = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n"
    for body, status in ((b"nonsense", 400), (msrp, 488)):
        with pytest.raises(UnusableSdp) as refused:
            await session.forward(body, "a", "b1")
        assert refused.value.status == status
    assert relay.sessions == 0


async def test_delete_twice_gives_the_ports_back_once(relay: AnyRelay, peer: MakePeer) -> None:
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


async def test_delete_during_an_offer_leaves_nothing(relay: AnyRelay, peer: MakePeer) -> None:
    """A CANCEL while ports are being taken: commands keep their order, nothing leaks."""
    session = relay.session("glare", nobody)
    offer = asyncio.create_task(session.forward(peer().sdp(), "a", "b1"))
    await asyncio.sleep(0)
    await session.delete()
    await offer
    assert await none_left(relay) == 0 and relay.sessions == 0


async def test_an_offer_given_up_leaves_nothing(relay: AnyRelay, peer: MakePeer) -> None:
    """A call task that is cancelled while it waits for the relay does not shift the replies of others."""
    session = relay.session("gone", nobody)
    offer = asyncio.create_task(session.forward(peer().sdp(), "a", "b1"))
    await asyncio.sleep(0)
    offer.cancel()
    async with asyncio.timeout(5):
        while await relay.media_in_relay() != 1:
            pass  # an rtpengine may answer the second question before the first
    await session.delete()
    assert await none_left(relay) == 0


async def test_hostile_packets_do_not_harm(relay: AnyRelay, peer: MakePeer) -> None:
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


async def test_an_address_that_is_none_is_learnt(relay: AnyRelay, peer: MakePeer) -> None:
    """A host name: the first packet tells where the peer is."""
    a, b = peer(), peer()
    session = relay.session("learnt", nobody)
    to_b = Told.read(await session.forward(a.sdp(address="phone.example"), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    await talk(a, b, Told(RELAY, to_b.ports, 1, ""), to_a)
    await session.delete()
