"""A stolen password against a running edge (domain rules 7.4g, 7.4i, 7.4k): budgets, the kill switch, and emergency
calls through all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers.pjsua import Pjsua
from peers.process import poll
from peers.world import SOMEBODY, World, document

pytestmark = pytest.mark.phones


@pytest.fixture
def cautious(world: World) -> Iterator[World]:
    """The world where bobby may call out once an hour; as it was, afterwards."""
    changed = document(world)
    for seat in changed["seats"]:  # type: ignore[attr-defined]
        if seat["username"] == "bobby":
            seat["calls_per_hour"] = 1
    world.edge.provision(changed)
    yield world
    assert world.edge.command("account", "resume", "K1").returncode == 0
    world.edge.provision(document(world))


def call(world: World, phone: Pjsua, number: str) -> None:
    """A call that is answered and ended."""
    answering, mark = world.carrier_answers("uas_answer"), phone.mark
    phone.dial(number)
    phone.wait_established(after=mark)
    phone.hangup()
    phone.wait_closed(after=mark)
    assert answering.wait().one("INVITE")


def refused(phone: Pjsua, number: str, status: str) -> None:
    mark = phone.mark
    phone.dial(number)
    assert status in phone.wait_closed(after=mark)


def test_budget_and_kill_switch(cautious: World) -> None:
    """Beyond its budget a seat calls nobody but 110, until it is counted anew. A suspended account's call is ended
    within two seconds, it may call 110 alone, and when locked its phones are unregistered."""
    world, edge = cautious, cautious.edge
    phone = world.phone("pjsua2", "bobby")
    assert isinstance(phone, Pjsua)

    poll(lambda: "bobby" in edge.command("budgets", "list").stdout, "the budget is known")
    call(world, phone, SOMEBODY)
    refused(phone, SOMEBODY, "403")
    poll(lambda: "budget-exhausted" in edge.command("refusals").stdout, "the refusal is on record")
    call(world, phone, "110")
    assert "1/1" in edge.command("budgets", "list").stdout
    assert edge.command("budgets", "reset", "seat", "bobby").returncode == 0
    call(world, phone, SOMEBODY)
    assert edge.command("budgets", "reset", "seat", "bobby").returncode == 0

    answering = world.carrier_answers("uas_answer")
    mark = phone.mark
    phone.dial(SOMEBODY)
    phone.wait_established(after=mark)
    assert edge.command("account", "suspend", "K1", "--end-calls").returncode == 0
    phone.wait_closed(timeout=5, after=mark)
    answering.wait()
    refused(phone, SOMEBODY, "403")
    assert edge.registered("bobby"), "phones stay registered, so that they can call 110"
    call(world, phone, "110")

    assert edge.command("account", "suspend", "K1", "--lock").returncode == 0
    poll(lambda: not edge.registered("bobby"), "the phone is unregistered")
    call(world, phone, "110")
