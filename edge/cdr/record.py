"""What is written of a call: one call detail record when it ends, one more where it was refused. Pure values.

Fields are the columns of `sip_edge.call_records` and `sip_edge.refused_calls` (docs/database.md). Times are aware UTC
datetimes, numbers as domain section 2 has them, causes Q.850.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import NamedTuple

import orjson

from dialplan.model import Step
from edge.sip.value import quick

ANONYMOUS = "anonymous"


class MediaFigures(NamedTuple):
    """Packets as the relay counted them: what came from and went to each side, and what was missing."""

    from_a: int = 0
    from_b: int = 0
    to_a: int = 0
    to_b: int = 0
    lost_a: int | None = None
    """None where nobody told: see `media.relay.port.RelayStats`."""
    lost_b: int | None = None
    jitter_a: float | None = None
    """Milliseconds; None where it is not known."""
    jitter_b: float | None = None
    mos_a: float | None = None
    """Estimated score of what came from the caller's side (`edge.cdr.quality`); None where too little came, or its loss
    is not known."""
    mos_b: float | None = None
    round_trip: float | None = None
    """Between the two ends, milliseconds; None where it is not known."""
    codec_a: str | None = None
    """What the caller's side was told to send; None where it was no RTP audio."""
    codec_b: str | None = None


class Attempt(NamedTuple):
    """One target that was tried: what it was, when, and how it answered (status 0: it did not)."""

    kind: str
    name: str
    started_at: datetime
    status: int = 0
    cause: int | None = None
    """Q.850 cause of its Reason header."""
    sent: tuple[str, ...] = ()
    """Request-URI and header fields that told who calls whom, as they left."""
    by: str | None = None
    """The seat or trunk that transferred the call there."""
    call: str | None = None
    """The other call that a transfer made or joined."""
    hosts: tuple[str, ...] = ()
    """Where the carrier's name leads to several hosts: those that were asked, and what came of all but the last."""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A finished call, answered or not; `id` is our id of the call and makes the record unique."""

    id: str
    edge: str
    started_at: datetime
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime
    direction: str
    """`dialplan.model.Direction`."""
    source_kind: str
    source_name: str
    account: str | None = None
    """The account that was served."""
    billed_account: str | None = None
    caller: str | None = None
    """As known to us, also where it was withheld from the called: see `caller_withheld`."""
    caller_withheld: bool = False
    dialled: str | None = None
    """What the caller dialled, as it came."""
    called: str | None = None
    """The number meant."""
    number: str | None = None
    """The provisioned number or range that routed an inbound call."""
    target_kind: str | None = None
    target_name: str | None = None
    carrier: str | None = None
    presented: str | None = None
    """What the called was shown; None where withheld."""
    network_number: str | None = None
    outcome: str
    """answered, cancelled, busy, no-answer, unreachable, rejected, refused, failed."""
    reason: str | None = None
    """`dialplan.model.Reason` of a refusal, or why an answered call ended where nobody hung up."""
    sip_status: int | None = None
    """The final response the caller got."""
    a_cause: int | None = None
    b_cause: int | None = None
    released_by: str | None = None
    """a, b or edge."""
    a_call_id: str | None = None
    b_call_id: str | None = None
    emergency: bool = False
    trace: tuple[Step, ...] = ()
    """How the decision came to be."""
    media: MediaFigures | None = None
    attempts: tuple[Attempt, ...] = ()


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCall:
    """A call that was not put through, kept 7 days (domain rule 5.11)."""

    id: str
    at: datetime
    level: str | None = None
    """For limits: number, trunk, account or carrier."""
    direction: str
    number: str | None = None
    account: str | None = None
    trunk: str | None = None
    carrier: str | None = None
    caller: str | None = None
    """None where withheld."""
    caller_withheld: bool = False
    reason: str
    sip_status: int | None = None
    limit_value: int | None = None
    used: int | None = None
    detail: str | None = None
    source_ip: str | None = None


Record = CallRecord | RefusedCall

CALL_COLUMNS = tuple(f.name for f in fields(CallRecord))
REFUSED_COLUMNS = tuple(f.name for f in fields(RefusedCall))
_NOT_PLAIN = frozenset({"trace", "media", "attempts"})
_CALL_PLAIN = tuple(n for n in CALL_COLUMNS if n not in _NOT_PLAIN)

_LONGEST = 1000
"""Characters of a text that are kept: a peer chooses Call-IDs and dialled strings, and an index takes no longer key."""


def to_json(record: Record) -> bytes:
    """One line of JSON, columns as keys; what is absent is left out. What PostgreSQL cannot store (NUL) is cut."""
    if isinstance(record, CallRecord):
        row: dict[str, object] = {}
        for name in _CALL_PLAIN:
            value = getattr(record, name)
            if value is not None:
                row[name] = value[:_LONGEST] if type(value) is str else value
        row["trace"] = [{"rule": s.rule, "text": s.text} for s in record.trace]
        if record.media is not None:
            row["media"] = record.media._asdict()
        row["attempts"] = [a._asdict() for a in record.attempts]
    else:
        row = {
            n: v[:_LONGEST] if type(v) is str else v for n in REFUSED_COLUMNS if (v := getattr(record, n)) is not None
        }
    try:
        text = orjson.dumps(row)
    except orjson.JSONEncodeError:  # bytes of a peer that are no UTF-8
        return orjson.dumps(_storable(row))
    return orjson.dumps(_storable(row)) if b"\\u0000" in text else text


def finished_fields(record: CallRecord) -> dict[str, object]:
    """What the log line `call.finished` says of a call: all that a search asks for, absent fields left out."""
    line: dict[str, object] = {"call": record.id}
    for name in _FINISHED:
        value = getattr(record, name)
        if value is not None:
            line[name] = value
    if record.caller_withheld:
        line["caller_withheld"] = True
    if record.emergency:
        line["emergency"] = True
    for name, later in (("ring_s", record.ringing_at), ("answer_s", record.answered_at), ("total_s", record.ended_at)):
        if later is not None:
            line[name] = round((later - record.started_at).total_seconds(), 3)
    if record.answered_at is not None:
        line["talk_s"] = round((record.ended_at - record.answered_at).total_seconds(), 3)
    if record.media is not None and record.answered_at is not None:
        line["packets"] = list(record.media[:6])
        if record.media.mos_a is not None or record.media.mos_b is not None:
            line["mos"] = [record.media.mos_a, record.media.mos_b]
    if len(record.attempts) > 1:
        line["attempts"] = [f"{a.kind} {a.name} {a.status}" for a in record.attempts]
    return line


_FINISHED = (
    "direction", "outcome", "reason", "sip_status", "account", "billed_account", "source_kind", "source_name", "caller",
    "dialled", "called", "number", "target_kind", "target_name", "carrier", "presented", "network_number", "a_cause",
    "b_cause", "released_by", "a_call_id", "b_call_id",
)  # fmt: skip


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {k: _storable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(v) for v in value]
    return value
