"""Via (RFC 3261 section 20.42, RFC 3581)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge.sip.errors import RemoteProtocolError
from edge.sip.params import EMPTY, Params
from edge.sip.uri import format_host, parse_hostport


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value; `transport` is upper case (UDP, TCP, TLS)."""

    transport: str
    host: str
    port: int | None
    params: Params = EMPTY

    @classmethod
    def parse(cls, text: str) -> Via:
        """Parse one value (a list is to be split before). Raises RemoteProtocolError; None is owed without a Via."""
        head, _, tail = text.partition(";")
        protocol, _, sent_by = head.strip().partition(" ")
        if not sent_by.strip() and "/" in head:  # blanks around the slashes are allowed
            raise RemoteProtocolError("Via without sent-by", None)
        while protocol.count("/") < 2 or protocol.endswith("/") or sent_by.lstrip().startswith("/"):
            more, _, sent_by = sent_by.lstrip().partition(" ")
            if not more:
                raise RemoteProtocolError("Via without a protocol", None)
            protocol += more
        parts = [p.strip() for p in protocol.split("/")]
        if len(parts) != 3 or parts[0].upper() != "SIP" or not parts[2]:
            raise RemoteProtocolError("bad Via protocol", None)
        try:
            host, port = parse_hostport(sent_by.strip())
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"Via: {error.detail}", None) from error
        return cls(parts[2].upper(), host, port, Params.parse(tail))

    @property
    def branch(self) -> str | None:
        """The branch, None where absent; RFC 3261 branches begin with z9hG4bK."""
        return self.params.get("branch")

    def with_received(self, address: str, port: int) -> Via:
        """As the server transport marks it: `received` always where it differs, `rport` where it was asked for."""
        params = self.params
        rport = params.get("rport")
        if rport is not None:
            params = params.with_("rport", str(port)).with_("received", address)
        elif address != self.host:
            params = params.with_("received", address)
        return replace(self, params=params)

    def __str__(self) -> str:
        port = f":{self.port}" if self.port is not None else ""
        return f"SIP/2.0/{self.transport} {format_host(self.host)}{port}{self.params}"
