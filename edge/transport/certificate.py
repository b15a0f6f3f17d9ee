"""Whom a verified certificate speaks for in SIP (RFC 5922 section 7). Pure; takes what `getpeercert` gives."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from edge.sip.errors import RemoteProtocolError
from edge.sip.uri import Uri


def certified_names(certificate: Mapping[str, object] | None) -> tuple[str, ...]:
    """The domains and addresses that a certificate names, in lower case and without doubles (RFC 5922 section 7.1).

    SIP URIs of its subjectAltName count if there are any, else its DNS names, and where it has no subjectAltName at all
    its common name; IP addresses count always (they are no SIP domains, but carriers are provisioned by address too).
    Nothing without a certificate that was verified.
    """
    if not certificate:
        return ()
    found = _pairs(certificate.get("subjectAltName"))
    domains = [domain for kind, value in found if kind == "URI" and (domain := _sip_domain(value))]
    domains = domains or [value for kind, value in found if kind == "DNS"]
    if not found:
        subject = certificate.get("subject")
        for part in subject if isinstance(subject, tuple) else ():
            domains += [value for kind, value in _pairs(part) if kind == "commonName"]
    domains += [value for kind, value in found if kind == "IP Address"]
    return tuple(dict.fromkeys(_plain(domain) for domain in domains))


def speaks_for(names: tuple[str, ...], domain: str, *, wildcards: bool = False) -> bool:
    """Whether one of a certificate's names is `domain`, a host name or an address.

    RFC 5922 section 7.2 forbids wildcards; `wildcards` lets one stand for the whole first label, as the web does.
    """
    wanted = _plain(domain)
    if wanted in names:
        return True
    first, dot, rest = wanted.partition(".")
    return wildcards and bool(first and dot and "." in rest) and not _numeric(wanted) and f"*.{rest}" in names


def _plain(name: str) -> str:
    bare = name.strip().strip("[]").rstrip(".").lower()
    try:
        return str(ip_address(bare))
    except ValueError:
        return bare


def _numeric(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _sip_domain(text: str) -> str:
    """The host of a SIP URI without a user; one with a user names a person, not a domain."""
    try:
        uri = Uri.parse(text)
    except RemoteProtocolError:
        return ""
    return uri.host if uri.scheme == "sip" and not uri.user else ""


def _pairs(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, tuple):
        return []
    return [(p[0], p[1]) for p in value if isinstance(p, tuple) and len(p) == 2 and isinstance(p[1], str)]
