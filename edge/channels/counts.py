"""The counts that edges share, as the channel ledger asks for them: PostgreSQL, or a simulation in tests."""

from __future__ import annotations

from collections.abc import Sequence
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


class Session(Protocol):
    """One connection to the counts, used by one task. All methods but `abort` raise CountsAway."""

    async def resume(self, epoch: int, fresh: bool, held: Sequence[Lease]) -> bool:
        """Make `held` all that this edge holds, whatever the limits. `fresh`: earlier processes of the same name are
        gone. False: a later epoch has spoken; nothing was done."""
        ...

    async def exchange(self, epoch: int, leases: Sequence[Lease], claims: Sequence[Claim]) -> list[Verdict] | None:
        """Make `leases` what they say, then admit what fits; also the heartbeat. None: this edge or its epoch was given
        up, nothing was done."""
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
