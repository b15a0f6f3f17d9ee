"""RFC 8866 descriptions: what is read, what is refused, what a rewrite changes and what it leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.relay.port import UnusableSdp
from media.sdp.lines import MAX_BYTES, parse
from media.sdp.rewrite import endpoint, require_media, rewrite, with_origin

HEAD = "v=0\r\no=alice 1 1 IN IP4 10.0.0.1\r\ns=hello\r\n"
PLAIN = HEAD + "c=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"


def written(text: str, *ports: int, address: str = "192.0.2.1") -> list[str]:
    return rewrite(parse(text.encode()), ports, address).split("\r\n")[:-1]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"\r\n\r\n", 400, "empty"),
        (b"hello", 400, "v=0"),
        (b"v=1\r\n", 400, "v=0"),
        (b"v=0\r\nfoo\r\n", 400, "line 2"),
        (b"v=0\r\n\r\ns=-\r\n", 400, "line 2"),
        (b"v=0\r\ns=a\0b\r\n", 400, "control"),
        (b"v=0\rs=a\r\n", 400, "v=0"),
        (b"v=0\r\nm=audio\r\n", 400, "m="),
        (b"v=0\r\nm=audio 70000 RTP/AVP 0\r\n", 400, "port"),
        (b"v=0\r\nm=audio -1 RTP/AVP 0\r\n", 400, "port"),
        ("v=0\r\nm=audio ٣ RTP/AVP 0\r\n".encode(), 400, "port"),
        (b"v=0\r\nm=audio 4000/2 RTP/AVP 0\r\n", 488, "range of ports"),
        (b"v=0\r\nc=IN IP4 1.2.3.4\r\nc=IN IP4 1.2.3.5\r\n", 488, "second c="),
        (b"v=0\r\n" + b"m=audio 0 RTP/AVP 0\r\n" * 33, 488, "32"),
        (b"v=0\r\n" + b"a=x\r\n" * MAX_BYTES, 488, "bytes"),
    ],
)
def test_what_cannot_be_read(body: bytes, status: int, words: str) -> None:
    """Domain section 14: each fault has its answer and words that name it."""
    with pytest.raises(UnusableSdp, match=words) as refused:
        parse(body)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("connection", "status"),
    [
        ("", 400),
        ("c=IN IP4 224.1.1.1/127\r\n", 488),
        ("c=IN IP6 ff02::1\r\n", 488),
        ("c=IN IP4 2001:db8::1\r\n", 400),
        ("c=ATM NSAP x\r\n", 400),
        ("c=IN IP4\r\n", 400),
    ],
)
def test_connections_that_cannot_be_relayed(connection: str, status: int) -> None:
    """RFC 8866 section 5.7: a live medium needs a unicast address."""
    sdp = parse(f"v=0\r\n{connection}m=audio 4000 RTP/AVP 0\r\n".encode())
    with pytest.raises(UnusableSdp) as refused:
        endpoint(sdp, sdp.media[0])
    assert refused.value.status == status


@pytest.mark.parametrize("name", ["RTQ:0x7f0000000000", "phone.example.com", "fe80::1%eth0", "1.2.3", "127.0.0.1;x"])
def test_only_literal_addresses_reach_the_relay(name: str) -> None:
    """A host name is learnt from packets; nothing a peer writes becomes a word of a relay command."""
    family = "IP6" if "%" in name else "IP4"
    sdp = parse(f"v=0\r\nc=IN {family} {name}\r\nm=audio 4000 RTP/AVP 0\r\n".encode())
    assert endpoint(sdp, sdp.media[0]).address is None


def test_the_whole_rewrite_of_an_ordinary_offer() -> None:
    """One golden description, line by line."""
    offer = (
        "v=0\no=alice 123 456 IN IP4 10.0.0.1\ns=Alice's phone\ni=room 4\nu=http://x\ne=a@b\np=+49\nc=IN IP4 10.0.0.1\n"
        "b=AS:64\nt=0 0\na=group:BUNDLE 0\na=ice-lite\na=x-vendor:1\na=tool:ab 1\n"
        "m=audio 4000 RTP/AVP 8 101\ni=headset\na=ssrc:7 cname:alice@10.0.0.1\na=ssrc-group:FID 7 8\na=msid:a b\n"
        "c=IN IP4 10.0.0.2\na=rtcp:4001 IN IP4 10.0.0.2\na=candidate:1 1 UDP 1 10.0.0.2 4000 typ host\na=ice-ufrag:x\n"
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret\na=rtpmap:8 PCMA/8000\na=sendonly\na=ptime:20\n"
        "m=video 0 RTP/AVP 99\na=rtcp:9\n"
    )
    body = with_origin(rewrite(parse(offer.encode()), [30000, 0], "192.0.2.1"), "192.0.2.1", 77, 3)
    assert body == (
        b"v=0\r\no=- 77 3 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nb=AS:64\r\nt=0 0\r\na=x-vendor:1\r\n"
        b"m=audio 30000 RTP/AVP 8 101\r\nc=IN IP4 192.0.2.1\r\na=rtcp:30001 IN IP4 192.0.2.1\r\n"
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret\r\n"
        b"a=rtpmap:8 PCMA/8000\r\na=sendonly\r\na=ptime:20\r\nm=video 0 RTP/AVP 99\r\n"
    )


def test_what_peers_leave_out_is_put_in() -> None:
    """RFC 8866 section 5: s= and t= are owed by us even where the peer saved them."""
    assert written("v=0\nc=IN IP4 10.0.0.1\na=x\nm=audio 4000 RTP/AVP 8\n", 30000)[:4] == [
        "s=-",
        "c=IN IP4 192.0.2.1",
        "t=0 0",
        "a=x",
    ]


def test_ipv6_takes_the_place_of_ipv4() -> None:
    """RFC 6157: c= and a=rtcp name the family of the relay's address; the hold form is that family's."""
    lines = written(PLAIN + "a=rtcp:4001 IN IP4 10.0.0.1\r\n", 30000, address="2001:db8::1")
    assert "c=IN IP6 2001:db8::1" in lines and "a=rtcp:30001 IN IP6 2001:db8::1" in lines
    held = written(PLAIN.replace("c=IN IP4 10.0.0.1", "c=IN IP4 0.0.0.0"), 30000, address="2001:db8::1")
    assert "c=IN IP6 ::" in held


def test_rtcp_on_the_port_of_rtp_stays_there() -> None:
    """RFC 5761: a=rtcp-mux passes, and an a=rtcp that names the RTP port goes on naming it."""
    lines = written(PLAIN + "a=rtcp:4000\r\na=rtcp-mux\r\n", 30000)
    assert lines[-2:] == ["a=rtcp:30000", "a=rtcp-mux"]


def test_a_secure_profile_passes_with_its_keys() -> None:
    """RFC 4568, RFC 5763: the relay carries what it cannot read; keys and fingerprints are end to end."""
    keys = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc"
    text = HEAD + f"c=IN IP4 10.0.0.1\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\nm=audio 4000 RTP/SAVP 8\r\n{keys}\r\n"
    lines = written(text, 30000)
    assert lines[-3:] == ["a=fingerprint:sha-256 AA", "m=audio 30000 RTP/SAVP 8", keys]
    assert parse(text.encode()).media[0].secure
    assert not [line for line in written(text.replace("SAVP", "AVP"), 30000) if "finger" in line]
    assert not [line for line in written(text.replace("m=audio", f"{keys}\r\nm=audio"), 30000)[:-2] if "crypto" in line]


def test_t38_passes_untouched() -> None:
    """Domain 4.2: every T.38 attribute crosses as it came."""
    fax = (
        "a=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\na=T38FaxRateManagement:transferredTCF\r\n"
        "a=T38FaxMaxDatagram:400\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"
    )
    lines = written(HEAD + f"c=IN IP4 10.0.0.1\r\nt=0 0\r\nm=image 4000 udptl t38\r\n{fax}", 30000)
    assert lines[-6:] == ["m=image 30000 udptl t38", *fax.split("\r\n")[:-1]]


def test_media_that_no_relay_of_datagrams_carries() -> None:
    """RFC 3264 section 6: one of several is put to port 0; alone it is refused with 488."""
    tcp = "m=message 9 TCP/MSRP *\r\n"
    both = parse((PLAIN + tcp).encode())
    require_media(both)
    assert [m.relayable for m in both.media] == [True, False]
    with pytest.raises(UnusableSdp, match="TCP/MSRP"):
        require_media(parse((HEAD + tcp).encode()))
    require_media(parse((HEAD + tcp.replace(" 9 ", " 0 ")).encode()))


def test_bytes_that_are_no_utf8_pass() -> None:
    """Principle 5, raw first: an attribute in Latin-1 leaves as it came."""
    assert b"a=x-name:M\xfcller\r\n" in parse(PLAIN.encode() + b"a=x-name:M\xfcller\r\n").to_bytes()


@pytest.mark.parametrize(
    ("line", "held"),
    [("a=sendrecv", False), ("a=sendonly", True), ("a=inactive", True), ("a=recvonly", True), ("a=x", False)],
)
def test_hold_is_recognised_at_both_levels(line: str, held: bool) -> None:
    """RFC 3264 section 8.4: a direction at session level holds for media without their own."""
    for text in (PLAIN + line + "\r\n", PLAIN.replace("t=0 0\r\n", f"t=0 0\r\n{line}\r\n")):
        sdp = parse(text.encode())
        assert endpoint(sdp, sdp.media[0]).held is held


WORD = st.text("abcdefgXYZ019-", min_size=1, max_size=8)
ATTRIBUTE = st.one_of(
    st.builds("a=x-{}:{}".format, WORD, WORD),
    st.sampled_from(
        ["a=sendrecv", "a=inactive", "a=rtpmap:8 PCMA/8000", "a=fmtp:101 0-15", "a=ptime:20", "a=rtcp-mux", "b=AS:64"]
    ),
)
OWNED = st.sampled_from(
    [
        "a=candidate:1 1 UDP 1 10.0.0.9 4000 typ host",
        "a=ice-ufrag:abcd",
        "a=rtcp:4001 IN IP4 10.0.0.9",
        "a=fingerprint:sha-256 inline",
        "i=secret",
        "k=clear:secret",
    ]
)
SECTION = st.tuples(
    st.sampled_from(["audio", "video", "image"]),
    st.sampled_from([0, 4000, 65534]),
    st.booleans(),
    st.lists(st.one_of(ATTRIBUTE, OWNED), max_size=8),
)


def built(session: list[str], sections: list[tuple[str, int, bool, list[str]]]) -> str:
    lines = ["v=0", "o=alice 1 1 IN IP4 10.0.0.9", "s=secret", "c=IN IP4 10.0.0.9", "t=0 0", *session]
    for kind, port, own, attributes in sections:
        lines.append(f"m={kind} {port} " + ("udptl t38" if kind == "image" else "RTP/AVP 8 101"))
        lines += ["c=IN IP4 10.0.0.9"] if own else []
        lines += attributes
    return "\r\n".join(lines) + "\r\n"


@given(st.lists(st.one_of(ATTRIBUTE, OWNED), max_size=5), st.lists(SECTION, max_size=6))
def test_a_rewrite_changes_only_what_is_ours(
    session: list[str], sections: list[tuple[str, int, bool, list[str]]]
) -> None:
    """Testing 4.3: order and unknown attributes are kept, port 0 stays 0, nothing of the peer is left, and the same
    again changes nothing."""
    text = built(session, sections)
    sdp = parse(text.encode())
    ports = [30000 + 2 * n for n in range(len(sdp.media))]
    lines = rewrite(sdp, ports, "192.0.2.1").split("\r\n")

    def foreign(line: str) -> bool:
        return line[:2] in ("a=", "b=", "t=") and not line.startswith(("a=candidate", "a=ice", "a=rtcp:", "a=fing"))

    assert [line for line in lines if foreign(line)] == [line for line in text.split("\r\n") if foreign(line)]
    media = [line for line in lines if line.startswith("m=")]
    for line, section, port in zip(media, sdp.media, ports, strict=True):
        assert line == section.lines[0].replace(f" {section.port} ", f" {port if section.port else 0} ", 1)
    assert not [line for line in lines if "10.0.0.9" in line or "secret" in line or "inline" in line]
    again = with_origin("\r\n".join(lines), "192.0.2.1", 1, 1)
    assert rewrite(parse(again), ports, "192.0.2.1").split("\r\n") == lines


@given(st.binary(max_size=300))
def test_reading_never_fails_otherwise(noise: bytes) -> None:
    """Nothing but UnusableSdp comes of any bytes; what is read is written back as it was, with CR LF."""
    for body in (noise, b"v=0\r\n" + noise, PLAIN.encode() + noise):
        try:
            sdp = parse(body)
        except UnusableSdp:
            continue
        assert parse(sdp.to_bytes()).to_bytes() == sdp.to_bytes()
        assert sdp.to_bytes().replace(b"\r\n", b"\n").rstrip(b"\n") == body.replace(b"\r\n", b"\n").rstrip(b"\r\n")
