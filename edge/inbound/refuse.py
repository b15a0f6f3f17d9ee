"""A refusal becomes an answer, a log line, a metric and a record: one value, four mouths (docs/refusals.md)."""

from __future__ import annotations

from dialplan.model import CallAttempt, Refusal
from edge.b2bua.engine import Engine
from edge.b2bua.refused import answer_to, note_refusal
from edge.sip.build import response_to
from edge.sip.causes import reason_header
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId


def refuse(
    engine: Engine,
    tx: TransactionId,
    request: Request,
    flow: Flow,
    refusal: Refusal,
    attempt: CallAttempt | None,
    call_id: str,
) -> None:
    """Refuse an INVITE. Without an `attempt` the sender is a stranger: it is answered and counted, not recorded."""
    status, q850 = answer_to(refusal)
    response = response_to(request, status, None, engine.port.ids.token())
    response.headers.add("Reason", reason_header(q850))
    if status == 503:
        response.headers.add("Retry-After", "5")
    engine.port.respond(tx, response)
    note_refusal(engine, refusal, attempt, call_id, status, flow, request.call_id)
