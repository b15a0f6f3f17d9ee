"""Phones of other edges: whose contact counts where both know a device, and what is heard over a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

from config.tables.registrations import RegistrationRow, RegistrationsTable
from edge.registrar.bindings import Aor, Binding
from edge.registrar.keeper import binding_of
from edge.registrar.neighbours import Neighbours, OthersStore
from edge.transport.clock import SystemClock
from tests.unit.config.conftest import server as server
from tests.unit.config.conftest import url as url

ALICE = Aor("seat", "alice")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def row(contact: str, at: datetime, *, call_id: str = "c1", path: bool = True) -> RegistrationRow:
    """A registration of alice's at `at`, for an hour."""
    return RegistrationRow(
        "seat", "alice", contact, "K1", None, None, call_id, 1, 1.0, at + timedelta(hours=1), at, None, "udp",
        "10.0.0.1", 5060, "10.0.0.9", 5060, ["<sip:10.0.0.9;lr>"] if path else [],
    )  # fmt: skip


def binding(contact: str, at: datetime, *, call_id: str = "c1") -> Binding:
    return binding_of(row(contact, at, call_id=call_id), 1000.0, NOON)


def neighbours(*bindings: Binding) -> Neighbours:
    made = Neighbours("", cast(OthersStore, None), SystemClock())
    made._by_aor = {ALICE: bindings}
    return made


def test_a_phone_of_another_edge_is_found() -> None:
    """It has no flow of ours: its Path is the way."""
    theirs = replace(binding("sip:alice@10.9.0.1", NOON), connected=False)
    assert neighbours(theirs).contacts(ALICE, [], 1000.0) == [theirs]
    assert theirs.flow is None and theirs.path
    assert neighbours(theirs).contacts(Aor("seat", "bobby"), [], 1000.0) == []


def test_the_newest_registration_of_a_device_counts() -> None:
    """A phone that came to another edge must not ring twice, nor at the place it left."""
    old, new = binding("sip:alice@10.9.0.1", NOON), binding("sip:alice@10.9.0.2", NOON + timedelta(seconds=9))
    assert neighbours(new).contacts(ALICE, [old], 1000.0) == [new]
    assert neighbours(old).contacts(ALICE, [new], 1000.0) == [new]


def test_another_device_rings_beside_it() -> None:
    """Two phones of one seat, each at an edge of its own."""
    desk = binding("sip:desk@10.9.0.1", NOON)
    mobile = binding("sip:mobile@10.9.0.7", NOON, call_id="c2")
    assert neighbours(mobile).contacts(ALICE, [desk], 1000.0) == [desk, mobile]


def test_what_ran_out_is_not_called() -> None:
    """An edge that died leaves its rows; they hold as long as the phone said."""
    theirs = binding("sip:alice@10.9.0.1", NOON)
    assert neighbours(theirs).contacts(ALICE, [], theirs.expires_at) == []


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        turn = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, turn.set)
        await turn.wait()
    raise AssertionError("did not happen within 10 s")


async def test_changes_are_heard(url: str) -> None:
    """What another edge holds at our start, what it adds, moves and loses; not what it alone can reach, nor our own."""
    import asyncpg

    async with asyncpg.create_pool(url, min_size=0, max_size=3) as pool:
        clock = SystemClock()
        now = clock.utcnow()
        one, two = RegistrationsTable(pool.acquire, "one"), RegistrationsTable(pool.acquire, "two")
        key = ("seat", "alice")
        await two.save({key: [row("sip:a@10.9.0.1", now)], ("seat", "b"): [row("sip:b@10.9.0.1", now, path=False)]})
        await one.save({("seat", "own"): [replace_aor(row("sip:o@10.9.0.1", now), "own")]})
        heard = Neighbours(url, one, clock)
        work = asyncio.create_task(heard.run())

        def contacts(name: str = "alice") -> list[str]:
            return [str(b.uri) for b in heard.contacts(Aor("seat", name), [], clock.now())]

        await until(lambda: contacts() == ["sip:a@10.9.0.1"])
        assert contacts("own") == contacts("b") == []
        await two.save({key: [row("sip:a@10.9.0.2", now, call_id="c2")]})
        await until(lambda: contacts() == ["sip:a@10.9.0.2"])
        await two.save({key: []})
        await until(lambda: contacts() == [])
        many = {("seat", f"s{n}"): [replace_aor(row(f"sip:s{n}@10.9.0.1", now), f"s{n}")] for n in range(250)}
        await two.save(many)
        await until(lambda: all(contacts(f"s{n}") for n in range(250)))
        heard.stop()
        await asyncio.wait_for(work, 10)


def replace_aor(found: RegistrationRow, aor: str) -> RegistrationRow:
    return found._replace(aor=aor)
