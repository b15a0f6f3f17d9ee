"""What is told and written of a refused call: a log line, a metric, a record and a row of refused calls
(docs/refusals.md)."""

from __future__ import annotations

from dialplan.model import CallAttempt, Reason, Refusal, SourceKind, Trace
from edge.b2bua.engine import Engine
from edge.cdr.record import CallRecord, RefusedCall
from edge.observability.logging import get_logger
from edge.sip.causes import REFUSALS
from edge.sip.flow import Flow

log = get_logger("call")

_WITHHELD = frozenset(("id", "user", "header"))
_SECURITY = frozenset((Reason.NUMBER_OF_OTHER_CARRIER, Reason.CALLER_NOT_ALLOWED))
"""Refusals that somebody should look at (domain rule T1.12)."""


def answer_to(refusal: Refusal) -> tuple[int, int]:
    """The SIP status and Q.850 cause that a refusal is answered with."""
    status, q850 = REFUSALS[refusal.reason.value]
    if refusal.level is not None and refusal.status == 503:
        q850 = 34  # a customer who calls out is told that there is no channel, not that somebody is busy (rule 5.9)
    return refusal.status or status, q850


def note_refusal(
    engine: Engine,
    refusal: Refusal,
    attempt: CallAttempt | None,
    call_id: str,
    status: int,
    flow: Flow | None,
    sip_call_id: str | None,
) -> None:
    """The call `call_id` that came over `flow` (None: the edge's own) is refused with `status`. Without an `attempt`
    the sender is a stranger: that is counted, not recorded. `sip_call_id` None: somebody else writes the call's record.
    """
    engine.metrics.refused(refusal.reason.value)
    withheld = attempt is not None and (attempt.caller.from_anonymous or bool(_WITHHELD & attempt.caller.privacy))
    tell = log.warning if refusal.reason in _SECURITY else log.info
    tell(
        "call.refused",
        call=call_id,
        reason=refusal.reason.value,
        sip_status=status,
        detail=refusal.detail,
        source=str(flow) if flow is not None else None,
        source_name=attempt.source.name if attempt is not None else None,
        limit_level=refusal.level,
        limit=refusal.limit,
        used=refusal.used,
    )
    books = engine.calls.books
    if attempt is None:
        return books.end("stranger")
    now = engine.clock.utcnow()
    source = attempt.source
    inbound = source.kind is SourceKind.CARRIER
    engine.metrics.call_finished("inbound" if inbound else "outbound", "refused", None, None)
    number = attempt.called[0].user if attempt.called else None
    caller = None if withheld else (attempt.caller.asserted or (attempt.caller.from_user,))[0] or None
    account = source.account or refusal.account
    engine.records.put(
        RefusedCall(
            id=call_id,
            at=now,
            level=refusal.level,
            direction="inbound" if inbound else "outbound",
            number=refusal.number or number,
            account=account,
            trunk=source.name if source.kind is SourceKind.TRUNK else None,
            carrier=source.name if inbound else None,
            caller=caller,
            caller_withheld=withheld,
            reason=refusal.reason.value,
            sip_status=status,
            limit_value=refusal.limit,
            used=refusal.used,
            detail=refusal.detail or None,
            source_ip=flow.remote.host if flow is not None else None,
        )
    )
    if sip_call_id is None:
        return
    books.recorded(call_id, "refused")
    engine.tap.keep(call_id)
    engine.records.put(
        CallRecord(
            id=call_id,
            edge=engine.name,
            started_at=now,
            ended_at=now,
            direction="inbound" if inbound else "outbound",
            source_kind=source.kind.value,
            source_name=source.name,
            account=account,
            billed_account=account,
            caller=caller,
            caller_withheld=withheld,
            dialled=number,
            called=refusal.number,
            carrier=source.name if inbound else None,
            outcome="refused",
            reason=refusal.reason.value,
            sip_status=status,
            released_by="edge",
            a_call_id=sip_call_id,
            trace=tuple((refusal.trace or Trace()).steps),
        )
    )
