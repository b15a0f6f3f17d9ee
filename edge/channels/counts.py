"""The counts that edges share, as the channel ledger asks for them: PostgreSQL, or a simulation in tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

Lease: TypeAlias = tuple[str, str, str, str, int]
"""What a call holds of a row: call, level, key, direction, units (0: nothing any more)."""

Claim: TypeAlias = tuple[int, int, str, str, str, str, int, int | None]
"""What a call asks for: number of the ask (from 1), number of the row (from 1), call, level, key, direction, units,
limit (None: counted, never refused). Claims of one ask stand together."""


class CountsAway(Exception):
    """The counts cannot be asked, or their answer did not come; what was sent may or may not have been done."""


class Verdict(NamedTuple):
    """What became of an ask: `against` is 0 where it was admitted, else the ordinal of the claim that stands against
    it; `in_use` is the use of that row."""

    against: int
    in_use: int


class Exchanged(NamedTuple):
    """The answer of an exchange: one verdict per ask, and whether no other edge counts."""

    verdicts: list[Verdict]
    alone: bool = False
    """Until `ALONE_FOR` after the question was sent this edge may decide by itself."""


ALONE_FOR = 3.5
"""Seconds; the counts keep others waiting for half a second longer."""


class Session(Protocol):
    """One connection to the counts, used by one task. All methods but `abort` raise CountsAway."""

    joined: Callable[[], None]
    """Called when another edge has joined: it may be waiting."""

    async def resume(self, epoch: int, fresh: bool, held: Sequence[Lease]) -> bool:
        """Make `held` all that this edge holds, whatever the limits. `fresh`: earlier processes of the same name are
        gone. False: a later epoch has spoken; nothing was done."""
        ...

    async def exchange(
        self, epoch: int, leases: Sequence[Lease], claims: Sequence[Claim], stay: bool
    ) -> Exchanged | None:
        """Make `leases` what they say, then admit what fits; also the heartbeat. `stay`: this edge would go on
        to decide by itself; only False ends that for others before its time. None: this edge or its epoch was given up,
        nothing was done."""
        ...

    async def alone_elsewhere(self) -> bool:
        """After `resume`: whether another edge still decides by itself. It is told to speak."""
        ...

    async def recount(self) -> int:
        """Make counts that are not the sum of their leases so again; how many there were."""
        ...

    async def leave(self) -> None:
        """This edge stops: give back what it still holds."""
        ...

    def abort(self) -> None:
        """Give the connection up at once; whoever waits for an answer gets CountsAway."""
        ...


class Counts(Protocol):
    """Where the counts are."""

    async def connect(self) -> Session:
        """A new connection, within a few seconds; raises CountsAway."""
        ...
