"""Carriers that fail, and calls for help: the next carrier by priority, none after early media, and 112 over whatever
is left, with the database gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from peers.fixtures import ARTIFACTS
from plan_world import ABROAD, SITE, PlanWorld

pytestmark = pytest.mark.sipp

WITHHELD = "141" + ABROAD[1:]


@contextmanager
def playing(plan: PlanWorld, carrier: str, scenario: str, **values: object) -> Iterator[None]:
    """A carrier behaves otherwise for a while."""
    plan.stations[carrier].play(scenario, **values)
    try:
        yield
    finally:
        plan.stations[carrier].play("uas_answer")


@pytest.mark.parametrize("status", [503, 500, 408, 480])
def test_next_carrier(plan: PlanWorld, status: int) -> None:
    """R7, `failover_on`: the next by priority, and the record tells both."""
    with playing(plan, "pai-from", "uas_reject", status=status):
        seen = plan.dial("a.mueller", WITHHELD)
        assert seen.status == 200
        assert seen.reached == ["pai-from", "second"]
    attempts = plan.record(seen.call)["attempts"]
    assert isinstance(attempts, list)
    assert [(a["name"], a["status"]) for a in attempts] == [("pai-from", status), ("second", 200)]


@pytest.mark.parametrize("status", [486, 404, 603, 484])
def test_no_next_carrier_for_what_the_called_says(plan: PlanWorld, status: int) -> None:
    """What another carrier would say as well is not asked again."""
    with playing(plan, "pai-from", "uas_reject", status=status):
        seen = plan.dial("a.mueller", WITHHELD)
    assert (seen.status, seen.reached) == (status, ["pai-from"])


@pytest.mark.parametrize("status", [300, 302, 380])
def test_redirection_by_a_carrier_is_not_followed(plan: PlanWorld, status: int) -> None:
    """A carrier's Contact would have us call whom it likes at the customer's cost: the next carrier is tried."""
    with playing(plan, "pai-from", "uas_reject", status=status, contact_user="+49900123456"):
        seen = plan.dial("a.mueller", WITHHELD)
    assert (seen.status, seen.reached) == (200, ["pai-from", "second"])
    assert "+49900123456" not in seen.stations["second"].received_text()


def test_priorities(plan: PlanWorld) -> None:
    """R7: two dead carriers, the third in order of priority takes the call."""
    with playing(plan, "pai-from", "uas_reject", status=503), playing(plan, "second", "uas_reject", status=503):
        seen = plan.dial("a.mueller", WITHHELD)
    assert (seen.status, seen.reached) == (200, ["pai-from", "second", "third"])


def test_all_carriers_fail(plan: PlanWorld) -> None:
    """The last answer stands; each carrier was tried once."""
    with (
        plan.changed("carriers", "name", "pai-from", failover_on=[]),
        playing(plan, "pai-from", "uas_reject", status=503),
    ):
        seen = plan.dial("a.mueller", WITHHELD)
    assert (seen.status, seen.reached) == (503, ["pai-from"])


def test_silent_carrier(plan: PlanWorld) -> None:
    """A carrier that says nothing at all is left for the next."""
    with playing(plan, "pai-from", "uas_silent"):
        seen = plan.dial("a.mueller", WITHHELD)
        assert seen.status == 200
        assert set(seen.reached) == {"pai-from", "second"}


def test_no_failover_after_early_media(plan: PlanWorld) -> None:
    """T5.9: once the caller heard the called side, another carrier would be another call."""
    with playing(plan, "pai-from", "uas_183_reject", status=503):
        seen = plan.dial("a.mueller", WITHHELD)
    assert (seen.status, seen.reached) == (503, ["pai-from"])


def test_failover_after_ringing_without_media(plan: PlanWorld) -> None:
    """Ringing alone is no reason to give up."""
    with playing(plan, "pai-from", "uas_ring_and_reject", status=503):
        seen = plan.dial("a.mueller", WITHHELD)
    assert (seen.status, seen.reached) == (200, ["pai-from", "second"])


def test_failover_keeps_the_identity_rules(plan: PlanWorld) -> None:
    """C7: each carrier gets the identity in its own way."""
    with playing(plan, "pai-from", "uas_reject", status=503):
        seen = plan.dial("a.mueller", ABROAD)
    assert seen.at("pai-from").header("P-Asserted-Identity").startswith("<sip:+4922838650@tel.t-online.de")
    assert seen.at("second").header("From").startswith("<sip:+4922838650@second.example")
    # what the second carrier knows the customer by is a number of the customer that it has itself
    assert seen.at("second").header("P-Asserted-Identity").startswith("<sip:+4922877700@second.example")


@pytest.mark.parametrize("status", [486, 404, 403, 603, 503])
def test_emergency_goes_on_whatever_a_carrier_says(plan: PlanWorld, status: int) -> None:
    """Domain 2.6-25: on any 4xx, 5xx or 6xx the next carrier, then any."""
    with playing(plan, "pai-from", "uas_reject", status=status), playing(plan, "uk", "uas_reject", status=status):
        seen = plan.dial("a.mueller", "112")
    assert seen.status == 200
    assert seen.reached[:1] == ["pai-from"] and len(seen.reached) >= 2
    for name in seen.reached:
        invite = seen.at(name)
        assert invite.request_uri.startswith("sip:112@")
        assert SITE[3:] in invite.text and not invite.header("Privacy")


# -- help, with everything else broken --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken() -> Iterator[PlanWorld]:
    """An edge with the timers of the standard, that loses its database and its first carrier."""
    world = PlanWorld(ARTIFACTS / "sipp_scenarios_dialplan_broken")
    try:
        world.start(["a.mueller"])
        yield world
    finally:
        world.discard()


def test_help_with_everything_else_broken(broken: PlanWorld) -> None:
    """Issue point 4: all channels busy, the first carrier silent, the database gone: 112 rings within 5 seconds."""
    phone = broken.phones["a.mueller"]
    mark = phone.mark
    phone.dial(f"sip:{WITHHELD}@{broken.edge.server()}")
    phone.wait_established(after=mark)
    broken.change(
        "UPDATE sip_edge.carriers SET max_calls = 1, max_calls_out = 1",
        "UPDATE sip_edge.accounts SET parallel_calls = 1",
    )
    broken.stations["pai-from"].play("uas_silent")
    broken.stop_database()
    mark = phone.mark
    phone.dial(f"sip:{ABROAD}@{broken.edge.server()}")
    assert phone.wait_closed(after=mark).startswith("503")

    marks, mark, began = broken.marks(), phone.mark, time.monotonic()
    phone.dial(f"sip:112@{broken.edge.server()}")
    phone.wait_ringing(after=mark, timeout=5.0 - (time.monotonic() - began))
    assert time.monotonic() - began < 5
    phone.wait_established(after=mark)
    reached = [n for n, s in broken.stations.items() if s.since(marks[n]).requests("INVITE", "in")]
    assert reached[0] == "pai-from" and len(reached) == 2
    phone.hangup()
    phone.wait_closed(after=mark)


def test_explain_without_the_edge(broken: PlanWorld) -> None:
    """`sip-edge explain` reads the embedded database where no daemon answers, for seats, PBXs and carriers."""
    broken.edge.kill()

    def explained(*words: str) -> str:
        done = broken.edge.command("explain", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    seat = explained("--from", "j.smith", "--to", "14123442036427900")
    assert seat.startswith("Seat j.smith of account K2001 dials 14123442036427900.\n")
    for line in (
        "  E8   141: call without showing the number",
        "  E10  prefix 23 chooses the CLI of this call",
        "       P-Asserted-Identity: <sip:+442088198786@uk.example>",
        "       Privacy: id",
    ):
        assert f"{line}\n" in seat
    pbx = explained("--trunk", "K1001/hq", "--to", "112", "--caller", "+4930123456", "--anonymous")
    assert "  E1   112 is an emergency number here\n" in pbx
    assert "       From: <sip:+4922838600@tel.t-online.de>\n" in pbx and "Privacy" not in pbx
    inbound = explained("--carrier", "second", "--to", "030777112", "--caller", "015112345678")
    assert "  D1   p-called-party-id names +4930777112, a number at carrier second\n" in inbound
    assert "When unreachable\n" in inbound
    assert "  R3   +4930777112 forwards to +436601234567 (unavailable)\n" in inbound
    assert ";reason=unavailable;privacy=off\n" in inbound
    withheld = explained("--carrier", "second", "--to", "+4930777108", "--anonymous")
    assert "Refused: anonymous-rejected (docs/refusals.md), seat desk.shy refuses withheld callers\n" in withheld
    wrong = broken.edge.command("explain", "--from", "j.smit", "--to", "1")
    assert wrong.returncode == 1
    assert wrong.stderr == "sip-edge: there is no seat j.smit; did you mean j.smith?\n"
