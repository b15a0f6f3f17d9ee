"""What an endpoint tells its user and what it wants sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from edge.sip.flow import Flow
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId


class Outgoing(NamedTuple):
    """Bytes for a flow; `tx` is told by `Endpoint.send_failed` when they could not be sent."""

    data: bytes
    flow: Flow
    tx: TransactionId | None = None


@dataclass(slots=True)
class RequestReceived:
    """A new request other than ACK and CANCEL, in a dialog or not; it is owed one final response over `tx`."""

    tx: TransactionId
    request: Request
    flow: Flow


@dataclass(slots=True)
class AckReceived:
    """An ACK to a 2xx (ACKs to failures stay inside); repeated ones come again."""

    request: Request
    flow: Flow


@dataclass(slots=True)
class CancelReceived:
    """The peer cancels the INVITE of `tx`, which has no final response yet. The CANCEL itself was answered."""

    tx: TransactionId
    request: Request


@dataclass(slots=True)
class ResponseReceived:
    """A response to a request of ours: each provisional one, one failure, or each 2xx.

    An INVITE's 2xx comes as often as the peer repeats it, since each is owed an ACK, and with other To tags where the
    request forked.
    """

    tx: TransactionId
    response: Response
    flow: Flow


@dataclass(slots=True)
class TransactionTimedOut:
    """Client: no final response in time. Server: no ACK to a failure."""

    tx: TransactionId


@dataclass(slots=True)
class TransportFailed:
    """The request or response of `tx` could not be sent, or the connection of a client transaction went away.

    It ends a client transaction. A server transaction goes on and may answer again (RFC 6026 section 8.8).
    """

    tx: TransactionId


@dataclass(slots=True)
class FlowClosed:
    """A connection is gone."""

    flow: Flow


@dataclass(slots=True)
class PongReceived:
    """The peer answered a keep-alive of ours on a connection."""

    flow: Flow


@dataclass(slots=True)
class BadMessage:
    """What arrived and reaches nobody, for the log; `status` is what its sender was answered, None for nothing."""

    flow: Flow
    error: str
    data: bytes
    status: int | None = None


Event: TypeAlias = (
    RequestReceived
    | AckReceived
    | CancelReceived
    | ResponseReceived
    | TransactionTimedOut
    | TransportFailed
    | FlowClosed
    | PongReceived
    | BadMessage
)
