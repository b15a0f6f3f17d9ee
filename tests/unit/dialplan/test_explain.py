"""Decisions in plain words, for a support agent who never read the code."""

from __future__ import annotations

from config.model import RouteKind
from config.snapshot import Snapshot
from dialplan.engine import decide
from dialplan.explain import explain
from dialplan.model import Caller, Reason, Refusal
from tests.unit.dialplan.world import NOW, SEAT_DE, SEAT_UK, WORLD, dial, incoming, to, with_row


def test_a_call_out() -> None:
    """Each step with its rule, then where the call goes, with what number, and what it takes."""
    text = explain(dial("23442036427900", SEAT_UK))
    assert text == (
        "How it was decided\n"
        "  E10  prefix 23 chooses the CLI of this call\n"
        "  E12  442036427900 is +442036427900\n"
        "  C2   the prefix chooses +442088198786\n"
        "  R7   carriers in order: simwood, telekom, sipgate, nfon\n"
        "\n"
        "Put through: a call to outside to +442036427900, for account K2001\n"
        "  1. carrier simwood, sent to 442036427900; shows +442088198786; "
        "channels: carrier simwood out 1 (no limit), carrier simwood total 1 (no limit)\n"
        "  2. carrier telekom, sent to +442036427900; shows +442088198786; "
        "channels: carrier telekom out 1 of 120, carrier telekom total 1 of 200\n"
        "  3. carrier sipgate, sent to 442036427900; shows +442088198786; "
        "channels: carrier sipgate out 1 (no limit), carrier sipgate total 1 (no limit)\n"
        "  4. carrier nfon, sent to 00442036427900; shows +442088198786; "
        "channels: carrier nfon out 1 (no limit), carrier nfon total 1 (no limit)\n"
        "  channels: account K2001 total 1 of 10\n"
    )


def test_a_forward() -> None:
    """Forwarded calls name the number that forwards, and why."""
    world = Snapshot(with_row("numbers", "+4922838650", route=to(RouteKind.FORWARD, "+436601234567")))
    text = explain(decide(incoming("+4922838650"), world, NOW))
    assert "R3   +4922838650 forwards to +436601234567 (unconditional)" in text
    assert "shows +4915112345678 (network number +4922838650), forwarded by +4922838650 (unconditional)" in text


def test_a_withheld_caller() -> None:
    """Nothing of a withheld caller is told."""
    caller = Caller("anonymous", from_anonymous=True, asserted=("+4915112345678",))
    text = explain(decide(incoming("+4922838650", caller=caller), WORLD, NOW))
    assert "the caller's number is withheld" in text
    assert "15112345678" not in text


def test_refusals() -> None:
    """A refusal names its reason, its words, and the limit where one was reached."""
    assert "Refused: cli-not-available (docs/refusals.md), the seat's primary number" in explain(
        dial("+4930123456", SEAT_DE, Snapshot(with_row("numbers", "+4922838650", carrier="telekom", account="K2001")))
    )
    limited = Refusal(Reason.NUMBER_LIMIT, "number +4922838650", 404, "number", 2, 2)
    assert explain(limited).endswith(
        "Refused: number-limit (docs/refusals.md), number +4922838650\n"
        "  answered with SIP 404, as the number's route demands\n"
        "  number limit: 2 of 2 channels in use\n"
    )


def test_nothing_more() -> None:
    """No next route."""
    assert explain(None) == "There is no next route: the failure stands.\n"
