"""What an INVITE to a target says: for the call that sends it, and for the command that explains it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from config.model import Carrier, Trunk
from config.snapshot import Snapshot
from dialplan.model import Target, TargetKind
from dialplan.number import to_wire
from edge.b2bua.identity_headers import customer_headers, identity_headers
from edge.sip.address import NameAddr
from edge.sip.message import Request
from edge.sip.params import EMPTY, Params
from edge.sip.uri import Uri, encode_user

_PHONE = Params((("user", "phone"),))
_TOLD = frozenset((
    "from", "to", "p-called-party-id", "p-asserted-identity", "p-preferred-identity", "privacy", "diversion",
    "history-info",
))  # fmt: skip


class Outgoing(NamedTuple):
    """An INVITE before it is an INVITE: who is called, and who calls."""

    uri: str
    from_: NameAddr
    """Without a tag."""
    to: NameAddr
    identity: list[tuple[str, str]]
    contact_user: str
    """The user part of Contact, percent-encoded."""

    def lines(self) -> tuple[str, ...]:
        """The Request-URI and the header fields as they would leave, for a reader."""
        return (
            f"INVITE {self.uri}",
            f"From: {self.from_}",
            f"To: {self.to}",
            *(f"{name}: {value}" for name, value in self.identity),
        )


def to_carrier(carrier: Carrier, target: Target) -> Outgoing:
    """A call out over `carrier`."""
    found = identity_headers(carrier, target.identity, carrier.domain, target.user)
    params = _PHONE if target.user.lstrip("+").isdigit() else EMPTY
    uri = Uri("sip", encode_user(target.user), carrier.domain, None, params)
    return Outgoing(str(uri), found.from_, NameAddr(replace(uri, params=EMPTY)), found.headers, found.contact_user)


def to_customer(target: Target, username: str, domain: str, uri: str, called: CalledNumber | None = None) -> Outgoing:
    """A call to a seat or a customer's PBX at `uri`, a contact of `username`; PBXs are told who forwarded."""
    found = customer_headers(target.identity, domain, diversion=target.kind is TargetKind.TRUNK)
    to = NameAddr(Uri("sip", encode_user((called.written if called else target.user) or username), domain))
    told = [*found.headers, *called.headers] if called else found.headers
    return Outgoing(uri, found.from_, to, told, found.contact_user)


class CalledNumber(NamedTuple):
    """What a PBX is told about which of its numbers is called."""

    written: str
    """The number as the PBX wants it."""
    in_uri: str
    """User part of the Request-URI; empty: as the PBX registered it."""
    headers: tuple[tuple[str, str], ...] = ()


def called_number(target: Target, trunk: Trunk, country: str, domain: str) -> CalledNumber:
    """The called number towards `trunk`, whose account is in `country` (`number_format`, `called_in`).

    Bulk registration leaves no choice: the number is global and in the Request-URI (RFC 6140 section 7.1)."""
    if trunk.mode == "gin":
        return CalledNumber(target.user, target.user)
    number = to_wire(target.user, trunk.number_format, country)
    if trunk.called_in == "request-uri":
        return CalledNumber(number, number)
    if trunk.called_in == "to":
        return CalledNumber(number, "")
    return CalledNumber(number, "", (("P-Called-Party-ID", f"<{Uri('sip', encode_user(number), domain)}>"),))


def country_of(snapshot: Snapshot, trunk: Trunk) -> str:
    """The country whose national numbers the PBX knows."""
    account = snapshot.accounts.get(trunk.account)
    return account.country if account is not None else "DE"


def sent(invite: Request) -> tuple[str, ...]:
    """What `Outgoing.lines` says, of an INVITE that is ready to go: for the call's record."""
    told = [f"{name}: {value}" for key, name, value in invite.headers.raw() if key in _TOLD]
    return (f"INVITE {invite.uri}", *told)
