"""A dialog: the peer-to-peer state that in-dialog requests are made from (RFC 3261 section 12)."""

from __future__ import annotations

from collections.abc import Sequence

from edge.sip.errors import LocalProtocolError, RemoteProtocolError
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.params import split_quoted
from edge.sip.uri import Uri

MAX_FORWARDS = "70"


class Dialog:
    """One side's view of a dialog.

    `local` and `remote` are full From/To values with their tags, as text. `remote_target` is the peer's Contact URI and
    `routes` the route set (name-addr texts, first hop first). Requests rise in `local_cseq`; `remote_cseq` is the last
    one seen, None before the peer's first.
    """

    __slots__ = (
        "call_id",
        "local",
        "local_cseq",
        "local_tag",
        "remote",
        "remote_cseq",
        "remote_tag",
        "remote_target",
        "routes",
    )

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        local_tag: str,
        local_cseq: int,
        remote: str,
        remote_tag: str | None,
        remote_cseq: int | None,
        remote_target: str,
        routes: Sequence[str],
    ) -> None:
        self.call_id = call_id
        self.local = local
        self.local_tag = local_tag
        self.local_cseq = local_cseq
        self.remote = remote
        self.remote_tag = remote_tag
        self.remote_cseq = remote_cseq
        self.remote_target = remote_target
        self.routes = routes

    @classmethod
    def uas(cls, request: Request, local_tag: str) -> Dialog:
        """From a dialog-forming request that we answer (section 12.1.1).

        Raises RemoteProtocolError(400) without Contact.
        """
        return cls(
            call_id=request.call_id,
            local=str(request.to.with_tag(local_tag)),
            local_tag=local_tag,
            local_cseq=0,
            remote=request.need("from"),
            remote_tag=request.from_.tag,
            remote_cseq=request.cseq.number,
            remote_target=_contact(request),
            routes=_route_values(request, reverse=False),
        )

    @classmethod
    def uac(cls, request: Request, response: Response) -> Dialog:
        """From our dialog-forming request and a response with a To tag (section 12.1.2)."""
        local_tag = request.from_.tag
        if local_tag is None:
            raise LocalProtocolError("our request has no From tag")
        return cls(
            call_id=request.call_id,
            local=request.need("from"),
            local_tag=local_tag,
            local_cseq=request.cseq.number,
            remote=response.need("to"),
            remote_tag=response.to.tag,
            remote_cseq=None,
            remote_target=_contact(response),
            routes=_route_values(response, reverse=True),
        )

    def another(self, response: Response, cseq: int) -> Dialog:
        """The dialog that another 2xx to the same request makes; `cseq` is that of the request (section 13.2.2.4)."""
        return Dialog(
            call_id=self.call_id,
            local=self.local,
            local_tag=self.local_tag,
            local_cseq=cseq,
            remote=response.need("to"),
            remote_tag=response.to.tag,
            remote_cseq=None,
            remote_target=_contact(response),
            routes=_route_values(response, reverse=True),
        )

    def request(self, method: str, *, cseq: int | None = None) -> Request:
        """An in-dialog request (section 12.2.1.1) without Contact and body; an ACK takes the `cseq` of its INVITE."""
        if cseq is None:
            self.local_cseq += 1
            cseq = self.local_cseq
        uri = self.remote_target
        routes = self.routes
        if routes and not _is_loose(routes[0]):
            # strict router (section 12.2.1.1): its URI becomes the Request-URI, the target goes last
            uri = routes[0].partition("<")[2].partition(">")[0] or routes[0]
            routes = [*routes[1:], f"<{self.remote_target}>"]
        headers = Headers.of_raw([("route", "Route", r) for r in routes])
        raw = headers.raw()
        raw.append(("max-forwards", "Max-Forwards", MAX_FORWARDS))
        raw.append(("from", "From", self.local))
        raw.append(("to", "To", self.remote))
        raw.append(("call-id", "Call-ID", self.call_id))
        raw.append(("cseq", "CSeq", f"{cseq} {method}"))
        return Request(method, uri, headers)

    def accept(self, request: Request) -> bool:
        """Take note of an in-dialog request's CSeq; False where it is out of order (500 is owed, section 12.2.2)."""
        number = request.cseq.number
        if self.remote_cseq is not None and number <= self.remote_cseq:
            return False
        self.remote_cseq = number
        return True

    def refresh_target(self, message: Request | Response) -> None:
        """Take the peer's new Contact from a target refresh (re-INVITE, UPDATE and their 2xx), if it has one."""
        if "contact" in message.headers:
            self.remote_target = _contact(message)


def _contact(message: Request | Response) -> str:
    contacts = message.contacts
    if not contacts:
        raise RemoteProtocolError("Contact is missing")
    return str(contacts[0].uri.bare())


def _route_values(message: Request | Response, *, reverse: bool) -> tuple[str, ...]:
    values = [r for v in message.headers.get_all("record-route") for r in split_quoted(v, ",") if r]
    return tuple(values[::-1] if reverse else values)


def _is_loose(route: str) -> bool:
    text = route.partition("<")[2].partition(">")[0] or route
    return "lr" in Uri.parse(text).params
