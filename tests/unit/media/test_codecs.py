"""Codec lists of carriers (RFC 3264, RFC 3551, RFC 4733)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.relay.port import UnusableSdp
from media.sdp.codecs import Codec, codecs, limit_codecs
from media.sdp.lines import parse

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 96 9 0 8 13 101 102\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n"
    "a=rtcp-fb:96 nack\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 Telephone-Event/8000\r\na=fmtp:101 0-15\r\n"
    "a=rtpmap:102 telephone-event/48000\r\na=ptime:20\r\nm=image 5000 udptl t38\r\nm=video 6000 RTP/AVP 99\r\n"
)


def limited(text: str, *names: str, only: bool = True) -> list[str]:
    sdp = parse(text.encode())
    limit_codecs(sdp, names, only=only)
    return sdp.to_bytes().decode().split("\r\n")


def test_names_of_static_and_dynamic_types() -> None:
    """RFC 3551 table 4 names what has no a=rtpmap; 13 is comfort noise."""
    found = codecs(parse(OFFER.encode()).media[0])
    assert [(c.payload, c.name, c.clock) for c in found] == [
        ("96", "opus", 48000),
        ("9", "G722", 8000),
        ("0", "PCMU", 8000),
        ("8", "PCMA", 8000),
        ("13", "CN", 8000),
        ("101", "telephone-event", 8000),
        ("102", "telephone-event", 48000),
    ]
    assert Codec("101", "telephone-event", 8000).companion


def test_an_offer_is_cut_to_the_carriers_list() -> None:
    """The carrier's order; DTMF and comfort noise of the same clock stay; the lines of what went go too."""
    lines = limited(OFFER, "pcma", "PCMU")
    assert lines[5:] == [
        "m=audio 4000 RTP/AVP 8 0 13 101",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 Telephone-Event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "m=image 5000 udptl t38",
        "m=video 6000 RTP/AVP 99",
        "",
    ]


def test_only_ordered_nothing_is_lost() -> None:
    """A preference moves codecs to the front and drops none."""
    lines = limited(OFFER, "PCMA", only=False)
    assert lines[5] == "m=audio 4000 RTP/AVP 8 96 9 0 13 101 102"
    assert lines[6:] == OFFER.split("\r\n")[6:]


def test_dtmf_follows_the_clock_of_its_codec() -> None:
    """RFC 4733 section 2.1: events have the clock of the codec they go with."""
    assert limited(OFFER, "opus")[5] == "m=audio 4000 RTP/AVP 96 102"


def test_no_codec_in_common() -> None:
    """488 with what was offered; DTMF alone is no codec; a medium that is off is not asked."""
    with pytest.raises(UnusableSdp, match="offered opus, G722, PCMU, PCMA") as refused:
        limited(OFFER, "AMR")
    assert refused.value.status == 488
    assert limited(OFFER.replace("audio 4000", "audio 0"), "AMR")[5] == "m=audio 0 RTP/AVP 96 9 0 8 13 101 102"


@pytest.mark.parametrize("bad", ["a=rtpmap:8", "a=rtpmap:8 PCMA", "a=rtpmap:8 PCMA/x", "a=rtpmap:8 /8000"])
def test_a_mapping_that_cannot_be_read(bad: str) -> None:
    """400, not a guess."""
    with pytest.raises(UnusableSdp, match="rtpmap"):
        limited(OFFER.replace("a=rtpmap:8 PCMA/8000", bad), "PCMA")


@given(st.lists(st.sampled_from(["PCMA", "PCMU", "G722", "opus", "G729"]), min_size=1, unique=True), st.booleans())
def test_the_same_list_again_changes_nothing(names: list[str], only: bool) -> None:
    """Idempotent, and what is left was offered."""
    if only and names == ["G729"]:
        return
    once = "\r\n".join(limited(OFFER, *names, only=only))
    assert "\r\n".join(limited(once, *names, only=only)) == once
    offered = set(OFFER.split("m=audio 4000 RTP/AVP ")[1].split("\r\n")[0].split())
    assert set(once.split("m=audio 4000 RTP/AVP ")[1].split("\r\n")[0].split()) <= offered
