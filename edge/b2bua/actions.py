"""What the reducer in `edge.b2bua.call` wants done; `edge.b2bua.runner` does it and posts the results as events."""

from __future__ import annotations

from dataclasses import dataclass

from edge.b2bua.events import LegId, Text
from edge.b2bua.refer import ReferTo
from edge.sip.transaction.key import TransactionId
from edge.sip.value import quick


@quick
@dataclass(frozen=True, slots=True)
class StartTarget:
    """Send INVITEs to target `target` of the plan; answered by TargetStarted or TargetUnreachable with this `index`."""

    index: int
    target: int
    sdp: bytes | None


@quick
@dataclass(frozen=True, slots=True)
class AskNextRoute:
    """All targets failed: is there a next route (on_busy, on_no_answer ...)? Answered by Rerouted."""

    outcome: str


@quick
@dataclass(frozen=True, slots=True)
class Forward:
    """A branch of the current target sends the call elsewhere. Answered by Rerouted."""

    leg: LegId
    user: str
    is_phone: bool


@quick
@dataclass(frozen=True, slots=True)
class RelayForward:
    """Pass SDP of `leg` through the relay for the other side; answered by Relayed or RelayFailed.

    Offers (RFC 3264): `offer` of the caller's INVITE, `late-offer` in a 2xx, `modify`, `modify-offer` in the 2xx of a
    re-INVITE, `restore` of what held before. Answers: `early-18x`, `answer`, `late-answer`, `modify-answer`,
    `modify-ack`."""

    purpose: str
    leg: LegId
    sdp: bytes


@quick
@dataclass(frozen=True, slots=True)
class Progress:
    """Provisional response to the caller."""

    status: int
    sdp: bytes | None = None


@quick
@dataclass(frozen=True, slots=True)
class Accept:
    """200 to the caller."""

    sdp: bytes | None


@quick
@dataclass(frozen=True, slots=True)
class Reject:
    """Final failure to the caller."""

    status: int
    q850: int | None = None


@quick
@dataclass(frozen=True, slots=True)
class Cancel:
    """CANCEL a branch (or forget it, where nothing came back yet)."""

    leg: LegId
    answered_elsewhere: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Ack:
    """ACK a branch's 2xx; `sdp` is the answer where the 2xx had the offer."""

    leg: LegId
    sdp: bytes | None = None


@quick
@dataclass(frozen=True, slots=True)
class Release:
    """BYE."""

    leg: LegId
    q850: int | None = None


@quick
@dataclass(frozen=True, slots=True)
class Modify:
    """re-INVITE (or UPDATE) towards a leg."""

    leg: LegId
    sdp: bytes | None
    update: bool = False


@quick
@dataclass(frozen=True, slots=True)
class AcceptModify:
    leg: LegId
    sdp: bytes | None


@quick
@dataclass(frozen=True, slots=True)
class RefuseModify:
    leg: LegId
    status: int


@quick
@dataclass(frozen=True, slots=True)
class SendInfo:
    leg: LegId
    content_type: str
    body: bytes


@quick
@dataclass(frozen=True, slots=True)
class SendText:
    """MESSAGE; `TextAnswered` tells what the party answered."""

    leg: LegId
    number: TransactionId
    text: Text


@quick
@dataclass(frozen=True, slots=True)
class AnswerText:
    """The final answer to the MESSAGE of this leg's party."""

    leg: LegId
    number: TransactionId
    status: int
    accept: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Transfer:
    """The party of this leg is to be replaced, as its REFER says."""

    leg: LegId
    to: ReferTo


@quick
@dataclass(frozen=True, slots=True)
class RefuseTransfer:
    leg: LegId
    status: int


@quick
@dataclass(frozen=True, slots=True)
class StartTimer:
    """Start or restart a timer of the call; `after` in seconds."""

    name: str
    after: float


@quick
@dataclass(frozen=True, slots=True)
class StopTimer:
    name: str


@quick
@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over: give ports and channels back, write the record. Comes exactly once."""

    outcome: str
    """answered, busy, no-answer, cancelled, rejected, failed."""
    released_by: str
    """a, b or edge."""
    status: int
    """Final SIP status towards the caller."""
    q850: int | None = None
    detail: str = ""


CallAction = (
    StartTarget
    | AskNextRoute
    | Forward
    | RelayForward
    | Progress
    | Accept
    | Reject
    | Cancel
    | Ack
    | Release
    | Modify
    | AcceptModify
    | RefuseModify
    | SendInfo
    | SendText
    | AnswerText
    | Transfer
    | RefuseTransfer
    | StartTimer
    | StopTimer
    | Finish
)
