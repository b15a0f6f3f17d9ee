"""Faxes in processes of their own, over loopback in real time: both transports, crashes, hang-ups, hostile peers."""

import asyncio
import os
import random
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from media.fax import call
from media.fax.engine import FaxEngine, FaxError, FaxJob, FaxOptions
from media.fax.events import CngHeard, FaxEvent, Finished, PageStored, PreambleSent
from media.fax.record import CRASHED, FaxResult, Outcome
from media.fax.spool import Spool
from media.sdp.t38 import T38, ErrorCorrection, RemoteAudio, RemoteT38
from tests.unit.media.fax.rig import Line, meta, picture, received, same, tiff

pytestmark = pytest.mark.adapter
HOST = "127.0.0.1"
PICTURES = [picture(1, rows=600, marks=40), picture(2, rows=500, marks=40)]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FaxEngine]:
    """An engine on loopback."""
    engine = FaxEngine(Spool(tmp_path / "spool"), FaxOptions(HOST, (29000, 29999)))
    await engine.start()
    yield engine
    await engine.stop()
    assert engine.running == 0


@dataclass
class Relay(asyncio.DatagramProtocol):
    """A line between two ports, with losses; each end sends to it and hears from it."""

    line: Line
    ends: tuple[int, int]

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport
        self.lines = {port: Line(self.line.loss, self.line.double, self.line.reorder, port) for port in self.ends}

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        other = self.ends[self.ends[0] == address[1]]
        for packet in self.lines[address[1]].carry([data]):
            self.transport.sendto(packet, (HOST, other))


async def relayed(line: Line | None, one: int, other: int) -> tuple[int, int, asyncio.DatagramTransport | None]:
    """Where each end is to send: to the other, or to a relay."""
    if line is None:
        return other, one, None
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Relay(line, (one, other)), local_addr=(HOST, 0))
    port = transport.get_extra_info("sockname")[1]
    return port, port, transport


def audio(port: int, alaw: bool = True) -> RemoteAudio:
    return RemoteAudio(HOST, port, alaw, 8 if alaw else 0)


def t38(port: int, correction: ErrorCorrection = ErrorCorrection.REDUNDANCY) -> RemoteT38:
    return RemoteT38(HOST, port, T38(error_correction=correction))


async def begin(engine: FaxEngine, document: Path, name: str) -> tuple[FaxJob, FaxJob]:
    """A receiver and a sender."""
    rx = await engine.receive(meta(f"rx-{name}"), "+49 228 1")
    return rx, await engine.send(meta(f"tx-{name}", called="+4922838699"), document, "+49 221 2")


async def fax(
    engine: FaxEngine,
    document: Path,
    name: str,
    switch: Callable[[FaxEvent], bool] = lambda event: False,
    line: Line | None = None,
    alaw: bool = True,
    first: str = "audio",
) -> tuple[list[FaxEvent], FaxResult, FaxResult]:
    """One fax; `switch` says at which event both go to T.38."""
    rx, tx = await begin(engine, document, name)
    to_tx, to_rx, relay = await relayed(line, rx.local_t38, tx.local_t38)
    if first == "audio":
        rx.use_audio(audio(tx.local_audio, alaw))
        tx.use_audio(audio(rx.local_audio, alaw))
    else:
        rx.use_t38(t38(to_tx))
        tx.use_t38(t38(to_rx))
    events = []
    async for event in rx.events():
        events.append(event)
        if switch(event):
            rx.use_t38(t38(to_tx))
            tx.use_t38(t38(to_rx))
    results = await rx.result(), await tx.result()
    if relay is not None:
        relay.close()
    return events, *results


