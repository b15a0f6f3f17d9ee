"""The relay backend for `media.relay.process` (RTPProxy's engine) over its UNIX sockets.

A relay that ends is found at once, by the end of its event connection: its sessions are lost, their calls are told, and
new ones work as soon as the relay is there again. A command connection that breaks alone loses nothing: the sessions
belong to the relay.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from media.relay import rtpproxy_commands as commands
from media.relay.child import RelayChild
from media.relay.connection import CommandConnection, EventConnection
from media.relay.port import RelayError, RelayFull
from media.relay.process import EVENTS_SUFFIX
from media.relay.room import Room, room
from media.relay.rtpio_session import RtpIoSession

_SESSION_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 0.5


class RtpIoRelay:
    """A `MediaRelay`: one relay process, at `socket_path`, or the `child` that this object then starts and ends.

    `name` tells it from the others of an edge. `command_timeout` (seconds): how long the relay may take to answer.
    `hold_timeout` (seconds): silence allowed while a call is on hold. `observe(seconds)` is told how long each exchange
    with the relay took.
    """

    def __init__(
        self,
        socket_path: str = "",
        *,
        child: RelayChild | None = None,
        name: str = "embedded",
        command_timeout: float = 2.0,
        hold_timeout: int = 7200,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        if bool(socket_path) == (child is not None):
            raise ValueError("give the relay's socket path, or the child to start")
        self._path = child.socket if child is not None else socket_path
        self._child = child
        self._command_timeout = command_timeout
        self._observe = observe
        self._commands: CommandConnection | None = None
        self._events: EventConnection | None = None
        self._sessions: dict[str, RtpIoSession] = {}
        self._networks: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._why_away = "not started"
        self._log = structlog.get_logger("media.relay")
        self.name = name
        self.hold_timeout = hold_timeout
        self.timeout = 0
        self.setup_timeout = 0
        self.notify = ""
        self.on_loopback = False
        self.room: Room | None = None
        """How many calls it has room for; None: not known."""

    async def start(self) -> None:
        """Start the child where there is one, and connect. Raises RelayError."""
        if self._child is not None:
            await self._child.start()
        self._task = asyncio.create_task(self._keep_connected(), name="media relay connection")
        try:
            async with asyncio.timeout(self._command_timeout + 1):
                await self._up.wait()
        except TimeoutError:
            reason = self._why_away
            await self.stop()
            raise RelayError(f"no media relay at {self._path}: {reason}") from None

    async def stop(self) -> None:
        """Disconnect, and end the child. Sessions of a relay that is not a child go on there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._why_away = "stopped"
        events, self._events = self._events, None
        if events is not None:
            events.close()
        self._close_commands()
        if self._child is not None:
            await self._child.stop()

    @property
    def ready(self) -> bool:
        """False while the relay process is away."""
        return self._commands is not None

    @property
    def bridges(self) -> bool:
        """SRTP passes from end to end only, and so do codecs."""
        return False

    @property
    def sessions(self) -> int:
        """Sessions that hold ports."""
        return len(self._sessions)

    @property
    def instances(self) -> dict[str, bool]:
        """The one process."""
        return {self.name: self.ready}

    def session(self, session_id: str, on_media_timeout: Callable[[], None]) -> RtpIoSession:
        """A session for a call; no I/O. The same id on a relay that still has it takes it over (after a restart here).

        Raises ValueError on an id that is no plain word of at most 200 characters.
        """
        self.check_id(session_id)
        return RtpIoSession(self, session_id, on_media_timeout)

    @staticmethod
    def check_id(session_id: str) -> None:
        """Raises ValueError on an id that is no plain word of at most 200 characters."""
        if not _SESSION_ID.fullmatch(session_id):
            raise ValueError(f"relay session id {session_id[:80]!r}: letters, digits and ._~- only, at most 200")

    def places(self) -> Sequence[RtpIoRelay]:
        """Where a new session may go. Raises RelayError where it may not."""
        if self._commands is None:
            raise RelayError(f"the media relay is away: {self._why_away}")
        if self.room is not None and len(self._sessions) >= self.room.calls:
            raise RelayFull(self.room.text)
        return (self,)

    def named(self, name: str) -> RtpIoRelay | None:
        """The process that a saved session is in."""
        return self

    async def media_in_relay(self) -> int:
        """Media that exist in the relay, whoever made them: more than this process knows of is a leak. RelayError."""
        totals, pulse = await self.ask(commands.MEDIA, 2)
        return commands.read_media(totals, pulse)

    async def clear(self) -> None:
        """End every session in the relay, whoever made it: for a start that takes no calls over. RelayError."""
        await self.ask(commands.DELETE_ALL, 1)

    def network(self, name: str, ipv6: bool | None) -> tuple[str, str]:
        """The label and the address of the network towards a peer whose media are of a family (None: not known).

        Without a `name`, the first of that family. Raises RelayError where there is none.
        """
        if not self._networks:
            raise RelayError(f"the media relay is away: {self._why_away}")
        for label, address in self._networks.items():
            if name in ("", label) and ipv6 in (None, ":" in address):
                return label, address
        family = "" if ipv6 is None else " of IPv6" if ipv6 else " of IPv4"
        have = ", ".join(f"{label} ({address})" for label, address in self._networks.items())
        raise RelayError(f"the media relay has no network {name!r}{family}; it has {have}")

    def ask(self, text: bytes, wanted: int, within: float = 0.0) -> asyncio.Future[list[str]]:
        """Send commands, at the latest `within` seconds, a future of their replies. Raises RelayError, at once or from
        the future."""
        if self._commands is None:
            raise RelayError(f"the media relay is away: {self._why_away}")
        return self._commands.ask(text, wanted, within)

    def hold(self, session: RtpIoSession) -> None:
        """A session takes its first ports: it counts from here on. Raises ValueError where its id is in use."""
        if self._sessions.setdefault(session.id, session) is not session:
            raise ValueError(f"relay session id {session.id} is in use")

    def release(self, session: RtpIoSession) -> None:
        """A session has given its ports back."""
        self._sessions.pop(session.id, None)

    async def _keep_connected(self) -> None:
        delay = _FIRST_DELAY
        told = False
        while True:
            try:
                await self._connect()
            except (OSError, RelayError, TimeoutError) as error:
                self._why_away = str(error) or "it does not answer"
                if not told:
                    self._log.warning("relay.unreachable", socket=self._path, reason=self._why_away)
                    told = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await asyncio.Event().wait()
                delay = min(delay * 2, _LONGEST_DELAY)
                continue
            self._log.info("relay.connected", socket=self._path, networks=self._networks)
            delay, told = _FIRST_DELAY, False
            self._up.set()
            await self._down.wait()
            self._up.clear()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        limit = self._command_timeout
        self._down.clear()
        if self._events is None:
            await self._connect_events()
        opening = loop.create_unix_connection(
            lambda: CommandConnection(limit, self._disconnected, self._observe), self._path
        )
        _, made = await asyncio.wait_for(opening, limit)
        try:
            version = (await made.ask(commands.VERSION, 1))[0]
            if version != commands.BASE_VERSION or self._events is None:
                raise RelayError(f"what answers at {self._path} is no RTPProxy, or it ended: {version[:80]!r}")
        except BaseException:
            made.close()
            raise
        self._commands = made

    async def _connect_events(self) -> None:
        loop = asyncio.get_running_loop()
        opening = loop.create_unix_connection(
            lambda: EventConnection(self._timed_out, self._ended), self._path + EVENTS_SUFFIX
        )
        _, events = await asyncio.wait_for(opening, self._command_timeout)
        try:
            self._greet(await asyncio.wait_for(events.greeting, self._command_timeout))
        except BaseException:
            events.close()
            raise
        self._events = events

    def _greet(self, said: dict[str, str]) -> None:
        try:
            self.timeout, self.setup_timeout = int(said["timeout"]), int(said["setup"])
            self.notify = said["notify"]
            self.on_loopback = said["loopback"] == "1"
            pairs = [text.partition("@") for text in said["networks"].split(",")]
        except (KeyError, ValueError) as error:
            raise RelayError(f"the relay's greeting cannot be read: {error!r}") from None
        self._networks = {label: address for label, _, address in pairs}
        low, _, high = said.get("ports", "").partition("-")
        self.room = room((int(low), int(high)), int(said["descriptors"])) if low and "descriptors" in said else None

    def _disconnected(self, which: CommandConnection, reason: str) -> None:
        if which is self._commands:
            self._commands = None
            self._why_away = reason
            self._log.warning("relay.disconnected", reason=reason)
            self._down.set()

    def _ended(self, which: EventConnection) -> None:
        if which is not self._events:
            return
        self._events = None
        self._why_away = "the relay process ended"
        self._close_commands()
        self._down.set()
        lost = list(self._sessions.values())
        self._sessions.clear()
        self._log.error("relay.lost", sessions=len(lost))
        for session in lost:
            session.lose("the relay process ended and took the media of this call with it")

    def _close_commands(self) -> None:
        connection, self._commands = self._commands, None
        if connection is not None:
            connection.close()

    def _timed_out(self, tag: str) -> None:
        session_id, _, medium = tag.rpartition("/")
        session = self._sessions.get(session_id)
        if session is not None and medium.isdigit():
            session.timed_out(int(medium))
