"""REFER and what belongs to it: Refer-To, Replaces, and the subscription that tells its sender what became of it
(RFC 3515, RFC 3891, RFC 4488). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from edge.sip.address import NameAddr
from edge.sip.errors import RemoteProtocolError
from edge.sip.message import Request, Response
from edge.sip.params import Params
from edge.sip.status import reason_phrase
from edge.sip.transaction.key import TransactionId
from edge.sip.uri import Uri

if TYPE_CHECKING:
    from edge.b2bua.leg import Leg

UNDERSTOOD = frozenset(("norefersub", "replaces"))
"""Extensions that a REFER may require of us."""
_SUBSCRIPTION = 300
"""Seconds that a subscription is announced for: longer than anybody rings."""
_SIPFRAG = "message/sipfrag;version=2.0"


@dataclass(frozen=True, slots=True)
class Replaces:
    """The dialog that is to be replaced, as the one who is asked knows it: `to_tag` is its own tag."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Replaces:
        """A Replaces value. Raises RemoteProtocolError(400)."""
        call_id, _, tail = text.strip().partition(";")
        params = Params.parse(tail)
        to_tag, from_tag = params.get("to-tag"), params.get("from-tag")
        if not call_id or not to_tag or not from_tag:
            raise RemoteProtocolError("Replaces without Call-ID, to-tag or from-tag")
        return cls(call_id.strip(), to_tag, from_tag, "early-only" in params)


@dataclass(frozen=True, slots=True)
class ReferTo:
    """Where somebody is to be transferred: the user part, or the party of the dialog that `replaces` names."""

    uri: Uri
    replaces: Replaces | None = None

    @property
    def user(self) -> str:
        """What a caller would have dialled."""
        return dialled(self.uri)

    @property
    def is_phone(self) -> bool:
        """See `dialplan.model.Called`."""
        return self.uri.scheme == "tel" or self.uri.params.get("user") == "phone"


def dialled(uri: Uri) -> str:
    """The user part of a URI without parameters, decoded."""
    return unquote((uri.user or "").partition(";")[0])


def read_refer(request: Request) -> ReferTo:
    """Raises RemoteProtocolError(400) without exactly one Refer-To that names a call that we can place. (Statuses that
    say more, as 404 and 416, would end the whole dialog: RFC 5057 section 5.1.)"""
    values = request.headers.get_all("refer-to")
    if len(values) != 1:
        raise RemoteProtocolError("REFER needs one Refer-To (RFC 3515 section 2.4.1)")
    uri = NameAddr.parse(values[0]).uri
    if uri.scheme not in ("sip", "sips", "tel"):
        raise RemoteProtocolError(f"Refer-To of scheme {uri.scheme[:20]!r}")
    if (uri.params.get("method") or "INVITE").upper() != "INVITE":
        raise RemoteProtocolError("Refer-To asks for something else than INVITE")
    replaces = None
    for part in uri.headers.split("&"):
        name, _, value = part.partition("=")
        if unquote(name).lower() == "replaces":
            replaces = Replaces.parse(unquote(value))
    return ReferTo(uri.bare(), replaces)


class Subscription:
    """Tells the sender of one REFER how it goes, by NOTIFY with a fragment of a response (RFC 3515 section 2.4.4).

    It outlives the call of its dialog: who hangs up after REFER still wants to know (RFC 5589 section 6.1).
    """

    __slots__ = ("_leg", "_over", "_wanted", "event")

    def __init__(self, leg: Leg, request: Request, first: bool) -> None:
        """`first`: it is the first REFER of its dialog; later ones are told apart by their CSeq."""
        self._leg = leg
        self.event = "refer" if first else f"refer;id={request.cseq.number}"
        self._wanted = (request.headers.get("refer-sub") or "").strip().lower().partition(";")[0] != "false"
        self._over = False

    @classmethod
    def of(cls, leg: Leg, event: str) -> Self:
        """That of an earlier process."""
        one = cls.__new__(cls)
        one._leg, one.event, one._wanted, one._over = leg, event, True, False
        return one

    @property
    def wanted(self) -> bool:
        """False where the sender wants no NOTIFY (RFC 4488)."""
        return self._wanted

    def notify(self, status: int) -> None:
        """Say that the target answered with `status`; a final one is the last."""
        leg = self._leg
        if self._over or not self._wanted or leg.dialog is None:
            return
        request = leg.dialog.request("NOTIFY")
        headers = request.headers
        headers.add("Contact", leg.contact)
        headers.add("Event", self.event)
        self._over = status >= 200
        state = "terminated;reason=noresource" if self._over else f"active;expires={_SUBSCRIPTION}"
        headers.add("Subscription-State", state)
        headers.add("Content-Type", _SIPFRAG)
        request.body = f"SIP/2.0 {status} {reason_phrase(status)}\r\n".encode()
        leg.port.request(request, leg.flow, self)

    def on_response(self, tx: TransactionId, response: Response) -> None:
        """A peer that refuses NOTIFY hears no more (RFC 6665 section 4.2.2)."""
        if response.status >= 300:
            self._over = True

    def on_no_response(self, tx: TransactionId) -> None:
        """See ClientHandler."""
        self._over = True
