"""The called number towards a PBX, as it wants it (domain rules 1.6-33, 1.2-5; `number_format`, `called_in`)."""

from __future__ import annotations

import pytest

from config.model import NumberFormat, Trunk
from dialplan.model import Identity, Target, TargetKind
from edge.b2bua.outgoing import called_number, to_customer

TARGET = Target(TargetKind.TRUNK, "hq", "K1", "+493023125001", Identity("+4989123456"))


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (NumberFormat.E164_PLUS, "+493023125001"),
        (NumberFormat.E164, "493023125001"),
        (NumberFormat.NATIONAL, "03023125001"),
        (NumberFormat.IDD, "00493023125001"),
    ],
)
def test_formats(form: NumberFormat, written: str) -> None:
    """In the Request-URI and To alike."""
    called = called_number(TARGET, Trunk("K1", "hq", number_format=form), "DE", "edge.example")
    assert (called.written, called.in_uri) == (written, written)
    out = to_customer(TARGET, "pbx", "edge.example", "sip:x@192.0.2.1", called)
    assert str(out.to) == f"<sip:{written}@edge.example>"
    assert not any(name == "P-Called-Party-ID" for name, _ in out.identity)


@pytest.mark.parametrize("called_in", ["to", "p-called-party-id"])
def test_request_uri_may_stay_the_contact(called_in: str) -> None:
    """PBXs that match the Request-URI against their account find the number in To, or in P-Called-Party-ID too."""
    trunk = Trunk("K1", "hq", number_format=NumberFormat.NATIONAL, called_in=called_in)
    called = called_number(TARGET, trunk, "DE", "edge.example")
    assert called.in_uri == ""
    out = to_customer(TARGET, "pbx", "edge.example", "sip:pbx@192.0.2.1", called)
    assert out.uri == "sip:pbx@192.0.2.1" and str(out.to) == "<sip:03023125001@edge.example>"
    told = [value for name, value in out.identity if name == "P-Called-Party-ID"]
    assert told == (["<sip:03023125001@edge.example>"] if called_in == "p-called-party-id" else [])


def test_bulk_registration_leaves_no_choice() -> None:
    """RFC 6140 section 7.1: a global number, in the Request-URI."""
    trunk = Trunk("K1", "hq", mode="gin", number_format=NumberFormat.NATIONAL, called_in="to")
    called = called_number(TARGET, trunk, "DE", "edge.example")
    assert (called.written, called.in_uri) == ("+493023125001", "+493023125001")
