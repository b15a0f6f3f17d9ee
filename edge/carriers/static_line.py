"""A carrier that knows us by our address: OPTIONS say whether it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.model import Carrier
from edge.carriers.ears import Ears
from edge.carriers.line import Ways, hop_of, options_request, proxy_routes
from edge.carriers.registration import retry_after
from edge.observability.logging import get_logger
from edge.sip.flow import Address, Flow
from edge.sip.message import Response
from edge.sip.transaction.key import TransactionId
from edge.sip.uri import Uri
from edge.transport.errors import ConnectError, ResolveError
from edge.transport.resolver import ResolvedHop

_log = get_logger("carriers")


class StaticLine:
    """A carrier that knows us by our address: OPTIONS say whether it is there."""

    def __init__(self, carrier: Carrier, ways: Ways, changed: Callable[[StaticLine], None]) -> None:
        self.carrier = carrier
        self.addresses: frozenset[Address] = frozenset()
        self._ways = ways
        self._changed = changed
        self.ears = Ears(ways.driver.now, ways.jitter, self._after)
        self._tx: TransactionId | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trying: Flow | None = None
        self._flow: Flow | None = None
        self._left: list[ResolvedHop] = []
        self._stopped = False

    @property
    def realms(self) -> frozenset[str]:
        """It sends nothing that is worth a challenge."""
        return frozenset()

    @property
    def up(self) -> bool:
        return not self.ears.deaf

    @property
    def state(self) -> str:
        return "down" if self.ears.deaf else "up"

    @property
    def detail(self) -> str:
        return self.ears.detail

    @property
    def status(self) -> int | None:
        return self.ears.health.status

    @property
    def since(self) -> float:
        return self.ears.health.since

    @property
    def flow(self) -> Flow | None:
        return self._flow

    @property
    def registered_until(self) -> float | None:
        return None

    @property
    def contact(self) -> Uri | None:
        return None

    @property
    def routes(self) -> tuple[str, ...]:
        return proxy_routes(self.carrier)

    def start(self) -> None:
        self._ways.spawn(self._look_up())
        self._arm()

    def stop(self, done: Callable[[], None]) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done()

    def flow_closed(self, flow: Flow) -> None:
        if flow == self._flow:
            self._flow = None

    def call_unanswered(self) -> None:
        """See `Line`."""
        if self.ears.call_unanswered():
            self._after()

    def on_response(self, tx: TransactionId, response: Response) -> None:
        """An answer to our OPTIONS."""
        if tx != self._tx or response.status < 200:
            return
        self._tx = None
        if response.status == 503 and self._left:
            self._ways.spawn(self._probe())
            return
        self._flow = self._trying
        if self._trying is not None:
            self._ways.avoided.heard(self._trying.transport, self._trying.remote, asked=True)
        self.ears.health.answered(response.status, retry_after(response), self._ways.driver.now())
        self._after()

    def on_no_response(self, tx: TransactionId) -> None:
        """Our OPTIONS was not answered: the next address is asked."""
        if tx == self._tx:
            self._tx = None
            if self._trying is not None:
                self._ways.avoided.silent(
                    self._trying.transport, self._trying.remote, self._ways.driver.now(), asked=True
                )
            self._failed("no answer to OPTIONS")

    def _failed(self, detail: str) -> None:
        if self._stopped:
            return
        if self._left:
            self._ways.spawn(self._probe())
            return
        self._flow = None
        self.ears.health.unanswered(detail, self._ways.driver.now())
        self._after()

    def _after(self) -> None:
        self._changed(self)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        deadline = self.ears.health.deadline
        if not self._stopped and deadline != float("inf"):
            delay = max(0.0, deadline - self._ways.driver.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self.ears.health.sent()
        self._ways.spawn(self._round())

    async def _look_up(self) -> None:
        """Know the addresses before the first request comes from there."""
        try:
            self.addresses = frozenset(t.address for t in await self._ways.resolver.resolve(hop_of(self.carrier)))
        except ResolveError as error:
            _log.warning("carrier.not_resolved", carrier=self.carrier.name, detail=str(error))
        self._changed(self)

    async def _round(self) -> None:
        try:
            self._left = await self._ways.resolver.resolve(hop_of(self.carrier))
        except ResolveError as error:
            self._left = []
            self._failed(str(error))
            return
        self.addresses = frozenset(t.address for t in self._left)
        await self._probe()

    async def _probe(self) -> None:
        if self._stopped or not self._left:
            return
        target = self._left.pop(0)
        try:
            self._trying = await self._ways.driver.flow_to(target)
        except ConnectError as error:
            self._failed(str(error))
            return
        request = options_request(self.carrier, self.routes, self._ways.ids)
        self._tx = self._ways.exchange.request(request, self._trying, self)
