"""A fax that we send: a call of an account through the dial plan, with our fax machine in the caller's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from config.snapshot import Snapshot
from dialplan.engine import decide
from dialplan.model import CallAttempt, Called, Caller, Refusal, Source, SourceKind
from edge.b2bua import events as ev
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.refused import answer_to, note_refusal
from edge.b2bua.runner import CallRunner
from edge.fax.negotiation import Negotiation
from edge.observability.logging import get_logger
from edge.sip.address import NameAddr
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.uri import Uri, encode_user
from media.fax.engine import FaxJob
from media.fax.events import Finished
from media.fax.record import FaxMeta, FaxResult

if TYPE_CHECKING:
    from edge.fax.desk import FaxDesk

log = get_logger("fax")


class CannotSend(ValueError):
    """A fax cannot be sent; the text says why."""


class FaxCaller(BridgeLeg):
    """The caller's leg of a fax that we send: no peer stands behind it, but our machine, which takes T.38 if asked."""

    __slots__ = ("talk",)

    talk: Negotiation

    def modify(self, sdp: bytes | None, *, update: bool) -> None:
        """The called side wants T.38, or something else of its session."""
        answer = self.talk.current() if sdp is None else self.talk.answer(sdp)
        self._emit(self.id, ev.ModifyRefused(self.id, 488) if answer is None else ev.ModifyAnswered(self.id, answer))

    def ack(self, sdp: bytes | None) -> None:
        """The called side's answer to a description of ours that it had asked for."""
        if sdp is not None:
            self.talk.acknowledged(sdp)


class Sending:
    """One fax on its way out; `edge.b2bua.bridge.Settling` of its leg."""

    def __init__(self, desk: FaxDesk, job: FaxJob, meta: FaxMeta) -> None:
        engine = desk.calls_engine
        self._job = job
        self._call: CallRunner | None = None
        self._talk = Negotiation(
            job, desk.media_address, _never, engine.port.later, engine.draw, may_offer=False, may_accept=True
        )
        self._reason = ""
        caller = NameAddr(Uri("sip", encode_user(meta.number), engine.domain))
        called = Uri("sip", encode_user(meta.called or ""), engine.domain)
        request = Request("INVITE", str(called), Headers.of_raw([]))
        for name, value in (
            ("From", f"{caller};tag={engine.port.ids.token()}"),
            ("To", str(NameAddr(called))),
            ("Call-ID", engine.port.ids.token()),
            ("CSeq", "1 INVITE"),
            ("Max-Forwards", "70"),
        ):
            request.headers.add(name, value)
        self.leg = FaxCaller("a", self._unheard, self, request, self._talk.first_offer())
        self.leg.talk = self._talk

    def start(self, call: CallRunner) -> None:
        """The call is admitted; its runner is there."""
        self._call = call
        self.leg.listen(call.post)

    # -- Settling -----------------------------------------------------------------------------------------------------

    def accepted(self, end: BridgeLeg, sdp: bytes | None) -> None:
        """The called side answered."""
        self._talk.answered(sdp)

    def refused(self, end: BridgeLeg, status: int) -> None:
        """We make no offers later on."""

    def progressed(self, end: BridgeLeg) -> None:
        """It rings."""

    def released(self, end: BridgeLeg, status: int, q850: int | None) -> None:
        """The call failed, or the far end hung up."""
        self._talk.end()
        self._job.hang_up(f"SIP {status}" if q850 is None else f"SIP {status}, Q.850 cause {q850}")

    # -- the fax ------------------------------------------------------------------------------------------------------

    async def run(self) -> FaxResult:
        """Follow the fax to its end, and end the call."""
        async for event in self._job.events():
            if isinstance(event, Finished):
                self._talk.end()
                if not self.leg.gone:
                    self.leg.end(16)
        return await self._job.result()

    @staticmethod
    def _unheard(leg: LegId, event: CallEvent) -> None:
        raise AssertionError("a fax spoke before its call was there")


def _never(sdp: bytes) -> None:
    raise AssertionError("who sends a fax offers nothing: the called machine does (domain rule 4.1.1)")


async def send(desk: FaxDesk, account: str, number: str, to: str, document: Path, forget: Callable[[], None]) -> str:
    """Begin to send a TIFF; the fax's id. `forget` is called when the document is not needed any more.

    Raises CannotSend (also where the dial plan refuses) and FaxError.
    """
    engine = desk.calls_engine
    snapshot = engine.snapshot()
    source = source_of(snapshot, account, number)
    attempt = CallAttempt(source, (Called("request-uri", to, True),), Caller(from_user=number), engine.draw())
    plan = decide(attempt, snapshot, engine.clock.utcnow())
    if isinstance(plan, Refusal):
        raise CannotSend(f"the call is refused: {plan.reason.value}: {plan.detail}")
    call_id = engine.new_call_id()
    row = snapshot.accounts[account]
    meta = FaxMeta(
        id=call_id,
        account=account,
        fax_box="",
        number=number,
        email="",
        started_at=engine.clock.utcnow().timestamp(),
        call_id=None,
        language=row.language,
        time_zone=row.time_zone,
        called=plan.called,
    )
    job = await (await desk.fax_engine()).send(meta, document, number)
    sending = Sending(desk, job, meta)
    engine.calls.books.begin("fax")
    call = CallRunner(call_id, engine, sending.leg, attempt, plan)
    sending.start(call)
    engine.calls.add(call)

    def refused(refusal: Refusal) -> None:
        note_refusal(engine, refusal, attempt, call_id, answer_to(refusal)[0], None, sending.leg.call_id)
        job.hang_up(f"refused: {refusal.reason.value}: {refusal.detail}")

    desk.follow(job, "out", sending.run(), forget)
    call.task(call.admit(refused))
    return call_id


def source_of(snapshot: Snapshot, account: str, number: str) -> Source:
    """Who calls for an account with this number: its seat that has it, else a trunk. Raises CannotSend."""
    if account not in snapshot.accounts:
        raise CannotSend(f"there is no account {account}")
    row = snapshot.number(number)
    if row is None or row.serving != account:
        raise CannotSend(f"{number} is no number of account {account}; --from takes one of its own, as +4922838699")
    for seat in snapshot.seats.values():
        if seat.account == account and seat.primary_number == number:
            return Source(SourceKind.SEAT, seat.username, account)
    for owner, name in snapshot.trunks:
        if owner == account:
            return Source(SourceKind.TRUNK, name, account)
    raise CannotSend(f"account {account} has no trunk, and no seat with the primary number {number}, to call from")
