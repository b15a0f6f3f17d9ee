"""A carrier on loopback for first calls: it challenges, echoes, calls in, and misbehaves on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum

from edge.simulator.station import Conversation, Station
from edge.sip.address import NameAddr
from edge.sip.auth.digest import challenges, check, find_credentials, ha1
from edge.sip.auth.nonce import Nonces
from edge.sip.build import response_to
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId
from edge.sip.uri import Uri, encode_user


class Behaviour(StrEnum):
    """How the carrier treats what comes; the values are the words of `sip-edge carrier-sim behave`."""

    ANSWER = "answer"
    """Rings for a moment, answers, echoes."""
    EARLY = "early"
    """Early media (183) first, then as `answer`."""
    RING = "ring"
    """Rings and never answers."""
    BUSY = "busy"
    DECLINE = "decline"
    UNKNOWN = "unknown"
    """404 for every number."""
    OVERLOADED = "overloaded"
    """503 for every call."""
    SILENT = "silent"
    """No response at all to calls."""
    HANG_UP = "hang-up"
    """Answers and hangs up after two seconds."""
    REFUSE_REGISTER = "refuse-register"
    """403 for registrations."""
    LOSE_REGISTER = "lose-register"
    """No response to registrations."""


_STATUS = {
    Behaviour.BUSY: 486,
    Behaviour.DECLINE: 603,
    Behaviour.UNKNOWN: 404,
    Behaviour.OVERLOADED: 503,
}


@dataclass(frozen=True, slots=True)
class Login:
    """Who may register and call."""

    username: str
    password: str
    realm: str = "carrier.example"


class CarrierSim(Station):
    """A registrar that challenges, with an echo behind every number."""

    def __init__(self, host: str, port: int, media_host: str, login: Login, tell: Callable[[str], None]) -> None:
        """`tell` gets a line for a person whenever something happens."""
        super().__init__(host, port, media_host)
        self.login = login
        self.behaviour = Behaviour.ANSWER
        self.registered: tuple[str, Flow] | None = None
        self.registered_now = asyncio.Event()
        self._tell = tell
        self._nonces = Nonces(self.ids.token().encode() * 2)
        self._secret = {"MD5": ha1(login.username, login.realm, login.password, "MD5")}
        self._tasks: set[asyncio.Task[None]] = set()

    def on_register(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """The edge registers, refreshes or leaves."""
        if self.behaviour is Behaviour.LOSE_REGISTER:
            self.driver.ignore(tx)
            return
        if self.behaviour is Behaviour.REFUSE_REGISTER:
            self.port.respond(tx, response_to(request, 403))
            return
        if not self._authenticated(tx, request, flow, 401):
            return
        contacts = request.contacts
        expires = request.integer("expires")
        if contacts and (own := contacts[0].params.get("expires")) is not None and own.isdigit():
            expires = int(own)
        expires = 600 if expires is None else expires
        response = response_to(request, 200)
        if contacts and expires > 0:
            self.registered = (str(contacts[0].uri), flow)
            self.registered_now.set()
            response.headers.add("Contact", f"<{contacts[0].uri}>;expires={expires}")
        else:
            self.registered = None
            self.registered_now.clear()
        self._tell(f"registered: {contacts[0].uri} for {expires} s" if self.registered else "registration ended")
        self.port.respond(tx, response)

    def on_invite(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """The edge calls out."""
        if self.behaviour is Behaviour.SILENT:
            self.driver.ignore(tx)
            return
        if self._authenticated(tx, request, flow, 407):
            self.port.respond(tx, response_to(request, 100))
            self._start(self._serve(tx, request, flow))

    async def _serve(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        called = request.parsed_uri().decoded_user
        shown = request.from_.uri.decoded_user
        self._tell(f"call to {called} from {shown}: {self.behaviour.value}")
        status = _STATUS.get(self.behaviour)
        if status is not None:
            self.port.respond(tx, response_to(request, status))
            return
        talk = await self.pick_up(tx, request, flow, None)
        leg = talk.leg
        if self.behaviour is Behaviour.EARLY:
            self.early(talk)
        else:
            self.ring(talk)
        if self.behaviour is Behaviour.RING:
            return
        if await _passes(talk.ended, 0.5):
            return
        self.answer(talk)
        if self.behaviour is Behaviour.HANG_UP and not await _passes(talk.ended, 2.0):
            leg.release(16)
            self._end(talk)

    async def call_in(self, number: str, caller: str, tone: float | None = None) -> Conversation:
        """Call `number` through whoever is registered. Raises ConnectionError where nobody is."""
        if self.registered is None:
            raise ConnectionError(
                "nobody is registered with the simulator: is the edge running, and its carrier set up?"
            )
        contact, flow = self.registered
        invite = Request(
            "INVITE",
            contact,
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", str(NameAddr(Uri("sip", encode_user(caller), self.host)))),
                    ("To", f"<sip:{encode_user(number)}@{self.login.realm};user=phone>"),
                    ("P-Called-Party-ID", f"<sip:{encode_user(number)}@{self.login.realm};user=phone>"),
                    ("P-Asserted-Identity", f"<sip:{encode_user(caller)}@{self.login.realm};user=phone>"),
                ]
            ),
        )
        self._tell(f"calling {number} from {caller}")
        return await self.call(invite, flow, "carrier", tone)

    async def call_in_and_echo(self, number: str, caller: str, seconds: float) -> str:
        """Call in, echo for `seconds` once answered, hang up; what came of it, for a person."""
        talk = await self.call_in(number, caller)
        await talk.answered.wait()
        if talk.status != 200:
            return f"{number} did not answer: {talk.status}"
        ended = await _passes(talk.ended, seconds)
        if not ended:
            self.hang_up(talk)
        return (
            f"{number} answered; {talk.sound.received} RTP packets echoed; {'the far side' if ended else 'we'} hung up"
        )

    def _authenticated(self, tx: TransactionId, request: Request, flow: Flow, status: int) -> bool:
        field, ask = (
            ("authorization", "WWW-Authenticate") if status == 401 else ("proxy-authorization", "Proxy-Authenticate")
        )
        try:
            sent = find_credentials(request.headers.get_all(field), self.login.realm)
        except RemoteProtocolError:
            sent = None
        now = self.driver.now()
        binding = flow.remote.host
        if sent is not None and self._nonces.genuine(sent.nonce, binding):
            if sent.username == self.login.username and check(sent, request.method, self._secret):
                return True
            self._tell(f"wrong password for {sent.username}")
            self.port.respond(tx, response_to(request, 403))
            return False
        response = response_to(request, status)
        for value in challenges(self.login.realm, self._nonces.issue(binding, now), ("MD5",)):
            response.headers.add(ask, value)
        self.port.respond(tx, response)
        return False

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _passes(event: asyncio.Event, seconds: float) -> bool:
    """True if `event` comes within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
