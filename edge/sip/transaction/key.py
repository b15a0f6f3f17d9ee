"""What makes two messages one transaction (RFC 3261 sections 17.1.3, 17.2.3, 8.2.2.2)."""

from __future__ import annotations

from typing import NewType

from edge.sip.address import NameAddr
from edge.sip.fields.via import Via
from edge.sip.ids import BRANCH_COOKIE
from edge.sip.message import Request

TransactionId = NewType("TransactionId", int)
"""Names a transaction of one endpoint for its user; never used twice."""

_COOKIE = BRANCH_COOKIE.lower()
_COOKIE_LENGTH = len(BRANCH_COOKIE)


def client_key(branch: str, method: str) -> str:
    """A response belongs to the request with its branch and the method of its CSeq."""
    return f"{branch} {method}"


def server_key(request: Request, via: Via, via_text: str, method: str) -> str:
    """The key of the transaction that `request` opens or repeats.

    `via` is its top Via, `via_text` the text of it as it came; `method` is INVITE for an ACK, and for a CANCEL INVITE
    or CANCEL as the caller looks for. Without the magic cookie the rules of RFC 2543 hold.
    """
    branch = via.branch
    if branch is not None and len(branch) > _COOKIE_LENGTH and branch[:_COOKIE_LENGTH].lower() == _COOKIE:
        return f"{branch} {via.host.lower()} {via.port} {method}"
    headers = request.headers
    number = (headers.get("cseq") or "").split(None, 1)[:1]
    parts = (request.uri, tag_of(headers.get("from") or ""), headers.get("call-id"), number, via_text, method)
    return "\n".join(map(str, parts))


def is_rfc2543(key: str) -> bool:
    """True for keys of requests without the magic cookie."""
    return "\n" in key


def branch_of(via_text: str) -> str | None:
    """The branch of one Via value; RemoteProtocolError for a Via that cannot be read."""
    _, found, rest = via_text.partition(";branch=")
    if found:
        return rest.partition(";")[0].rstrip()
    return Via.parse(via_text).branch


def tag_of(address: str) -> str | None:
    """The tag of a From or To value; RemoteProtocolError where the value cannot be read."""
    tail = address[address.rfind(">") + 1 :]
    if "tag" not in tail.lower():
        return None
    head, found, rest = tail.partition(";tag=")
    if found and not head and ";" not in rest and '"' not in rest:
        return rest.strip()
    return NameAddr.parse(address).tag


def merge_key(request: Request) -> str | None:
    """What copies of one request that came along different paths share; None inside a dialog (section 8.2.2.2)."""
    if tag_of(request.need("to")) is not None:
        return None
    return f"{request.need('call-id')}\n{tag_of(request.need('from'))}\n{request.need('cseq')}"
