"""Commands on their way to a relay process: `media.relay.connection`."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from media.relay.connection import CommandConnection
from media.relay.port import RelayError


class Transport:
    """Stands for the socket."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None: ...


def connect() -> tuple[CommandConnection, Transport]:
    connection = CommandConnection(2.0, lambda which, reason: None)
    transport = Transport()
    connection.connection_made(cast(Any, transport))
    return connection, transport


async def test_what_has_time_goes_with_what_has_none_and_before_it() -> None:
    connection, transport = connect()
    deleted = connection.ask(b"D one\n", 1, 60.0)
    again = connection.ask(b"Q two\nD two\n", 2, 60.0)
    assert not transport.written
    made = connection.ask(b"U three\n", 1)
    assert transport.written == [b"D one\nQ two\nD two\nU three\n"]
    connection.data_received(b"0\n1 2\n0\n35000 127.0.0.1\n")
    assert (await deleted, await again, await made) == (["0"], ["1 2", "0"], ["35000 127.0.0.1"])
    connection.close()


@pytest.mark.looptime
async def test_what_has_time_goes_alone_when_that_is_over() -> None:
    connection, transport = connect()
    connection.ask(b"D one\n", 1, 0.02)
    await asyncio.sleep(0.001)
    connection.ask(b"D two\n", 1, 0.02)
    assert not transport.written
    await asyncio.sleep(0.03)
    assert transport.written == [b"D one\nD two\n"]
    connection.data_received(b"0\n0\n")
    connection.ask(b"U three\n", 1)
    assert transport.written[1:] == [b"U three\n"]


@pytest.mark.looptime
async def test_what_waits_fails_with_the_connection() -> None:
    connection, transport = connect()
    waits = connection.ask(b"D one\n", 1, 0.001)
    connection.connection_lost(None)
    with pytest.raises(RelayError):
        await waits
    await asyncio.sleep(0.005)
    assert not transport.written
