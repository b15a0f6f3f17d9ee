"""The calls that are up or being set up, found by our dialogs' tags."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dialplan.model import Reason, Refusal, Target
from edge.b2bua.books import Books
from edge.b2bua.events import LegId
from edge.b2bua.leg import Leg
from edge.b2bua.refer import ReferTo, Replaces
from edge.sip.flow import Flow
from edge.sip.message import Request

if TYPE_CHECKING:
    from edge.b2bua.runner import CallRunner

LINGER = 32.0
"""Seconds for which the dialogs of a finished call still answer (a BYE that crossed ours)."""


class Calls:
    """An index of live calls; the only place that knows which leg an in-dialog request belongs to."""

    def __init__(self) -> None:
        self._calls: dict[str, CallRunner] = {}
        self._legs: dict[str, Leg] = {}
        self._finished: deque[tuple[float, tuple[str, ...]]] = deque()
        self.books = Books()
        self.on_empty: Callable[[], None] = lambda: None
        """Called whenever the last live call has ended."""
        self.on_refer: Callable[[CallRunner, LegId, ReferTo], None] = _refuse
        """Called for a REFER on a leg of a call that is up."""
        self.on_fax: Callable[[CallRunner, Target], Awaitable[Refusal | None]] = _no_fax
        """Called where a call comes to a fax box: answers it, or says why not."""

        self.on_change: Callable[[CallRunner], None] = _nobody
        """Called whenever something has happened to a call."""

        self.on_over: Callable[[CallRunner], None] = _nobody
        """Called for each call that has its outcome, with its legs as they are."""
        self.on_parted: Callable[[tuple[str, ...]], None] = _unheard
        """Called with our tags of dialogs that are over, and linger from now on."""
        self.waiting: dict[str, None] = {}
        """Ids of calls of an earlier process that are up and not put back yet (`edge.b2bua.reload`)."""
        self.on_missing: Callable[[str], None] = lambda tag: None
        """Called for the local tag of a dialog that is not there: it may be of a call that waits."""

    def add(self, runner: CallRunner) -> None:
        """A call begins."""
        self._calls[runner.id] = runner

    def add_leg(self, leg: Leg) -> None:
        """A leg of a live call; its local tag is unguessable and unique."""
        self._legs[leg.local_tag] = leg

    def retag(self, before: str, leg: Leg) -> None:
        """A leg goes on in another dialog of its INVITE."""
        if self._legs.pop(before, None) is leg:
            self._legs[leg.local_tag] = leg

    def finished(self, runner: CallRunner, now: float) -> None:
        """A call is over."""
        self._calls.pop(runner.id, None)
        self.on_over(runner)
        self.books.over(runner.id, now)
        self._linger(now, tuple(leg.local_tag for leg in runner.legs.values()))
        if not len(self):
            self.on_empty()

    def retire(self, leg: Leg, now: float) -> None:
        """A leg is over, and its call goes on without it."""
        self._linger(now, (leg.local_tag,))

    def _linger(self, now: float, tags: tuple[str, ...]) -> None:
        self._finished.append((now + LINGER, tags))
        self.on_parted(tags)
        self.forget(now)

    def forget(self, now: float) -> None:
        """Let go of legs that have lingered."""
        while self._finished and self._finished[0][0] <= now:
            for tag in self._finished.popleft()[1]:
                self._legs.pop(tag, None)

    def lingering(self) -> list[str]:
        """Our tags of dialogs that are over and still answer."""
        return [tag for _, tags in self._finished for tag in tags]

    def dialog(self, tag: str) -> Leg | None:
        """The leg whose dialog has this local tag; not those of calls that wait."""
        return self._legs.get(tag)

    def move(self, kind: str, name: str, old: Flow, new: Flow) -> None:
        """A seat, trunk or carrier has come back another way (a phone with a new address, a connection that was opened
        again): what we send in its dialogs goes there. Others may go on over the old flow, as behind one proxy.

        All calls are looked through, which is rare and quick."""
        for call in list(self._calls.values()):
            for leg_id, leg in list(call.legs.items()):
                if isinstance(leg, Leg) and leg.flow == old and call.party(leg_id) == (kind, name):
                    leg.move(new)

    def _find(self, tag: str) -> Leg | None:
        leg = self._legs.get(tag)
        if leg is None and self.waiting:
            self.on_missing(tag)
            leg = self._legs.get(tag)
        return leg

    def waits(self, call_id: str) -> bool:
        """Whether a call is among `waiting`."""
        return call_id in self.waiting

    def leg(self, request: Request) -> Leg | None:
        """The leg of an in-dialog request: by our tag, and the Call-ID must fit."""
        tag = request.to.tag
        leg = self._find(tag) if tag is not None else None
        return leg if leg is not None and leg.call_id == request.call_id else None

    def find(self, replaces: Replaces) -> tuple[CallRunner, Leg] | None:
        """The leg of a live call whose dialog is meant (RFC 3891 section 3), with its call."""
        leg = self._find(replaces.to_tag)
        if leg is None or leg.call_id != replaces.call_id or leg.remote_tag != replaces.from_tag:
            return None
        for runner in self._calls.values():
            if runner.legs.get(leg.id) is leg:
                return runner, leg
        return None

    def over_flow(self, flow: Flow) -> tuple[CallRunner, Leg] | None:
        """A leg whose peer was last heard over this connection; looks through all calls."""
        for runner in self._calls.values():
            for leg in runner.legs.values():
                if isinstance(leg, Leg) and leg.flow == flow:
                    return runner, leg
        return None

    def get(self, call_id: str) -> CallRunner | None:
        """A live call by our id."""
        return self._calls.get(call_id)

    def live(self) -> list[CallRunner]:
        """All live calls, oldest first."""
        return list(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls) + len(self.waiting)


def _refuse(call: CallRunner, leg_id: LegId, to: ReferTo) -> None:
    call.legs[leg_id].refuse_refer(403)


def _nobody(call: CallRunner) -> None:
    """Keeps nothing of calls."""


def _unheard(tags: tuple[str, ...]) -> None:
    """Keeps nothing of dialogs that are over."""


async def _no_fax(call: CallRunner, box: Target) -> Refusal | None:
    return Refusal(Reason.UNAVAILABLE, "this edge takes no faxes")
