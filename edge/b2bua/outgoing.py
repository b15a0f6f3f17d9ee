"""What an INVITE to a target says: for the call that sends it, and for the command that explains it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from config.model import Carrier
from dialplan.model import Target, TargetKind
from edge.b2bua.identity_headers import customer_headers, identity_headers
from edge.sip.address import NameAddr
from edge.sip.message import Request
from edge.sip.params import EMPTY, Params
from edge.sip.uri import Uri, encode_user

_PHONE = Params((("user", "phone"),))
_TOLD = frozenset((
    "from", "to", "p-asserted-identity", "p-preferred-identity", "privacy", "diversion", "history-info"
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


def to_customer(target: Target, username: str, domain: str, uri: str) -> Outgoing:
    """A call to a seat or a customer's PBX at `uri`, a contact of `username`; PBXs are told who forwarded."""
    found = customer_headers(target.identity, domain, diversion=target.kind is TargetKind.TRUNK)
    to = NameAddr(Uri("sip", encode_user(target.user or username), domain))
    return Outgoing(uri, found.from_, to, found.headers, found.contact_user)


def sent(invite: Request) -> tuple[str, ...]:
    """What `Outgoing.lines` says, of an INVITE that is ready to go: for the call's record."""
    told = [f"{name}: {value}" for key, name, value in invite.headers.raw() if key in _TOLD]
    return (f"INVITE {invite.uri}", *told)
