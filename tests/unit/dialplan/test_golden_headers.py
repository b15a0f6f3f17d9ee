"""T2.1: what each carrier profile, a PBX and a phone get to see, header for header, in `golden/` for a reader to check.

The texts are made from decisions of the dial plan, so that they show what leaves, not what could. To change them on
purpose, run this module: `python -m tests.unit.dialplan.test_golden_headers`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.model import Carrier, IdentityProfile, NumberFormat, RouteKind, Rows
from config.snapshot import Snapshot
from dialplan.engine import decide, forward, next_route
from dialplan.model import CallAttempt, Called, Caller, Decision, Identity, Outcome, Target
from edge.b2bua.identity_headers import customer_headers, identity_headers
from edge.b2bua.outgoing import Outgoing, to_carrier, to_customer
from tests.unit.dialplan.world import NOW, ROWS, SEAT_DE, dial, incoming, pbx_dials, plan, to, with_row

GOLDEN = Path(__file__).parent / "golden"
EXTERNAL, CALLER = "+4922129191999", "+4915112345678"
ABROAD = "+436601234567"
OWN_DIGITS = "22838650"

PROFILES = {
    "pai-from": Carrier("c", domain="tel.t-online.de", username="+49199296000001", identity=IdentityProfile.PAI_FROM),
    "ppi-account": Carrier(
        "c", domain="sipconnect.sipgate.de", username="1234567t0", identity=IdentityProfile.PPI_ACCOUNT,
        number_format=NumberFormat.E164,
    ),
    "pai-presents": Carrier(
        "c", domain="nfon.example", username="KXXXabcd", identity=IdentityProfile.PAI_PRESENTS,
        number_format=NumberFormat.IDD,
    ),
    "from-network": Carrier(
        "c", domain="dt-standard.example", username="u4711", identity=IdentityProfile.FROM_NETWORK,
        number_format=NumberFormat.NATIONAL,
    ),
    "static-no-plus": Carrier(
        "c", mode="static", domain="simwood.example", identity=IdentityProfile.STATIC_NO_PLUS,
        number_format=NumberFormat.E164,
    ),
}  # fmt: skip

WITHHELD = Caller(CALLER, "Erika", asserted=(CALLER,), privacy=frozenset({"id"}))


def world_of(carrier: Carrier, rows: Rows = ROWS) -> Snapshot:
    carrier = replace(carrier, clip_no_screening=True)
    return Snapshot(replace(rows, carriers=(carrier,), numbers=tuple(replace(n, carrier="c") for n in rows.numbers)))


def cases(carrier: Carrier) -> dict[str, Target]:
    """One target per case of the table in domain 2.1."""
    chosen = world_of(carrier, with_row("numbers", "+4922838651", cli_prefix="23"))
    external = world_of(carrier, with_row("seats", SEAT_DE, present=EXTERNAL, external_numbers=(EXTERNAL,)))
    forwards = world_of(
        carrier,
        with_row(
            "numbers", "+4922838650", route=to(RouteKind.FORWARD, "+436601234567"),
            on_busy=to(RouteKind.FORWARD, "+436607654321"),
        ),
    )  # fmt: skip
    call = replace(incoming("+4922838650"), source=incoming("", "c").source)
    twice = replace(call, caller=Caller(CALLER, diversion=("+4930111111",)))
    private = replace(
        call,
        caller=replace(
            twice.caller, diversion=("+4930222222", "+4930111111"), private_diversion=frozenset({"+4930222222"})
        ),
    )
    decisions = {
        "own": dial("+436601234567", SEAT_DE, chosen),
        "chosen by prefix 23": dial("23" + "436601234567", SEAT_DE, chosen),
        "external": dial("+436601234567", SEAT_DE, external),
        "anonymous": dial("141436601234567", SEAT_DE, chosen),
        "forwarded": decide(call, forwards, NOW),
        "forwarded on busy": next_route(plan(decide(call, forwards, NOW)), Outcome.BUSY, call, forwards, NOW),
        "forwarded a second time": decide(twice, forwards, NOW),
        "forwarded after a private one": decide(private, forwards, NOW),
        "forwarded, caller withheld": decide(replace(call, caller=WITHHELD), forwards, NOW),
        "sent on by a phone": sent_on(call, chosen),
        "sent on by a phone, caller withheld": sent_on(replace(call, caller=WITHHELD), chosen),
        "emergency": dial("112", SEAT_DE, chosen),
        "emergency behind 141": dial("141112", SEAT_DE, chosen),
    }
    return {name: plan(decided).targets[0] for name, decided in decisions.items()}


def sent_on(call: CallAttempt, world: Snapshot) -> Decision:
    """The seat's phone answers 302 with a number outside."""
    called = plan(decide(call, world, NOW))
    return forward(called, called.targets[0], Called("contact", ABROAD), "no-answer", call, world, NOW)


def written(title: str, found: Outgoing) -> str:
    return "\n".join((f"[{title}]", *found.lines(), f"Contact: <sip:{found.contact_user}@EDGE>")) + "\n"


def carrier_text(carrier: Carrier) -> str:
    out = []
    for title, target in cases(carrier).items():
        out.append(written(title, to_carrier(carrier, target)))
    return "\n".join(out)


