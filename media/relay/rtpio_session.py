"""One call's media at an RTPProxy engine: which commands an SDP needs, and what the peers are told.

An m= line is one medium of the engine, with a port for each side. Its number is made of the line's index and of whether
it is UDPTL: a call that turns to T.38 (and back) has other ports for it, so that the addresses learnt for one never
stand in the way of the other.

Forked B legs share the port that A sends to: A has one address to talk to, whoever answers. The branch whose SDP came
last is the one A hears; for ten seconds after each SDP the engine follows the source of the packets it gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from sys import intern
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from media.relay import rtpproxy_commands as commands
from media.relay.origins import Origins
from media.relay.port import RelayError, RelayFull, RelayStats, Side
from media.sdp.lines import Media, Sdp, parse
from media.sdp.rewrite import endpoint, require_media, rewrite

if TYPE_CHECKING:
    from media.relay.rtpio import RtpIoRelay

# For a peer whose address is not known: the engine then learns it from the first packet.
_UNKNOWN = ("0.0.0.0", "::")


class Places(Protocol):
    """The relay processes among which a session finds its own."""

    def places(self) -> Sequence[RtpIoRelay]:
        """Where a new session may go, best first. Raises RelayError where there is none."""
        ...

    def named(self, name: str) -> RtpIoRelay | None:
        """The process that a saved session is in; None: there is none of that name any more."""
        ...


_Told = TypeVar("_Told", int, str)
_NEITHER: Final[frozenset[Side]] = frozenset()
_ONES: Final[tuple[frozenset[Side], ...]] = (_NEITHER, frozenset({"a"}), frozenset({"b"}), frozenset({"a", "b"}))
_SIDES: Final = {sides: sides for sides in _ONES}
"""One of each for all calls: there are ten thousand, and a set has 216 bytes."""


class _Medium:
    """What the engine was told of one medium: which sides it knows, which of them hold, the timeout it has now."""

    __slots__ = ("held", "known", "number", "timeout")

    def __init__(self, number: int, timeout: int) -> None:
        self.number = number
        self.known = _NEITHER
        self.held = _NEITHER
        self.timeout = timeout


class _Party:
    """What a side said and was told."""

    __slots__ = ("ipv6", "shown", "supervised")

    def __init__(self) -> None:
        self.ipv6: bool | None = None
        """Whether it is reached over IPv6; None before it spoke."""
        self.shown: str | None = None
        """The relay's address that it knows."""
        self.supervised: int | None = None
        """The medium its last SDP began with, whose silence ends the call."""


