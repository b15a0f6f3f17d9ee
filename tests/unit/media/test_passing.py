"""Descriptions of transferred parties (RFC 3264): what a new party is offered, and when nobody need be told."""

from __future__ import annotations

import pytest

from media.sdp.errors import UnusableSdp
from media.sdp.passing import agrees, reoffer

HEAD = "v=0\r\no=x 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def sdp(formats: str = "8 101", lines: str = "", port: int = 4000, head: str = HEAD) -> bytes:
    return f"{head}m=audio {port} RTP/AVP {formats}\r\n{lines}".encode()


@pytest.mark.parametrize("direction", ["sendonly", "recvonly", "inactive", "sendrecv"])
def test_nothing_is_held_in_a_new_offer(direction: str) -> None:
    """Whoever was on hold is offered as somebody who talks, wherever the direction stood."""
    session = sdp(head=f"{HEAD}a={direction}\r\n")
    assert reoffer(session) == sdp()
    assert reoffer(sdp(lines=f"a={direction}\r\na=ptime:20\r\n")) == sdp(lines="a=ptime:20\r\n")


def test_g711_is_offered_where_something_else_was_agreed() -> None:
    """A party that talks G.722 to a phone must be reachable for a carrier that has G.711 only."""
    offered = reoffer(sdp("9 101", "a=rtpmap:9 G722/8000\r\n")).decode()
    assert "m=audio 4000 RTP/AVP 9 101 8 0\r\n" in offered
    assert "a=rtpmap:8 PCMA/8000\r\n" in offered and "a=rtpmap:0 PCMU/8000\r\n" in offered


@pytest.mark.parametrize("formats", ["0 101", "8", "9 8"])
def test_g711_is_not_offered_twice(formats: str) -> None:
    """Who has one of them keeps what was said."""
    assert reoffer(sdp(formats)) == sdp(formats)


def test_what_is_no_live_audio_stays() -> None:
    """A refused medium, and T.38, are none of this."""
    image = f"{HEAD}m=image 4000 udptl t38\r\n".encode()
    assert reoffer(image) == image
    assert reoffer(sdp("9", port=0)) == sdp("9", port=0)


def test_broken_descriptions() -> None:
    """Raised, not guessed."""
    with pytest.raises(UnusableSdp):
        reoffer(b"nonsense")


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (sdp("8"), True),
        (sdp("8 101"), True),
        (sdp("8 96"), False),
        (sdp("8", "a=sendonly\r\n"), False),
        (sdp("8", port=4002), False),
        (sdp("8", head=HEAD.replace("192.0.2.1\r\nt", "192.0.2.9\r\nt")), False),
        (sdp("8") + b"m=video 0 RTP/AVP 31\r\n", False),
        (sdp("8", "a=crypto:1 X inline:new\r\n"), False),
    ],
)
def test_who_need_not_be_told(new: bytes, expected: bool) -> None:
    """Fewer formats at the same place in the same direction say nothing new; anything else does."""
    assert agrees(new, sdp("8 101")) is expected


def test_media_that_are_off_agree_whatever_they_say() -> None:
    """Port 0 is port 0."""
    assert agrees(sdp("8", "a=inactive\r\n", port=0), sdp("0", port=0))
