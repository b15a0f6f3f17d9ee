"""TLS connections that a fork of the program goes on with: what it does once it is alone with them."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edge.transport import tls_keeper
from edge.transport.tls_channel import TlsChannel

from .shell import client_tls, server_tls


class Kept:
    """A connection as the keeper has it: `peer` is the far end's TLS, `near` the plain end of the new program."""

    def __init__(self) -> None:
        there, here = socket.socketpair()
        self.near, far = socket.socketpair()
        channel = TlsChannel(server_tls("edge.example"), server_side=True)
        shaking = threading.Thread(target=self._shake, args=(there,))
        shaking.start()
        while not channel.open:
            channel.receive(here.recv(65536))
            here.sendall(channel.outgoing())
        shaking.join(5)
        self.near.settimeout(5)
        self.pipe = tls_keeper._Pipe(here.detach(), channel, far.detach())

    def _shake(self, there: socket.socket) -> None:
        there.settimeout(5)
        context = client_tls()
        self.peer = context.wrap_socket(there, server_hostname="edge.example", suppress_ragged_eofs=False)


@contextmanager
def keeping(*kept: Kept, seconds: float = 60.0) -> Iterator[threading.Thread]:
    """A keeper at work; it must end by itself."""
    thread = threading.Thread(target=tls_keeper.serve, args=([each.pipe for each in kept], seconds))
    thread.start()
    yield thread
    thread.join(5)
    assert not thread.is_alive()
    for each in kept:
        each.peer.close()
        each.near.close()


def read(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := sock.recv(65536)):
        found += data
    return found


def test_what_is_said_crosses_and_the_peer_hangs_up() -> None:
    """Both ways, more than any buffer holds; the peer's goodbye comes after all it said."""
    kept, much = Kept(), os.urandom(3_000_000)
    with keeping(kept):
        sending = threading.Thread(target=kept.peer.sendall, args=(much,))
        sending.start()
        assert read(kept.near, len(much)) == much
        sending.join()
        sending = threading.Thread(target=kept.near.sendall, args=(much,))
        sending.start()
        assert read(kept.peer, len(much)) == much
        sending.join()
        kept.peer.sendall(b"last")
        kept.peer.close()
        assert read(kept.near, 100) == b"last"


def test_the_program_hangs_up_or_crashes() -> None:
    """The peer gets what was said and a goodbye (close_notify), and can connect again at once; others go on."""
    kept, other = Kept(), Kept()
    with keeping(kept, other):
        kept.near.sendall(b"bye")
        kept.near.close()
        assert read(kept.peer, 100) == b"bye"
        other.near.sendall(b"here")
        assert other.peer.recv(100) == b"here"
        other.near.close()
        assert other.peer.recv(100) == b""


def test_broken_records_end_one_connection() -> None:
    """What is no TLS ends it for both sides."""
    kept = Kept()
    with keeping(kept):
        raw = socket.socket(fileno=os.dup(kept.peer.fileno()))
        raw.sendall(b"\x17\x03\x03\x00\x04junk")
        assert kept.near.recv(100) == b""
        raw.close()


def test_after_a_day_the_quietest_goes_first() -> None:
    """The memory of the old program is not kept for ever."""
    quiet, busy = Kept(), Kept()
    busy.pipe.heard_at += 1
    with keeping(quiet, busy, seconds=0.0):
        assert quiet.peer.recv(1) == b""
        busy.peer.sendall(b"x")
        assert busy.near.recv(1) == b"x"
        assert busy.peer.recv(1) == b""


def test_no_session_is_lost_in_the_object() -> None:
    """A handshake that fails is told apart from one that waits, and the peer hears why."""
    channel = TlsChannel(server_tls("edge.example"), server_side=True)
    channel.begin()
    assert not channel.open and channel.outgoing() == b""
    try:
        channel.receive(b"INVITE sip:a@b SIP/2.0\r\n")
    except ssl.SSLError:
        pass
    else:
        raise AssertionError("it is no TLS")
    assert not channel.open
