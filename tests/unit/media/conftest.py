"""A real relay process on loopback, one for the module's ordinary tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from media.relay.process import EVENTS_SUFFIX
from media.relay.rtpengine import RtpEngineRelay
from media.relay.rtpio import RtpIoRelay
from tests.unit.media.peers import Peer
from tests.unit.media.rtpengine_process import RtpEngineProcess

AnyRelay = RtpIoRelay | RtpEngineRelay


async def none_left(relay: AnyRelay) -> int:
    """Wait until the relay holds no media (it drops them in threads of its own); how many it kept."""
    left = await relay.media_in_relay()
    for _ in range(100):
        if not left:
            break
        await asyncio.sleep(0.02)
        left = await relay.media_in_relay()
    return left


class RelayUnderTest:
    """A relay process as systemd would run it: not a child of the signalling process under test."""

    def __init__(self, path: Path, *options: str, limit: int | None = None) -> None:
        """`limit`: of file descriptors."""
        self.path = str(path)
        fewer = ["prlimit", f"--nofile={limit}"] if limit else []
        self.process = subprocess.Popen(
            [*fewer, sys.executable, "-m", "media.relay.process", "--socket", self.path, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self) -> tuple[int, str]:
        """End it; its exit status and what it said."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=15)
        assert not Path(self.path).exists()
        assert not Path(self.path + EVENTS_SUFFIX).exists()
        return self.process.returncode, said.decode()


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., RelayUnderTest]]:
    """Starts relays of a test's own, ended after it."""
    started: list[RelayUnderTest] = []

    def start(*options: str, limit: int | None = None) -> RelayUnderTest:
        started.append(RelayUnderTest(tmp_path / f"s{len(started)}", "--bind", "127.0.0.1", *options, limit=limit))
        return started[-1]

    yield start
    for process in started:
        assert process.stop()[0] == 0


@pytest.fixture(scope="module")
def relay_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayUnderTest]:
    process = RelayUnderTest(
        tmp_path_factory.mktemp("relay") / "s",
        *("--bind", "ip4@127.0.0.1", "--bind", "ip6@::1", "--bind", "nat@127.0.0.1=192.0.2.77"),
        *("--ports", "23000-23899"),
    )
    yield process
    status, _ = process.stop()
    assert status == 0


@pytest.fixture(scope="module")
def rtpengine_process() -> Iterator[RtpEngineProcess]:
    process = RtpEngineProcess("--interface=127.0.0.1", "--interface=::1")
    yield process
    process.stop()


@pytest.fixture
async def embedded(relay_process: RelayUnderTest) -> AsyncIterator[RtpIoRelay]:
    """A client of the shared relay of our own; the test must leave no media behind."""
    client = RtpIoRelay(relay_process.path)
    await client.start()
    yield client
    await _check(client)


@pytest.fixture
async def engine(rtpengine_process: RtpEngineProcess) -> AsyncIterator[RtpEngineRelay]:
    """A client of the shared rtpengine; the test must leave no media behind."""
    client = rtpengine_process.client()
    await client.start()
    yield client
    await _check(client)


@pytest.fixture(params=["embedded", "engine"])
async def relay(
    request: pytest.FixtureRequest, relay_process: RelayUnderTest, rtpengine_process: RtpEngineProcess
) -> AsyncIterator[AnyRelay]:
    """A client of either relay."""
    client: AnyRelay = RtpIoRelay(relay_process.path) if request.param == "embedded" else rtpengine_process.client()
    await client.start()
    yield client
    await _check(client)


async def _check(client: AnyRelay) -> None:
    left, held = await none_left(client), client.sessions
    if left:
        await client.clear()
    await client.stop()
    assert (left, held) == (0, 0)


@pytest.fixture
async def peer() -> AsyncIterator[Callable[..., Peer]]:
    """Makes peers that are closed after the test."""
    made: list[Peer] = []

    def make(host: str = "127.0.0.1") -> Peer:
        made.append(Peer(host))
        return made[-1]

    yield make
    for one in made:
        one.close()
