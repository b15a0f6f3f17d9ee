"""The relay backend for one or several rtpengine processes (ng protocol), which run on their own.

A new call goes to one of the instances that answer, by weight and by its id, so that the same call finds the same
instance again after a restart of this process. Each instance is asked for its statistics once a second: that is its
health check, tells of a restart (its sessions are gone), and of sessions that it ended for their silence, which are
then looked for one by one.

An instance whose port is closed has ended, and its calls are told. One that does not answer may be out of our reach
only: it gets no new calls, and those it has go on, until it is away for longer than silence is allowed.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic
from typing import Final

import structlog

from media.relay import ng_messages as ng
from media.relay.ng_client import NgClient, Unanswered
from media.relay.ng_messages import Value
from media.relay.port import RelayError
from media.relay.rtpengine_session import RtpEngineSession

_SESSION_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_ENDED: Final = (
    b"timeoutsessions",
    b"silenttimeoutsessions",
    b"offertimeoutsessions",
    b"finaltimeoutsessions",
    b"forcedterminatedsessions",
)
"""Counters of sessions that rtpengine ended by itself, or somebody at its console."""
_LIST: Final = 2000
"""Call-IDs asked for at once: as many as fit a datagram."""

log = structlog.get_logger("media.relay")


@dataclass(frozen=True, slots=True)
class RtpEngineAddress:
    """The ng port of an instance. `weight`: how many new calls it gets in proportion to the others."""

    host: str
    port: int
    weight: int = 1

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Instance:
    """One rtpengine, and the sessions it has of ours."""

    def __init__(self, address: RtpEngineAddress, client: NgClient) -> None:
        self.address = address
        self.name = str(address)
        self.client = client
        self.sessions: dict[str, RtpEngineSession] = {}
        self.up = False
        self.why_away = "not asked yet"
        self.away_since = monotonic()
        self.began = 0.0
        """When it was started, on our clock (to a second); 0: not known yet."""
        self.on_loopback = False
        """Whether it has loopback addresses only, for tests and demonstrations."""
        self.ended = 0
        """How many sessions it says it ended by itself."""

    def score(self, session_id: str) -> float:
        """Weighted rendezvous: the instance with the highest score gets the session."""
        digest = blake2b(f"{session_id} {self.name}".encode(), digest_size=8).digest()
        return -self.address.weight / math.log((int.from_bytes(digest) + 1) / (2**64 + 1))


class RtpEngineRelay:
    """A `MediaRelay` over rtpengine.

    `owner` names us among the edges that share an instance. `command_timeout` (seconds): how long a command may take,
    repetitions included. `poll` (seconds): how often each instance is asked how it does. `lost_after` (seconds): how
    long an instance may be out of reach before its calls are told. `observe(seconds)` is told how long each command
    took.
    """

    def __init__(
        self,
        addresses: tuple[RtpEngineAddress, ...],
        owner: str,
        *,
        command_timeout: float = 2.0,
        poll: float = 1.0,
        lost_after: float = 60.0,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        if not addresses:
            raise ValueError("give at least one rtpengine")
        self.prefix = f"{owner}/"
        self._patience = command_timeout + 1
        self._poll = poll
        self._lost_after = lost_after
        self._instances = [Instance(a, NgClient(str(a), command_timeout, observe)) for a in addresses]
        self._tasks: list[asyncio.Task[None]] = []
        self._first = asyncio.Event()
        self._held: dict[str, RtpEngineSession] = {}

    async def start(self) -> None:
        """Connect; one instance that answers is enough. Raises RelayError."""
        for instance in self._instances:
            try:
                await instance.client.open(instance.address.host, instance.address.port)
            except OSError as error:
                await self.stop()
                raise RelayError(f"rtpengine {instance.name}: {error}") from None
        self._tasks = [asyncio.create_task(self._watch(i), name=f"rtpengine {i.name}") for i in self._instances]
        try:
            async with asyncio.timeout(self._patience):
                await self._first.wait()
        except TimeoutError:
            reasons = "; ".join(i.why_away for i in self._instances)
            await self.stop()
            raise RelayError(f"no rtpengine answers: {reasons}") from None

    async def stop(self) -> None:
        """Disconnect. Sessions go on in their instances."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        for instance in self._instances:
            instance.up = False
            instance.client.close()

    def instance(self, name: str) -> Instance | None:
        """An instance by its name."""
        return next((i for i in self._instances if i.name == name), None)

    @property
    def bridges(self) -> bool:
        """SRTP to RTP, and transcoding."""
        return True

    @property
    def ready(self) -> bool:
        """False while no instance answers."""
        return any(i.up for i in self._instances)

    @property
    def sessions(self) -> int:
        """Sessions that hold ports."""
        return len(self._held)

    @property
    def on_loopback(self) -> bool:
        """Whether peers may name loopback addresses: no instance can be reached from elsewhere."""
        return all(i.on_loopback for i in self._instances)

    @property
    def instances(self) -> dict[str, bool]:
        """Each instance as `host:port`, and whether it answers."""
        return {i.name: i.up for i in self._instances}

    def session(self, session_id: str, on_media_timeout: Callable[[], None]) -> RtpEngineSession:
        """A session for a call; no I/O. The same id takes over the session that an instance still has.

        Raises ValueError on an id that is no plain word of at most 200 characters.
        """
        if not _SESSION_ID.fullmatch(session_id):
            raise ValueError(f"relay session id {session_id[:80]!r}: letters, digits and ._~- only, at most 200")
        return RtpEngineSession(self, session_id, on_media_timeout)

    async def clear(self) -> None:
        """End every session whose id begins with our owner's name, in every instance that answers. RelayError."""
        for instance in self._instances:
            while instance.up and (ours := await self._ours(instance)):
                for call_id in ours:
                    await instance.client.ask("delete", call_id=call_id, delete_delay=0)

    async def media_in_relay(self) -> int:
        """Sessions of ours that the instances have, whoever made them: more than `sessions` is a leak. RelayError."""
        return sum([len(await self._ours(i)) for i in self._instances if i.up])

    async def _ours(self, instance: Instance) -> list[bytes]:
        answer = await instance.client.ask("list", limit=_LIST)
        calls = answer.get(b"calls", [])
        mine = self.prefix.encode()
        return [c for c in calls if isinstance(c, bytes) and c.startswith(mine)] if isinstance(calls, list) else []

    def places(self, session_id: str) -> list[Instance]:
        """Where a new session may go, best first. Raises RelayError where no instance answers."""
        up = [i for i in self._instances if i.up]
        if not up:
            reasons = "; ".join(i.why_away for i in self._instances)
            raise RelayError(f"the media relay is away: {reasons}")
        return sorted(up, key=lambda i: i.score(session_id), reverse=True) if len(up) > 1 else up

    def hold(self, session: RtpEngineSession, instance: Instance) -> None:
        """A session takes its first ports. Raises ValueError where its id is in use."""
        if self._held.setdefault(session.id, session) is not session:
            raise ValueError(f"relay session id {session.id} is in use")
        instance.sessions[session.id] = session

    def release(self, session: RtpEngineSession, instance: Instance | None) -> None:
        """A session has given its ports back, or never got any."""
        if self._held.get(session.id) is session:
            del self._held[session.id]
        if instance is not None and instance.sessions.get(session.id) is session:
            del instance.sessions[session.id]

    def failed(self, instance: Instance, error: Unanswered) -> None:
        """A command was not answered: no new calls for the instance until it answers again."""
        instance.why_away = str(error)
        if instance.up:
            instance.up = False
            instance.away_since = monotonic()
            log.error("relay.unreachable", relay=instance.name, reason=str(error), sessions=len(instance.sessions))
        if error.refused:
            self._lose(instance, f"{error}: the process ended and took the media of this call with it")

    async def _watch(self, instance: Instance) -> None:
        pause = asyncio.Event()
        while True:
            try:
                await self._look(instance, await instance.client.ask("statistics"))
            except Unanswered as error:
                self.failed(instance, error)
                if monotonic() - instance.away_since > self._lost_after:
                    self._lose(instance, f"rtpengine {instance.name} was away for too long")
            except RelayError as error:
                log.warning("relay.unreadable", relay=instance.name, reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll if instance.up else min(self._poll, 0.5)):
                    await pause.wait()

    async def _look(self, instance: Instance, answer: dict[bytes, Value]) -> None:
        statistics = answer.get(b"statistics")
        totals = statistics.get(b"totalstatistics") if isinstance(statistics, dict) else None
        if not isinstance(statistics, dict) or not isinstance(totals, dict):
            raise RelayError("an answer without statistics: no rtpengine?")
        uptime = ng.text(totals, b"uptime")
        began = monotonic() - (int(uptime) if uptime.isascii() and uptime.isdigit() else 0)
        instance.on_loopback = _is_on_loopback(statistics)
        restarted = instance.began > 0 and began > instance.began + 2.5
        instance.began = began if restarted or not instance.began else min(began, instance.began)
        ended = sum(ng.number(totals, key) for key in _ENDED)
        before, instance.ended = instance.ended, ended
        if restarted:
            self._lose(instance, f"rtpengine {instance.name} was started again and knows this call no more")
        if not instance.up:
            instance.up = True
            self._first.set()
            log.info("relay.connected", relay=instance.name)
        if not restarted and ended > before:
            for session in list(instance.sessions.values()):
                await session.look()

    def _lose(self, instance: Instance, reason: str) -> None:
        lost, instance.sessions = list(instance.sessions.values()), {}
        if lost:
            log.error("relay.lost", relay=instance.name, sessions=len(lost), reason=reason)
        for session in lost:
            self._held.pop(session.id, None)
            session.lose(reason)


def _is_on_loopback(statistics: dict[bytes, Value]) -> bool:
    interfaces = statistics.get(b"interfaces")
    listed = interfaces if isinstance(interfaces, list) else []
    addresses = [ng.text(interface, b"address") for interface in listed if isinstance(interface, dict)]
    return bool(addresses) and all(a == "::1" or a.startswith("127.") for a in addresses)
