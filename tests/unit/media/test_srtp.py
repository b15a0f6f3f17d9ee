"""Who gets SRTP keys and who must have them: every mode against every form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.sdp.errors import UnusableSdp
from media.sdp.srtp import NOT_POSSIBLE, REQUIRED, Srtp, accept, dress

KEY = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"
HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
FORMS: dict[Srtp, tuple[str, str]] = {
    "off": ("RTP/AVP", ""),
    "optional": ("RTP/AVP", CRYPTO),
    "required": ("RTP/SAVP", CRYPTO),
}
MODES: tuple[Srtp, ...] = ("off", "optional", "required")


def sdp(form: Srtp, *more: str) -> bytes:
    profile, key = FORMS[form]
    lines = [f"m=audio 4000 {profile} 8", *([key] if key else []), "a=sendrecv", *more]
    return (HEAD + "\r\n".join(lines) + "\r\n").encode()


@pytest.mark.parametrize(
    ("mode", "form", "outcome"),
    [
        ("off", "off", "off"),
        ("off", "optional", "off"),
        ("off", "required", NOT_POSSIBLE),
        ("optional", "off", "off"),
        ("optional", "optional", "optional"),
        ("optional", "required", "required"),
        ("required", "off", REQUIRED),
        ("required", "optional", REQUIRED),
        ("required", "required", "required"),
    ],
)
def test_what_a_peer_may_send(mode: Srtp, form: Srtp, outcome: str) -> None:
    """Domain rule 7-7: RTP/SAVP strictly where it is required; never keys where SRTP is off."""
    if outcome in (NOT_POSSIBLE, REQUIRED):
        with pytest.raises(UnusableSdp) as refused:
            accept(sdp(form), mode)
        assert (refused.value.status, refused.value.reason) == (488, outcome)
        return
    taken, found = accept(sdp(form), mode)
    assert found == outcome
    assert taken == sdp(found)


@pytest.mark.parametrize(
    ("wanted", "form", "outcome", "as_answer"),
    [
        ("off", "off", "off", "off"),
        ("off", "optional", "off", "off"),
        ("off", "required", NOT_POSSIBLE, NOT_POSSIBLE),
        ("optional", "off", "off", "off"),
        ("optional", "optional", "optional", "optional"),
        ("optional", "required", "required", "optional"),
        ("required", "off", REQUIRED, REQUIRED),
        ("required", "optional", "required", "required"),
        ("required", "required", "required", "required"),
    ],
)
def test_what_a_peer_is_given(wanted: Srtp, form: Srtp, outcome: str, as_answer: str) -> None:
    """Keys of an RTP/SAVP offer are somebody's at the far end: they go on as they are, or the call is refused."""
    for answer, expected in ((False, outcome), (True, as_answer)):
        if expected in (NOT_POSSIBLE, REQUIRED):
            with pytest.raises(UnusableSdp) as refused:
                dress(sdp(form), wanted, answer=answer)
            assert refused.value.reason == expected
        else:
            given_sdp, found = dress(sdp(form), wanted, answer=answer)
            assert found == expected
            assert given_sdp == sdp(found)


@pytest.mark.parametrize(
    "line",
    [
        f"a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}",
        f"a=crypto:1 NULL_HMAC_SHA1_80 inline:{KEY}",
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP",
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20 unencrypted_srtcp",
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP",
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY[:-1]}",
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY[:-1]}ä",
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 {KEY}",
        f"a=crypto:x AES_CM_128_HMAC_SHA1_80 inline:{KEY}",
        "a=crypto:",
        "a=crypto:1",
    ],
)
def test_a_key_that_protects_nothing_is_none(line: str) -> None:
    """RFC 4568 section 6.3: what turns encryption or authentication off, other suites, no whole key."""
    text = sdp("required").replace(CRYPTO.encode(), line.encode("latin-1"))
    for mode in ("optional", "required"):
        with pytest.raises(UnusableSdp) as refused:
            accept(text, mode)
        assert refused.value.reason == NOT_POSSIBLE
    plain, form = accept(text.replace(b"SAVP", b"AVP"), "optional")
    assert (form, b"crypto" in plain) == ("off", False)


def test_lifetime_and_mki_are_kept() -> None:
    """RFC 4568 section 6.1."""
    text = sdp("required").replace(KEY.encode(), KEY.encode() + b"|2^31|1:1")
    assert accept(text, "required")[0] == text


def test_dtls_is_refused() -> None:
    """Keys are exchanged by SDES only."""
    text = sdp("off").replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVPF")
    with pytest.raises(UnusableSdp, match="DTLS") as refused:
        accept(text, "optional")
    assert refused.value.reason == NOT_POSSIBLE


def test_t38_where_srtp_is_required() -> None:
    """Domain rule 1.3-15: it cannot be encrypted; beside sound it is refused, alone the description is."""
    image = "m=image 5000 udptl t38\r\na=T38FaxVersion:0"
    beside = sdp("required", image)
    for made in (accept(beside, "required")[0], dress(beside, "required")[0]):
        assert b"m=image 0 udptl t38\r\n" in made and b"T38" not in made and b"m=audio 4000 RTP/SAVP" in made
    alone = (HEAD + image + "\r\n").encode()
    for work in (accept, dress):
        with pytest.raises(UnusableSdp) as refused:
            work(alone, "required")
        assert refused.value.reason == REQUIRED
        assert work(alone, "optional") == (alone, "off")


def test_a_stray_key_goes() -> None:
    """a=crypto belongs to a medium: at session level it would be anybody's."""
    text = HEAD.encode() + CRYPTO.encode() + b"\r\n" + sdp("off")[len(HEAD) :]
    assert accept(text, "optional") == (sdp("off"), "off")


@given(st.binary(max_size=200), st.sampled_from(MODES), st.sampled_from(MODES))
def test_noise_is_taken_or_refused(noise: bytes, mode: Srtp, wanted: Srtp) -> None:
    """Nothing but UnusableSdp comes of what peers invent, and no key leaves where none may."""
    text = sdp("optional") + b"a=crypto:" + noise.replace(b"\n", b" ").replace(b"\r", b" ") + b"\r\n"
    try:
        out, form = dress(accept(text, mode)[0], wanted)
    except UnusableSdp:
        return
    assert (b"crypto" in out.lower()) == (form != "off")
