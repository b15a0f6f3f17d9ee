"""The text commands of RTPProxy: written and read, nothing sent. Pure.

A command is one line and is answered by one line, in order. A relayed medium is named by a call id and two tags; we
use one call id per relay session, the sides as tags ("a", "b") and a number per medium behind the first tag ("a;0"), so
that one D ends all media of a session. In every command that carries an address, the address is that of the side it
came from, and the port in the reply is the one the *other* side is to send to:

- U creates the medium, or updates it; its first tag is the side the address came from;
- L updates an existing medium and never creates one; its second tag is the side the address came from.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from media.relay.port import RelayError, RelayFull, Side

VERSION: Final = b"V\n"
BASE_VERSION: Final = "20040107"
# The relay process's own medium (see process.py), under an id that no session can have.
PULSE: Final = "relay:pulse"
MEDIA: Final = b"G nsess_created nsess_destroyed\nQ relay:pulse pulse;0 none ttl\n"
DELETE_ALL: Final = b"X\n"

# What RTPProxy's E numbers mean to an operator; ranges as the engine groups them.
_OUT_OF_PORTS: Final = frozenset({"E71", "E72"})
_UNKNOWN_SESSION: Final = "E50"
_LABEL_UNKNOWN: Final = frozenset({"E31", "E32", "E36"})
_OVERLOADED: Final = frozenset({"E98", "E99"})


class RelayAddress(NamedTuple):
    """Where a side is to send: the address as the relay advertises it, and the RTP port (RTCP: the next)."""

    address: str
    port: int


def other(side: Side) -> Side:
    """The side across."""
    return "b" if side == "a" else "a"


def update(
    session: str,
    medium: int,
    origin: Side,
    address: str,
    port: int,
    *,
    ipv6: bool,
    notify: str,
    network: str,
    fixed: bool = False,
    timeout: int = 0,
) -> str:
    """Create a medium from the SDP of `origin`; a timeout is told to `notify` with the tag SESSION/MEDIUM.

    `network` is the label of the relay's address that the other side is given; `fixed` takes packets from `address`
    alone; `timeout` in seconds replaces the relay's own (0: leave it).
    """
    head = f"U{_modifiers(ipv6, network, fixed)} {session} {address} {port} {origin};{medium} {other(origin)}"
    return f"{head} {notify} {session}/{medium}{_timeout(timeout)}\n"


def lookup(
    session: str,
    medium: int,
    origin: Side,
    address: str,
    port: int,
    *,
    ipv6: bool,
    network: str,
    fixed: bool = False,
    timeout: int = 0,
) -> str:
    """Update an existing medium from the SDP of `origin`; parameters as of `update`."""
    head = f"L{_modifiers(ipv6, network, fixed)} {session} {address} {port} {other(origin)};{medium} {origin}"
    return f"{head}{_timeout(timeout)}\n"


def query(session: str, medium: int, origin: Side, timeout: int = 0) -> str:
    """Ask for the counters of a medium as seen from `origin`; `timeout` as of `update`."""
    counters = "npkts_ina npkts_ino nrelayed rtpa_nlost rtpa_javg"
    return f"Q {session} {origin};{medium} {other(origin)} {counters}{_timeout(timeout)}\n"


def delete(session: str) -> str:
    """End all media of a session, whichever side created them."""
    return f"D {session} a b\n"


def _modifiers(ipv6: bool, network: str, fixed: bool) -> str:
    return f"{'6' if ipv6 else ''}{'a' if fixed else ''}l{{{network}}}"


def _timeout(seconds: int) -> str:
    return f" && S ttl={seconds}" if seconds else ""


class Counters(NamedTuple):
    """Packets of a medium: received from the asking side, from the other, relayed both ways, lost before the relay.

    `jitter`: mean of what came from the asking side, in ticks of its clock; 0 where the clock is not known (payload
    types from 96 on) or only one packet came."""

    received: int
    received_other: int
    relayed: int
    lost: int
    jitter: float


def read_address(reply: str) -> RelayAddress | None:
    """The reply to U or L; None where the medium is unknown. Raises RelayError."""
    parts = reply.split(" && ", 1)[0].split()
    if not parts or reply[0] == "E" or not _digits(parts[0]):
        raise _refused(reply)
    port = int(parts[0])
    if port == 0:
        return None
    if len(parts) < 2:
        raise RelayError("the relay listens on no definite address: give it one with --bind")
    return RelayAddress(parts[1], port)


def is_unknown(reply: str) -> bool:
    """True where the reply to a query says that there is no such medium."""
    return reply == _UNKNOWN_SESSION


def read_counters(reply: str) -> Counters | None:
    """The reply to a query; None where the medium is unknown. Raises RelayError."""
    if reply == _UNKNOWN_SESSION:
        return None
    parts = reply.split(" && ", 1)[0].split()
    if len(parts) != 5 or not all(map(_digits, (*parts[:4], *parts[4].split(".", 1)))):
        raise _refused(reply)
    received, received_other, relayed, lost = map(int, parts[:4])
    return Counters(received, received_other, relayed, lost, float(parts[4]))


def read_media(totals: str, pulse: str) -> int:
    """The media that exist now, without the relay's own, from the two replies to MEDIA. Raises RelayError."""
    parts = totals.split()
    if len(parts) != 2 or not all(map(_digits, parts)):
        raise _refused(totals)
    return int(parts[0]) - int(parts[1]) - (pulse != _UNKNOWN_SESSION)


def _digits(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _refused(reply: str) -> RelayError:
    if reply in _OUT_OF_PORTS:
        return RelayFull("the relay is out of ports or file descriptors")
    if reply in _LABEL_UNKNOWN:
        return RelayError(f"the relay has no address for that network or family ({reply}): see its --bind")
    if reply in _OVERLOADED:
        return RelayError(f"the relay takes no new sessions: it is overloaded or shutting down ({reply})")
    return RelayError(f"the relay refused a command: {reply[:80]!r}")
