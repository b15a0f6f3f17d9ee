"""A whole call on the virtual network: two phones and the edge between them, real legs and the real reducer.

The phones are legs too, so they do all that the RFCs ask of a phone; what is tested is what the network does to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua.call import Call, CallTimers
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.in_dialog import Quiet
from edge.b2bua.leg import Leg
from edge.b2bua.port import ClientHandler
from edge.b2bua.uac_leg import UacLeg
from edge.b2bua.uas_leg import UasLeg
from edge.sip.build import response_to
from edge.sip.events import (
    AckReceived,
    CancelReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from edge.sip.flow import Flow
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId

from .network import CountingIds, Host, VirtualNetwork


def sdp(name: str, version: int = 1, direction: str = "sendrecv") -> bytes:
    """A description that says whose it is."""
    return (
        f"v=0\r\no={name} 1 {version} IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        f"m=audio 4000 RTP/AVP 8\r\na={direction}\r\n"
    ).encode()


@dataclass
class Timer:
    """A timer on the network's clock."""

    port: Port
    callback: Callable[[], None] | None
    at: float

    def when(self) -> float:
        return self.at

    def fire(self) -> None:
        if self.callback is not None:
            callback, self.callback = self.callback, None
            self.port.timers.discard(id(self))
            callback()
            self.port.host.network.settle(self.port.host)

    def cancel(self) -> None:
        self.callback = None
        self.port.timers.discard(id(self))


