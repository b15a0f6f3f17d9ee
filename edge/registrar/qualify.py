"""OPTIONS to contacts (RFC 3261 section 11): keeps NAT bindings open, and finds out who has gone without saying so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from edge.registrar.bindings import Aor, Binding
from edge.registrar.registrar import Registrar
from edge.sip.address import NameAddr
from edge.sip.headers import Headers
from edge.sip.ids import IdSource
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId
from edge.transport.driver import Driver
from edge.transport.exchange import Exchange

INTERVAL = 30.0
CALM = 4
"""Contacts that no NAT hides are asked this many times less often."""


class Qualifier:
    """Asks every contact that has a flow, each in its turn."""

    def __init__(
        self,
        registrar: Registrar,
        exchange: Exchange,
        driver: Driver,
        ids: IdSource,
        domain: str,
        jitter: Callable[[], float],
        interval: float = INTERVAL,
    ) -> None:
        """`interval`: seconds between requests to a contact behind NAT over UDP; 0 asks nobody. `jitter`: 0 to 1."""
        self._registrar = registrar
        self._exchange = exchange
        self._driver = driver
        self._ids = ids
        self._from = f"<sip:{domain}>"
        self._jitter = jitter
        self._interval = interval
        self._due: list[tuple[float, Aor]] = []
        self._waiting: set[Aor] = set()
        self._asking: dict[TransactionId, Binding] = {}
        self._unanswered: dict[Aor, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        if interval > 0:
            registrar.listen(self._changed)

    def start(self) -> None:
        """Begin with the bindings that are there (after a restart)."""
        if self._interval > 0:
            for binding in self._registrar.live(self._driver.now()):
                self._changed(binding.aor)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._interval = 0.0
        self._waiting.clear()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_response(self, tx: TransactionId, response: Response) -> None:
        """Any final answer proves that somebody is there, also a refusal."""
        if response.status >= 200:
            self._answered(tx, True)

    def on_no_response(self, tx: TransactionId) -> None:
        """No answer: the contact is tried last until it answers or registers again."""
        self._answered(tx, False)

    def _answered(self, tx: TransactionId, answers: bool) -> None:
        binding = self._asking.pop(tx, None)
        if binding is None:
            return
        left = self._unanswered.pop(binding.aor, 1) - 1
        if left > 0:
            self._unanswered[binding.aor] = left
        self._registrar.mark(binding, answers)

    def _changed(self, aor: Aor) -> None:
        if self._interval > 0 and aor not in self._waiting:
            self._waiting.add(aor)
            self._plan(aor, self._interval)

    def _plan(self, aor: Aor, seconds: float) -> None:
        due = self._driver.now() + seconds * (0.75 + 0.25 * self._jitter())
        heappush(self._due, (due, aor))
        if self._due[0][0] == due:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            delay = max(0.0, self._due[0][0] - self._driver.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._run)

    def _run(self) -> None:
        self._timer = None
        now = self._driver.now()
        while self._due and self._due[0][0] <= now:
            _, aor = heappop(self._due)
            bindings = self._registrar.contacts(aor.kind, aor.username, now)
            if not bindings:
                self._waiting.discard(aor)
                continue
            if aor not in self._unanswered:  # else the last round is still under way
                for binding in bindings:
                    if binding.flow is not None:
                        self._ask(binding)
            hidden = any(b.mapped for b in bindings)
            self._plan(aor, self._interval if hidden else self._interval * CALM)
        self._arm()

    def _ask(self, binding: Binding) -> None:
        assert binding.flow is not None
        headers = Headers([("Route", route) for route in binding.path])
        headers.add("Max-Forwards", "70")
        headers.add("From", f"{self._from};tag={self._ids.token()}")
        headers.add("To", str(NameAddr(binding.uri)))
        headers.add("Call-ID", self._ids.token())
        headers.add("CSeq", "1 OPTIONS")
        headers.add("Accept", "application/sdp")
        request = Request("OPTIONS", str(binding.uri), headers)
        self._asking[self._exchange.request(request, binding.flow, self)] = binding
        self._unanswered[binding.aor] = self._unanswered.get(binding.aor, 0) + 1