class RtpIoSession:
    """A `RelaySession`; made by `RtpIoRelay.session` or `EmbeddedRelays.session`."""

    __slots__ = (
        "_a",
        "_answered",
        "_b",
        "_deletion",
        "_gone",
        "_holds",
        "_media",
        "_on_media_timeout",
        "_origins",
        "_placed",
        "_places",
        "_relay",
        "_silent",
        "id",
        "passive",
    )

    def __init__(self, places: Places, session_id: str, on_media_timeout: Callable[[], None]) -> None:
        self.id = session_id
        self.passive = False
        self._places = places
        # The process of its own, from the first description on.
        self._relay: RtpIoRelay | None = None
        self._placed = False
        self._on_media_timeout = on_media_timeout
        self._media: list[_Medium] = []
        self._a, self._b = _Party(), _Party()
        self._origins = Origins(session_id)
        self._answered = False
        self._holds = False
        self._gone = ""
        self._silent = False
        self._deletion: asyncio.Future[list[str]] | None = None

    def save(self) -> dict[str, object]:
        """See `RelaySession.save`."""
        media = {m.number: [m.timeout, "".join(sorted(m.known)), "".join(sorted(m.held))] for m in self._media}
        a, b = self._a, self._b
        return {
            "media": media,
            "supervised": _told(a.supervised, b.supervised),
            "versions": self._origins.save(),
            "shown": _told(a.shown, b.shown),
            "ipv6": _told(a.ipv6, b.ipv6),
            "answered": self._answered,
            "holds": self._holds,
            "passive": self.passive,
            "relay": self._relay.name if self._relay is not None else "",
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` of another process gave; it may be of any version, so what is missing is guessed."""
        for number, (timeout, known, held) in saved.get("media", {}).items():
            medium = _Medium(int(number), timeout)
            self._media.append(medium)
            medium.known = _SIDES[frozenset(known)]
            medium.held = _SIDES[frozenset(held)]
        for side, party in (("a", self._a), ("b", self._b)):
            party.supervised = saved.get("supervised", {}).get(side)
            party.shown = saved.get("shown", {}).get(side)
            party.ipv6 = saved.get("ipv6", {}).get(side)
        self._origins.restore(saved.get("versions", {}))
        self._answered = saved.get("answered", False)
        self.passive = saved.get("passive", False)
        if saved.get("holds", False) and self._media:
            self._holds = True
            self._relay = self._places.named(saved.get("relay", ""))
            self._placed = True
            if self._relay is None:
                self._gone = "the relay process of this call is not there any more"
            else:
                self._relay.hold(self)

    async def check(self) -> bool:
        """See `RelaySession.check`."""
        if not self._holds or self._gone or self._relay is None:
            return not self._gone
        numbers = [medium.number for medium in self._media]
        asked = "".join(commands.query(self.id, number, "a") for number in numbers)
        replies = await self._relay.ask(asked.encode("ascii"), len(numbers))
        for number, reply in zip(numbers, replies, strict=True):
            if commands.is_unknown(reply):
                self._drop(number)
        return bool(self._media)

    def _medium(self, number: int) -> _Medium | None:
        for medium in self._media:
            if medium.number == number:
                return medium
        return None

    def _drop(self, number: int) -> None:
        self._media = [medium for medium in self._media if medium.number != number]

    async def forward(
        self,
        sdp: bytes,
        origin: Side,
        leg: str,
        *,
        answer: bool = False,
        early: bool = False,
        trusted: bool = False,
        network: str = "",
        keys: bool = False,
        more_codecs: Sequence[str] = (),
    ) -> bytes:
        """SDP of side `origin`, written for the other side; see `RelaySession.forward`. UnusableSdp, RelayError."""
        if self.passive:
            return self._origins.pass_on(sdp, origin, leg)
        if self._gone:
            raise RelayError(self._gone)
        description = parse(sdp)
        require_media(description)
        if self._placed:
            assert self._relay is not None
            return await self._forward(self._relay, description, origin, leg, early, trusted, network)
        for relay in self._places.places():
            try:
                return await self._forward(relay, description, origin, leg, early, trusted, network)
            except RelayError as error:
                if self._placed or self._gone:
                    raise
                failed = error
        raise failed

    async def _forward(
        self,
        relay: RtpIoRelay,
        description: Sdp,
        origin: Side,
        leg: str,
        early: bool,
        trusted: bool,
        network: str,
    ) -> bytes:
        speaker, hearer = (self._a, self._b) if origin == "a" else (self._b, self._a)
        label, address = relay.network(network, hearer.ipv6)
        if not early and hearer.supervised is not None:
            self._answered = True
        ports = [0] * len(description.media)
        asked: list[tuple[int, int]] = []
        text = ""
        for index, media in enumerate(description.media):
            if not media.port or not media.relayable:
                continue
            peer = endpoint(description, media)
            speaker.ipv6 = peer.ipv6
            number = _number(index, media)
            # A peer must not have the relay send to services of this machine.
            believed = None if peer.loopback and not relay.on_loopback else peer.address
            where = believed or _UNKNOWN[peer.ipv6]
            fixed = trusted and believed is not None
            text += self._command(
                relay, number, origin, where, peer.port, peer.ipv6, label, fixed, peer.held, first=not asked
            )
            asked.append((index, number))
        if asked:
            relay.hold(self)
            self._relay, self._holds = relay, True
            speaker.supervised = asked[0][1]
            try:
                replies = await relay.ask(text.encode("ascii"), len(asked))
                address = self._read(relay, replies, asked, ports)
            except RelayError:
                if not self._placed and not self._gone:
                    self._leave(relay)
                raise
            self._placed = True
            hearer.shown = address = intern(address)  # the same of all calls
        else:
            address = hearer.shown or address
        return self._origins.write(rewrite(description, ports, address), address, origin, leg)

    def _leave(self, relay: RtpIoRelay) -> None:
        """A process did not take this session: what it made of it by now goes, and another may be asked."""
        with suppress(RelayError):
            relay.ask(commands.delete(self.id).encode("ascii"), 1).add_done_callback(_heard)
        relay.release(self)
        self._relay, self._holds = None, False
        self._media.clear()
        self._a.supervised = self._b.supervised = None

    def _command(
        self,
        relay: RtpIoRelay,
        number: int,
        origin: Side,
        address: str,
        port: int,
        ipv6: bool,
        network: str,
        fixed: bool,
        held: bool,
        *,
        first: bool,
    ) -> str:
        medium = self._medium(number)
        if medium is None:
            medium = _Medium(number, relay.setup_timeout)
            self._media.append(medium)
            medium.known = _SIDES[medium.known | {origin}]
            if held:
                medium.held = _SIDES[medium.held | {origin}]
            return commands.update(
                self.id, number, origin, address, port, ipv6=ipv6, notify=relay.notify, network=network, fixed=fixed
            )
        if held:
            medium.held = _SIDES[medium.held | {origin}]
        else:
            medium.held = _SIDES[medium.held - {origin}]
        if origin not in medium.known:
            # The engine itself goes over to its usual timeout once it knows both sides.
            medium.known = _SIDES[medium.known | {origin}]
            medium.timeout = relay.timeout
        timeout = relay.setup_timeout
        if self._answered and len(medium.known) == 2:
            timeout = relay.timeout if first and not medium.held else relay.hold_timeout
        changed = 0 if timeout == medium.timeout else timeout
        medium.timeout = timeout
        return commands.lookup(
            self.id, number, origin, address, port, ipv6=ipv6, network=network, fixed=fixed, timeout=changed
        )

    def _read(self, relay: RtpIoRelay, replies: list[str], asked: list[tuple[int, int]], ports: list[int]) -> str:
        address = ""
        failed: RelayError | None = None
        for reply, (index, number) in zip(replies, asked, strict=True):
            try:
                given = commands.read_address(reply)
            except RelayError as error:
                medium = self._medium(number)
                if medium is not None and len(medium.known) == 1:
                    # Not made: the next attempt has to make it. One that was made answers to that as well.
                    self._drop(number)
                failed = RelayFull(relay.room.text) if isinstance(error, RelayFull) and relay.room else error
                continue
            if given is None:
                self._drop(number)
                self._gone = "the relay does not know the media of this call any more: it was silent for too long"
                failed = RelayError(self._gone)
            else:
                address, ports[index] = given.address, given.port
        if failed is not None:
            raise failed
        return address

    async def delete(self) -> RelayStats:
        """Give the ports back; see `RelaySession.delete`."""
        if self._deletion is None:
            self._deletion = self._send_delete()
        try:
            replies = await asyncio.shield(self._deletion)
            return _statistics(replies)
        except RelayError:
            return RelayStats()

    def _send_delete(self) -> asyncio.Future[list[str]]:
        self._gone = self._gone or "the media of this call were released"
        self._on_media_timeout = _nobody
        relay = self._relay
        if relay is not None:
            relay.release(self)
        nothing: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        nothing.set_result([])
        if not self._holds or relay is None:
            return nothing
        text = ""
        for medium in self._media:
            text += commands.query(self.id, medium.number, "a") + commands.query(self.id, medium.number, "b")
        try:
            return relay.ask((text + commands.delete(self.id)).encode("ascii"), 2 * len(self._media) + 1, _AFTER)
        except RelayError:
            return nothing

    def timed_out(self, number: int) -> None:
        """The engine has dropped a medium for its silence."""
        medium = self._medium(number)
        if medium is None:
            return
        self._drop(number)
        watched = {self._a.supervised, self._b.supervised} - {None}
        if watched == {number} or (number in watched and len(medium.known) == 2):
            self._silent = not self._gone
            self.lose("the media of this call timed out")

    @property
    def lost(self) -> str:
        """See `RelaySession.lost`."""
        return "" if self._silent else self._gone

    def lose(self, reason: str) -> None:
        """The media are gone in the relay: `forward` fails from here on, and the call is told once."""
        if not self._gone and self._placed:  # one that is about to be placed finds another relay
            self._gone = reason
            asyncio.get_running_loop().call_soon(self._on_media_timeout)


def _told(a: _Told | None, b: _Told | None) -> dict[str, _Told]:
    """What is known of the sides, by their names."""
    return {side: value for side, value in (("a", a), ("b", b)) if value is not None}


def _heard(reply: asyncio.Future[list[str]]) -> None:
    """Whether a session that another process takes could be ended is of no interest: it ends by its times."""
    if not reply.cancelled():
        reply.exception()


def _nobody() -> None:
    """Hears of a session that was deleted, which keeps its call alive no longer."""


def _number(index: int, media: Media) -> int:
    return 2 * index + ("UDPTL" in media.proto.upper())


_AFTER = 0.01
"""Seconds after which a session is deleted, if no other command takes that along earlier: nobody waits for it."""

_TICKS = 8.0
"""A millisecond of the RTP clock of telephony's static payload types (RFC 3551 table 4), the only ones whose jitter the
engine measures."""


def _statistics(replies: list[str]) -> RelayStats:
    from_a = from_b = to_a = to_b = lost_a = lost_b = 0
    jitter_a = jitter_b = None
    counted = False
    for n in range(0, len(replies) - 1, 2):
        a = commands.read_counters(replies[n])
        b = commands.read_counters(replies[n + 1])
        if a is None or b is None:
            continue
        from_a += a.received
        from_b += a.received_other
        # The engine counts what it relayed both ways together. What it could not is nearly always from the called
        # side, which may speak before the caller knows where to listen.
        dropped_of_b = min(a.received_other, max(0, a.received + a.received_other - a.relayed))
        to_a += a.received_other - dropped_of_b
        to_b += a.relayed - (a.received_other - dropped_of_b)
        lost_a += a.lost
        lost_b += b.lost
        if jitter_a is None:
            jitter_a = a.jitter / _TICKS or None
        if jitter_b is None:
            jitter_b = b.jitter / _TICKS or None
        counted = True
    return RelayStats(from_a, from_b, to_a, to_b, lost_a, lost_b, jitter_a, jitter_b) if counted else RelayStats()
