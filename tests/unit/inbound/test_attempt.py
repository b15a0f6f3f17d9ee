"""From the header fields of an INVITE to what the dial plan is asked."""

from __future__ import annotations

import pytest

from dialplan.model import CallAttempt, Caller, Source, SourceKind
from edge.inbound.attempt import read_attempt
from edge.sip.message import Request
from edge.sip.parse import parse_message

SOURCE = Source(SourceKind.CARRIER, "telekom")


def attempt(*headers: str, uri: str = "sip:+4922838600@10.0.0.1", from_: str = "<sip:030123456@far>") -> CallAttempt:
    lines = [
        f"INVITE {uri} SIP/2.0", "Via: SIP/2.0/UDP far;branch=z9hG4bK1", f"From: {from_};tag=a", "To: <sip:to@far>",
        "Call-ID: c", "CSeq: 1 INVITE", *headers, "", "",
    ]  # fmt: skip
    request = parse_message("\r\n".join(lines).encode())
    assert isinstance(request, Request)
    return read_attempt(request, SOURCE, 0.5)


def caller(*headers: str, from_: str = "<sip:030123456@far>") -> Caller:
    return attempt(*headers, from_=from_).caller


@pytest.mark.parametrize(
    ("uri", "user", "is_phone"),
    [
        ("sip:+49228%2038600@x", "+49228 38600", False),
        ("sip:022838600;phone-context=+49@x;user=phone", "022838600", True),
        ("tel:+49-228-38600", "+49-228-38600", True),
    ],
)
def test_the_called_number(uri: str, user: str, is_phone: bool) -> None:
    """Decoded, parameters of the user part cut; separators may be cut for tel: and user=phone only."""
    called = attempt("P-Called-Party-ID: <sip:4930@net>", uri=uri).called
    assert [(c.place, c.user) for c in called] == [
        ("p-called-party-id", "4930"), ("request-uri", user), ("to", "to"),
    ]  # fmt: skip
    assert called[1].is_phone is is_phone


@pytest.mark.parametrize(
    ("from_", "anonymous"),
    [
        ("<sip:anonymous@anonymous.invalid>", True),
        ('"Anonymous" <sip:1234567t0@sipgate.example>', True),
        ("<sip:anonymous@far>", True),
        ("<sip:unavailable@unknown.invalid>", False),
        ("<sip:far>", False),
        ("<sip:030123456@far>", False),
    ],
)
def test_anonymous_is_not_unknown(from_: str, anonymous: bool) -> None:
    """RFC 3323 names the withheld caller; a caller without a number (TS 29.163 section 7.4) withholds nothing."""
    assert caller(from_=from_).from_anonymous is anonymous


def test_identities_and_privacy() -> None:
    """PAI, PPI and Privacy as they came, values split; a broken header that only informs is as good as none."""
    said = caller(
        "P-Asserted-Identity: <sip:+4930123@net>, <tel:+4930123>", "P-Preferred-Identity: <sip:030124@net>",
        "Privacy: ID; critical",
    )  # fmt: skip
    assert (said.asserted, said.preferred) == (("+4930123", "+4930123"), ("030124",))
    assert said.privacy == {"id", "critical"}
    assert caller("P-Asserted-Identity: <nonsense").asserted == ()


def test_forwarders_newest_first() -> None:
    """Diversion has the newest first (RFC 5806), History-Info the oldest, and the target last (RFC 7044)."""
    assert caller("Diversion: <sip:+492@net>;reason=unconditional", "Diversion: <sip:+491@net>").diversion == (
        "+492", "+491",
    )  # fmt: skip
    history = "History-Info: <sip:+491@net>;index=1, <sip:+492@net;cause=302>;index=1.1, <sip:+493@net>;index=1.1.1"
    assert caller(history).diversion == ("+492", "+491")
    assert caller("History-Info: <sip:+493@net>;index=1").diversion == ()


def test_a_contact_of_the_called_is_no_forwarder() -> None:
    """History-Info also tells of the hop from a number to its registered contact, which nobody forwarded."""
    history = "History-Info: <sip:+49228386@net>;index=1, <sip:49228386@10.0.0.1>;index=1.1;rc=1"
    assert caller(history).diversion == ()


def test_private_forwarders_are_known_as_such() -> None:
    """RFC 5806 `privacy`, RFC 7044 section 10.1.2: some who forwarded do not want to be known."""
    said = caller("Diversion: <sip:+493@net>;privacy=full", "Diversion: <sip:+492@net>;privacy=off, <sip:+491@net>")
    assert (said.diversion, said.private_diversion) == (("+493", "+492", "+491"), {"+493"})
    said = caller("History-Info: <sip:+491@net?Privacy=history>;index=1, <sip:+492@net;cause=302>;index=1.1")
    assert (said.diversion, said.private_diversion) == (("+491",), {"+491"})


@pytest.mark.parametrize(
    ("privacy", "hidden"), [("history", True), ("id;history", True), ("session", True), ("id", False)]
)
def test_privacy_of_the_request_hides_all_forwarders(privacy: str, hidden: bool) -> None:
    """RFC 7044 section 10.1.2: said once for all entries."""
    for entries in ("History-Info: <sip:+491@net>;index=1, <sip:+492@net>;index=1.1", "Diversion: <sip:+491@net>"):
        said = caller(entries, f"Privacy: {privacy}")
        assert said.diversion == ("+491",)
        assert ("+491" in said.private_diversion) is hidden


@pytest.mark.parametrize(("said", "withheld"), [("full", True), ("uri", True), ("off", False), ("name", False)])
def test_remote_party_id_withholds(said: str, withheld: bool) -> None:
    """The elder header field says in its entry what Privacy says; where it shows the number nothing follows from it."""
    assert caller(f"Remote-Party-ID: <sip:030123456@far>;privacy={said}").from_anonymous is withheld
    assert not caller("Remote-Party-ID: <sip:030123456@far>").from_anonymous
