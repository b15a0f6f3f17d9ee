"""A registration with a carrier that the test plays, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

from config.model import Carrier
from edge.carriers.actions import Action, Finished, Open, Resolve, Send
from edge.carriers.login import Login
from edge.carriers.registration import Registration
from edge.sip.auth.digest import challenges
from edge.sip.build import response_to
from edge.sip.flow import Address, Flow
from edge.sip.message import Request, Response

LOCAL = Address("192.0.2.10", 5060)
CARRIER = Carrier(
    name="telekom", domain="tel.example", username="+49199296", auth_username="+49199296@tel.example", password="secret"
)


class Ids:
    """Counting tokens."""

    def __init__(self) -> None:
        self.count = 0

    def token(self) -> str:
        self.count += 1
        return f"id{self.count}"


class Rig:
    """Carries out actions at once; REGISTERs wait in `sent` for `answer`."""

    def __init__(
        self,
        carrier: Carrier = CARRIER,
        targets: Sequence[str] = ("198.51.100.1",),
        jitter: float = 0.5,
        learn: bool = True,
        transport: str = "udp",
    ) -> None:
        self.now = 1000.0
        self.targets = targets
        self.transport = transport
        self.unreachable: set[str] = set()
        self.connection = 0
        self.connected: dict[str, Flow] = {}
        self.sent: list[Send] = []
        self.opens: list[str] = []
        self.resolves = 0
        self.resolving = True
        self.finished = False
        self.nonce = 0
        login = Login(carrier.auth_username or carrier.username or "", carrier.password, Ids())
        self.fsm: Registration[str] = Registration(carrier, login, Ids(), lambda: jitter, learn=learn)

    def start(self) -> Rig:
        self.run(self.fsm.start(self.now))
        return self

    def run(self, actions: list[Action[str]]) -> None:
        for action in actions:
            if isinstance(action, Resolve):
                self.resolves += 1
                if self.resolving:
                    self.run(self.fsm.resolved(self.targets, self.now))
                else:
                    self.run(self.fsm.failed("no name server answers", self.now))
            elif isinstance(action, Open):
                self.opens.append(action.target)
                if action.target in self.unreachable:
                    self.run(self.fsm.failed("connection refused", self.now))
                else:
                    self.run(self.fsm.opened(self.flow(action.target), LOCAL, self.now))
            elif isinstance(action, Send):
                self.sent.append(action)
            else:
                assert isinstance(action, Finished)
                self.finished = True

    def flow(self, target: str) -> Flow:
        if self.transport == "udp":
            return Flow("udp", LOCAL, Address(target, 5060))
        if target not in self.connected:
            self.connection += 1
            self.connected[target] = Flow("tcp", LOCAL, Address(target, 5060), self.connection)
        return self.connected[target]

    def lose(self, flow: Flow) -> None:
        """A connection is gone."""
        self.connected = {t: f for t, f in self.connected.items() if f != flow}
        self.run(self.fsm.flow_lost(flow, self.now))

    @property
    def request(self) -> Request:
        return self.sent[-1].request

    def answer(self, status: int, *headers: tuple[str, str], via: str = "", number: int = -1) -> None:
        """Answer a REGISTER, the newest unless `number` says another."""
        request = self.sent[number].request
        response = response_to(request, status)
        for name, value in headers:
            response.headers.add(name, value)
        response.headers.set("Via", f"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKx;rport=5060{via}")
        self.run(self.fsm.response(response, self.now))

    def challenge(self, status: int = 401, *, stale: bool = False, nonce: str | None = None) -> None:
        self.nonce += 1
        name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
        values = challenges("tel.example", nonce or f"nonce{self.nonce}", ["MD5"], stale)
        self.answer(status, *((name, v) for v in values))

    def ok(self, expires: int | None = None) -> None:
        contact = self.request.headers.get("contact") or ""
        value = contact if expires is None else f"{contact};expires={expires}"
        self.answer(200, ("Contact", value))

    def registered(self, expires: int | None = None) -> Rig:
        """Go through a whole registration."""
        self.start()
        self.challenge()
        self.ok(expires)
        return self

    def advance(self, seconds: float) -> None:
        """Let the time pass, calling the timer where it is due."""
        end = self.now + seconds
        while (due := self.fsm.deadline) is not None and due <= end:
            self.now = max(due, self.now)
            self.run(self.fsm.timer(self.now))
        self.now = end

    def timer_due(self) -> float:
        assert self.fsm.deadline is not None
        return self.fsm.deadline - self.now


def authorization(request: Request) -> str | None:
    return request.headers.get("authorization")


def contacts(message: Request | Response) -> list[str]:
    return message.headers.get_all("contact")
