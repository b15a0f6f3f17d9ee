"""A carrier that we register with over one proxy: the state machine over the driver, with keep-alives and OPTIONS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.model import Carrier
from edge.carriers.actions import Action, Finished, Open, Resolve, Send, State
from edge.carriers.ears import Ears
from edge.carriers.line import Ways, hop_of, login_of, options_request, proxy_routes
from edge.carriers.registration import Registration
from edge.observability.logging import get_logger
from edge.sip.flow import Address, Flow
from edge.sip.message import Response
from edge.sip.transaction.key import TransactionId
from edge.sip.uri import Uri
from edge.transport.errors import ConnectError, ResolveError
from edge.transport.resolver import ResolvedHop

_log = get_logger("carriers")
KEEP_ALIVE = 30.0
"""Seconds between keep-alives (T1.24): over connections, and to the far side of a NAT over UDP."""


class RegisteringLine:
    """Carries out what `Registration` says."""

    def __init__(self, carrier: Carrier, ways: Ways, changed: Callable[[RegisteringLine], None], nth: int = 0) -> None:
        """`carrier` with the outbound proxy of this line, its `nth`."""
        self.carrier = carrier
        self.addresses: frozenset[Address] = frozenset()
        self._fsm: Registration[ResolvedHop] = Registration(
            carrier, login_of(carrier, ways.ids), ways.ids, ways.jitter, nth=nth, learn=ways.learn_address
        )
        self.ears = Ears(ways.driver.now, ways.jitter, lambda: self._run([]))
        self._ways = ways
        self._changed = changed
        self._tx: TransactionId | None = None
        self._probe: TransactionId | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._done: Callable[[], None] | None = None
        self._kept: tuple[Flow | None, bool] = (None, False)
        self._last: Flow | None = None
        """The flow of the newest registration that was granted."""
        self._shown: tuple[object, ...] = ()

    @property
    def realms(self) -> frozenset[str]:
        """Realms that challenged our registrations."""
        return self._fsm.login.realms

    @property
    def up(self) -> bool:
        return self._bound and not self.ears.deaf

    @property
    def _bound(self) -> bool:
        return self._fsm.lease is not None and self._fsm.state is not State.UNREGISTERING

    @property
    def state(self) -> str:
        if self._fsm.state is State.REGISTERED and self.ears.deaf:
            return State.DEAF.value
        return self._fsm.state.value

    @property
    def detail(self) -> str:
        return self._fsm.detail or (self.ears.detail if self._bound and self.ears.deaf else "")

    @property
    def status(self) -> int | None:
        return self._fsm.status

    @property
    def since(self) -> float:
        return max(self._fsm.since, self.ears.health.since)

    @property
    def flow(self) -> Flow | None:
        return self._fsm.lease.flow if self._fsm.lease is not None else None

    @property
    def registered_until(self) -> float | None:
        return self._fsm.lease.expires_at if self._fsm.lease is not None else None

    @property
    def contact(self) -> Uri | None:
        return self._fsm.lease.contact if self._fsm.lease is not None else None

    @property
    def routes(self) -> tuple[str, ...]:
        if self._fsm.lease is not None and self._fsm.lease.service_route:
            return self._fsm.lease.service_route
        return proxy_routes(self.carrier)

    def start(self) -> None:
        self._run(self._fsm.start(self._now()))

    def stop(self, done: Callable[[], None]) -> None:
        self._done = done
        self._run(self._fsm.stop(self._now()))

    def flow_closed(self, flow: Flow) -> None:
        self._run(self._fsm.flow_lost(flow, self._now()))

    def on_response(self, tx: TransactionId, response: Response) -> None:
        """An answer to a REGISTER, or to the OPTIONS that keep the NAT open."""
        if tx == self._tx:
            if response.status >= 200:
                self._tx = None
            self._run(self._fsm.response(response, self._now()))
        elif tx == self._probe and response.status >= 200:
            # also a 503 is an answer: whether calls are taken is for calls to say where REGISTER is answered
            self._probed()
            self.ears.health.answered(response.status if response.status != 503 else 500, None, self._now())
            self._run([])

    def on_no_response(self, tx: TransactionId) -> None:
        """A request was not answered."""
        if tx == self._tx:
            self._tx = None
            self._run(self._fsm.failed("no answer", self._now()))
        elif tx == self._probe:
            self._probed()
            self.ears.health.unanswered("no answer to OPTIONS", self._now())
            if self.ears.health.has_answered or self._behind_nat():
                _log.warning("carrier.silent", carrier=self.carrier.name, remote=str(self.flow) if self.flow else "")
                self._run(self._fsm.refresh(self._now()))

    def call_unanswered(self) -> None:
        """See `Line`. The registration is looked into at once."""
        if self.ears.call_unanswered():
            self._run(self._fsm.refresh(self._now()))
            self._plan_probe()

    def _run(self, actions: list[Action[ResolvedHop]]) -> None:
        for action in actions:
            if isinstance(action, Resolve):
                self._ways.spawn(self._resolve())
            elif isinstance(action, Open):
                self._ways.spawn(self._open(action.target))
            elif isinstance(action, Send):
                self._tx = self._ways.exchange.request(action.request, action.flow, self)
            else:
                assert isinstance(action, Finished)
                if self._done is not None:
                    done, self._done = self._done, None
                    done()
        self._arm()
        self._keep_alive()
        shown = (self.state, self.up, self.detail, self.flow, self.contact, self.registered_until, self.addresses)
        if shown != self._shown:
            self._shown = shown
            self._changed(self)

    async def _resolve(self) -> None:
        try:
            targets = await self._ways.resolver.resolve(hop_of(self.carrier))
        except ResolveError as error:
            self._run(self._fsm.failed(str(error), self._now()))
            return
        self.addresses = frozenset(t.address for t in targets)
        self._run(self._fsm.resolved(self._stay(targets), self._now()))

    def _stay(self, targets: list[ResolvedHop]) -> list[ResolvedHop]:
        """Where we are registered comes first, as long as it is among the best that the name leads to."""
        flow = self.flow
        if flow is None:
            return targets
        best = min(t.rank for t in targets)
        here = [t for t in targets if t.rank == best and (t.transport, t.address) == (flow.transport, flow.remote)]
        return [*here, *(t for t in targets if t not in here)]

    async def _open(self, target: ResolvedHop) -> None:
        driver = self._ways.driver
        try:
            flow = await driver.flow_to(target)
        except ConnectError as error:
            self._run(self._fsm.failed(str(error), self._now()))
            return
        self._run(self._fsm.opened(flow, driver.advertised(flow), self._now()))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._fsm.deadline
        if deadline is not None:
            delay = max(0.0, deadline - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self._run(self._fsm.timer(self._now()))

    def _keep_alive(self) -> None:
        flow, hidden = self.flow, self._behind_nat()
        if (flow, hidden) == self._kept:
            return
        before, self._kept = self._kept, (flow, hidden)
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None
        if flow is None:
            return
        if flow != before[0]:
            if self._last is not None and self._last != flow and self._last.reliable:
                self._ways.moved(self.carrier.name, self._last, flow)
            self._last = flow
            self.ears.renew()
            self._probe = None
            if flow.reliable:
                self._ways.driver.keep_alive(flow, KEEP_ALIVE)
        self._plan_probe()

    def _plan_probe(self) -> None:
        """OPTIONS keep the way through a NAT open, and tell a carrier that hears us from one that does not."""
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        delay = max(0.0, self.ears.health.deadline - self._now())
        if self._behind_nat():
            delay = min(delay, KEEP_ALIVE * (5 + self._ways.jitter()) / 6)
        self._probe_timer = asyncio.get_running_loop().call_later(delay, self._send_probe)

    def _behind_nat(self) -> bool:
        """Over UDP only: the carrier sees us at another address than our own."""
        flow, contact = self.flow, self.contact
        if flow is None or contact is None or flow.reliable:
            return False
        own = self._ways.driver.advertised(flow)
        return (contact.host, contact.port) != (own.host, own.port)

    def _send_probe(self) -> None:
        self._probe_timer = None
        flow = self.flow
        if flow is None or self._probe is not None:
            return
        self.ears.health.sent()
        request = options_request(self.carrier, self.routes, self._ways.ids)
        self._probe = self._ways.exchange.request(request, flow, self)

    def _probed(self) -> None:
        self._probe = None
        if self.flow is not None:
            asyncio.get_running_loop().call_soon(self._plan_probe)

    def _now(self) -> float:
        return self._ways.driver.now()
