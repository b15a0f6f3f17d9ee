"""The identity of a call as header fields: one function towards carriers, one towards seats and PBXs. Pure.

The five carrier profiles are those of domain rule 2.2. What a profile does not name is never written: header fields of
the other leg are input to the dial plan, not material for this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from config.model import Carrier, IdentityProfile, NumberFormat
from dialplan.model import Identity
from dialplan.number import to_wire
from edge.sip.address import NameAddr
from edge.sip.params import Params
from edge.sip.uri import Uri, encode_user


class IdentityHeaders(NamedTuple):
    """What an INVITE says about its caller."""

    from_: NameAddr
    """Without a tag."""
    headers: list[tuple[str, str]]
    """P-Asserted-Identity, P-Preferred-Identity, Privacy, Diversion, History-Info, as far as the profile has them."""
    contact_user: str
    """The user part of Contact, percent-encoded."""


_ANONYMOUS = NameAddr(Uri("sip", "anonymous", "anonymous.invalid"), "Anonymous")
_UNAVAILABLE = NameAddr(Uri("sip", "unavailable", "unknown.invalid"))
"""A caller without a number who withholds nothing (3GPP TS 29.163 section 7.4)."""
_PRIVATE_ENTRY = f"{_ANONYMOUS.uri}?Privacy=history"
_PRIVACY = ("Privacy", "id")
_NO_PLUS = frozenset({IdentityProfile.PPI_ACCOUNT, IdentityProfile.STATIC_NO_PLUS})

_CAUSES = {"unconditional": "302", "user-busy": "486", "no-answer": "408", "unavailable": "503"}
"""RFC 5806 reasons as RFC 4458 causes, for History-Info."""


def identity_headers(carrier: Carrier, identity: Identity, domain: str, called: str = "") -> IdentityHeaders:
    """The identity of a call to `carrier`. `domain` stands behind the numbers; `called` is the user part of the
    Request-URI as sent, for the last entry of History-Info on forwarded calls."""
    profile = carrier.identity
    form = NumberFormat.E164 if profile in _NO_PLUS else carrier.number_format
    country = carrier.home_country

    def uri(e164: str) -> Uri:
        return Uri("sip", encode_user(to_wire(e164, form, country)), domain)

    anonymous = identity.anonymous
    # a withheld number reaches only carriers that may see it; they know the customer by it (RFC 3325 section 7)
    network = identity.network if carrier.trusted or not anonymous else None
    presented = network if anonymous else identity.presented or network
    account = Uri("sip", encode_user(carrier.username), domain) if carrier.username else None

    headers: list[tuple[str, str]] = []
    if profile is IdentityProfile.PPI_ACCOUNT and account is not None:
        from_ = NameAddr(account)
    elif anonymous:
        from_ = _ANONYMOUS
    elif profile is IdentityProfile.FROM_NETWORK and network is not None:
        from_ = NameAddr(uri(network))
    elif presented is not None:
        from_ = NameAddr(uri(presented))
    else:
        from_ = NameAddr(account) if account is not None else _UNAVAILABLE

    if profile in (IdentityProfile.PPI_ACCOUNT, IdentityProfile.FROM_NETWORK):
        name, value = "P-Preferred-Identity", presented
    elif profile is IdentityProfile.PAI_PRESENTS:
        name, value = "P-Asserted-Identity", presented
    else:
        name, value = "P-Asserted-Identity", network
    if value is not None:
        headers.append((name, f"<{uri(value)}>"))
    if anonymous:
        headers.append(_PRIVACY)
    if identity.diversion:
        headers += _diversion(identity, uri)
        headers.append(("History-Info", _history(identity, uri, called, domain)))

    if anonymous:
        contact_user = "anonymous"
    elif carrier.mode == "register" and account is not None:
        contact_user = account.user or ""
    else:
        contact_user = from_.uri.user or ""
    return IdentityHeaders(from_, headers, contact_user)


def customer_headers(
    identity: Identity, domain: str, *, trusted: bool = False, diversion: bool = False
) -> IdentityHeaders:
    """The identity of a call to a seat or a customer's PBX: neutral where the caller withholds (domain rule 2.5).

    `trusted`: the far side may see the network number of a withheld caller. `diversion`: it is told who forwarded
    (PBXs are, phones are not).
    """
    headers: list[tuple[str, str]] = []
    if trusted and identity.network is not None:
        headers.append(("P-Asserted-Identity", f"<sip:{encode_user(identity.network)}@{domain}>"))
    if identity.anonymous:
        headers.append(_PRIVACY)
        return IdentityHeaders(_ANONYMOUS, headers, "anonymous")
    if identity.presented is None:
        return IdentityHeaders(_UNAVAILABLE, headers, "unavailable")
    user = encode_user(identity.presented)
    if diversion and identity.diversion:
        headers += _diversion(identity, lambda e164: Uri("sip", encode_user(e164), domain))
    # the name came from outside: what cannot be printed has no business in a header field
    display = identity.display if identity.display.isprintable() else "".join(filter(str.isprintable, identity.display))
    return IdentityHeaders(NameAddr(Uri("sip", user, domain), display or None), headers, user)


def _diversion(identity: Identity, uri: Callable[[str], Uri]) -> list[tuple[str, str]]:
    """RFC 5806: the newest first; why older ones forwarded is not ours to know. One that wants to stay unknown keeps
    its place, so that the far side can count (section 4: `privacy`)."""
    out: list[tuple[str, str]] = []
    reason = identity.diversion_reason
    for e164 in identity.diversion:
        if e164:
            out.append(("Diversion", f"<{uri(e164)}>;reason={reason};privacy=off"))
        else:
            out.append(("Diversion", f"<{_ANONYMOUS.uri}>;reason=unknown;privacy=full"))
        reason = "unknown"
    return out


def _history(identity: Identity, uri: Callable[[str], Uri], called: str, domain: str) -> str:
    """RFC 7044: the oldest first, each the child of the one before; the last is where the call goes now. An entry that
    wants to stay unknown is made anonymous, not left out, for the indexes build on it (section 10.1.2)."""
    entries: list[str] = []
    index = "1"
    for e164 in reversed(identity.diversion):
        entries.append(f"<{uri(e164) if e164 else _PRIVATE_ENTRY}>;index={index}")
        index += ".1"
    if called:
        cause = _CAUSES.get(identity.diversion_reason)
        target = Uri("sip", encode_user(called), domain, None, Params((("cause", cause),)) if cause else Params())
        entries.append(f"<{target}>;index={index};mp={index[:-2]}")
    return ", ".join(entries)
