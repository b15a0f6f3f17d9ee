"""The relay process: `python -m media.relay.process --socket PATH --bind ADDRESS --ports MIN-MAX`.

Hosts the engine of RTPProxy (`rtp.io`), which works in threads of its own. Two UNIX stream sockets:

- PATH takes the text commands, from any number of clients at once; sessions belong to the relay and outlive them;
- PATH.events tells every client, a line each: first `ready KEY=VALUE ...`, then the tag of each medium that timed out.

On PATH.events an end of file means that the relay is gone. `ready` is also written to standard output, and told to
systemd where NOTIFY_SOCKET is set. SIGTERM and SIGINT end it.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import resource
import signal
import socket
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

from media.relay.rtpproxy_commands import PULSE

EVENTS_SUFFIX = ".events"
_SUN_PATH = 107
# A client that reads no events for this many bytes is cut off, so that it cannot hold the relay's memory.
_MAX_BACKLOG = 1_000_000


class BadOption(ValueError):
    """An option that cannot be used; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Bind:
    """One address to relay on: `[LABEL@]ADDRESS[=ADVERTISED]`. `advertised` is what peers are told (behind NAT)."""

    address: str
    label: str = "main"
    advertised: str = ""

    @classmethod
    def parse(cls, text: str) -> Bind:
        """Raises BadOption."""
        label, at, rest = text.rpartition("@")
        address, _, advertised = rest.partition("=")
        try:
            bound = ipaddress.ip_address(address)
            shown = ipaddress.ip_address(advertised) if advertised else bound
        except ValueError:
            raise BadOption(f"--bind {text}: give [LABEL@]ADDRESS[=ADVERTISED] with IP addresses") from None
        if bound.is_unspecified:
            raise BadOption(f"--bind {text}: name one address of this machine, peers have to be told where to send")
        if shown.version != bound.version:
            raise BadOption(f"--bind {text}: the advertised address is of the other family")
        if at and not (label.isascii() and label.isalnum()):
            raise BadOption(f"--bind {text}: a label has letters and digits only")
        return cls(str(bound), label if at else "main", str(shown) if advertised else "")

    def argument(self) -> tuple[str, str]:
        """As the engine takes it."""
        shown = f"={self.advertised}" if self.advertised else ""
        return ("-6" if ":" in self.address else "-l", f"{self.label}@{self.address}{shown}")


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """What a relay process is started with. Ports are UDP ports, inclusive; times in seconds.

    `timeout`: a medium of an answered call without packets from either side; `setup_timeout`: one that is not answered.
    `alone`: end after so long without a client of PATH.events (0: never), for a relay that belongs to an edge: it
    outlives the edge's crash and waits for the next, but not for ever.
    """

    socket: str
    bind: tuple[Bind, ...] = (Bind("127.0.0.1"),)
    ports: tuple[int, int] = (20000, 29999)
    timeout: int = 60
    setup_timeout: int = 900
    log_level: str = "warn"
    alone: int = 0

    def check(self) -> None:
        """Raises BadOption."""
        low, high = self.ports
        if not (1024 <= low < high <= 65535) or high - low < 3:
            raise BadOption(f"--ports {low}-{high}: a range within 1024-65535 with room for two pairs")
        if not 1 <= len(self.bind) <= 8 or len({b.label for b in self.bind}) != len(self.bind):
            raise BadOption("--bind: one to eight addresses, each with a label of its own")
        if self.timeout < 1 or self.setup_timeout < 1:
            raise BadOption("--timeout and --setup-timeout are at least 1 second")
        if len(os.fsencode(self.socket + EVENTS_SUFFIX)) > _SUN_PATH:
            raise BadOption(f"--socket {self.socket}: longer than a UNIX socket may be; take a shorter directory")

    def command_line(self) -> list[str]:
        """The arguments that give these options back."""
        arguments = ["--socket", self.socket, "--ports", f"{self.ports[0]}-{self.ports[1]}"]
        for bind in self.bind:
            arguments += ["--bind", bind.argument()[1]]
        arguments += ["--timeout", str(self.timeout), "--setup-timeout", str(self.setup_timeout)]
        arguments += ["--log-level", self.log_level]
        return [*arguments, "--alone", str(self.alone)]

    @property
    def fingerprint(self) -> str:
        """The same for relays that do the same."""
        return blake2b(" ".join(self.command_line()).encode(), digest_size=8).hexdigest()


def parse_arguments(arguments: Sequence[str]) -> RelayOptions:
    """Options from a command line; argparse ends the process on a wrong one. Raises BadOption."""
    parser = argparse.ArgumentParser(prog="python -m media.relay.process", description="Relay RTP, RTCP and UDPTL.")
    parser.add_argument("--socket", required=True, help="UNIX socket for commands; PATH.events is made beside it")
    parser.add_argument("--bind", action="append", required=True, help="[LABEL@]ADDRESS[=ADVERTISED]; may be repeated")
    parser.add_argument("--ports", default="20000-29999", help="UDP ports MIN-MAX (default %(default)s)")
    parser.add_argument("--timeout", type=int, default=60, help="seconds without packets (default %(default)s)")
    parser.add_argument("--setup-timeout", type=int, default=900, help="the same before the answer")
    parser.add_argument("--log-level", default="warn", choices=("dbug", "info", "warn", "err", "crit"))
    parser.add_argument("--alone", type=int, default=0, help="end after so many seconds without a client (0: never)")
    got = parser.parse_args(arguments)
    low, dash, high = got.ports.partition("-")
    if not (dash and low.isdigit() and high.isdigit()):
        raise BadOption(f"--ports {got.ports}: give MIN-MAX")
    options = RelayOptions(
        got.socket,
        tuple(Bind.parse(text) for text in got.bind),
        (int(low), int(high)),
        got.timeout,
        got.setup_timeout,
        got.log_level,
        got.alone,
    )
    options.check()
    return options


