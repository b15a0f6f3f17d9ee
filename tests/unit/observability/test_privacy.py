"""Domain rules 7.9, 7.10: numbers shortened, secrets and content gone."""

import pytest

from edge.observability.privacy import mask, redact

HEAD = b"INVITE sip:a@b SIP/2.0\r\nCall-ID: 1\r\n"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+4915112345678", "+4915112345xxx"),
        ("022838600", "022838xxx"),
        ("sip:+4922838600@edge.example", "sip:+4922838xxx@edge.example"),
        ("tel:+4922838600;x=1", "tel:+4922838xxx;x=1"),
        ("to +4922838600 and 00442036427900", "to +4922838xxx and 00442036427xxx"),
        ("hq-4922838600", "hq-4922838xxx"),
    ],
)
def test_last_three_digits_of_a_number_are_hidden(text: str, masked: str) -> None:
    """7.10: the last three digits are masked, wherever in a text the number stands."""
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text", ["112", "23999", "231", "10.20.30.40:5060", "9f8a77612345678bc", "took 0.123456 s", ""]
)
def test_codes_addresses_and_identifiers_stay(text: str) -> None:
    """What is no phone number is needed whole."""
    assert mask(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql://edge:hunter2@db/edge",
        "bad header Authorization: Digest username=x, response=hunter2",
        "{'Proxy-Authorization': 'Basic hunter2'}",
        "password=hunter2 user=x",
        'login failed: password = "hunter2"',
    ],
)
def test_credentials_in_a_text_are_hidden(text: str) -> None:
    """Secrets never reach a log, whoever wrote the sentence."""
    assert "hunter2" not in mask(text)
    assert "[redacted]" in mask(text)


@pytest.mark.parametrize(
    "field",
    [
        b'Authorization: Digest username="u", nonce="n", response="%s", qop=auth',
        b'AUTHORIZATION: Digest username="u",response=%s',
        b'Proxy-Authorization : digest username="u",\r\n response="%s"',
        b'Proxy-authorization: Digest nonce="n", RESPONSE = "%s"',
        b'Authentication-Info: rspauth="%s", nc=1',
        b"Authorization: Basic %s",
    ],
)
def test_digest_proofs_are_hidden_in_messages(field: bytes) -> None:
    """7.10: no digest responses, in whatever spelling and folding; the length stays."""
    message = HEAD + field % b"6629fae49393a053" + b"\r\nFrom: <sip:u@b>\r\n\r\n"
    shown = redact(message)
    assert b"6629fae49393a053" not in shown
    assert len(shown) == len(message)
    assert b"From: <sip:u@b>" in shown


def test_media_keys_are_hidden() -> None:
    """SDES keys decrypt the call: they are not for traces."""
    key = b"WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
    message = (
        HEAD
        + b"Content-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"
        + key
        + b"|2^20\r\n"
    )
    shown = redact(message)
    assert key not in shown
    assert b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" in shown


@pytest.mark.parametrize("kind", [b"text/plain", b"application/dtmf-relay", b"multipart/mixed;boundary=x", None])
def test_content_is_hidden(kind: bytes | None) -> None:
    """7.10: logs hold no content: neither the text of a MESSAGE nor the digits of a PIN."""
    field = b"c: " + kind + b"\r\n" if kind is not None else b""
    message = HEAD + field + b"\r\nSignal=5"
    assert redact(message) == HEAD + field + b"\r\nxxxxxxxx"
