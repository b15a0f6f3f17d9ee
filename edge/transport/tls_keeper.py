"""TLS connections across a change of the program (`sip-edge upgrade`): a TLS session is memory of the process that
shook hands, so a fork of that process goes on with the records, and the new program has each connection's plain end.

The fork does nothing else: it has no files, no signals and no loop of the old program. A connection ends when its peer
or the program ends it; with the last one the process is gone, after `SECONDS` at the latest.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge.transport.tls_channel import TlsChannel

NAME = "sip-edge-tls"
"""What `ps` shows."""
SECONDS = 24 * 3600.0
"""From then on one connection a second is closed, the quietest first: its peer connects to the program there is."""
_CHUNK = 65536
_MOST = 1024 * 1024
"""Bytes that one side may leave unread before the other is not read any more."""


def keep(connections: Sequence[tuple[int, TlsChannel, socket.socket]]) -> None:
    """Fork the process that goes on with these: descriptor, TLS, and the end that is not the new program's. Returns in
    the old process once the other has let go of everything else."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        gc.disable()  # nothing of the old program's is to be touched: its memory is shared until one side writes
        _alone({fd for descriptor, _, far in connections for fd in (descriptor, far.fileno())})
        if os.fork() == 0:  # a child of nobody who would have to wait for it
            with suppress(OSError):
                Path("/proc/self/comm").write_text(NAME)
            serve([_Pipe(descriptor, channel, far.fileno()) for descriptor, channel, far in connections], SECONDS)
    finally:
        os._exit(0)


def _alone(wanted: set[int]) -> None:
    """Let go of the old program's terminal, signals and files."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in wanted:
            with suppress(OSError):
                os.close(int(name))
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        if standard != nothing and standard not in wanted:
            os.dup2(nothing, standard)


class _Pipe:
    """One connection: records on `net`, what they say on `near`."""

    __slots__ = ("channel", "ending", "heard_at", "near", "net", "to_near", "to_net")

    def __init__(self, net: int, channel: TlsChannel, near: int) -> None:
        self.net, self.channel, self.near = net, channel, near
        self.to_net, self.to_near = bytearray(), bytearray()
        self.ending = False
        self.heard_at = time.monotonic()
        for descriptor in (net, near):
            os.set_blocking(descriptor, False)

    @property
    def over(self) -> bool:
        return self.ending and not self.to_net and not self.to_near

    def wants(self) -> tuple[int, int]:
        """The epoll events of `net` and `near` that it waits for."""
        read_net = not self.ending and len(self.to_near) < _MOST
        read_near = not self.ending and len(self.to_net) < _MOST
        return (
            (select.EPOLLIN if read_net else 0) | (select.EPOLLOUT if self.to_net else 0),
            (select.EPOLLIN if read_near else 0) | (select.EPOLLOUT if self.to_near else 0),
        )

    def ready(self, descriptor: int, events: int) -> None:
        """Something can be read or written, or one end is gone."""
        gone = events & (select.EPOLLHUP | select.EPOLLERR)
        if not self.ending and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._read(descriptor)
        elif gone:
            (self.to_net if descriptor == self.net else self.to_near).clear()
        self.flush()

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.heard_at = time.monotonic()
        channel = self.channel
        try:
            if not data:
                self.finish()
            elif descriptor == self.near:
                channel.send(data)
            else:
                self.to_near += channel.receive(data)
                if channel.closed:
                    self.finish()
        except ssl.SSLError:
            self.ending = True
        self.to_net += channel.outgoing()

    def finish(self) -> None:
        """Say goodbye to the peer; what was said is still delivered."""
        self.ending = True
        self.channel.finish()
        self.to_net += self.channel.outgoing()

    def flush(self) -> None:
        """Write what can be written."""
        for descriptor, waiting in ((self.net, self.to_net), (self.near, self.to_near)):
            try:
                while waiting:
                    del waiting[: os.write(descriptor, waiting)]
            except BlockingIOError:
                continue
            except OSError:
                waiting.clear()
                self.ending = True

    def close(self) -> None:
        for descriptor in (self.net, self.near):
            os.close(descriptor)


def serve(pipes: Sequence[_Pipe], seconds: float) -> None:
    """Until the last connection is over."""
    until = time.monotonic() + seconds
    poll = select.epoll()
    found: dict[int, _Pipe] = {}
    wanted: dict[int, int] = {}
    for pipe in pipes:
        for descriptor, events in zip((pipe.net, pipe.near), pipe.wants(), strict=True):
            found[descriptor], wanted[descriptor] = pipe, events
            poll.register(descriptor, events)
    while found:
        touched: set[_Pipe] = set()
        for descriptor, events in poll.poll(max(1.0, until - time.monotonic())):
            pipe = found[descriptor]
            pipe.ready(descriptor, events)
            touched.add(pipe)
        if not touched and time.monotonic() >= until:
            quietest = min(found.values(), key=lambda pipe: pipe.heard_at)
            quietest.finish()
            quietest.flush()
            touched.add(quietest)
        for pipe in touched:
            for descriptor, events in zip((pipe.net, pipe.near), pipe.wants(), strict=True):
                if pipe.over:
                    poll.unregister(descriptor)
                    del found[descriptor], wanted[descriptor]
                elif wanted[descriptor] != events:
                    wanted[descriptor] = events
                    poll.modify(descriptor, events)
            if pipe.over:
                pipe.close()