@pytest.mark.timeout(120)
async def test_faxes_over_loopback(engine: FaxEngine, tmp_path: Path) -> None:
    """At the same time: G.711 A-law and mu-law, T.38 from CNG, from the preamble, at once, and with losses and doubles.

    Each comes whole, in the transport it should.
    """
    document = tiff(tmp_path / "document.tif", PICTURES)
    runs: dict[str, Awaitable[tuple[list[FaxEvent], FaxResult, FaxResult]]] = {
        "alaw": fax(engine, document, "alaw"),
        "ulaw": fax(engine, document, "ulaw", alaw=False),
        "cng": fax(engine, document, "cng", lambda event: isinstance(event, CngHeard)),
        "preamble": fax(engine, document, "preamble", lambda event: isinstance(event, PreambleSent)),
        "image": fax(engine, document, "image", first="t38"),
        "bad": fax(engine, document, "bad", first="t38", line=Line(loss=0.05, double=0.1, reorder=0.1)),
    }
    for name, (events, rx, tx) in zip(runs, await asyncio.gather(*runs.values()), strict=True):
        assert (rx.code, rx.pages, tx.code, tx.pages) == (0, 2, 0, 2), (name, rx, tx)
        assert rx.remote_ident == "+49 221 2" and tx.remote_ident == "+49 228 1"
        assert rx.transport == tx.transport == ("g711" if name in ("alaw", "ulaw") else "t38")
        found = received(engine.spool.folder(f"rx-{name}"))
        assert all(same(a, b) for a, b in zip(found, PICTURES, strict=True)), name
        assert [type(e) for e in events if isinstance(e, PageStored | Finished)] == [PageStored, PageStored, Finished]
        if name != "image" and name != "bad":
            assert isinstance(events[0], CngHeard)
        assert not rx.poor_quality


@pytest.mark.timeout(60)
async def test_a_crash_ends_its_own_fax_only(engine: FaxEngine, tmp_path: Path) -> None:
    """SIGSEGV in one process: its fax is reported with the page it has; the one beside it comes whole."""
    document = tiff(tmp_path / "document.tif", PICTURES)
    beside = asyncio.create_task(fax(engine, document, "beside", first="t38"))
    rx, tx = await begin(engine, document, "dies")
    rx.use_t38(t38(tx.local_t38))
    tx.use_t38(t38(rx.local_t38))
    async for event in rx.events():
        if isinstance(event, PageStored):
            os.kill(rx.pid, signal.SIGSEGV)
    result = await rx.result()
    assert (result.code, result.pages, result.outcome) == (CRASHED, 1, Outcome.PARTIAL)
    assert same(*received(rx.folder), PICTURES[0])
    tx.hang_up("480")
    assert (await tx.result()).code == 49
    _, other, _ = await beside
    assert (other.code, other.pages) == (0, 2)


async def test_hang_up_and_its_reason(engine: FaxEngine) -> None:
    """BYE at once: 49, the reason in the record, the folder still locked by us; hanging up again changes nothing."""
    job = await engine.receive(meta("short"))
    job.use_audio(audio(9))
    job.hang_up("SIP;cause=200")
    events = [event async for event in job.events()]
    job.hang_up("again")
    (finished,) = events
    assert isinstance(finished, Finished)
    assert (finished.result.code, finished.result.sip_reason) == (49, "SIP;cause=200")
    assert job.folder.result() == finished.result
    assert engine.spool.unfinished() == []


async def test_a_fax_that_never_had_media(engine: FaxEngine) -> None:
    """A call that ends before its answer has a record like any other, T.38 refused or not."""
    job = await engine.receive(meta("none"))
    assert job.local_audio % 2 == job.local_t38 % 2 == 0 and job.local_audio != job.local_t38
    job.t38_refused()
    job.hang_up()
    result = await job.result()
    assert (result.code, result.transport, result.outcome) == (49, "t38-refused", Outcome.FAILED)


