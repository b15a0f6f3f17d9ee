"""Several relay processes of one edge: each has its own part of the ports, and each call is in one of them.

One process moves all its packets in one thread, and takes four file descriptors a call; several use more cores and
take more calls. Each is watched and started again by itself, and with one that dies only its own calls are lost. New
calls go to the process that has the fewest; where it does not take them, to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from media.relay.port import RelayError, RelayFull
from media.relay.rtpio import RtpIoRelay
from media.relay.rtpio_session import RtpIoSession


class EmbeddedRelays:
    """A `MediaRelay` over `relays`, whose names differ."""

    def __init__(self, relays: Sequence[RtpIoRelay]) -> None:
        if len({relay.name for relay in relays}) != len(relays) or not relays:
            raise ValueError("give at least one relay, each with a name of its own")
        self._relays = tuple(relays)
        self._log = structlog.get_logger("media.relay")

    async def start(self) -> None:
        """Start all of them, or none. Raises RelayError."""
        starts = [asyncio.ensure_future(relay.start()) for relay in self._relays]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            await asyncio.gather(*starts, return_exceptions=True)
            await self.stop()
            raise
        self._tell_room()

    async def stop(self) -> None:
        """End them all."""
        await asyncio.gather(*(relay.stop() for relay in self._relays))

    @property
    def bridges(self) -> bool:
        """SRTP passes from end to end only, and so do codecs."""
        return False

    @property
    def ready(self) -> bool:
        """False while no process answers."""
        return any(relay.ready for relay in self._relays)

    @property
    def sessions(self) -> int:
        """Sessions that hold ports."""
        return sum(relay.sessions for relay in self._relays)

    @property
    def instances(self) -> Mapping[str, bool]:
        """Each process by its name, and whether it answers."""
        return {relay.name: relay.ready for relay in self._relays}

    def session(self, session_id: str, on_media_timeout: Callable[[], None]) -> RtpIoSession:
        """See `RtpIoRelay.session`; its process is chosen when it takes its first ports."""
        self._relays[0].check_id(session_id)
        return RtpIoSession(self, session_id, on_media_timeout)

    def places(self) -> Sequence[RtpIoRelay]:
        """Where a new session may go, the emptiest first. Raises RelayError where none takes one."""
        found: list[RtpIoRelay] = []
        why: list[RelayError] = []
        for relay in self._relays:
            try:
                found += relay.places()
            except RelayError as error:
                why.append(error)
        if not found:
            # what is full works, and says more than what is away
            raise next((error for error in why if isinstance(error, RelayFull)), why[0])
        found.sort(key=_sessions)
        return found

    def named(self, name: str) -> RtpIoRelay | None:
        """The process that a saved session is in."""
        return next((relay for relay in self._relays if relay.name == name), None)

    async def media_in_relay(self) -> int:
        """Media that exist in those that answer, whoever made them. Raises RelayError."""
        return sum([await relay.media_in_relay() for relay in self._relays if relay.ready])

    async def clear(self) -> None:
        """End every session in those that answer, whoever made it. Raises RelayError."""
        for relay in self._relays:
            if relay.ready:
                await relay.clear()

    def _tell_room(self) -> None:
        rooms = [relay.room for relay in self._relays if relay.room is not None]
        if rooms:
            tell = self._log.warning if any(r.short_of == "descriptors" for r in rooms) else self._log.info
            least = min(rooms, key=lambda r: r.calls)
            tell(
                "relay.room",
                calls=sum(r.calls for r in rooms),
                processes=len(rooms),
                limit=least.short_of,
                for_more=least.remedy,
            )


def _sessions(relay: RtpIoRelay) -> int:
    return relay.sessions
