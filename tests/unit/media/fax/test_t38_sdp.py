"""T.38 in session descriptions: domain rules 4.2.11 to 4.2.14."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.sdp import t38
from media.sdp.errors import UnusableSdp
from media.sdp.lines import parse
from media.sdp.t38 import T38, ErrorCorrection, Origin, RemoteAudio, RemoteT38

HERE = Origin("192.0.2.1", 7, 2)
HEAD = "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"


def described(*lines: str) -> bytes:
    """Their description with these m= and a= lines."""
    return (HEAD + "".join(f"{line}\r\n" for line in lines)).encode()


def test_our_offer() -> None:
    """As rule 4.2.11 has it: version 0, 14400, transferred TCF, 400 octets, redundancy, no flags."""
    assert t38.offer(HERE, 30002, audio_sections=1).decode().split("\r\n") == [
        "v=0", "o=- 7 2 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", "m=image 30002 udptl t38",
        "a=T38FaxVersion:0", "a=T38MaxBitRate:14400", "a=T38FaxRateManagement:transferredTCF",
        "a=T38FaxMaxBuffer:2000", "a=T38FaxMaxDatagram:400", "a=T38FaxUdpEC:t38UDPRedundancy", "",
    ]  # fmt: skip


def test_an_offer_keeps_the_number_of_lines() -> None:
    """A session that had two m= lines keeps two (RFC 3264 section 8)."""
    assert [m.port for m in parse(t38.offer(HERE, 30002, audio_sections=2)).media] == [30002, 0]


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        (
            ["a=T38FaxVersion:3", "a=T38MaxBitRate:33600", "a=T38FaxMaxBuffer:72", "a=T38FaxMaxDatagram:180",
             "a=T38FaxUdpEC:t38UDPFEC", "a=T38FaxFillBitRemoval:0", "a=T38FaxTranscodingMMR", "a=T38VendorInfo:0 0 0"],
            T38(3, 33600, 72, 180, ErrorCorrection.FEC),
        ),
        (
            ["a=t38faxversion:0", "a=T38maxBitRate:9600", "a=T38FaxUdpEC:T38UDPREDUNDANCY"],
            T38(0, 9600, 0, 0, ErrorCorrection.REDUNDANCY),
        ),
        ([], T38(0, 14400, 0, 0, ErrorCorrection.NONE)),
        (
            ["a=T38FaxVersion:x", "a=T38MaxBitRate:", "a=T38FaxMaxDatagram:-5", "a=T38FaxUdpEC:t38UDPNoEC",
             "a=T38FaxMaxBuffer:99999999999999999999", "a=T38FaxVersion"],
            T38(0, 14400, 0, 0, ErrorCorrection.NONE),
        ),
    ],
)  # fmt: skip
def test_theirs_is_read_leniently(lines: list[str], read: T38) -> None:
    """Any case, flags in any form, unknown and broken attributes left out (rule 4.2.12)."""
    sdp = parse(described("m=image 5004 udptl t38", *lines))
    assert t38.image_of(sdp) == RemoteT38("198.51.100.7", 5004, read)


def test_the_answer() -> None:
    """The lower version and rate, our datagram, their error correction; other sections refused (rules 4.2.12, 13)."""
    theirs = parse(
        described(
            "m=audio 5002 RTP/AVP 8 101", "m=image 5004 udptl t38", "a=T38FaxVersion:3", "a=T38MaxBitRate:9600",
            "a=T38FaxMaxDatagram:180", "a=T38FaxUdpEC:t38UDPFEC", "m=image 5006 udptl t38",
        )
    )  # fmt: skip
    body = t38.answer(theirs, HERE, 30002)
    assert body is not None
    lines = body.decode().split("\r\n")[5:]
    assert lines == [
        "m=audio 0 RTP/AVP 8 101", "m=image 30002 udptl t38", "a=T38FaxVersion:0", "a=T38MaxBitRate:9600",
        "a=T38FaxRateManagement:transferredTCF", "a=T38FaxMaxBuffer:2000", "a=T38FaxMaxDatagram:400",
        "a=T38FaxUdpEC:t38UDPFEC", "m=image 0 udptl t38", "",
    ]  # fmt: skip


def test_without_error_correction_none_is_answered() -> None:
    """What they did not list is not answered (rule 4.2.12)."""
    body = t38.answer(parse(described("m=image 5004 udptl t38")), HERE, 30002)
    assert body is not None and b"UdpEC" not in body


@pytest.mark.parametrize(
    "lines",
    [
        ["m=image 0 udptl t38"], ["m=image 5004 tcp t38"], ["m=image 5004 udptl other"], ["m=audio 5004 RTP/AVP 8"],
        ["m=image 5004 udptl t38", "c=IN IP4 0.0.0.0"], ["m=image 5004 udptl t38", "c=IN IP4 224.2.1.1/127"],
    ],
)  # fmt: skip
def test_no_usable_t38(lines: list[str]) -> None:
    """Refused (port 0), over TCP, of another format, without an address: no T.38, and no answer that claims it."""
    sdp = parse(described(*lines))
    assert t38.image_of(sdp) is None and t38.answer(sdp, HERE, 30002) is None


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["m=audio 5002 RTP/AVP 0 8 101"], RemoteAudio("198.51.100.7", 5002, True, 8)),
        (["m=audio 5002 RTP/AVP 0 18"], RemoteAudio("198.51.100.7", 5002, False, 0)),
        (["m=audio 5002 RTP/AVP 97", "a=rtpmap:97 pcma/8000"], RemoteAudio("198.51.100.7", 5002, True, 97)),
        (["m=audio 5002 RTP/AVP 9 18"], None),
        (["m=audio 0 RTP/AVP 8"], None),
        (["m=audio 5002 RTP/SAVP 8"], None),
        (["m=audio 5002 RTP/AVP 8", "c=IN IP6 2001:db8::1"], RemoteAudio("2001:db8::1", 5002, True, 8)),
    ],
)
def test_their_audio(lines: list[str], found: RemoteAudio | None) -> None:
    """G.711 by static or dynamic type, A-law first; no SRTP (rule 4.1.10)."""
    assert t38.audio_of(parse(described(*lines))) == found


def test_the_audio_answer() -> None:
    """After a refused T.38 the peer offers audio again: a full answer, silence suppression off (T4.1, rule 4.4.28)."""
    theirs = parse(described("m=audio 5002 RTP/AVP 0 8 101", "m=image 0 udptl t38"))
    body = t38.audio_answer(theirs, HERE, 30000)
    assert body is not None
    assert body.decode().split("\r\n")[5:] == [
        "m=audio 30000 RTP/AVP 8", "a=rtpmap:8 PCMA/8000", "a=ptime:20", "a=silenceSupp:off - - - -", "a=sendrecv",
        "m=image 0 udptl t38", "",
    ]  # fmt: skip
    assert t38.audio_answer(parse(described("m=audio 5002 RTP/AVP 18")), HERE, 30000) is None


@given(
    st.integers(1, 65535),
    st.builds(
        T38, st.integers(0, 3), st.sampled_from([2400, 9600, 14400, 33600]), st.integers(0, 9999),
        st.integers(0, 65535), st.sampled_from(ErrorCorrection),
    ),
)  # fmt: skip
def test_what_is_offered_is_read(port: int, said: T38) -> None:
    """Our own offer reads as it was meant, and the answer to it takes it."""
    sdp = parse(t38.offer(HERE, port, said))
    assert t38.image_of(sdp) == RemoteT38("192.0.2.1", port, said)
    answered = t38.answer(sdp, HERE, 9000)
    assert answered is not None
    found = t38.image_of(parse(answered))
    assert found is not None and found.t38.error_correction is said.error_correction
    assert found.t38.version == 0 and found.t38.max_bit_rate <= 14400


@given(st.lists(st.text(max_size=40), max_size=12))
def test_any_lines(lines: list[str]) -> None:
    """Nonsense is read, refused or left out; never another error."""
    body = HEAD + "m=image 9 udptl t38\r\n" + "".join(f"a=T38{line}\r\n" for line in lines)
    try:
        sdp = parse(body.encode())
    except UnusableSdp:
        return
    t38.answer(sdp, HERE, 30002)
    t38.audio_answer(sdp, HERE, 30002)
