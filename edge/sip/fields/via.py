"""Via (RFC 3261 section 20.42, RFC 3581)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edge.sip.errors import RemoteProtocolError
from edge.sip.params import EMPTY, Params
from edge.sip.uri import KEPT, format_host, parse_hostport
from edge.sip.value import quick

# any version is read, so that a request of another one can be answered with 505
_HEAD: Final = re.compile(r"\s*SIP\s*/\s*[^\s/]+\s*/\s*([A-Za-z0-9\-.!%*_+`'~]+)\s+(\S.*)", re.IGNORECASE | re.DOTALL)


@quick
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
        transport, host, port = _sender(head) if len(head) <= KEPT else _sender.__wrapped__(head)
        return cls(transport, host, port, Params.parse(tail))

    @property
    def branch(self) -> str | None:
        """The branch, None where absent; RFC 3261 branches begin with z9hG4bK."""
        return self.params.get("branch")

    def with_received(self, address: str, port: int) -> Via:
        """As the server transport marks it: `rport` where it was asked for, and `received` then and where it differs.

        What the sender itself wrote into `received` never stays (RFC 3261 section 18.2.1, RFC 3581 section 4).
        """
        params = self.params
        if "rport" in params:
            params = params.with_("rport", str(port)).with_("received", address)
        elif address != self.host:
            params = params.with_("received", address)
        elif "received" in params:
            params = params.without("received")
        else:
            return self
        return Via(self.transport, self.host, self.port, params)

    def __str__(self) -> str:
        port = f":{self.port}" if self.port is not None else ""
        return f"SIP/2.0/{self.transport} {format_host(self.host)}{port}{self.params}"


@lru_cache(maxsize=4096)
def _sender(head: str) -> tuple[str, str, int | None]:
    """Transport, host and port of what stands before the parameters: the same in all messages of a peer."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise RemoteProtocolError("bad Via", None)
    transport, sent_by = match.groups()
    try:
        host, port = parse_hostport(sent_by)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"Via: {error.detail}", None) from error
    return transport.upper(), host, port
