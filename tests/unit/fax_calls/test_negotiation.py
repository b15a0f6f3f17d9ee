"""G.711 or T.38, answer by answer (domain rules 4.1, 4.2)."""

from base64 import b64encode

import pytest

from edge.fax.negotiation import ANSWER_TIMEOUT, Negotiation
from media.sdp import t38
from media.sdp.lines import parse
from media.sdp.srtp import Srtp
from media.sdp.t38 import Origin, RemoteAudio, RemoteT38
from tests.unit.b2bua.fake_port import FakePort

FAR = Origin("192.0.2.7", 5, 1)
AUDIO = t38.audio_offer(FAR, 4000)
IMAGE = t38.offer(FAR, 4002)
NO_IMAGE = IMAGE.replace(b"m=image 4002", b"m=image 0")


class Media:
    """What the fax was told."""

    local_audio = 37000
    local_t38 = 37002

    def __init__(self) -> None:
        self.told: list[str] = []

    def use_audio(self, remote: RemoteAudio, our_key: str = "") -> None:
        self.told.append(f"audio {remote.port}")

    def use_t38(self, remote: RemoteT38) -> None:
        self.told.append(f"t38 {remote.port}")

    def t38_refused(self) -> None:
        self.told.append("refused")


class Talk:
    """A negotiation with a clock of ours; `offers`: what it proposed."""

    def __init__(self, *, may_offer: bool = True, may_accept: bool = True, draw: float = 0.5) -> None:
        self.media, self.port = Media(), FakePort()
        self.offers: list[bytes] = []
        self.it = Negotiation(
            self.media,
            "198.51.100.1",
            self.offers.append,
            self.port.later,
            lambda: draw,
            may_offer=may_offer,
            may_accept=may_accept,
        )
        self.first = self.it.answer(AUDIO)

    def version(self, sdp: bytes) -> int:
        return int(next(line for line in sdp.split(b"\r\n") if line.startswith(b"o=")).split()[2])


def test_the_offer_comes_once_and_replaces_the_audio() -> None:
    """CNG, then the preamble: one offer, an image in place of the audio, of a new version; the 200 switches (4.1.2)."""
    talk = Talk()
    talk.it.fax_heard()
    talk.it.fax_heard()
    (offer,) = talk.offers
    assert talk.first is not None
    assert talk.version(offer) == talk.version(talk.first) + 1
    assert b"m=image 37002 udptl t38" in offer and b"m=audio" not in offer
    talk.it.answered(IMAGE)
    assert talk.media.told == ["audio 4000", "t38 4002"] and talk.it.over_t38
    talk.it.fax_heard()
    assert len(talk.offers) == 1


@pytest.mark.parametrize("status", [415, 488, 500, 503, 606])
def test_every_refusal_means_audio(status: int) -> None:
    """Rule 4.1.3: G.711 goes on, and T.38 is not offered again."""
    talk = Talk()
    talk.it.fax_heard()
    talk.it.refused(status)
    talk.it.fax_heard()
    assert talk.media.told == ["audio 4000", "refused"] and len(talk.offers) == 1


@pytest.mark.parametrize(("draw", "after"), [(0.0, 0.0), (0.5, 1.0), (0.999, 2.0)])
def test_glare(draw: float, after: float) -> None:
    """491: again after 0 to 2 s in steps of 10 ms, for the Call-ID is the caller's (RFC 3261 section 14.1)."""
    talk = Talk(draw=draw)
    talk.it.fax_heard()
    talk.it.refused(491)
    (timer,) = [t for t in talk.port.timers if t.callback is not None]
    assert timer.at == pytest.approx(after)
    talk.port.advance(2.0)
    assert len(talk.offers) == 2 and "refused" not in talk.media.told


def test_their_offer_in_our_wait_ends_it() -> None:
    """T4.2: after glare their T.38 is answered and ours is not made again; their G.711 is answered and ours comes."""
    talk = Talk()
    talk.it.fax_heard()
    talk.it.refused(491)
    assert b"m=image 37002" in (talk.it.answer(IMAGE) or b"")
    talk.port.advance(10.0)
    assert len(talk.offers) == 1
    other = Talk()
    other.it.fax_heard()
    other.it.refused(491)
    assert b"m=audio 37000" in (other.it.answer(AUDIO) or b"")
    other.port.advance(10.0)
    assert len(other.offers) == 2


def test_a_late_200_is_obeyed() -> None:
    """Rule 4.1.6: after 5 s without an answer the fax is told of a refusal and goes on; the 200 still switches it."""
    talk = Talk()
    talk.it.fax_heard()
    talk.port.advance(ANSWER_TIMEOUT - 0.01)
    assert talk.media.told == ["audio 4000"]
    talk.port.advance(ANSWER_TIMEOUT)
    assert talk.media.told == ["audio 4000", "refused"]
    talk.it.answered(IMAGE)
    assert talk.media.told[-1] == "t38 4002"


