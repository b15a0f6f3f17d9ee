"""Admission of an INVITE, from the message to a live call: read it from top to bottom (docs/architecture.md).

Everything but the channel ledger answers at once, so that most calls are admitted in one go of the event loop.
"""

from __future__ import annotations

from dialplan.engine import decide
from dialplan.model import Direction, Reason, Refusal, SourceKind
from edge.b2bua.engine import Engine
from edge.b2bua.refer import Replaces
from edge.b2bua.runner import CallRunner
from edge.b2bua.takeover import ReplacingLeg, take_over
from edge.b2bua.transfers import Transfers
from edge.b2bua.uas_leg import UasLeg
from edge.inbound.attempt import read_attempt
from edge.inbound.identity import Identify
from edge.inbound.refuse import refuse
from edge.inbound.steps.authenticate import Challenge
from edge.observability.logging import get_logger
from edge.sip.build import response_to
from edge.sip.dialog.session_timer import MIN_SE, too_brief
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId

log = get_logger("inbound")

UNDERSTOOD = frozenset(("timer", "replaces", "100rel"))
"""Extensions that a request may require of us."""


class Admission:
    """Admits INVITEs; knows which leg an INVITE transaction belongs to, for its CANCEL."""

    def __init__(self, engine: Engine, identify: Identify) -> None:
        self._engine = engine
        self._identify = identify
        self._ringing: dict[TransactionId, UasLeg] = {}
        self.draining = False
        engine.calls.on_refer = Transfers(engine).begin

    def invite(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """A new INVITE outside of a dialog."""
        engine = self._engine
        books = engine.calls.books
        books.begin("invite")
        call_id = engine.new_call_id()
        answer = _not_understood(request)
        if answer is not None:
            books.end("stranger")
            return self._answer(tx, request, *answer)
        who = self._identify(request, flow)
        if isinstance(who, Challenge):
            engine.port.respond(tx, who.response)
            return books.end("challenged")
        if isinstance(who, Refusal):
            return refuse(engine, tx, request, flow, who, None, call_id)
        # not before: a challenged INVITE comes again under the same Call-ID
        engine.tap.link(call_id, request.call_id)
        engine.port.respond(tx, response_to(request, 100))
        try:
            attempt = read_attempt(request, who.source, engine.draw())
            replaces = _replaces(request)
            leg = (UasLeg if replaces is None else ReplacingLeg)(
                "a",
                engine.port,
                flow,
                _unheard,
                engine.timers,
                request,
                tx,
                who.authorize,
                customer=who.source.kind is not SourceKind.CARRIER,
            )
        except RemoteProtocolError as error:
            bad = Refusal(Reason.BAD_REQUEST, error.detail, status=error.status)
            return refuse(engine, tx, request, flow, bad, None, call_id)
        if isinstance(leg, ReplacingLeg) and replaces is not None:
            self._ringing[tx] = leg
            books.end("replaces")
            return take_over(engine, leg, who.source, replaces, call_id)
        decision = decide(attempt, engine.snapshot(), engine.clock.utcnow())
        if isinstance(decision, Refusal):
            return refuse(engine, tx, request, flow, decision, attempt, call_id)
        if self.draining and decision.direction is not Direction.EMERGENCY:
            gone = Refusal(Reason.UNAVAILABLE, "this edge takes no new calls")
            return refuse(engine, tx, request, flow, gone, attempt, call_id)
        log.info(
            "call.offered",
            call=call_id,
            direction=decision.direction.value,
            source=f"{who.source.kind.value} {who.source.name}",
            account=decision.account,
            called=decision.called,
            targets=[f"{t.kind.value} {t.name}" for t in decision.targets],
        )
        runner = CallRunner(call_id, engine, leg, attempt, decision)
        leg.listen(runner.post)
        engine.calls.add(runner)
        engine.calls.add_leg(leg)
        leg.on_new_tag = engine.calls.retag
        self._ringing[tx] = leg
        if not decision.claims:
            return runner.start()
        runner.task(runner.admit(lambda refusal: refuse(engine, tx, request, flow, refusal, attempt, call_id)))

    def cancelled(self, tx: TransactionId, request: Request) -> None:
        """A CANCEL that matches an INVITE of ours."""
        leg = self._ringing.get(tx)
        if leg is not None:
            leg.on_cancel(request)

    def rings(self, tx: TransactionId, leg: UasLeg) -> None:
        """An INVITE of an earlier process waits for its answer."""
        self._ringing[tx] = leg

    def ended(self, tx: TransactionId) -> None:
        """The INVITE has its final answer: nothing can cancel it any more."""
        self._ringing.pop(tx, None)

    def _answer(self, tx: TransactionId, request: Request, status: int, header: tuple[str, str]) -> None:
        response = response_to(request, status, None, self._engine.port.ids.token())
        response.headers.add(*header)
        self._engine.port.respond(tx, response)


def _not_understood(request: Request) -> tuple[int, tuple[str, str]] | None:
    required = [t for t in request.headers.tokens("require") if t not in UNDERSTOOD]
    if required:
        return 420, ("Unsupported", ", ".join(required))
    if "session-expires" in request.headers and too_brief(request):
        return 422, ("Min-SE", str(MIN_SE))
    if request.body and request.content_type not in (None, "application/sdp"):
        return 415, ("Accept", "application/sdp")
    if "content-encoding" in request.headers and request.headers.get("content-encoding") != "identity":
        return 415, ("Accept-Encoding", "identity")
    return None


def _replaces(request: Request) -> Replaces | None:
    values = request.headers.get_all("replaces")
    if len(values) > 1:
        raise RemoteProtocolError("more than one Replaces (RFC 3891 section 3)")
    return Replaces.parse(values[0]) if values else None


def _unheard(leg: str, event: object) -> None:
    raise AssertionError("a leg spoke before its call was there")
