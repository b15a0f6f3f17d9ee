"""REGISTER requests as phones send them."""

from __future__ import annotations

from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request

LOCAL = Address("192.0.2.1", 5060)
UDP = Flow("udp", LOCAL, Address("198.51.100.7", 40000))
TCP = Flow("tcp", LOCAL, Address("198.51.100.7", 50123), 3)
TLS = Flow("tls", Address("192.0.2.1", 5061), Address("203.0.113.9", 50124), 4)


def register(
    *contacts: str,
    cseq: int = 1,
    call_id: str = "c1",
    expires: int | None = None,
    via: str = "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1",
    **headers: str,
) -> Request:
    """A REGISTER of 201; keyword `require="gin"` becomes a header."""
    fields = [
        ("Via", via),
        ("From", "<sip:201@edge.example>;tag=f"),
        ("To", "<sip:201@edge.example>"),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} REGISTER"),
        *(("Contact", c) for c in contacts),
    ]
    if expires is not None:
        fields.append(("Expires", str(expires)))
    fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request("REGISTER", "sip:edge.example", Headers(fields))