def clear_stale(path: str) -> None:
    """Remove a socket file nobody listens on. Raises BadOption where somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise BadOption(f"--socket {path}: another relay answers there; stop it, or give another path")


class _Events(asyncio.Protocol):
    """One client of PATH.events: written to, never read from."""

    def __init__(self, greeting: bytes, clients: set[asyncio.WriteTransport]) -> None:
        self._greeting = greeting
        self._clients = clients
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._clients.add(self._transport)
        self._transport.write(self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._clients.discard(self._transport)


class _Pulse:
    """A packet a second to a port of the engine, for RTP and for RTCP.

    The engine closes the sockets of an ended session when the thread that reads them wakes, and nothing but a packet or
    a new session wakes it. Without this, ports given back by the last calls stay taken, and a relay that ran out of
    ports could stay so for good.
    """

    _INTERVAL = 1.0

    def __init__(self, commands: socket.socket, bind: Bind) -> None:
        self._commands = commands
        self._bind = bind
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._udp = socket.socket(socket.AF_INET6 if ":" in bind.address else socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        commands.setblocking(False)
        self._loop.add_reader(commands, self._beat)
        self._ask()

    def _ask(self) -> None:
        self._timer = self._loop.call_later(self._INTERVAL, self._ask)
        # Made anew where a client has ended all sessions.
        with suppress(BlockingIOError):
            self._commands.send(f"Ul{{{self._bind.label}}} {PULSE} 0.0.0.0 9 pulse;0\n".encode())

    def _beat(self) -> None:
        reply = self._commands.recv(4096).split()
        if reply and reply[0].isdigit():
            for port in (int(reply[0]), int(reply[0]) + 1):
                with suppress(OSError):
                    self._udp.sendto(b"\0", (self._bind.address, port))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._commands)
        self._udp.close()


async def serve(options: RelayOptions) -> None:
    """Run the relay until a signal or the end of standard input. Raises BadOption, RuntimeError (the engine's)."""
    from rtp.io import rtpproxy

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    events_path = options.socket + EVENTS_SUFFIX
    clear_stale(options.socket)
    clear_stale(events_path)
    for bind in options.bind:
        _try_address(bind)
    descriptors = _allow_descriptors()
    os.umask(0o117)
    extra = ["-F", "-s", f"cunix:{options.socket}"]
    for bind in options.bind:
        extra += bind.argument()
    engine = rtpproxy(
        ttl=options.timeout,
        setup_ttl=options.setup_timeout,
        debug_level=options.log_level,
        port_min=options.ports[0],
        port_max=options.ports[1],
        modules=(),
        extra_args=tuple(extra),
    )
    try:
        clients: set[asyncio.WriteTransport] = set()
        networks = ",".join(f"{b.label}@{b.advertised or b.address}" for b in options.bind)
        local = int(any(ipaddress.ip_address(b.address).is_loopback for b in options.bind))
        greeting = (
            f"ready notify={engine.rtpp_nsock_spec} timeout={options.timeout} setup={options.setup_timeout} "
            f"pid={os.getpid()} loopback={local} options={options.fingerprint} networks={networks} "
            f"ports={options.ports[0]}-{options.ports[1]} descriptors={descriptors}\n"
        ).encode()
        server = await loop.create_unix_server(lambda: _Events(greeting, clients), events_path)
        notices: socket.socket = engine.rtpp_nsock
        notices.setblocking(False)
        loop.add_reader(notices, _pass_on, notices, clients)
        lonely = asyncio.create_task(_end_alone(options.alone, clients, stop))
        pulse = _Pulse(engine.rtpp_sock, options.bind[0])
        _tell_ready()
        await stop.wait()
        lonely.cancel()
        pulse.close()
        loop.remove_reader(notices)
        server.close()
        for client in list(clients):
            client.abort()
    finally:
        # Dropping the last reference stops the engine's threads and removes its socket.
        del engine
        for path in (options.socket, events_path):
            with suppress(FileNotFoundError):
                os.unlink(path)


def _pass_on(notices: socket.socket, clients: set[asyncio.WriteTransport]) -> None:
    with suppress(BlockingIOError):
        lines = notices.recv(65536)
        for client in list(clients):
            if client.get_write_buffer_size() > _MAX_BACKLOG:
                client.abort()
            else:
                client.write(lines)


async def _end_alone(seconds: int, clients: Collection[asyncio.WriteTransport], stop: asyncio.Event) -> None:
    if not seconds:
        return
    loop = asyncio.get_running_loop()
    seen = loop.time()
    while not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(min(1.0, seconds / 4)):
                await stop.wait()
        if clients:
            seen = loop.time()
        elif loop.time() - seen > seconds:
            sys.stderr.write(f"WARN: no edge for {seconds} s: the relay ends\n")
            stop.set()


def _try_address(bind: Bind) -> None:
    # The engine binds when the first call comes; a wrong address is to be known now.
    family = socket.AF_INET6 if ":" in bind.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((bind.address, 0))
        except OSError as error:
            raise BadOption(f"--bind {bind.address}: not an address of this machine ({error.strerror})") from None


def _allow_descriptors() -> int:
    """As many file descriptors as this process may have; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _tell_ready() -> None:
    with suppress(BrokenPipeError):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(b"READY=1", "\0" + address[1:] if address[0] == "@" else address)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after a signal, 1 where it could not start."""
    try:
        asyncio.run(serve(parse_arguments(sys.argv[1:] if arguments is None else arguments)))
    except (BadOption, RuntimeError, OSError) as error:
        sys.stderr.write(f"ERR: media relay: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
