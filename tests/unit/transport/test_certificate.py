"""RFC 5922 section 7: whom a certificate speaks for."""

from __future__ import annotations

import pytest

from edge.transport.certificate import certified_names, speaks_for

URI_AND_DNS = {
    "subjectAltName": (("URI", "sip:Carrier.example"), ("URI", "https://x.example"), ("DNS", "host.example"))
}


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        (None, ()),
        ({}, ()),
        ({"subjectAltName": (("DNS", "A.example."), ("DNS", "b.example"))}, ("a.example", "b.example")),
        (URI_AND_DNS, ("carrier.example",)),
        ({"subjectAltName": (("URI", "sip:bob@carrier.example"), ("DNS", "host.example"))}, ("host.example",)),
        ({"subjectAltName": (("URI", "sip:"), ("IP Address", "2001:DB8:0:0::1"))}, ("2001:db8::1",)),
        ({"subject": ((("countryName", "DE"),), (("commonName", "old.example"),))}, ("old.example",)),
        (
            {"subject": ((("commonName", "cn.example"),),), "subjectAltName": (("DNS", "san.example"),)},
            ("san.example",),
        ),
    ],
)
def test_names(certificate: dict[str, object] | None, names: tuple[str, ...]) -> None:
    """7.1: SIP URIs before DNS names before the common name; persons and other schemes are no domains."""
    assert certified_names(certificate) == names


@pytest.mark.parametrize(
    ("names", "domain", "strict", "lenient"),
    [
        (("a.example",), "A.Example.", True, True),
        (("a.example",), "b.a.example", False, False),
        (("*.a.example",), "x.a.example", False, True),
        (("*.a.example",), "a.example", False, False),
        (("*.a.example",), "y.x.a.example", False, False),
        (("*.example",), "a.example", False, False),
        (("x*.a.example",), "xy.a.example", False, False),
        (("192.0.2.1",), "192.0.2.1", True, True),
        (("*.0.2.1",), "192.0.2.1", False, False),
        (("2001:db8::1",), "[2001:db8:0::1]", True, True),
        ((), "a.example", False, False),
    ],
)
def test_whom_it_speaks_for(names: tuple[str, ...], domain: str, strict: bool, lenient: bool) -> None:
    """7.2: no wildcards; where the operator allows them, one for the whole first label of a name of three or more."""
    assert speaks_for(names, domain) is strict
    assert speaks_for(names, domain, wildcards=True) is lenient