def customer_text() -> str:
    out = []
    callers = {
        "a caller": Caller("015112345678"),
        "a caller with a name": Caller(CALLER, 'Erika "E" Muster'),
        "a forwarded caller": Caller(CALLER, diversion=("+4930111111",)),
        "a caller whose forwarder is private": Caller(
            CALLER, diversion=("+4930222222", "+4930111111"), private_diversion=frozenset({"+4930222222"})
        ),
        "a withheld caller": WITHHELD,
        "an unknown caller": Caller("pbx"),
    }
    for title, caller in callers.items():
        for number, far in (("+4922838650", "seat"), ("+4922838607", "trunk")):
            target = plan(decide(incoming(number, caller=caller), Snapshot(ROWS), NOW)).targets[0]
            username = target.name if far == "seat" else "hq-k1001"
            uri = f"sip:{target.user or 'CONTACT'}@FAR"
            out.append(written(f"{title} to a {far}", to_customer(target, username, "edge.example", uri)))
    for title, digits in (("an extension", "202"), ("an extension, withheld", "*31#202")):
        target = plan(dial(digits, SEAT_DE)).targets[0]
        out.append(written(title, to_customer(target, target.name, "edge.example", "sip:CONTACT@FAR")))
    return "\n".join(out)


TEXTS = {**{name: lambda c=c: carrier_text(c) for name, c in PROFILES.items()}, "customer": customer_text}


@pytest.mark.parametrize("name", list(TEXTS))
def test_golden(name: str) -> None:
    """T2.1: profile times own, chosen, external, anonymous, forwarded, emergency."""
    assert TEXTS[name]() == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", list(PROFILES))
def test_anonymous_shows_no_digits_elsewhere(name: str) -> None:
    """T2.5: on a 141 call the own digits stand where the carrier learns its customer, nowhere else."""
    carrier = PROFILES[name]
    found = identity_headers(carrier, cases(carrier)["anonymous"].identity, carrier.domain, "x")
    assert [n for n, _ in found.headers][1:] == ["Privacy"]
    assert OWN_DIGITS not in str(found.from_) + found.contact_user
    forwarded = identity_headers(carrier, cases(carrier)["forwarded, caller withheld"].identity, carrier.domain, "x")
    assert ("Privacy", "id") in forwarded.headers
    assert "15112345678" not in str(forwarded)
    assert "Erika" not in str(forwarded)


@pytest.mark.parametrize("name", list(PROFILES))
def test_untrusted_carrier_never_sees_a_withheld_number(name: str) -> None:
    """RFC 3325 section 7, domain 2.1-2: towards a carrier that is not trusted PAI and PPI go too."""
    carrier = replace(PROFILES[name], trusted=False)
    found = identity_headers(carrier, cases(carrier)["anonymous"].identity, carrier.domain)
    assert OWN_DIGITS not in str(found)
    assert [n for n, _ in found.headers] == ["Privacy"]
    shown = identity_headers(carrier, cases(carrier)["own"].identity, carrier.domain)
    assert any(n.startswith("P-") for n, _ in shown.headers)


def test_ppi_account_never_has_plus_or_zeros() -> None:
    """T2.2: E.164 without +, 00, 0 or blanks, whatever format the called number leaves in."""
    for form in NumberFormat:
        carrier = replace(PROFILES["ppi-account"], number_format=form)
        for target in cases(carrier).values():
            found = identity_headers(carrier, target.identity, carrier.domain)
            (ppi,) = [v for n, v in found.headers if n == "P-Preferred-Identity"]
            assert ppi.startswith("<sip:49")
            assert ppi.partition("@")[0][5:].isdigit()


def test_emergency_has_no_privacy() -> None:
    """Domain 2.1, 2.6: no Privacy on emergency calls, and the bare number in the Request-URI."""
    for carrier in PROFILES.values():
        for title in ("emergency", "emergency behind 141"):
            target = cases(carrier)[title]
            found = identity_headers(carrier, target.identity, carrier.domain)
            assert target.user == "112"
            assert "Privacy" not in dict(found.headers)
            assert "22838600" in str(found)


def test_trusted_pbx_may_see_the_network_number() -> None:
    """Domain 2.5-15: PAI with Privacy to a trusted PBX only."""
    identity = Identity(None, "+4930123456", anonymous=True)
    assert "30123456" not in str(customer_headers(identity, "edge.example"))
    trusted = customer_headers(identity, "edge.example", trusted=True)
    assert trusted.headers == [("P-Asserted-Identity", "<sip:+4930123456@edge.example>"), ("Privacy", "id")]
    assert "30123456" not in str(trusted.from_) + trusted.contact_user


def test_names_cannot_break_out_of_their_quotes() -> None:
    """A display name or user part with quotes, brackets or line breaks stays inside its place."""
    found = customer_headers(Identity("a>b\r\nX: y", None, 'x"\r\nEvil: 1'), "edge.example")
    assert "\r" not in str(found.from_) and "\n" not in str(found.from_)


def test_pbx_calls_like_a_seat() -> None:
    """A PBX's own number leaves as a seat's does."""
    world = world_of(PROFILES["pai-from"])
    target = plan(pbx_dials("+436601234567", world, from_user="+4922838607")).targets[0]
    found = identity_headers(PROFILES["pai-from"], target.identity, "tel.t-online.de")
    assert found.headers == [("P-Asserted-Identity", "<sip:+4922838607@tel.t-online.de>")]


if __name__ == "__main__":
    for file_name, make in TEXTS.items():
        (GOLDEN / f"{file_name}.txt").write_text(make())
