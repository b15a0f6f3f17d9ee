"""T2.1 and T2.5 on the wire: what leaves towards each kind of carrier is what the golden messages say, and no byte of a
withheld call tells who calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.messages import Seen
from plan_world import (
    ABROAD,
    CALLER,
    CARRIERS,
    CHOSEN,
    EXTERNAL,
    OWN,
    PROFILES,
    SITE,
    PlanWorld,
    Seens,
)

pytestmark = pytest.mark.sipp

GOLDEN = Path(__file__).resolve().parents[2] / "unit/dialplan/golden"
_TOLD = ("P-Asserted-Identity", "P-Preferred-Identity", "Privacy", "Diversion", "History-Info")
OTHER_IDENTITY = ("Remote-Party-ID", "P-Called-Party-ID", "Referred-By", "Call-Info", "Identity", "Subject")


def golden(profile: str) -> dict[str, list[str]]:
    """The golden messages of a profile by their titles."""
    found: dict[str, list[str]] = {}
    for part in (GOLDEN / f"{profile}.txt").read_text().split("\n\n"):
        title, *lines = part.strip().splitlines()
        found[title.strip("[]")] = lines
    return found


def said(invite: Seen) -> list[str]:
    """An INVITE as the golden messages write it, without Contact."""
    lines = [f"INVITE {invite.request_uri}"]
    lines += [f"{name}: {invite.header(name).partition(';tag=')[0]}" for name in ("From", "To")]
    lines += [f"{name}: {value}" for name in _TOLD for value in invite.headers(name)]
    return lines


@pytest.fixture(scope="module", params=PROFILES)
def profile(request: pytest.FixtureRequest, standing_plan: PlanWorld) -> Iterator[str]:
    """The carrier of this profile has the numbers."""
    standing_plan.at_home(request.param)
    yield request.param
    standing_plan.at_home("pai-from")


def assert_golden(seen: Seens, profile: str, title: str) -> None:
    """The INVITE that arrived at the profile's carrier is the golden one, to the letter."""
    assert seen.status == 200
    assert seen.reached == [profile]
    invite = seen.at(profile)
    *wanted, contact = golden(profile)[title]
    assert said(invite) == wanted
    user = invite.header("Contact").partition("@")[0].removeprefix("<sip:")
    if CARRIERS[profile].get("username") is None or "anonymous@" in contact:
        assert f"Contact: <sip:{user}@EDGE>" == contact
    else:
        # our carriers know us by address here; where we register Contact has the account's name, as in the file
        assert user == invite.header("From").partition("sip:")[2].partition("@")[0]
    assert not [name for name in OTHER_IDENTITY if invite.header(name)]


def test_own_number(plan: PlanWorld, profile: str) -> None:
    """The seat's number is shown."""
    assert_golden(plan.dial("a.mueller", ABROAD), profile, "own")


def test_chosen_number(plan: PlanWorld, profile: str) -> None:
    """A prefix chooses another number of the account for this call."""
    assert_golden(plan.dial("a.mueller", "23" + ABROAD[1:]), profile, "chosen by prefix 23")


def test_external_number(plan: PlanWorld, profile: str) -> None:
    """CLIP no screening: the verified number is shown, the own one answers for it; a prefix still chooses the own."""
    with plan.changed("seats", "username", "a.mueller", present=EXTERNAL):
        assert_golden(plan.dial("a.mueller", ABROAD), profile, "external")
        assert_golden(plan.dial("a.mueller", "23" + ABROAD[1:]), profile, "chosen by prefix 23")
        assert_golden(plan.dial("a.mueller", "112"), profile, "emergency")


@pytest.mark.parametrize("code", ["141", "*31#", "#31#"])
def test_withheld_number(plan: PlanWorld, profile: str, code: str) -> None:
    """141 and its like: the carrier alone learns whose call it is, by the one header that the profile has for it."""
    seen = plan.dial("a.mueller", code + ABROAD[1:])
    assert_golden(seen, profile, "anonymous")
    assert_silent_about_the_caller(seen, profile)


def test_explained_as_it_leaves(plan: PlanWorld, profile: str) -> None:
    """`sip-edge explain` shows the golden message before the call, `why` what left after it."""
    with plan.changed("seats", "username", "a.mueller", present=EXTERNAL):
        status, text = plan.edge.get(f"/explain?seat=a.mueller&to={ABROAD[1:]}")
        seen = plan.dial("a.mueller", ABROAD)
    wanted = golden(profile)["external"][:-1]
    assert status == 200
    assert f"1. carrier {profile}, " in text
    assert "\n".join(f"       {line}" for line in wanted) in text
    assert "C6   shows the external number +4922129191999" in text
    done = plan.edge.command("why", seen.call)
    assert done.returncode == 0, done.stderr
    assert "\n".join(f"      {line}" for line in wanted) in done.stdout
    assert "C6   shows the external number" in done.stdout
    assert "L1   channels: account K1001 total 1 of 30" in done.stdout