@pytest.mark.timeout(60)
async def test_hostile_streams(engine: FaxEngine, tmp_path: Path) -> None:
    """Random UDPTL, random IFP in good UDPTL, random RTP of the peer itself: each ends its own fax at most (T4.7)."""
    document = tiff(tmp_path / "document.tif", PICTURES)
    beside = asyncio.create_task(fax(engine, document, "calm", first="t38"))
    chance = random.Random(5)
    jobs = [await engine.receive(meta(f"hostile-{n}")) for n in range(6)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((HOST, 0))
        port = stranger.getsockname()[1]
        for n, job in enumerate(jobs):
            if n < 4:
                job.use_t38(t38(port))
            else:
                job.use_audio(audio(port))
        for sequence in range(3000):
            ifp = chance.randbytes(chance.randrange(1, 60))
            good = sequence.to_bytes(2, "big") + bytes((len(ifp),)) + ifp + b"\0\0"
            rtp = b"\x80\x08" + sequence.to_bytes(2, "big") + (sequence * 160).to_bytes(4, "big") + b"abcd"
            for n, job in enumerate(jobs):
                data = (chance.randbytes(chance.randrange(1, 500)), good, b"", good, rtp + ifp, rtp)[n]
                stranger.sendto(data, (HOST, job.local_t38 if n < 4 else job.local_audio))
            if sequence % 20 == 0:
                await asyncio.sleep(0.02)
    for job in jobs:
        job.hang_up("BYE")
    for job in jobs:
        assert (await job.result()).outcome is Outcome.FAILED
    _, calm, _ = await beside
    assert (calm.code, calm.pages) == (0, 2)


async def test_the_nursery_comes_back(engine: FaxEngine) -> None:
    """The nursery killed: running faxes go on, new ones are taken as soon as the next one is there."""
    job = await engine.receive(meta("survivor"))
    old = engine.nursery_pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    for attempt in range(200):
        try:
            second = await engine.receive(meta(f"second-{attempt}"))
            break
        except FaxError:
            await asyncio.sleep(0.05)
    else:
        pytest.fail("no nursery after ten seconds")
    assert engine.nursery_pid != old
    for each in (job, second):
        each.hang_up("BYE")
        assert (await each.result()).code == 49
    assert len(list(engine.spool.path.iterdir())) == 2, "refused faxes left folders"


async def test_no_room(tmp_path: Path) -> None:
    """No free port, and too many at once: refused with a reason, nothing left behind."""
    spool = Spool(tmp_path / "spool")
    engine = FaxEngine(spool, FaxOptions(HOST, (29990, 29991), most=1))
    await engine.start()
    with pytest.raises(FaxError, match="before it was ready"):
        await engine.receive(meta("one"))
    await engine.stop()
    engine = FaxEngine(spool, FaxOptions(HOST, (29000, 29999), most=1))
    await engine.start()
    job = await engine.receive(meta("two"))
    with pytest.raises(FaxError, match="1 faxes are under way"):
        await engine.receive(meta("three"))
    assert [path.name for path in spool.path.iterdir()] == ["two"]
    await engine.stop()
    assert (await job.result()).sip_reason == "the edge is shutting down"


async def test_disk_of_no_use(tmp_path: Path) -> None:
    """A spool that cannot be written: refused before the call is answered."""
    (tmp_path / "file").write_text("")
    engine = FaxEngine(Spool(tmp_path / "file"), FaxOptions(HOST, (29000, 29999)))
    await engine.start()
    with pytest.raises(FaxError, match="could not be made"):
        await engine.receive(meta("one"))
    await engine.stop()


async def test_documents_in_a_process_of_their_own(engine: FaxEngine, tmp_path: Path) -> None:
    """A PDF that cannot be read is an error with its reason, and names are no addresses."""
    (tmp_path / "no.pdf").write_bytes(b"hello")
    with pytest.raises(FaxError, match="cannot be read as a PDF"):
        await engine.tiff_for_fax(tmp_path / "no.pdf", tmp_path / "out.tif")
    job = await engine.receive(meta("named"))
    with pytest.raises(ValueError):
        job.use_audio(RemoteAudio("fax.example", 5000, True, 8))


def test_a_fax_that_never_waits_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faxes run before all other work; one that loops ends by itself, before it starves the machine."""
    monkeypatch.setattr(call, "_LONGEST_WORK", 200_000)
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        call._hurry()
        if os.sched_getscheduler(0) != os.SCHED_RR:
            os._exit(77)
        while True:
            pass
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 77:
        pytest.skip("this user may not have real-time priorities")
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
