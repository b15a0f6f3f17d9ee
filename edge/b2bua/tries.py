"""Whom a call was sent to, and what came of each: what its record and `sip-edge why` tell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dialplan.model import Target
from edge.b2bua import events as ev
from edge.b2bua.events import LegId
from edge.b2bua.outgoing import sent
from edge.carriers.hosts import Hosts
from edge.cdr.record import Attempt
from edge.sip.message import Request


class Tries:
    """The tries of one call, in order, and which leg belongs to which."""

    __slots__ = ("all", "branch", "hosts", "target", "winner_call_id")

    def __init__(self) -> None:
        self.all: list[Attempt] = []
        self.branch: dict[LegId, int] = {}
        """Index of each leg's try."""
        self.hosts: dict[int, Sequence[str]] = {}
        """Where a carrier's name leads to several hosts: which were asked, by index of the try."""
        self.target: dict[LegId, Target] = {}
        """Whom each leg goes to."""
        self.winner_call_id: str | None = None
        """Call-ID of the leg that answered."""

    @property
    def last(self) -> Attempt | None:
        """The newest one."""
        return self.all[-1] if self.all else None

    def of(self, leg: LegId) -> Attempt:
        """The try of a leg."""
        return self.all[self.branch[leg]]

    def begun(
        self, leg: LegId, target: Target, name: str, invite: Request, at: datetime, hosts: Hosts | None = None
    ) -> None:
        """An INVITE is about to leave; `name` is who it goes to."""
        if hosts is not None and hosts.several:
            self.hosts[len(self.all)] = hosts.walked
        self.target[leg] = target
        self.branch[leg] = len(self.all)
        self.all.append(Attempt(target.kind.value, name, at, sent=sent(invite)))

    def told(self) -> tuple[Attempt, ...]:
        """All of them, for the record."""
        for index, walked in self.hosts.items():
            self.all[index] = self.all[index]._replace(hosts=tuple(walked))
        return tuple(self.all)

    def not_sent(self, target: Target, at: datetime, status: int, q850: int | None = None) -> None:
        """Nothing went to a target: there was no way to it (or the edge itself answered, with 200)."""
        self.all.append(Attempt(target.kind.value, target.name, at, status, q850))

    def noted(self, attempt: Attempt) -> None:
        """Another call brought somebody into this one (a transfer)."""
        self.all.append(attempt)

    def failed(self, event: ev.Rejected | ev.Moved) -> None:
        """A leg had its final answer, or none."""
        index = self.branch.get(event.leg)
        if index is None:
            return
        if isinstance(event, ev.Moved):
            self.all[index] = self.all[index]._replace(status=event.status)
        else:
            status = 0 if event.no_response else event.status
            self.all[index] = self.all[index]._replace(status=status, cause=event.q850)

    def answered(self, leg: LegId, call_id: str) -> None:
        """A leg won."""
        index = self.branch[leg]
        self.all[index] = self.all[index]._replace(status=200)
        self.winner_call_id = call_id
