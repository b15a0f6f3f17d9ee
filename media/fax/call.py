"""One fax call in a process of its own: its sockets, its clock, its orders.

Everything that a bad call can do (a crash in the library, endless memory, a full disk, a blocked fsync) happens in here
and ends with this process. The process lives as long as its fax, or as its control socket: when the process that
ordered the fax dies, the socket reads empty and the fax ends with what it has.
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from media.fax.events import (
    FaxEvent,
    Finished,
    HangUp,
    Ready,
    T38Refused,
    UseAudio,
    UseT38,
    decode_command,
    encode,
)
from media.fax.jitter import JitterBuffer, read_rtp
from media.fax.remote import Remote
from media.fax.spandsp import FRAME, UP_TO_9600, UP_TO_14400
from media.fax.spool import Folder, SpoolError
from media.fax.srtp import Opener, Sealer
from media.fax.station import Machine, Station
from media.fax.udptl import Receiver, Sender

TICK: Final = 0.02
MESSAGE: Final = 65536
_MOST_BEHIND: Final = 500
# How many ticks of sound are sent late rather than left out: the buffers of far ends hold about as much.
_CATCH_UP: Final = 7
_STRIDE: Final = 3
_MEMORY: Final = 768 << 20
_LARGEST_FILE: Final = 256 << 20
_DATAGRAMS_PER_TICK: Final = 64
# Microseconds of work in one go. The longest page that is taken needs 30 000.
_LONGEST_WORK: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What a fax process is to do. `document`: TIFF to send; None: receive. `ports`: media ports, first and last.

    `audio_rate`: fastest rate over G.711, 9600 or 14400 bit/s.
    """

    folder: str
    host: str
    ports: tuple[int, int]
    ident: str = ""
    document: str | None = None
    ecm: bool = True
    audio_rate: int = 9600

    def to_json(self) -> bytes:
        """As it is sent."""
        return json.dumps({"do": "call", **asdict(self)}).encode()


class Call:
    """The loop. `run` returns when the fax is over."""

    def __init__(self, control: socket.socket, order: Order) -> None:
        control.setblocking(False)
        self._control = control
        self._folder = Folder(Path(order.folder))
        modems = UP_TO_14400 if order.audio_rate > 9600 else UP_TO_9600
        machine = Machine(order.ident, order.document, order.ecm, modems)
        self._station = Station(machine, self._folder, self._tell)
        self._audio = _AudioLine()
        self._t38 = _T38Line()
        self._audio_socket, self._t38_socket = _bind(order.host, order.ports)
        self._over = False
        self._refused = False
        self._reason = ""

    def run(self) -> None:
        """Work until the fax is over or hung up."""
        self._tell(Ready(_port(self._audio_socket), _port(self._t38_socket), os.getpid()))
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        clock = time.monotonic()
        while not self._over and not self._station.done:
            # Waking up costs more than the work of a tick. While we have nothing to say, three are done at once.
            due = clock + TICK * (_STRIDE if self._station.quiet else 1)
            now = time.monotonic()
            if now < due:
                if poller.poll(max(1, int((due - now) * 1000 + 0.5))):
                    self._obey()
                continue
            owed = int((now - clock) / TICK + 0.001)
            clock += owed * TICK
            self._pass(min(owed, _MOST_BEHIND), now)
        self._finish()

    def _obey(self) -> None:
        while True:
            try:
                message = self._control.recv(MESSAGE)
            except BlockingIOError:
                return
            except ConnectionError:
                message = b""
            if not message:
                self._reason = "the process that ordered the fax is gone"
                self._over = True
                return
            command = decode_command(message)
            if isinstance(command, UseAudio):
                self._use_audio(command)
            elif isinstance(command, UseT38):
                self._use_t38(command)
            elif isinstance(command, T38Refused):
                self._refused = True
            elif isinstance(command, HangUp):
                self._reason = command.reason
                self._over = True
                return

    def _use_audio(self, command: UseAudio) -> None:
        line = self._audio
        line.remote.expect(command.host, command.port)
        line.use_keys(command.suite, command.our_key, command.their_key)
        if line.active and line.alaw == command.alaw:
            line.payload_type = command.payload_type
            return
        self._t38.active = False
        line.begin(command)
        self._station.start_audio(command.alaw)

    def _use_t38(self, command: UseT38) -> None:
        line = self._t38
        line.remote.expect(command.host, command.port)
        if line.active:
            return
        self._audio.active = False
        line.begin(command)
        self._station.start_t38(self._send_ifp, command.max_bit_rate)

    def _pass(self, ticks: int, now: float) -> None:
        """Time has passed: do what is due."""
        if self._audio.active:
            self._pass_audio(ticks)
        elif self._t38.active:
            self._pass_t38(ticks, now)

    def _pass_audio(self, ticks: int) -> None:
        line, station = self._audio, self._station
        for datagram, source in _datagrams(self._audio_socket, ticks):
            line.take(datagram, source)
        for _ in range(ticks):
            station.hear(line.jitter.take())
        if ticks > _CATCH_UP:
            # After a stall (a slow disk): nobody has a buffer for that much at once, so the far end hears a gap.
            line.skip(ticks - 1)
            ticks = 1
        for _ in range(ticks):
            _send(self._audio_socket, line.packet(station.speak()), line.remote.address)

    def _pass_t38(self, ticks: int, now: float) -> None:
        line, station = self._t38, self._station
        for datagram, source in _datagrams(self._t38_socket, ticks):
            if line.remote.accepts(source):
                before = line.receiver.received
                for sequence, ifp in line.receiver.receive(datagram, now):
                    station.hear_ifp(sequence, ifp)
                if line.receiver.received > before:
                    line.remote.latch(source)
        for sequence, ifp in line.receiver.flush(now):
            station.hear_ifp(sequence, ifp)
        for _ in range(ticks):
            station.tick()

    def _send_ifp(self, ifp: bytes, times: int) -> None:
        datagram = self._t38.sender.pack(ifp)
        for _ in range(times):
            _send(self._t38_socket, datagram, self._t38.remote.address)

    def _finish(self) -> None:
        station = self._station
        over_t38 = station.over_t38
        if not station.done:
            station.hang_up()
        transport = "t38" if over_t38 else "t38-refused" if self._refused else "g711"
        receiver = self._t38.receiver
        result = replace(
            station.result(time.time()),
            transport=transport,
            t38_packets=receiver.received,
            lost_packets=receiver.lost if over_t38 else self._audio.jitter.lost,
            sip_reason=self._reason,
        )
        station.close()
        if station.trouble:
            sys.stderr.write(f"fax {self._folder.id}: {station.trouble}\n")
        try:
            self._folder.store_result(result)
        except SpoolError as error:
            # The pages are there; whoever ordered the fax makes the result of what it is told, or of them.
            sys.stderr.write(f"fax {self._folder.id}: {error}\n")
        self._tell(Finished(result))

    def _tell(self, event: FaxEvent) -> None:
        try:
            self._control.setblocking(True)
            self._control.sendall(encode(event))
            self._control.setblocking(False)
        except ConnectionError:
            self._over = True


