"""A carrier with fax machines behind it: spandsp over real SIP, and every way in which a far end deals with T.38."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from edge.b2bua import events as ev
from edge.b2bua.events import CallEvent
from edge.b2bua.leg import Leg
from edge.b2bua.uac_leg import UacLeg
from edge.b2bua.uas_leg import UasLeg
from edge.simulator.sound import Sound
from edge.simulator.station import Conversation, Station
from edge.sip.address import NameAddr
from edge.sip.build import response_to
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId
from edge.sip.uri import Uri
from media.fax.engine import FaxEngine, FaxJob
from media.fax.events import Finished, PageStored
from media.fax.record import FaxMeta, FaxResult
from media.sdp import t38
from media.sdp.lines import parse
from media.sdp.t38 import Origin


@dataclass
class Manner:
    """How this far end goes about one call.

    `first`: what its INVITE offers: audio, image, both, or opus. `to_t38`: its answers to offers of T.38, one after the
    other, the last for ever: a status, 200 to accept, 0 for 200 with port 0. `wait`: seconds before it answers them.
    `own`: seconds after the answer until it offers T.38 itself. `then_audio`: after refusing, it offers G.711 again.
    `refresh`: offers the same description again after the first page. `hang_up_after`: pages, then BYE. `hang_up_at`:
    seconds after the answer. `mute`: it agrees to everything and sends no media. `answer`: to INVITEs of the edge.
    """

    first: str = "audio"
    to_t38: tuple[int, ...] = (200,)
    wait: float = 0.0
    own: float | None = None
    then_audio: bool = False
    refresh: bool = False
    hang_up_after: int | None = None
    hang_up_at: float | None = None
    mute: bool = False
    answer: int = 200


@dataclass
class FaxCall:
    """One call of a machine. `said`: what passed, in order; `offers`: descriptions that the edge offered."""

    job: FaxJob
    manner: Manner
    leg: Leg
    origin: Origin = field(default_factory=lambda: Origin("127.0.0.1", 77, 1))
    said: list[str] = field(default_factory=list)
    offers: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    status: int = 0
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ours: bytes = b""
    offered: bytes | None = None


class FaxCarrier(Station):
    """Sends faxes to the edge and takes faxes from it."""

    def __init__(self, host: str, port: int, engine: FaxEngine) -> None:
        super().__init__(host, port, host)
        self.engine = engine
        self.incoming: asyncio.Queue[FaxCall] = asyncio.Queue()
        self.manner = Manner()
        """Of calls that come in."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._faxes = 0

    async def stop(self) -> None:
        """Close."""
        await self.driver.stop()

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def send(self, edge: Address, number: str, caller: str, document: Path, manner: Manner) -> FaxCall:
        """Call a number of the edge and send a fax; returns at once."""
        job = await self.engine.send(self._meta(), document, caller)
        to = Uri("sip", number, edge.host)
        invite = Request("INVITE", str(to), Headers.of_raw([]))
        invite.headers.add("Max-Forwards", "70")
        invite.headers.add("From", str(NameAddr(Uri("sip", caller, self.host))))
        invite.headers.add("To", str(NameAddr(to)))
        flow = await self.flow_to(edge)
        leg = UacLeg("b", self.port, flow, lambda _, event: self._hear(call, event), self.timers, invite, "fax")
        call = FaxCall(job, manner, leg)
        self._begin(call)
        call.ours = self._first(call)
        leg.call(call.ours, None)
        return call

    def on_invite(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """The edge sends a fax."""
        self.port.respond(tx, response_to(request, 100))
        self._task(self._answer(tx, request, flow))

    async def _answer(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        job = await self.engine.receive(self._meta(), "+49 30 1")
        leg = UasLeg(
            "a", self.port, flow, lambda _, event: self._hear(call, event), self.timers, request, tx, customer=False
        )
        call = FaxCall(job, self.manner, leg)
        self._ringing[tx] = leg
        self._begin(call)
        self.incoming.put_nowait(call)
        if self.manner.answer != 200:
            leg.reject(self.manner.answer)
            job.hang_up("refused")
            call.over.set()
            return
        assert leg.offer is not None
        leg.accept(self._take(call, leg.offer))
        if self.manner.own is not None:
            self.port.later(self.manner.own, lambda: self._offer(call))

    def _begin(self, call: FaxCall) -> None:
        self.conversations[call.leg.local_tag] = Conversation(call.leg, Sound(), "")
        self._task(self._follow(call))

    def _meta(self) -> FaxMeta:
        self._faxes += 1
        return FaxMeta(f"{self.host}-{self._faxes}", "far", "", "+4930999", "", 1795370000.0, called="+49228")

    async def _follow(self, call: FaxCall) -> None:
        async for event in call.job.events():
            if isinstance(event, PageStored):
                call.said.append(f"page {event.number}")
                call.confirmed.set()
                if call.manner.hang_up_after == event.number:
                    self._hang_up(call)
                if call.manner.refresh and event.number == 1:
                    self._offer_again(call)
            elif isinstance(event, Finished):
                call.said.append(f"finished {event.result.code}")
                # Whoever received hangs up; a sender of ours that is alone does.
                if not call.over.is_set():
                    self.port.later(4.0, lambda: call.over.is_set() or self._hang_up(call))

    # -- the dialog ----------------------------------------------------------------------------------------------------

    def _hear(self, call: FaxCall, event: CallEvent) -> None:
        leg, manner = call.leg, call.manner
        match event:
            case ev.Answered(_, sdp):
                leg.ack(None)
                call.status = 200
                assert sdp is not None
                call.answers.append(sdp)
                self._use(call, sdp)
                if manner.own is not None:
                    self.port.later(manner.own, lambda: self._offer(call))
                if manner.hang_up_at is not None:
                    self.port.later(manner.hang_up_at, lambda: self._hang_up(call))
            case ev.Rejected(_, status, _, _):
                call.status = status
                call.job.hang_up(str(status))
                call.over.set()
            case ev.ModifyOffered(_, sdp):
                assert sdp is not None
                call.offers.append(sdp)
                call.said.append("offered image" if b"m=image" in sdp else "offered audio")
                self.port.later(manner.wait, lambda: self._decide(call, sdp))
            case ev.ModifyAnswered(_, sdp):
                assert sdp is not None
                call.said.append("took")
                call.answers.append(sdp)
                if call.offered is not None:
                    call.ours, call.offered = call.offered, None
                self._use(call, sdp)
            case ev.ModifyRefused(_, status):
                call.said.append(f"refused {status}")
            case ev.Released() | ev.Cancelled():
                if isinstance(event, ev.Cancelled) and isinstance(leg, UasLeg):
                    leg.reject(487)
                call.said.append("bye")
                call.job.hang_up("bye")
                call.over.set()

    def _hang_up(self, call: FaxCall) -> None:
        call.leg.release(16)
        call.job.hang_up("hung up")
        call.over.set()

    def _decide(self, call: FaxCall, sdp: bytes) -> None:
        if b"m=image" not in sdp:
            call.leg.accept_modification(self._take(call, sdp))
            return
        manner = call.manner
        status = manner.to_t38[0]
        if len(manner.to_t38) > 1:
            manner.to_t38 = manner.to_t38[1:]
        if status == 200:
            call.leg.accept_modification(self._take(call, sdp))
        elif status == 0:
            call.origin = Origin(self.host, 77, call.origin.version + 1)
            head = b"\r\n".join(line.encode() for line in call.origin.head())
            call.leg.accept_modification(head + b"\r\nm=image 0 udptl t38\r\n")
        else:
            call.leg.refuse_modification(status)
            if manner.then_audio:
                self.port.later(0.2, lambda: self._offer_audio(call))

    def _first(self, call: FaxCall) -> bytes:
        """What the first offer says."""
        audio = t38.audio_offer(call.origin, call.job.local_audio)
        image = t38.offer(call.origin, call.job.local_t38)
        both = audio + image[image.index(b"m=image") :]
        opus = audio.replace(b"RTP/AVP 8 0", b"RTP/AVP 96").replace(b"8 PCMA/8000", b"96 opus/48000/2")
        return {"audio": audio, "image": image, "both": both, "opus": opus}[call.manner.first]

    def _take(self, call: FaxCall, sdp: bytes) -> bytes:
        """An offer of the edge; our answer."""
        call.origin = Origin(self.host, 77, call.origin.version + 1)
        theirs = parse(sdp)
        if t38.image_of(theirs) is not None:
            answer = t38.answer(theirs, call.origin, call.job.local_t38)
        else:
            answer = t38.audio_answer(theirs, call.origin, call.job.local_audio)
        assert answer is not None
        call.ours = answer
        self._move(call, sdp)
        return answer

    def _use(self, call: FaxCall, sdp: bytes) -> None:
        """The answer of the edge to an offer of ours."""
        self._move(call, sdp)

    def _move(self, call: FaxCall, sdp: bytes) -> None:
        if call.manner.mute:
            return
        theirs = parse(sdp)
        image, audio = t38.image_of(theirs), t38.audio_of(theirs)
        if image is not None:
            call.job.use_t38(image)
        elif audio is not None:
            call.job.use_audio(audio)

    def _offer(self, call: FaxCall) -> None:
        call.origin = Origin(self.host, 77, call.origin.version + 1)
        call.offered = self._image(call)
        call.leg.modify(call.offered, update=False)

    def _image(self, call: FaxCall) -> bytes:
        """What an offer of T.38 says."""
        return t38.offer(call.origin, call.job.local_t38)

    def _offer_audio(self, call: FaxCall) -> None:
        call.origin = Origin(self.host, 77, call.origin.version + 1)
        call.offered = t38.audio_offer(call.origin, call.job.local_audio)
        call.leg.modify(call.offered, update=False)

    def _offer_again(self, call: FaxCall) -> None:
        """As a session timer does: the same description, of the same version (domain rule T4.3)."""
        call.said.append("refresh")
        call.leg._send_modification("INVITE", call.ours)

    def _task(self, work: object) -> None:
        task = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def ended(call: FaxCall, seconds: float = 90.0) -> FaxResult:
    """How a call ended, when it has, at the far end too."""
    async with asyncio.timeout(seconds):
        await call.over.wait()
        return await call.job.result()
