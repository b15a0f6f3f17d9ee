"""What happens to a call, without SIP: the only input of the reducer in `edge.b2bua.call`.

Legs are named `a` (the caller) and `b1`, `b2` ... (each branch towards a called party). SDP is opaque bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.b2bua.refer import ReferTo
from edge.sip.transaction.key import TransactionId
from edge.sip.value import quick

LegId = str


@quick
@dataclass(frozen=True, slots=True)
class TargetStarted:
    """INVITEs went out to the current target."""

    index: int
    """Which start of a target this answers."""
    legs: tuple[LegId, ...]
    failover_on: frozenset[int]
    """SIP statuses after which the next target is tried."""


@quick
@dataclass(frozen=True, slots=True)
class TargetUnreachable:
    """The current target has no way to be reached: no registered contact, no carrier flow, or no channel."""

    index: int
    status: int
    q850: int
    limited: bool = False
    """True where a channel limit refused it."""


@quick
@dataclass(frozen=True, slots=True)
class Ringing:
    leg: LegId
    status: int = 180


@quick
@dataclass(frozen=True, slots=True)
class EarlyMedia:
    """A provisional response with SDP."""

    leg: LegId
    status: int
    sdp: bytes


@quick
@dataclass(frozen=True, slots=True)
class Answered:
    """A 2xx; `sdp` is the answer to our offer, or the offer where we made none."""

    leg: LegId
    sdp: bytes | None


@quick
@dataclass(frozen=True, slots=True)
class Rejected:
    """A final failure of a branch. `no_response` where nothing came back at all (timeout, transport)."""

    leg: LegId
    status: int
    q850: int | None = None
    no_response: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Moved:
    """A branch answered 3xx: its user has set a forward. `user` is the user part of the Contact."""

    leg: LegId
    status: int
    user: str
    is_phone: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller gave up before an answer; `elsewhere`: since somebody else took the call."""

    q850: int | None = None
    elsewhere: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Released:
    """An answered leg ended: BYE from the peer, or its dialog died (`detail` says how, empty for BYE)."""

    leg: LegId
    q850: int | None = None
    detail: str = ""


@quick
@dataclass(frozen=True, slots=True)
class AnswerInAck:
    """The ACK of a 2xx that carried our offer; `sdp` is the answer."""

    leg: LegId
    sdp: bytes | None


@quick
@dataclass(frozen=True, slots=True)
class ModifyOffered:
    """A re-INVITE or UPDATE that changes the session; without SDP the peer wants our offer."""

    leg: LegId
    sdp: bytes | None
    update: bool = False


@quick
@dataclass(frozen=True, slots=True)
class ModifyAnswered:
    """The 2xx to our re-INVITE or UPDATE."""

    leg: LegId
    sdp: bytes | None


@quick
@dataclass(frozen=True, slots=True)
class ModifyRefused:
    leg: LegId
    status: int


@quick
@dataclass(frozen=True, slots=True)
class Noted:
    """Something changed in a leg that concerns nobody but who keeps it (the journal): an ACK, a session timer."""


NOTED = Noted()


@quick
@dataclass(frozen=True, slots=True)
class InfoReceived:
    """INFO that may cross (DTMF)."""

    leg: LegId
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """The content of a MESSAGE. `content_type` is the field's value with its parameters; empty where there is none."""

    content_type: str
    body: bytes


@quick
@dataclass(frozen=True, slots=True)
class TextReceived:
    """MESSAGE: a text for the other party; the leg waits for what becomes of it, under `number`."""

    leg: LegId
    number: TransactionId
    text: Text


@quick
@dataclass(frozen=True, slots=True)
class TextAnswered:
    """What the party of this leg answered to `SendText`."""

    leg: LegId
    number: TransactionId
    status: int
    accept: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Referred:
    """REFER: the party of this leg wants to be replaced; the leg waits for what is answered."""

    leg: LegId
    to: ReferTo


@quick
@dataclass(frozen=True, slots=True)
class Relayed:
    """The relay wrote the SDP that `RelayForward(purpose)` asked for."""

    purpose: str
    leg: LegId
    sdp: bytes


@quick
@dataclass(frozen=True, slots=True)
class RelayFailed:
    purpose: str
    leg: LegId
    status: int
    detail: str


@quick
@dataclass(frozen=True, slots=True)
class MediaTimedOut:
    """No packet from either side for the relay's time."""


@quick
@dataclass(frozen=True, slots=True)
class MediaLost:
    """The relay that had the media of this call is gone: whoever rings could not be heard either."""

    detail: str


@quick
@dataclass(frozen=True, slots=True)
class TimerFired:
    name: str


@quick
@dataclass(frozen=True, slots=True)
class Rerouted:
    """The dial plan's answer to `AskNextRoute` or `Forward`: how many targets there are now (0: the call fails)."""

    targets: int
    no_answer_after: float | None = None
    refusal: tuple[int, int] | None = None
    """SIP status and Q.850 cause that the next route itself demands; None: the failure stands."""


@quick
@dataclass(frozen=True, slots=True)
class Ended:
    """The edge ends the call: drain, a kill switch, an operator."""

    q850: int
    detail: str


CallEvent = (
    TargetStarted
    | TargetUnreachable
    | Ringing
    | EarlyMedia
    | Answered
    | Rejected
    | Moved
    | Cancelled
    | Released
    | AnswerInAck
    | ModifyOffered
    | ModifyAnswered
    | ModifyRefused
    | Noted
    | InfoReceived
    | TextReceived
    | TextAnswered
    | Referred
    | Relayed
    | RelayFailed
    | MediaTimedOut
    | MediaLost
    | TimerFired
    | Rerouted
    | Ended
)
