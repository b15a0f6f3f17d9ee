"""A carrier that we register with: the state machine over the driver, with keep-alives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.model import Carrier
from edge.carriers.actions import Action, Finished, Open, Resolve, Send, State
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

    def __init__(self, carrier: Carrier, ways: Ways, changed: Callable[[RegisteringLine], None]) -> None:
        self.carrier = carrier
        self.login = login_of(carrier, ways.ids)
        self.addresses: frozenset[Address] = frozenset()
        self._fsm: Registration[ResolvedHop] = Registration(
            carrier, login_of(carrier, ways.ids), ways.ids, ways.jitter, learn=ways.learn_address
        )
        self._ways = ways
        self._changed = changed
        self._tx: TransactionId | None = None
        self._probe: TransactionId | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._done: Callable[[], None] | None = None
        self._kept: Flow | None = None
        self._shown: tuple[object, ...] = ()

    @property
    def up(self) -> bool:
        return self._fsm.lease is not None and self._fsm.state is not State.UNREGISTERING

    @property
    def state(self) -> str:
        return self._fsm.state.value

    @property
    def detail(self) -> str:
        return self._fsm.detail

    @property
    def status(self) -> int | None:
        return self._fsm.status

    @property
    def since(self) -> float:
        return self._fsm.since

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
            self._probe = None

    def on_no_response(self, tx: TransactionId) -> None:
        """A request was not answered."""
        if tx == self._tx:
            self._tx = None
            self._run(self._fsm.failed("no answer", self._now()))
        elif tx == self._probe:
            self._probe = None
            _log.warning("carrier.silent", carrier=self.carrier.name)
            self._run(self._fsm.refresh(self._now()))

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
        shown = (self.state, self.detail, self.flow, self.contact, self.registered_until, self.addresses)
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
        self._run(self._fsm.resolved(targets, self._now()))

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
        flow = self.flow
        if flow == self._kept:
            return
        self._kept = flow
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None
        if flow is None:
            return
        if flow.reliable:
            self._ways.driver.keep_alive(flow, KEEP_ALIVE)
        else:
            self._plan_probe()

    def _plan_probe(self) -> None:
        delay = KEEP_ALIVE * (5 + self._ways.jitter()) / 6
        self._probe_timer = asyncio.get_running_loop().call_later(delay, self._send_probe)

    def _send_probe(self) -> None:
        """Over UDP only where a NAT lies between: the carrier sees us at another address than our own."""
        flow, contact = self.flow, self.contact
        self._plan_probe()
        if flow is None or contact is None or self._probe is not None or self._fsm.state is not State.REGISTERED:
            return
        own = self._ways.driver.advertised(flow)
        if (contact.host, contact.port) != (own.host, own.port):
            request = options_request(self.carrier, self.routes, self._ways.ids)
            self._probe = self._ways.exchange.request(request, flow, self)

    def _now(self) -> float:
        return self._ways.driver.now()