class _AudioLine:
    """State of RTP in both directions."""

    def __init__(self) -> None:
        self.remote = Remote()
        self.active = False
        self.alaw = True
        self.payload_type = 8
        self.jitter = JitterBuffer(True)
        self._sequence = random.randrange(0x8000)
        self._timestamp = random.randrange(1 << 31)
        self._ssrc = random.randrange(1 << 32).to_bytes(4, "big")
        self._marker = 0x80
        self._keys = ("", "", "")
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None

    def begin(self, command: UseAudio) -> None:
        self.active = True
        self.alaw = command.alaw
        self.payload_type = command.payload_type
        self.jitter = JitterBuffer(command.alaw)

    def use_keys(self, suite: str, ours: str, theirs: str) -> None:
        # The same keys again go on where they are.
        if (suite, ours, theirs) != self._keys:
            self._keys = suite, ours, theirs
            self._sealer = Sealer(suite, ours) if suite else None
            self._opener = Opener(suite, theirs) if suite else None

    def take(self, datagram: bytes, source: tuple[str, int]) -> None:
        if self._opener is not None:
            datagram = self._opener.open(datagram) or b""
        packet = read_rtp(datagram)
        if packet is None or packet.payload_type != self.payload_type or not self.remote.accepts(source):
            return
        if len(packet.payload) > 2000:
            return
        self.remote.latch(source)
        self.jitter.put(packet)

    def skip(self, ticks: int) -> None:
        self._timestamp = (self._timestamp + FRAME * ticks) & 0xFFFFFFFF

    def packet(self, payload: bytes) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + FRAME) & 0xFFFFFFFF
        head = (
            bytes((0x80, self.payload_type | self._marker))
            + self._sequence.to_bytes(2, "big")
            + self._timestamp.to_bytes(4, "big")
            + self._ssrc
        )
        self._marker = 0
        packet = head + payload
        return packet if self._sealer is None else self._sealer.seal(packet)


class _T38Line:
    """State of UDPTL in both directions."""

    def __init__(self) -> None:
        self.remote = Remote()
        self.active = False
        self.sender = Sender()
        self.receiver = Receiver()

    def begin(self, command: UseT38) -> None:
        self.active = True
        self.sender = Sender(command.max_datagram, command.redundancy, command.fec)
        self.receiver = Receiver()


def run_call(control: socket.socket, order: Order) -> None:
    """Be the process of one fax."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    _hurry()
    Call(control, order).run()


def _hurry() -> None:
    """A late tick disturbs the far end's modem, so faxes go before all other work, where the system lets them: as root,
    with CAP_SYS_NICE, or with a limit of real-time priorities. One that never waits is killed before others starve.
    """
    resource.setrlimit(resource.RLIMIT_RTTIME, (_LONGEST_WORK, _LONGEST_WORK))
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _datagrams(sock: socket.socket, ticks: int) -> list[tuple[bytes, tuple[str, int]]]:
    got = []
    for _ in range(_DATAGRAMS_PER_TICK * ticks):
        try:
            data, source = sock.recvfrom(2048)
        except BlockingIOError:
            break
        except OSError:
            # An ICMP error of an earlier datagram of ours.
            continue
        got.append((data, source[:2]))
    return got


def _send(sock: socket.socket, datagram: bytes, address: tuple[str, int] | None) -> None:
    if address is not None:
        try:
            sock.sendto(datagram, address)
        except OSError:
            # A full buffer or an ICMP error: lost on the way like any other.
            pass


def _bind(host: str, ports: tuple[int, int]) -> tuple[socket.socket, socket.socket]:
    """Two sockets on even ports of the range. Raises OSError where none are free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    first, last = ports
    even = range(first + first % 2, last + 1, 2)
    bound: list[socket.socket] = []
    for port in random.sample(even, len(even)):
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            continue
        bound.append(sock)
        if len(bound) == 2:
            return bound[0], bound[1]
    for sock in bound:
        sock.close()
    raise OSError(f"no two free even ports between {first} and {last} on {host}")


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])