class Port:
    """A LegPort over a host, and what finds the leg of a message."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.ids = CountingIds(f"{host.name}-")
        self.legs: dict[str, Leg] = {}
        self.invites: dict[TransactionId, UasLeg] = {}
        self.handlers: dict[TransactionId, ClientHandler] = {}
        self.timers: set[int] = set()
        self.on_invite: Callable[[RequestReceived], None] = lambda event: None
        self.on_notify: Callable[[Request], None] | None = None
        """Hears the NOTIFYs of a REFER that was sent here."""
        host.on_event = self._event

    def request(self, request: Request, flow: Flow, handler: ClientHandler) -> TransactionId:
        tx = self.host.endpoint.send_request(request, flow, str(self.host.address), self.host.network.now)
        self.handlers[tx] = handler
        return tx

    def ack(self, request: Request, flow: Flow) -> None:
        self.host.endpoint.send_ack(request, flow, str(self.host.address), self.host.network.now)

    def cancel(self, tx: TransactionId, reason: str | None = None) -> None:
        self.host.endpoint.cancel(tx, self.host.network.now, reason)

    def respond(self, tx: TransactionId, response: Response) -> None:
        self.host.endpoint.respond(tx, response, self.host.network.now)
        if response.status >= 200:
            self.invites.pop(tx, None)

    def later(self, delay: float, callback: Callable[..., None], *arguments: object) -> Timer:
        at = self.host.network.now + delay
        timer = Timer(self, partial(callback, *arguments), at)
        self.timers.add(id(timer))
        self.host.network.at(at, timer.fire)
        return timer

    def contact(self, flow: Flow, user: str) -> str:
        return f"<sip:{user or 'x'}@{self.host.address}>"

    def _event(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.handlers[event.tx].on_response(event.tx, event.response)
        elif isinstance(event, TransactionTimedOut | TransportFailed):
            handler = self.handlers.get(event.tx)
            if handler is not None:
                handler.on_no_response(event.tx)
        elif isinstance(event, CancelReceived):
            if event.tx in self.invites:
                self.invites[event.tx].on_cancel(event.request)
        elif isinstance(event, AckReceived):
            leg = self.legs.get(event.request.to.tag or "")
            if leg is not None:
                leg.on_ack(event.request)
        elif isinstance(event, RequestReceived):
            self._request(event)

    def _request(self, event: RequestReceived) -> None:
        tag = event.request.to.tag
        if tag is None and event.request.method == "INVITE":
            self.on_invite(event)
        elif tag in self.legs and event.request.method == "NOTIFY" and self.on_notify is not None:
            dialog = self.legs[tag].dialog
            status = 200 if dialog is not None and dialog.accept(event.request) else 500
            if status == 200:
                self.on_notify(event.request)
            self.respond(event.tx, response_to(event.request, status))
        elif tag in self.legs:
            self.legs[tag].on_request(event.tx, event.request, event.flow)
        else:
            self.respond(event.tx, response_to(event.request, 481, None, "nobody"))

    def add(self, leg: Leg) -> None:
        self.legs[leg.local_tag] = leg


@dataclass
class Script:
    """What happens in a call; times in seconds from the INVITE (caller) or its arrival (called)."""

    answer: int = 200
    """What the called phone says in the end."""
    answer_after: float = 1.0
    early: bool = False
    """The called phone plays something before it answers."""
    reliable: bool = False
    """The caller wants reliable provisional responses."""
    cancel_after: float | None = None
    change: str = ""
    """Who changes the session 2 s after the answer: caller, called, both at once."""
    update: bool = False
    """The change is an UPDATE."""
    refer: bool = False
    """The caller asks for a transfer 2 s after the answer, which comes to nothing."""
    bye: str = "caller"
    """Who hangs up, 40 s after the answer (whatever waits for an ACK has given up): caller, called, both at once."""
    late_offer: bool = False
    session_expires: int | None = None


class Phone:
    """A phone with one leg; `heard` are the events of the leg."""

    def __init__(self, network: VirtualNetwork, name: str, script: Script) -> None:
        self.host = network.host(name)
        self.port = Port(self.host)
        self.script = script
        self.name = name
        self.role = "caller" if name == "A" else "called"
        self.leg: UacLeg | UasLeg | None = None
        self.heard: list[CallEvent] = []
        self.version = 1
        self.statuses: list[int] = []
        """Final outcomes of the call as this phone saw it: 200 answered, else why not."""
        self.ended = 0
        self.modified: list[str] = []
        self.invitations = 0
        self.notified: list[bytes] = []
        self.port.on_invite = self._invited

    def dial(self, edge: Host, late_offer: bool) -> None:
        """Call somebody behind the edge."""
        invite = Request(
            "INVITE",
            f"sip:bob@{edge.address}",
            Headers([("Max-Forwards", "70"), ("From", "<sip:alice@a.example>"), ("To", "<sip:bob@b.example>")]),
        )
        if self.script.reliable:
            invite.headers.add("Require", "100rel")
        flow = self.host.network.flow(self.host, edge)
        leg = UacLeg("x", self.port, flow, self._event, self.host.network.timers, invite, "alice")
        self.leg = leg
        self.port.add(leg)
        leg.call(None if late_offer else sdp(self.name), self.script.session_expires)
        if self.script.cancel_after is not None:
            self.port.later(self.script.cancel_after, lambda: leg.cancel(answered_elsewhere=False))
        self.host.network.settle(self.host)

    def _invited(self, event: RequestReceived) -> None:
        self.invitations += 1
        leg = UasLeg("x", self.port, event.flow, self._event, self.host.network.timers, event.request, event.tx)
        self.leg = leg
        leg.on_new_tag = lambda before, moved: self.port.add(moved)
        self.port.add(leg)
        self.port.invites[event.tx] = leg
        leg.progress(180, None)
        if self.script.early:
            self.port.later(0.3, lambda: leg.progress(183, sdp(self.name)))
        self.port.later(self.script.answer_after, lambda: self._answer(leg))

    def _answer(self, leg: UasLeg) -> None:
        if leg.gone or self.statuses:
            return
        if self.script.answer != 200:
            self.statuses.append(self.script.answer)
            self.ended += 1
            leg.reject(self.script.answer)
            return
        self.statuses.append(200)
        leg.accept(sdp(self.name))
        self._up()

    def _up(self) -> None:
        if self.script.change in (self.role, "both"):
            self.port.later(2.0, self._change)
        if self.script.refer and self.role == "caller":
            self.port.on_notify = lambda request: self.notified.append(request.body)
            self.port.later(2.0, self._refer)
        if self.script.bye in (self.role, "both"):
            self.port.later(40.0, self._hang_up)

    def _change(self) -> None:
        if self.leg is not None and not self.leg.gone:
            self.version += 1
            self.leg.modify(sdp(self.name, self.version, "sendonly"), update=self.script.update)

    def _refer(self) -> None:
        leg = self.leg
        if leg is not None and leg.dialog is not None and not leg.gone:
            request = leg.dialog.request("REFER")
            request.headers.add("Contact", leg.contact)
            request.headers.add("Refer-To", "<sip:carol@e.example>")
            self.port.request(request, leg.flow, Quiet(leg, request))

    def _hang_up(self) -> None:
        if self.leg is not None and not self.leg.gone:
            self.ended += 1
            self.leg.release(16)

    def _event(self, leg_id: LegId, event: CallEvent) -> None:
        self.heard.append(event)
        leg = self.leg
        assert leg is not None
        match event:
            case ev.Answered():
                self.statuses.append(200)
                leg.ack(sdp(self.name) if self.script.late_offer else None)
                self._up()
            case ev.Rejected(_, status):
                self.statuses.append(status)
                self.ended += 1
            case ev.Cancelled():
                assert isinstance(leg, UasLeg)
                self.statuses.append(487)
                self.ended += 1
                leg.reject(487)
            case ev.ModifyOffered(_, body):
                self.modified.append("heard")
                leg.accept_modification(sdp(self.name, self.version, "recvonly") if body else sdp(self.name))
            case ev.ModifyAnswered():
                self.modified.append("agreed")
            case ev.ModifyRefused(_, status):
                self.modified.append(f"refused {status}")
            case ev.Released():
                self.ended += 1
            case ev.Ended():
                self.ended += 1
                if isinstance(leg, UasLeg):
                    leg.reject(500)
            case _:
                pass


class Edge:
    """One call of the edge: the reducer, its legs, and a relay that answers at once."""

    def __init__(self, network: VirtualNetwork, called: Phone) -> None:
        self.host = network.host("E")
        self.port = Port(self.host)
        self.port.on_invite = self._invited
        self.called = called
        self.calls: list[EdgeCall] = []

    def _invited(self, event: RequestReceived) -> None:
        call = EdgeCall(self)
        self.calls.append(call)
        self.port.respond(event.tx, response_to(event.request, 100))
        timers = self.host.network.timers
        leg = UasLeg("a", self.port, event.flow, call.post, timers, event.request, event.tx, customer=True)
        leg.on_new_tag = lambda before, moved: self.port.add(moved)
        self.port.add(leg)
        self.port.invites[event.tx] = leg
        call.begin(leg)


class EdgeCall:
    """What CallRunner does, without the rooms of the edge around it."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.legs: dict[LegId, Leg] = {}
        self.timers: dict[str, Timer] = {}
        self.finished: list[do.Finish] = []
        self.mailbox: list[CallEvent] = []
        self.busy = False
        self.referred = 0

    def begin(self, a: UasLeg) -> None:
        self.a = a
        self.legs["a"] = a
        self.call = Call(a.offer, 1, CallTimers())
        self.run(self.call.start())
        self.drain()

    def post(self, leg: LegId, event: CallEvent) -> None:
        self.mailbox.append(event)
        self.drain()

    def drain(self) -> None:
        if self.busy:
            return
        self.busy = True
        while self.mailbox:
            self.run(self.call.on_event(self.mailbox.pop(0), self.edge.host.network.now))
        self.busy = False

    def run(self, actions: Iterable[do.CallAction]) -> None:
        for action in actions:
            self.do(action)

    def do(self, action: do.CallAction) -> None:
        port = self.edge.port
        match action:
            case do.RelayForward(purpose, leg, body):
                written = body.replace(b"s=-", b"s=relay")
                port.later(0.001, lambda: self.post(leg, ev.Relayed(purpose, leg, written)))
            case do.StartTarget(index, _, body):
                self.start(index, body)
            case do.AskNextRoute() | do.Forward():
                self.mailbox.append(ev.Rerouted(0))
            case do.Progress(status, body):
                self.a.progress(status, body)
            case do.Accept(body):
                self.a.accept(body)
            case do.Reject(status, q850):
                self.a.reject(status, q850)
            case do.Cancel(leg, elsewhere):
                branch = self.legs[leg]
                assert isinstance(branch, UacLeg)
                branch.cancel(answered_elsewhere=elsewhere)
            case do.Ack(leg, body):
                self.legs[leg].ack(body)
            case do.Release(leg, q850):
                self.legs[leg].release(q850)
            case do.Modify(leg, body, update):
                self.legs[leg].modify(body, update=update)
            case do.AcceptModify(leg, body):
                self.legs[leg].accept_modification(body)
            case do.RefuseModify(leg, status):
                self.legs[leg].refuse_modification(status)
            case do.Transfer(leg, _):
                subscription = self.legs[leg].accept_refer()
                assert subscription is not None
                self.referred += 1
                subscription.notify(100)
                port.later(0.2, lambda: subscription.notify(486))
            case do.StartTimer(name, after):
                self.stop(name)
                self.timers[name] = port.later(after, lambda: self.post("a", ev.TimerFired(name)))
            case do.StopTimer(name):
                self.stop(name)
            case do.Finish():
                self.finished.append(action)
                for name in list(self.timers):
                    self.stop(name)
            case _:
                raise AssertionError(f"no such thing in these calls: {action}")

    def start(self, index: int, body: bytes | None) -> None:
        host, called = self.edge.host, self.edge.called
        invite = Request(
            "INVITE",
            f"sip:bob@{called.host.address}",
            Headers([("Max-Forwards", "69"), ("From", "<sip:alice@e.example>"), ("To", "<sip:bob@e.example>")]),
        )
        flow = host.network.flow(host, called.host)
        leg = UacLeg("b1", self.edge.port, flow, self.post, host.network.timers, invite, "edge")
        self.legs["b1"] = leg
        self.edge.port.add(leg)
        self.mailbox.append(ev.TargetStarted(index, ("b1",), frozenset()))
        leg.call(body, 1800)

    def stop(self, name: str) -> None:
        timer = self.timers.pop(name, None)
        if timer is not None:
            timer.cancel()


