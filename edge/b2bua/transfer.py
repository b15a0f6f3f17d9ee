"""A transfer: a pure reducer over two calls (docs/calls.md, RFC 5589).

The home call is the one whose REFER asks for it: its transferor is to be replaced, its remaining party stays. The away
call reaches the target: it is made for that (blind), or the transferor has it already (attended). Whatever comes, the
transferor hears one final answer and both calls are left whole: joined, or as they were, or ended with their parties.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

# -- what happens ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Described:
    """`sdp` offers the remaining party's media to the target."""

    sdp: bytes


@dataclass(frozen=True, slots=True)
class Progressed:
    """The target rings."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The target took the offer; `sdp` is what it answered."""

    sdp: bytes


@dataclass(frozen=True, slots=True)
class Missed:
    """The target cannot be had, or is gone again."""

    status: int
    q850: int | None = None


@dataclass(frozen=True, slots=True)
class Took:
    """The remaining party agreed to the target's media."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The remaining party did not."""

    status: int


@dataclass(frozen=True, slots=True)
class TransferorLeft:
    """The transferor hung up in the home call."""


@dataclass(frozen=True, slots=True)
class ConsultLeft:
    """The transferor hung up in the away call (attended)."""


@dataclass(frozen=True, slots=True)
class HomeEnded:
    """The home call is over: the remaining party hung up, or the edge ended it."""

    q850: int | None = None


TransferEvent = Described | Progressed | Reached | Missed | Took | Declined | TransferorLeft | ConsultLeft | HomeEnded

# -- what is to be done ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the transferor; from 200 on it is the last time."""

    status: int


@dataclass(frozen=True, slots=True)
class Describe:
    """Write the remaining party's media for the target; answered by Described or Missed."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Offer `sdp` to the target; answered by Reached or Missed, in between Progressed."""

    sdp: bytes


@dataclass(frozen=True, slots=True)
class Join:
    """Put the target in the transferor's place as soon as he is gone; answered by Took or Declined."""

    sdp: bytes


@dataclass(frozen=True, slots=True)
class HoldPlace:
    """The transferor is gone and the target not there yet: the remaining party waits."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The transferor has the remaining party again."""


@dataclass(frozen=True, slots=True)
class DropRemaining:
    """End the home call: nobody is left for its party."""

    q850: int | None


@dataclass(frozen=True, slots=True)
class LeaveTarget:
    """Give the target up: a call made for it ends; a consultation goes on with the transferor, if he is still there
    (`consulted`), else it ends."""

    consulted: bool
    q850: int | None


@dataclass(frozen=True, slots=True)
class ReleaseTransferor:
    """BYE to the transferor in the home call, and with `everywhere` in the away call."""

    everywhere: bool


@dataclass(frozen=True, slots=True)
class Over:
    """The transfer is finished; comes exactly once. `joined`: the two calls are one conversation now."""

    joined: bool
    status: int


TransferAction = (
    Notify | Describe | Reach | Join | HoldPlace | GiveBack | DropRemaining | LeaveTarget | ReleaseTransferor | Over
)


class Stage(Enum):
    """How far it is."""

    DESCRIBING = "describing"
    REACHING = "reaching"
    JOINING = "joining"
    OVER = "over"


class Transfer:
    """One REFER."""

    __slots__ = ("_consult_left", "_left", "_told", "stage")

    def __init__(self) -> None:
        self.stage = Stage.DESCRIBING
        self._left = False
        self._consult_left = False
        self._told = 100

    def start(self) -> list[TransferAction]:
        """The first actions."""
        return [Notify(100), Describe()]

    def on_event(self, event: TransferEvent) -> list[TransferAction]:
        """What `event` leads to. Total: an event that means nothing now leads to nothing."""
        return [] if self.stage is Stage.OVER else _ON[type(event)](self, event)

    def _described(self, event: Described) -> list[TransferAction]:
        if self.stage is not Stage.DESCRIBING:
            return []
        self.stage = Stage.REACHING
        return [Reach(event.sdp)]

    def _progressed(self, event: Progressed) -> list[TransferAction]:
        if self.stage is not Stage.REACHING or self._told >= 180:
            return []
        self._told = 180
        return [Notify(180)]

    def _reached(self, event: Reached) -> list[TransferAction]:
        if self.stage is not Stage.REACHING:
            return []
        self.stage = Stage.JOINING
        # the transferor goes first: the relay could take his last packets for the target's
        return [Notify(200), ReleaseTransferor(True), Join(event.sdp)]

    def _missed(self, event: Missed) -> list[TransferAction]:
        if self.stage is not Stage.JOINING:
            return self._fail(event.status, event.q850)
        # it answered and hung up again before anything was said
        self.stage = Stage.OVER
        return [DropRemaining(event.q850), Over(False, 200)]

    def _took(self, event: Took) -> list[TransferAction]:
        if self.stage is not Stage.JOINING:
            return []
        self.stage = Stage.OVER
        return [Over(True, 200)]

    def _declined(self, event: Declined) -> list[TransferAction]:
        if self.stage is not Stage.JOINING:
            return []
        self.stage = Stage.OVER
        return [LeaveTarget(False, 88), DropRemaining(88), Over(False, event.status)]

    def _transferor_left(self, event: TransferorLeft) -> list[TransferAction]:
        if self._left or self.stage is Stage.JOINING:
            return []
        self._left = True
        return [HoldPlace()]

    def _consult_gone(self, event: ConsultLeft) -> list[TransferAction]:
        self._consult_left = True
        return []

    def _home_ended(self, event: HomeEnded) -> list[TransferAction]:
        joining = self.stage is Stage.JOINING
        self.stage = Stage.OVER
        if joining:
            return [LeaveTarget(False, event.q850), Over(False, 487)]
        consulted = not self._consult_left
        return [Notify(487), LeaveTarget(consulted, event.q850), ReleaseTransferor(False), Over(False, 487)]

    def _fail(self, status: int, q850: int | None) -> list[TransferAction]:
        self.stage = Stage.OVER
        home: TransferAction = DropRemaining(q850) if self._left else GiveBack()
        return [Notify(status), LeaveTarget(not self._consult_left, q850), home, Over(False, status)]


_ON: dict[type, Callable[..., list[TransferAction]]] = {
    Described: Transfer._described,
    Progressed: Transfer._progressed,
    Reached: Transfer._reached,
    Missed: Transfer._missed,
    Took: Transfer._took,
    Declined: Transfer._declined,
    TransferorLeft: Transfer._transferor_left,
    ConsultLeft: Transfer._consult_gone,
    HomeEnded: Transfer._home_ended,
}
