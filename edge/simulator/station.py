"""What the carrier simulator and the demo phone share: a user agent on the SIP core, with sound."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field

from edge.b2bua import events as ev
from edge.b2bua.events import CallEvent
from edge.b2bua.leg import Authorize, Leg
from edge.b2bua.sip_port import SipPort
from edge.b2bua.uac_leg import UacLeg
from edge.b2bua.uas_leg import UasLeg
from edge.simulator.sound import Sound, address_of, describe
from edge.sip.build import response_to
from edge.sip.endpoint import Endpoint
from edge.sip.events import (
    AckReceived,
    CancelReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from edge.sip.flow import Address, Flow
from edge.sip.message import Request
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from edge.transport.clock import RandomIds, SystemClock
from edge.transport.driver import Driver, Listener
from edge.transport.exchange import Exchange
from edge.transport.resolver import ResolvedHop


@dataclass(slots=True)
class Conversation:
    """One call of a station."""

    leg: Leg
    sound: Sound
    peer: str
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 0
    """The final status; 200 once it was answered."""


class Station:
    """A user agent on one UDP and TCP address. Subclasses say what to do with INVITE and REGISTER."""

    def __init__(self, host: str, port: int, media_host: str) -> None:
        """SIP at `host`:`port`, sound at `media_host`."""
        self.host = host
        self.media_host = media_host
        self.ids = RandomIds()
        self.timers = TimerConfig()
        self.driver = Driver(
            Endpoint(self.ids, self.timers),
            [
                Listener("udp", Address(host, port), Address(host, port)),
                Listener("tcp", Address(host, port), Address(host, port)),
            ]
            if port
            else [Listener("udp", Address(host, 0), Address(host, 0))],
            self._on_event,
            clock=SystemClock(),
        )
        self.exchange = Exchange(self.driver)
        self.port = SipPort(self.driver, self.exchange, self.ids)
        self.conversations: dict[str, Conversation] = {}
        self._ringing: dict[TransactionId, UasLeg] = {}

    async def start(self) -> None:
        """Listen. Raises ListenError."""
        await self.driver.start()

    async def stop(self) -> None:
        """Hang up everything and close."""
        talks = list(self.conversations.values())
        for talk in talks:
            if isinstance(talk.leg, UacLeg):
                talk.leg.cancel(answered_elsewhere=False)
            talk.leg.release(16)
            self._end(talk)
        await self.driver.stop()

    async def flow_to(self, address: Address) -> Flow:
        """A UDP flow to a peer."""
        return await self.driver.flow_to(ResolvedHop("udp", address, address.host))

    # -- calls ------------------------------------------------------------------------------------------------------

    async def call(
        self, invite: Request, flow: Flow, contact_user: str, tone: float | None, authorize: Authorize | None = None
    ) -> Conversation:
        """Place a call; the conversation's events say how it goes."""
        sound = await Sound.open(self.media_host, tone)
        leg = UacLeg(
            "b",
            self.port,
            flow,
            lambda _, event: self._heard(talk, event),
            self.timers,
            invite,
            contact_user,
            authorize,
        )
        talk = Conversation(leg, sound, invite.uri)
        self.conversations[leg.local_tag] = talk
        leg.call(describe(self.media_host, sound.port, secrets.randbits(30)), None)
        return talk

    async def pick_up(self, tx: TransactionId, request: Request, flow: Flow, tone: float | None) -> Conversation:
        """Take an INVITE that came in; `answer`, `ring` or `reject` its leg next."""
        sound = await Sound.open(self.media_host, tone)
        leg = UasLeg("a", self.port, flow, lambda _, event: self._heard(talk, event), self.timers, request, tx)
        talk = Conversation(leg, sound, str(request.from_.uri))
        self.conversations[leg.local_tag] = talk
        self._ringing[tx] = leg
        return talk

    def ring(self, talk: Conversation) -> None:
        """180."""
        if isinstance(talk.leg, UasLeg):
            talk.leg.progress(180, None)

    def early(self, talk: Conversation) -> None:
        """183 with our sound."""
        if isinstance(talk.leg, UasLeg):
            talk.leg.progress(183, describe(self.media_host, talk.sound.port, 1))

    def answer(self, talk: Conversation) -> None:
        """200 with our sound."""
        leg = talk.leg
        if isinstance(leg, UasLeg) and not talk.ended.is_set():
            leg.accept(describe(self.media_host, talk.sound.port, secrets.randbits(30)))
            talk.status = 200
            talk.answered.set()
            if leg.offer is not None:
                talk.sound.talk_to(*address_of(leg.offer))

    def hang_up(self, talk: Conversation) -> None:
        """BYE."""
        talk.leg.release(16)
        self._end(talk)

    def _heard(self, talk: Conversation, event: CallEvent) -> None:
        leg = talk.leg
        match event:
            case ev.Answered(_, sdp):
                leg.ack(None)
                talk.status = 200
                if sdp is not None:
                    talk.sound.talk_to(*address_of(sdp))
                talk.answered.set()
            case ev.Rejected(_, status, _, _):
                talk.status = status
                self._end(talk)
            case ev.Cancelled():
                if isinstance(leg, UasLeg):
                    leg.reject(487)
                self._end(talk)
            case ev.Released():
                self._end(talk)
            case ev.ModifyOffered():
                leg.accept_modification(describe(self.media_host, talk.sound.port, 1))
            case ev.TextReceived(_, number, _):
                leg.answer_text(number, 200)
            case _:
                pass

    def _end(self, talk: Conversation) -> None:
        talk.sound.close()
        talk.ended.set()
        talk.answered.set()

    # -- events -----------------------------------------------------------------------------------------------------

    def on_invite(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """A call comes in."""
        raise NotImplementedError

    def on_register(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """Somebody registers."""
        self.port.respond(tx, response_to(request, 405))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.exchange.response(event.tx, event.response)
        elif isinstance(event, TransactionTimedOut | TransportFailed):
            self.exchange.no_response(event.tx)
        elif isinstance(event, AckReceived):
            talk = self.conversations.get(event.request.to.tag or "")
            if talk is not None:
                talk.leg.on_ack(event.request)
        elif isinstance(event, CancelReceived):
            leg = self._ringing.get(event.tx)
            if leg is not None:
                leg.on_cancel(event.request)
        elif isinstance(event, RequestReceived):
            self._on_request(event.tx, event.request, event.flow)

    def _on_request(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        tag = request.to.tag
        if tag is not None:
            talk = self.conversations.get(tag)
            if talk is not None:
                talk.leg.on_request(tx, request, flow)
            else:
                self.port.respond(tx, response_to(request, 481))
        elif request.method == "INVITE":
            self.on_invite(tx, request, flow)
        elif request.method == "REGISTER":
            self.on_register(tx, request, flow)
        elif request.method == "OPTIONS":
            self.port.respond(tx, response_to(request, 200))
        else:
            self.port.respond(tx, response_to(request, 405))
