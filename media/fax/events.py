"""What a fax tells while it runs, and what it is told; JSON between the process of the fax and ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from media.fax.record import FaxResult, result_from


@dataclass(frozen=True, slots=True)
class Ready:
    """The sockets are bound: where audio and T.38 are awaited; `pid` of the fax's process."""

    audio_port: int
    t38_port: int
    pid: int


@dataclass(frozen=True, slots=True)
class CngHeard:
    """The far end is a fax: its calling tone was heard. Time to offer T.38 (domain rule 4.1.2)."""


@dataclass(frozen=True, slots=True)
class PreambleSent:
    """Our first control frame begins. Time to offer T.38 at the latest."""


@dataclass(frozen=True, slots=True)
class PageStored:
    """A received page is on the disk and is being confirmed; or a sent page was confirmed to us. From 1."""

    number: int
    rows: int
    bad_rows: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The exchange is over; time for BYE. Always the last event, and always comes."""

    result: FaxResult


FaxEvent: TypeAlias = Ready | CngHeard | PreambleSent | PageStored | Finished


@dataclass(frozen=True, slots=True)
class UseAudio:
    """Go on with G.711. Starts T.30 anew in the same role where it ran over T.38; else only the address changes."""

    host: str
    port: int
    alaw: bool
    payload_type: int
    suite: str = ""
    """Of SRTP, with both keys as in a=crypto; empty: plain RTP."""
    our_key: str = field(default="", repr=False)
    their_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class UseT38:
    """Go on with T.38. `max_datagram`: octets the far end takes, 0 if unsaid; `redundancy`: 0: packets go bare."""

    host: str
    port: int
    max_datagram: int = 0
    redundancy: int = 3
    fec: bool = False
    max_bit_rate: int = 14400


@dataclass(frozen=True, slots=True)
class T38Refused:
    """For the record: T.38 was offered and refused."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """The call is over. `reason`: the final response or the Reason of BYE, for the record."""

    reason: str = ""


FaxCommand: TypeAlias = UseAudio | UseT38 | T38Refused | HangUp

_COMMANDS: Mapping[str, type[FaxCommand]] = {c.__name__: c for c in (UseAudio, UseT38, T38Refused, HangUp)}
_EVENTS: Mapping[str, type[FaxEvent]] = {e.__name__: e for e in (Ready, CngHeard, PreambleSent, PageStored)}


def encode(message: FaxEvent | FaxCommand) -> bytes:
    """One message."""
    return json.dumps({"is": type(message).__name__, **dataclasses.asdict(message)}).encode()


def decode_event(data: bytes) -> FaxEvent:
    """What `encode` made of an event. Raises ValueError."""
    fields = json.loads(data)
    kind = fields.pop("is", None)
    if kind == "Finished":
        return Finished(result_from(fields["result"]))
    if kind not in _EVENTS:
        raise ValueError(f"{kind!r} is no event of a fax")
    return _EVENTS[kind](**fields)


def decode_command(data: bytes) -> FaxCommand:
    """What `encode` made of a command. Raises ValueError."""
    fields = json.loads(data)
    kind = fields.pop("is", None)
    if kind not in _COMMANDS:
        raise ValueError(f"{kind!r} is no command for a fax")
    return _COMMANDS[kind](**fields)
