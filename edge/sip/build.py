"""Messages that follow from other messages: responses (RFC 3261 section 8.2.6), CANCEL (9.1), ACK (17.1.1.3)."""

from __future__ import annotations

from typing import Final

from edge.sip.errors import RemoteProtocolError
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.params import first_value
from edge.sip.status import reason_phrase

_COPIED: Final = frozenset({"via", "from", "to", "call-id", "cseq"})
_COPIED_DIALOG: Final = _COPIED | {"record-route"}
_COPIED_TRYING: Final = _COPIED | {"timestamp"}
_DIALOG_FORMING: Final = frozenset({"INVITE", "SUBSCRIBE", "REFER"})


def response_to(request: Request, status: int, reason: str | None = None, to_tag: str | None = None) -> Response:
    """The response that `request` is owed, without body and Contact (RFC 3261 sections 8.2.6 and 12.1.1).

    All Via values, From, To, Call-ID and CSeq leave as they came. `to_tag` is appended to To where the status is above
    100 and To has none; the caller passes the same one for all responses of a transaction. Provisional and 2xx
    responses to dialog forming requests carry Record-Route, 100 carries Timestamp.
    """
    if status == 100:
        keys = _COPIED_TRYING
    elif status < 300 and request.method in _DIALOG_FORMING:
        keys = _COPIED_DIALOG
    else:
        keys = _COPIED
    fields = [field for field in request.headers.raw() if field[0] in keys]
    if to_tag is not None and status > 100:
        for i, (key, name, value) in enumerate(fields):
            if key == "to":
                if not _has_tag(request):
                    fields[i] = (key, name, f"{value};tag={to_tag}")
                break
    return Response(status, reason_phrase(status) if reason is None else reason, Headers.of_raw(fields))


def cancel_for(invite: Request) -> Request:
    """The CANCEL of a request that was sent as `invite`: the same top Via and so the same next hop (section 9.1)."""
    return _same_transaction(invite, "CANCEL", invite.headers.get("to") or "")


def ack_for_failure(invite: Request, response: Response) -> Request:
    """The ACK for a 3xx to 6xx final response, which belongs to the INVITE's transaction (section 17.1.1.3)."""
    return _same_transaction(invite, "ACK", response.headers.get("to") or "")


def _same_transaction(invite: Request, method: str, to: str) -> Request:
    fields = [
        ("via", "Via", first_value(invite.need("via"))),
        *((key, name, value) for key, name, value in invite.headers.raw() if key == "route"),
        ("max-forwards", "Max-Forwards", "70"),
        ("from", "From", invite.need("from")),
        ("to", "To", to),
        ("call-id", "Call-ID", invite.need("call-id")),
        ("cseq", "CSeq", f"{invite.cseq.number} {method}"),
    ]
    return Request(method, invite.uri, Headers.of_raw(fields))


def _has_tag(request: Request) -> bool:
    try:
        return request.to.tag is not None
    except RemoteProtocolError:
        return True  # To is what is wrong with the request: it goes back as it came
