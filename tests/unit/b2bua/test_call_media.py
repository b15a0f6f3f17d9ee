"""What each party of a call gets of keys and codecs, over a relay that bridges and one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import cast

import pytest

from config.model import Carrier, Rows, Seat, Trunk
from config.snapshot import Snapshot
from edge.b2bua.call_media import WITHIN, CallMedia, MediaTerms, media_terms
from media.relay.port import RelaySession, UnusableSdp
from media.sdp.srtp import Srtp

KEY = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
OURS = CRYPTO.replace("d0Rm", "OURS")
CLOCKS = {"PCMA": "8", "PCMU": "0", "G722": "9", "opus": "96"}


def sdp(profile: str = "RTP/AVP", key: str = "", codecs: tuple[str, ...] = ("PCMA",)) -> bytes:
    numbers = " ".join(CLOCKS[name] for name in codecs)
    maps = "".join(f"a=rtpmap:{CLOCKS[name]} {name}/{48000 if name == 'opus' else 8000}\r\n" for name in codecs)
    head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    return f"{head}m=audio 4000 {profile} {numbers}\r\n{maps}{key}".encode()


class Bridge:
    """A relay session that writes descriptions as the port says a bridging one does."""

    passive = False

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self._secure: dict[str, bool] = {}

    async def forward(self, body: bytes, origin: str, leg: str, **options: object) -> bytes:
        self.asked.append({"origin": origin, **options})
        self._secure[origin] = b"crypto" in body
        text = body.decode().replace(CRYPTO, "").replace("RTP/SAVP", "RTP/AVP")
        if options.get("answer"):
            secure = self._secure["b" if origin == "a" else "a"]
            return (text.replace("RTP/AVP", "RTP/SAVP") + OURS if secure else text).encode()
        for name in cast(tuple[str, ...], options["more_codecs"]):
            head, _, rest = text.partition("\r\na=rtpmap")
            text = f"{head} {CLOCKS[name]}\r\na=rtpmap:{CLOCKS[name]} {name}/8000\r\na=rtpmap{rest}"
        return (text + (OURS if options["keys"] else "")).encode()


class Through:
    """A relay session that does not bridge."""

    passive = False

    async def forward(self, body: bytes, origin: str, leg: str, **options: object) -> bytes:
        return body


def media(a: MediaTerms, b: MediaTerms, session: object = None) -> CallMedia:
    session = session or Bridge()
    return CallMedia(cast(RelaySession, session), isinstance(session, Bridge), lambda leg: a if leg == "a" else b)


def run(work: Coroutine[object, object, bytes]) -> str:
    return asyncio.run(work).decode()  # type: ignore[arg-type]


def offered(call: CallMedia, offer: bytes, to: MediaTerms) -> str:
    """What the called party gets of the caller's offer."""
    lists = [to.codecs] if to.codecs else []
    made, form = call.dress(run(call.offer("a", offer, lists)).encode(), to)
    call.offered("b1", form)
    assert made is not None
    return made.decode()


def profile(text: str) -> tuple[str, int]:
    """The profile and how many keys."""
    return text.partition("m=audio 4000 ")[2].split(" ")[0], text.count("a=crypto:")


PLAIN, SECURE, EITHER = MediaTerms("off"), MediaTerms("required"), MediaTerms("optional")


@pytest.mark.parametrize(
    ("to", "gets", "answers", "profile_back"),
    [
        (PLAIN, ("RTP/AVP", 0), sdp(), ("RTP/SAVP", 1)),
        (EITHER, ("RTP/AVP", 1), sdp(key=CRYPTO), ("RTP/SAVP", 1)),
        (EITHER, ("RTP/AVP", 1), sdp(), ("RTP/SAVP", 1)),
        (SECURE, ("RTP/SAVP", 1), sdp("RTP/SAVP", CRYPTO), ("RTP/SAVP", 1)),
    ],
    ids=["plain", "taken", "left", "required"],
)
def test_each_side_has_its_own(
    to: MediaTerms, gets: tuple[str, int], answers: bytes, profile_back: tuple[str, int]
) -> None:
    """A caller who must have SRTP, over a relay that bridges."""
    call = media(SECURE, to)
    told = offered(call, sdp("RTP/SAVP", CRYPTO), to)
    assert profile(told) == gets and KEY not in told
    back = run(call.forward("answer", "b1", answers, "a", None))
    assert profile(back) == profile_back and KEY not in back


