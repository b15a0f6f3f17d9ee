"""One carrier at work: a line to each of its outbound proxies, in the order of provisioning (domain rule T1.23)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace

from config.model import Carrier
from edge.carriers.actions import State
from edge.carriers.line import Line, Ways, hop_of, login_of
from edge.carriers.registering_line import RegisteringLine
from edge.carriers.static_line import StaticLine
from edge.sip.flow import Flow

HOLD = 60.0
"""Seconds that an earlier proxy must have held before a later one is left for it."""


class Proxies:
    """The lines of one carrier. Raises RemoteProtocolError where a proxy is no SIP URI.

    Carriers known by address are asked at every proxy. Registrations are made with all proxies at once, or with the
    first that takes us: then the next is begun with while all before it are away (not where they refuse us: that would
    be refused there too, and each try counts), and left once an earlier one has held for a while.
    """

    def __init__(self, carrier: Carrier, ways: Ways, changed: Callable[[Proxies], None]) -> None:
        self._carrier = carrier
        self._ways = ways
        self._changed = changed
        self.login = login_of(carrier, ways.ids)
        """For calls; nonces of registrations are their own."""
        self.lines: list[Line] = [self._line(nth) for nth in range(len(carrier.proxies))]
        for line in self.lines:
            hop_of(line.carrier)
        self._running = [False] * len(self.lines)
        self._leaving = 0
        self._done: Callable[[], None] | None = None
        self._all = carrier.mode != "register" or carrier.register_with == "all"

    @property
    def realms(self) -> frozenset[str]:
        """Realms that challenged our registrations and calls."""
        return self.login.realms.union(*(line.realms for line in self.lines))

    @property
    def carrier(self) -> Carrier:
        return self._carrier

    @carrier.setter
    def carrier(self, carrier: Carrier) -> None:
        """The same carrier with other rules for calls."""
        self._carrier = carrier
        for nth, line in enumerate(self.lines):
            line.carrier = self._of_line(nth)

    @property
    def main(self) -> Line:
        """The line that calls go out over, else the first."""
        return self.pick() or self.lines[0]

    @property
    def up(self) -> bool:
        """Calls may be sent to it."""
        return any(line.up for line in self.lines)

    @property
    def detail(self) -> str:
        """What is wrong with the line in use, else with any other that is at work."""
        main = self.main
        if main.detail or len(self.lines) == 1:
            return main.detail
        for line, running in zip(self.lines, self._running, strict=True):
            if running and line is not main and line.detail:
                return f"{line.carrier.outbound_proxy}: {line.detail}"
        return ""

    def pick(self, avoid: Collection[str | None] = ()) -> Line | None:
        """The first line that stands over a proxy that was not tried before, else one that is in doubt."""
        lines = [line for line in self.lines if line.up and line.carrier.outbound_proxy not in avoid]
        return next((line for line in lines if _stands(line)), lines[0] if lines else None)

    def over(self, flow: Flow) -> Line | None:
        """The line whose flow this is, or that leads to its address."""
        found = next((line for line in self.lines if line.flow == flow), None)
        return found or next((line for line in self.lines if flow.remote in line.addresses), None)

    def start(self) -> None:
        for nth in range(len(self.lines) if self._all else 1):
            self._begin(nth)

    def stop(self, done: Callable[[], None]) -> None:
        """End all lines; `done` is called when nothing more will be sent."""
        self._done = done
        for nth, running in enumerate(self._running):
            if running:
                self._end(nth)
        self._finished()

    def flow_closed(self, flow: Flow) -> None:
        for line in self.lines:
            line.flow_closed(flow)

    def _of_line(self, nth: int) -> Carrier:
        return replace(self._carrier, outbound_proxy=self._carrier.proxies[nth], secondary_proxies=())

    def _line(self, nth: int) -> Line:
        if self._carrier.mode == "register":
            return RegisteringLine(self._of_line(nth), self._ways, self._line_changed, nth)
        return StaticLine(self._of_line(nth), self._ways, self._line_changed)

    def _begin(self, nth: int) -> None:
        self._running[nth] = True
        self.lines[nth].start()

    def _end(self, nth: int) -> None:
        """Stop a line; a fresh one takes its place."""
        line = self.lines[nth]
        self._running[nth] = False
        self._leaving += 1

        def done() -> None:
            self._leaving -= 1
            if self._done is None:
                self.lines[nth] = self._line(nth)
                self._changed(self)
            self._finished()

        line.stop(done)

    def _finished(self) -> None:
        if self._done is not None and not self._leaving:
            done, self._done = self._done, lambda: None
            done()

    def _line_changed(self, line: Line) -> None:
        if not self._all and self._done is None:
            self._choose()
        self._changed(self)

    def _choose(self) -> None:
        """Begin with the next proxy where all before it are away, and leave it where one of them has held."""
        for nth, line in enumerate(self.lines[:-1]):
            if not self._running[nth]:
                return
            if _stands(line):
                if any(self._running[nth + 1 :]):
                    asyncio.get_running_loop().call_later(HOLD, self._leave_behind, nth, line.since)
                return
            if line.state not in (State.RETRYING, State.DEAF) or self._starting(nth + 1):
                return

    def _starting(self, nth: int) -> bool:
        """Begin with a line where it is not at work; whether it was begun with now."""
        if self._running[nth] or self._leaving:
            return False
        self._begin(nth)
        return True

    def _leave_behind(self, nth: int, since: float) -> None:
        """The `nth` proxy is up again, and still."""
        line = self.lines[nth]
        if self._done is None and _stands(line) and line.since == since:
            for later in range(nth + 1, len(self.lines)):
                if self._running[later]:
                    self._end(later)


def _stands(line: Line) -> bool:
    """A registration is up too while its refresh fails, until it runs out; it stands only as long as that works."""
    return line.up and line.state in (State.REGISTERED, "up")