@pytest.mark.parametrize("answer", [NO_IMAGE, None, b"junk"])
def test_200_without_an_image_gets_the_audio_back(answer: bytes | None) -> None:
    """A 200 that takes nothing left the session without media: G.711 is offered."""
    talk = Talk()
    talk.it.fax_heard()
    talk.it.answered(answer)
    assert len(talk.offers) == 2 and b"m=audio 37000" in talk.offers[1]
    talk.it.answered(AUDIO)
    assert talk.media.told == ["audio 4000", "refused", "audio 4000"]


def test_both_at_once() -> None:
    """Rule 4.2.13: image and audio are both answered, the audio with port 0."""
    both = AUDIO + IMAGE[IMAGE.index(b"m=image") :]
    talk = Talk()
    answer = talk.it.answer(both)
    assert answer is not None
    assert [(m.kind, m.port) for m in parse(answer).media] == [("audio", 0), ("image", 37002)]


def test_off() -> None:
    """A carrier without T.38 is not offered it, is refused it alone, and gets G.711 where it offers both."""
    talk = Talk(may_offer=False, may_accept=False)
    talk.it.fax_heard()
    assert talk.offers == []
    assert talk.it.answer(IMAGE) is None
    both = AUDIO + IMAGE[IMAGE.index(b"m=image") :]
    assert b"m=audio 37000" in (talk.it.answer(both) or b"")


@pytest.mark.parametrize(
    "sdp",
    [
        b"junk",
        AUDIO.replace(b"192.0.2.7", b"media.example"),
        AUDIO.replace(b"c=IN IP4 192.0.2.7", b"c=IN IP4 0.0.0.0"),
        AUDIO.replace(b"RTP/AVP", b"RTP/SAVP"),
        AUDIO.replace(b"m=audio 4000", b"m=audio 0"),
    ],
)
def test_what_cannot_be_used(sdp: bytes) -> None:
    """None (488), and the fax keeps what it has: names, hold, encrypted media, nothing."""
    talk = Talk()
    assert talk.it.answer(sdp) is None
    assert talk.media.told == ["audio 4000"]


OURS, THEIRS = b64encode(bytes(30)).decode(), b64encode(bytes(range(30))).decode()
SECURE = t38.audio_offer(FAR, 4000, THEIRS)


def encrypted(mode: Srtp) -> Negotiation:
    """A negotiation with a far end of this mode."""
    port = FakePort()
    options = {"may_offer": mode != "required", "may_accept": mode != "required"}
    return Negotiation(
        Media(), "198.51.100.1", lambda sdp: None, port.later, lambda: 0.5, srtp=mode, our_key=OURS, **options
    )


def test_encrypted_media() -> None:
    """RTP/SAVP is answered with a key of ours, for the suite and tag they named; what we offer first has one too."""
    for suite in (b"AES_CM_128_HMAC_SHA1_80", b"AES_CM_128_HMAC_SHA1_32"):
        offer = SECURE.replace(b"crypto:1 AES_CM_128_HMAC_SHA1_80", b"crypto:3 " + suite)
        answer = encrypted("required").answer(offer)
        assert answer is not None
        assert b"m=audio 37000 RTP/SAVP 8\r\n" in answer
        assert b"a=crypto:3 " + suite + b" inline:" + OURS.encode() in answer
    assert b"inline:" + OURS.encode() in encrypted("required").first_offer()
    assert b"RTP/AVP" in encrypted("optional").first_offer()


@pytest.mark.parametrize(
    ("mode", "sdp", "taken"),
    [
        ("required", AUDIO, False),
        ("required", IMAGE, False),
        ("required", SECURE.replace(b"a=crypto", b"a=nothing"), False),
        ("required", SECURE.replace(THEIRS.encode(), THEIRS.encode() + b"|2^20|1:4"), False),
        ("required", SECURE.replace(THEIRS.encode(), THEIRS.encode() + b"|2^20"), True),
        ("optional", AUDIO, True),
        ("optional", IMAGE, True),
        ("optional", SECURE, True),
        ("off", SECURE, False),
    ],
)
def test_who_may_be_plain(mode: Srtp, sdp: bytes, taken: bool) -> None:
    """`required`: nothing but a key that we can use, and no T.38; `off`: no keys (domain rules 1.3-15, T1.9)."""
    assert (encrypted(mode).answer(sdp) is not None) is taken


def test_nothing_after_the_end() -> None:
    """No offer and no timer outlives the dialog."""
    talk = Talk()
    talk.it.fax_heard()
    talk.it.refused(491)
    talk.it.end()
    talk.port.advance(60.0)
    talk.it.fax_heard()
    assert len(talk.offers) == 1 and talk.media.told == ["audio 4000"]
