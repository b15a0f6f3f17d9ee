"""What may be read by whoever reads logs: numbers shortened, secrets gone (domain rules 7.9, 7.10).

Pure. `mask` is for log lines, where a number is shortened; `redact` is for whole SIP messages in traces, where
operators need the numbers but nobody needs a digest response, a media key or what people wrote to each other. `redact`
keeps the length of the message, so that Content-Length and captures stay right.
"""

from __future__ import annotations

import re

REDACTED = "[redacted]"
WITHHELD = "anonymous"

_NUMBER = re.compile(r"(?<![0-9A-Za-z.])(\+?[0-9]{3,})[0-9]{3}(?![0-9A-Za-z])")
_CREDENTIALS_IN_URL = re.compile(r"(://[^/\s:@]*:)[^@\s]+@")
_AUTHORIZATION_TEXT = re.compile(r"(?i)((?:proxy-)?authorization[\"']?\s*[:=]\s*).+")
_PARAMETER = re.compile(r"(?i)\b(password|passwd|pwd|secret|response|ha1)(\s*=\s*)(\"[^\"]*\"|[^\s,;&]+)")

_AUTHORIZATION = re.compile(rb"(?im)^((?:proxy-)?authorization[ \t]*:)((?:[^\r\n]|\r?\n[ \t])*)")
_AUTHENTICATION_INFO = re.compile(rb"(?im)^(authentication-info[ \t]*:)((?:[^\r\n]|\r?\n[ \t])*)")
_DIGEST_PROOF = re.compile(rb"(?i)\b((?:response|rspauth|cnonce)\s*=\s*\"?)([^\",;\s]+)")
_SRTP_KEY = re.compile(rb"(?im)^(a=crypto:[^\r\n]*?inline:)([^\s|;]+)")
_MIKEY = re.compile(rb"(?im)^(a=key-mgmt:\S+[ \t]+)(\S+)")
_K_LINE = re.compile(rb"(?im)^(k=[a-z]+:)([^\r\n]+)")
_CONTENT_TYPE = re.compile(rb"(?im)^(?:content-type|c)[ \t]*:[ \t]*([^;\s]+)")

_SHOWN_BODIES = frozenset(
    {b"application/sdp", b"message/sipfrag", b"application/simple-message-summary", b"application/reginfo+xml"}
)
"""Bodies that say how a call is signalled. Others may be content: text of a message, DTMF of a PIN, a fax."""


def mask_number(number: str) -> str:
    """A number with its last three digits hidden; what has fewer than six digits (extensions, codes) stays."""
    return _NUMBER.sub(r"\1xxx", number)


def mask(text: str) -> str:
    """A text for a log line: numbers shortened, credentials gone."""
    if text.isascii() and text.removeprefix("+").isdigit() and len(text) > 6:
        return f"{text[:-3]}xxx"  # what most texts are
    return mask_secrets(_NUMBER.sub(r"\1xxx", text)) if len(text) >= 6 else text


def mask_secrets(text: str) -> str:
    """A text without credentials: passwords in URLs, Authorization values, `password=` and the like."""
    if "://" in text:
        text = _CREDENTIALS_IN_URL.sub(rf"\1{REDACTED}@", text)
    if "uthorization" in text:
        text = _AUTHORIZATION_TEXT.sub(rf"\1{REDACTED}", text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\1\2{REDACTED}", text)
    return text


def redact(message: bytes) -> bytes:
    """A SIP message without digest proofs, media keys and content, as long as it was (each hidden byte is an `x`)."""
    head, gap, body = message.partition(b"\r\n\r\n")
    if b"uthorization" in head or b"AUTHORIZATION" in head:
        head = _AUTHORIZATION.sub(_hide_credentials, head)
    if b"nfo" in head:
        head = _AUTHENTICATION_INFO.sub(_hide_credentials, head)
    if not body:
        return head + gap
    kind = _CONTENT_TYPE.search(head)
    if kind is None or kind[1].lower() not in _SHOWN_BODIES:
        return head + gap + b"x" * len(body)
    for secret in (_SRTP_KEY, _MIKEY, _K_LINE):
        body = secret.sub(_hide_second, body)
    return head + gap + body


_URI_NUMBER = re.compile(rb"(?i)(\b(?:sips?|tel):(?:%2b|\+)?[0-9*#().-]{3,}?)[0-9]{3}(?=[@;>?,\s\x22]|$)")
_NAME_NUMBER = re.compile(rb"(?m)(^[A-Za-z-]+[ \t]*:[ \t]*\x22?\+?[0-9]{3,})[0-9]{3}(?=\x22?[ \t]*<)")


def shorten(message: bytes) -> bytes:
    """A SIP message in which every phone number (user of a URI, display name) lacks its last three digits, for what
    lies on a disk (domain rule 7.10). It stays as long as it was; so do Call-IDs, tags and addresses."""
    head, gap, body = message.partition(b"\r\n\r\n")
    return _NAME_NUMBER.sub(rb"\1xxx", _URI_NUMBER.sub(rb"\1xxx", head)) + gap + body


def _hide_second(match: re.Match[bytes]) -> bytes:
    return match[1] + b"x" * len(match[2])


def _hide_credentials(match: re.Match[bytes]) -> bytes:
    value = match[2]
    if not value.lstrip().lower().startswith(b"digest") and not match[1].lower().startswith(b"authentication"):
        return match[1] + b" " + b"x" * (len(value) - 1)
    return match[1] + _DIGEST_PROOF.sub(_hide_second, value)