@pytest.mark.parametrize("offer", [sdp(), sdp(key=CRYPTO)], ids=["plain", "either"])
def test_an_answer_has_the_form_of_the_offer(offer: bytes) -> None:
    """RTP/AVP is answered with RTP/AVP, with a key where the offer had one (RFC 8643)."""
    call = media(EITHER, SECURE)
    assert profile(offered(call, offer, SECURE)) == ("RTP/SAVP", 1)
    back = run(call.forward("answer", "b1", sdp("RTP/SAVP", CRYPTO), "a", None))
    assert profile(back) == ("RTP/AVP", int(b"crypto" in offer))


@pytest.mark.parametrize("answer", [sdp(), sdp(key=CRYPTO)])
def test_nothing_falls_back(answer: bytes) -> None:
    """Domain rule 7-7: who was offered RTP/SAVP alone answers it, or there is no call."""
    call = media(PLAIN, SECURE)
    offered(call, sdp(), SECURE)
    with pytest.raises(UnusableSdp) as refused:
        run(call.forward("answer", "b1", answer, "a", None))
    assert refused.value.reason == "srtp-required"


def test_a_party_is_offered_again_what_it_took() -> None:
    """A phone that left the keys is not asked again; one that took them gets them again."""
    for answer, keys in ((sdp(), 0), (sdp(key=CRYPTO), 1)):
        session = Bridge()
        call = media(PLAIN, EITHER, session)
        offered(call, sdp(), EITHER)
        run(call.forward("answer", "b1", answer, "a", None))
        again = run(call.forward("modify", "a", sdp(), "b1", answer))
        assert profile(again) == ("RTP/AVP", keys)
        assert session.asked[-1]["keys"] is bool(keys)


@pytest.mark.parametrize(
    ("offer", "to", "outcome"),
    [
        (sdp(), PLAIN, ("RTP/AVP", 0)),
        (sdp(), EITHER, ("RTP/AVP", 0)),
        (sdp(), SECURE, "srtp-required"),
        (sdp(key=CRYPTO), PLAIN, ("RTP/AVP", 0)),
        (sdp(key=CRYPTO), EITHER, ("RTP/AVP", 1)),
        (sdp(key=CRYPTO), SECURE, ("RTP/SAVP", 1)),
        (sdp("RTP/SAVP", CRYPTO), PLAIN, "srtp-not-possible"),
        (sdp("RTP/SAVP", CRYPTO), EITHER, ("RTP/SAVP", 1)),
        (sdp("RTP/SAVP", CRYPTO), SECURE, ("RTP/SAVP", 1)),
    ],
)
def test_without_a_bridge_keys_pass_from_end_to_end(
    offer: bytes, to: MediaTerms, outcome: tuple[str, int] | str
) -> None:
    """And where only one side would have them the call is refused, in words."""
    call = media(EITHER, to, Through())
    if isinstance(outcome, str):
        with pytest.raises(UnusableSdp) as refused:
            offered(call, offer, to)
        assert (refused.value.status, refused.value.reason) == (488, outcome)
        return
    told = offered(call, offer, to)
    assert profile(told) == outcome and told.count(KEY) == outcome[1]


@pytest.mark.parametrize(
    ("own", "listed", "told"),
    [
        (("PCMA", "G722"), ("pcma", "pcmu"), "8"),
        (("PCMU", "PCMA"), ("pcma", "pcmu"), "8 0"),
        (("G722",), ("pcma", "pcmu"), "8 0"),
        (("PCMA",), ("g722",), "9"),
        (("PCMA", "opus"), (), "8 96"),
        (("G722",), (), "9 8 0"),
        (("opus",), ("g722", "pcmu"), "9 0"),
    ],
)
def test_codecs_are_added_only_where_none_is_shared(own: tuple[str, ...], listed: tuple[str, ...], told: str) -> None:
    """A carrier's list cuts and orders; what is to be transcoded stands there only without anything in common."""
    to = MediaTerms("off", listed)
    text = offered(media(PLAIN, to), sdp(codecs=own), to)
    assert text.partition("RTP/AVP ")[2].partition("\r")[0] == told