@dataclass
class Setting:
    """Caller A, edge E, called B."""

    script: Script
    network: VirtualNetwork = field(default_factory=VirtualNetwork)

    def __post_init__(self) -> None:
        self.a = Phone(self.network, "A", self.script)
        self.b = Phone(self.network, "B", Script(**{**vars(self.script), "reliable": False, "late_offer": False}))
        self.edge = Edge(self.network, self.b)

    def run(self, until: float = 900.0) -> Setting:
        self.a.dial(self.edge.host, self.script.late_offer)
        self.network.run(until)
        return self

    @property
    def ports(self) -> tuple[Port, ...]:
        return self.a.port, self.b.port, self.edge.port

    def outcome(self) -> tuple[object, ...]:
        """What each side thinks that happened."""
        finish = [(f.outcome, f.released_by, f.status) for call in self.edge.calls for f in call.finished]
        referred = [call.referred for call in self.edge.calls]
        return self.a.statuses, self.b.statuses, finish, referred, self.a.notified[-1:]

    def assert_at_rest(self) -> None:
        """Everybody is done, once, and nothing is left: no call, leg, transaction or timer."""
        log = "\n".join(map(str, self.network.log))
        for port in self.ports:
            assert len(port.host.endpoint) == 0, f"{port.host.name} has transactions left\n{log}"
            assert not port.timers, f"{port.host.name} has timers left\n{log}"
            for leg in port.legs.values():
                over = leg.gone or (isinstance(leg, UacLeg) and leg.dialog is None)
                assert over, f"{port.host.name} has a dialog left\n{log}"
        for call in self.edge.calls:
            assert len(call.finished) == 1, f"finished {call.finished}\n{log}"
        for phone in (self.a, self.b):
            assert phone.ended == (1 if phone.leg is not None else 0), f"{phone.name} ended {phone.ended} times\n{log}"
            assert len(phone.statuses) <= 1, f"{phone.name} had two outcomes: {phone.statuses}\n{log}"
        assert len(self.edge.calls) <= 1 and self.b.invitations <= 1, f"one INVITE made two calls\n{log}"