def test_emergency(plan: PlanWorld, profile: str) -> None:
    """112 leaves bare, with the site's number and no Privacy, also behind 141 and a prefix (T2.6, T2.9)."""
    assert_golden(plan.dial("a.mueller", "112"), profile, "emergency")
    assert_golden(plan.dial("a.mueller", "141112"), profile, "emergency behind 141")
    assert_golden(plan.dial("a.mueller", "23112"), profile, "emergency")


def test_forwarded(plan: PlanWorld, profile: str) -> None:
    """Who called is shown, the forwarding number answers for it and stands in Diversion and History-Info."""
    with plan.changed("numbers", "number", OWN, route_kind="forward", route_target=ABROAD):
        assert_golden(plan.come_in(profile, OWN), profile, "forwarded")
        again = plan.come_in(profile, OWN, headers=["Diversion: <sip:+4930111111@far.example>;reason=user-busy"])
        assert_golden(again, profile, "forwarded a second time")
        withheld = plan.come_in(
            profile, OWN, from_display='"Erika" ', headers=["Privacy: id", f"P-Asserted-Identity: <sip:{CALLER}@far>"]
        )
        assert_golden(withheld, profile, "forwarded, caller withheld")
        told = withheld.stations[profile].received_text()
        assert CALLER[3:] not in told and "Erika" not in told


def test_forwarded_on_busy(plan: PlanWorld, profile: str) -> None:
    """The next route says why it was taken."""
    busy = {"route_kind": "seat", "route_target": "desk.busy"}
    with plan.changed(
        "numbers", "number", SITE, **busy, on_busy_kind="forward", on_busy_target="+436607654321"
    ):  # fmt: skip
        seen = plan.come_in(profile, SITE)
    assert seen.reached == [profile, "desk.busy"]
    wanted = [line.replace(OWN[3:], SITE[3:]) for line in golden(profile)["forwarded on busy"][:-1]]
    assert said(seen.at(profile)) == wanted


def test_pbx_is_screened(plan: PlanWorld, profile: str) -> None:
    """A PBX's From and PAI are wishes: a number of another is not shown, headers are never copied (domain 2.1-3)."""
    headers = ["P-Asserted-Identity: <sip:+4930999999@pbx>", "Remote-Party-ID: <sip:+4930999999@pbx>",
               "Privacy: none", "Diversion: <sip:+4930999999@pbx>;reason=unconditional"]  # fmt: skip
    seen = plan.dial("a.mueller", ABROAD, dict(h.split(": ", 1) for h in headers))
    assert_golden(seen, profile, "own")
    assert "999999" not in seen.stations[profile].received_text()


def assert_silent_about_the_caller(seen: Seens, carrier: str) -> None:
    """T2.5: but for the INVITE's identity header no byte that the far side got holds the caller's digits or name."""
    assert [m.method for m in seen.stations[carrier] if m.direction == "in"] == ["INVITE", "ACK", "BYE"]
    for message in seen.stations[carrier]:
        if message.direction == "in":
            text = message.text
            if message.method == "INVITE" and not message.is_response:
                name = next(n for n in _TOLD[:2] if message.header(n))
                text = text.replace(message.header(name), "", 1)
            for secret in (OWN[3:], CHOSEN[3:], ":201@", "mueller", "Mueller", "Anna"):
                assert secret not in _without_numbers(text), f"{secret} in\n{message.text}"


def _without_numbers(text: str) -> str:
    """The text without what is a number by chance: ports, lengths, SDP's counters, random tokens."""
    kept = []
    for line in text.splitlines():
        name = line.partition(":")[0]
        if name in ("Content-Length", "Max-Forwards", "CSeq", "Min-SE", "Session-Expires") or line[:2] in ("m=", "a="):
            continue
        kept.append(line)
    return "\n".join(kept)


def test_untrusted_carrier(plan: PlanWorld, profile: str) -> None:
    """RFC 3325 section 7: a carrier that is not trusted learns nothing at all of a withheld number."""
    with plan.changed("carriers", "name", profile, trusted=False):
        seen = plan.dial("a.mueller", "141" + ABROAD[1:])
        assert OWN[3:] not in seen.stations[profile].received_text()
        assert seen.at(profile).header("Privacy") == "id"
        assert not seen.at(profile).header("P-Asserted-Identity")
        assert not seen.at(profile).header("P-Preferred-Identity")