def test_without_a_bridge_a_carrier_without_any_of_the_codecs_is_none() -> None:
    """488, as ever."""
    to = MediaTerms("off", ("pcma",))
    with pytest.raises(UnusableSdp, match="no codec in common"):
        offered(media(PLAIN, to, Through()), sdp(codecs=("G722",)), to)


def test_a_new_offer_is_transcoded_as_the_first_was() -> None:
    """Hold and resume of a party whose codec the other does not have."""
    session = Bridge()
    call = media(PLAIN, PLAIN, session)
    run(call.forward("modify", "a", sdp(codecs=("G722",)), "b1", sdp(codecs=("PCMU",))))
    assert session.asked[-1]["more_codecs"] == ("PCMU", "PCMA")
    run(call.forward("modify", "b1", sdp(codecs=("PCMU",)), "a", sdp(codecs=("G722",))))
    assert session.asked[-1]["more_codecs"] == ("G722",)
    run(call.forward("modify", "a", sdp(codecs=("PCMA",)), "b1", sdp(codecs=("PCMA", "G722"))))
    assert session.asked[-1]["more_codecs"] == ()


SNAPSHOT = Snapshot(
    Rows(
        carriers=(Carrier("c", srtp="required", codecs=("g722",), media_source="sdp"), Carrier("d")),
        trunks=(Trunk("K1", "t", srtp="optional"),),
        seats=(Seat("s", "K1", srtp="optional"),),
    )
)


@pytest.mark.parametrize(
    ("kind", "name", "tls", "terms"),
    [
        ("carrier", "c", True, MediaTerms("required", ("g722",), True)),
        ("carrier", "d", True, MediaTerms("off", ("pcma", "pcmu"))),
        ("trunk", "t", True, MediaTerms("optional")),
        ("trunk", "t", False, MediaTerms("off")),
        ("seat", "s", True, MediaTerms("optional")),
        ("seat", "s", False, MediaTerms("off")),
        ("seat", "nobody", True, MediaTerms("off")),
        ("fax", "box", False, MediaTerms("off")),
    ],
)
def test_terms_as_they_are_provisioned(kind: str, name: str, tls: bool, terms: MediaTerms) -> None:
    """A key only inside TLS."""
    assert media_terms(SNAPSHOT, kind, name, "K1", tls=tls) == terms


def test_required_without_tls_is_no_call() -> None:
    """And not a plain one either."""
    with pytest.raises(UnusableSdp, match="carrier c, whose signalling is not TLS") as refused:
        media_terms(SNAPSHOT, "carrier", "c", "", tls=False)
    assert refused.value.reason == "srtp-required"


def test_what_crosses_a_bridge_is_not_judged_again() -> None:
    """The end of a bridge takes every form."""
    forms: tuple[Srtp, ...] = ("off", "optional", "required")
    for body, form in zip((sdp(), sdp(key=CRYPTO), sdp("RTP/SAVP", CRYPTO)), forms, strict=True):
        call = media(WITHIN, WITHIN, Through())
        assert run(call.offer("a", body)).encode() == body
        assert call.dress(body, WITHIN) == (body, form)


def test_media_go_on_in_another_process() -> None:
    """The forms of both parties are there after a restart."""

    class Saved(Bridge):
        def save(self) -> dict[str, object]:
            return {"holds": True}

        def restore(self, saved: dict[str, object]) -> None:
            assert saved["holds"]

    before = media(SECURE, EITHER, Saved())
    offered(before, sdp("RTP/SAVP", CRYPTO), EITHER)
    run(before.forward("answer", "b1", sdp(), "a", None))
    after = media(SECURE, EITHER, Saved())
    after.restore(before.save())
    assert profile(run(after.forward("modify", "b1", sdp(), "a", None))) == ("RTP/SAVP", 1)
    assert profile(run(after.forward("modify", "a", sdp("RTP/SAVP", CRYPTO), "b1", None))) == ("RTP/AVP", 0)
