"""A call that a fax box takes: our fax machine answers the caller's leg, and there is no other leg (domain rule 4.1).

The call stays a `CallRunner` for admission, next routes and its record; between its answer and its end this file hears
the leg first. Whatever becomes of the call, the fax ends in its record and its mail.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import TYPE_CHECKING

from config.model import Carrier, FaxBox
from dialplan.model import Reason, Refusal, SourceKind, Target
from edge.b2bua import events as ev
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.runner import CallRunner
from edge.fax.negotiation import Negotiation
from edge.observability.logging import get_logger
from media.fax.engine import FaxError, FaxJob
from media.fax.events import CngHeard, Finished, PreambleSent
from media.fax.record import FaxMeta, FaxResult
from media.relay.port import UnusableSdp
from media.sdp.srtp import Srtp

if TYPE_CHECKING:
    from edge.fax.desk import FaxDesk

log = get_logger("fax")

SETTLED_SECONDS = 10.0
"""How long T.38 must have been agreed before a carrier that sent none of it is blamed."""


class Reception:
    """One fax on its way in; `edge.b2bua.runner.AnsweredHere`."""

    def __init__(self, desk: FaxDesk, call: CallRunner, job: FaxJob, carrier: Carrier | None, srtp: Srtp) -> None:
        engine = desk.calls_engine
        # T.38 cannot be encrypted.
        usable = srtp != "required" and (carrier is None or desk.t38_usable(carrier))
        self._desk = desk
        self._call = call
        self._job = job
        self._carrier = carrier.name if carrier is not None else ""
        self._reason = ""
        self._t38_since: float | None = None
        self._negotiation = Negotiation(
            job,
            desk.address,
            lambda sdp: call.a.modify(sdp, update=False),
            engine.port.later,
            engine.draw,
            may_offer=usable and (carrier is None or carrier.t38 == "offer"),
            may_accept=usable,
            srtp=srtp,
            our_key=b64encode(secrets.token_bytes(30)).decode(),
        )

    def answer(self) -> Refusal | None:
        """Answer the INVITE; or why not, and the fax never was."""
        offer = self._call.a.offer
        sdp = self._negotiation.first_offer() if offer is None else self._negotiation.answer(offer)
        if sdp is None:
            return Refusal(Reason.MEDIA_NOT_ACCEPTABLE, "the offer has neither G.711 over RTP nor T.38 over UDPTL")
        self._note_t38()
        self._call.answer_here(self, sdp)
        return None

    # -- the caller's leg ---------------------------------------------------------------------------------------------

    def heard(self, leg_id: LegId, event: CallEvent) -> None:
        """What the leg says while the fax has it."""
        leg, talk = self._call.a, self._negotiation
        match event:
            case ev.ModifyOffered(_, sdp):
                answer = talk.current() if sdp is None else talk.answer(sdp)
                if answer is None:
                    leg.refuse_modification(488)
                else:
                    leg.accept_modification(answer)
            case ev.ModifyAnswered(_, sdp):
                talk.answered(sdp)
            case ev.ModifyRefused(_, status):
                log.info("fax.t38_refused", fax=self._job.id, sip_status=status)
                talk.refused(status)
            case ev.AnswerInAck(_, sdp):
                if sdp is None or not talk.acknowledged(sdp):
                    self._reason = "the ACK had no usable answer to our offer"
                    self._call.end(127, self._reason)
            case ev.Released(_, q850, detail):
                self._reason = detail or ("BYE" if q850 is None else f"BYE, Q.850 cause {q850}")
                self._call.post(leg_id, event)
            case _:
                self._call.post(leg_id, event)
        self._note_t38()

    def ended(self, detail: str) -> None:
        """The call is over, whoever ended it."""
        self._negotiation.end()
        self._job.hang_up(self._reason or detail)

    def _note_t38(self) -> None:
        if not self._negotiation.over_t38:
            self._t38_since = None
        elif self._t38_since is None:
            self._t38_since = self._desk.calls_engine.driver.now()

    # -- the fax ------------------------------------------------------------------------------------------------------

    async def run(self) -> FaxResult:
        """Follow the fax to its end, and end the call."""
        async for event in self._job.events():
            if isinstance(event, CngHeard | PreambleSent):
                self._negotiation.fax_heard()
            elif isinstance(event, Finished):
                self._finished(event.result)
        return await self._job.result()

    def _finished(self, result: FaxResult) -> None:
        engine = self._desk.calls_engine
        since, now = self._t38_since, engine.driver.now()
        if self._carrier and since is not None and (result.t38_packets or now - since >= SETTLED_SECONDS):
            self._desk.t38_taught(self._carrier, result.t38_packets, now)
        self._negotiation.end()
        if not self._call.over:
            self._call.end(16, f"fax: {result.text}")


async def take(desk: FaxDesk, call: CallRunner, target: Target) -> Refusal | None:
    """Let the fax box `target` answer a call; why not, where it cannot."""
    engine = desk.calls_engine
    box = engine.snapshot().fax_boxes.get((target.account, target.name))
    if box is None:
        return Refusal(Reason.NO_ROUTE, "the fax box is not provisioned any more")
    try:
        srtp = call.srtp_of_caller()
    except UnusableSdp as error:
        return Refusal(Reason(error.reason), error.detail, error.status)
    try:
        job = await (await desk.fax_engine()).receive(_meta(desk, call, box), box.station_id or call.plan.called)
    except FaxError as error:
        return Refusal(Reason.UNAVAILABLE, str(error))
    if call.over:
        # The caller gave up before anything was said: there is nothing to tell anybody.
        desk.discard(job)
        return None
    source = call.attempt.source
    carrier = engine.snapshot().carriers.get(source.name) if source.kind is SourceKind.CARRIER else None
    reception = Reception(desk, call, job, carrier, srtp)
    refused = reception.answer()
    if refused is not None:
        desk.discard(job)
        return refused
    desk.follow(job, "in", reception.run())
    return None


def _meta(desk: FaxDesk, call: CallRunner, box: FaxBox) -> FaxMeta:
    engine, plan = desk.calls_engine, call.plan
    account = engine.snapshot().accounts[box.account]
    return FaxMeta(
        id=call.id,
        account=box.account,
        fax_box=box.name,
        number=plan.called,
        email=box.email,
        started_at=call.started_at.timestamp(),
        caller=plan.caller.presented or plan.caller.network,
        caller_withheld=plan.caller.anonymous,
        call_id=call.a.call_id,
        language=account.language,
        time_zone=account.time_zone,
        sealed_password=desk.seal(box.pdf_password) if box.pdf_password is not None else None,
    )
