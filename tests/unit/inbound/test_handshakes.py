"""Whose failed handshakes are told, how often, and with which remedy."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest

from config.model import Carrier, Rows, Trunk
from config.snapshot import Snapshot
from edge.inbound import handshakes
from edge.inbound.handshakes import FailedHandshakes, remedy
from edge.inbound.known_peers import KnownPeers


def failure(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def test_who_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Carriers and PBXs by name, once a minute and address; strangers for debugging alone."""
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(
        handshakes,
        "_log",
        SimpleNamespace(
            warning=lambda event, **fields: said.append(("warning", fields["peer"])),
            debug=lambda event, **fields: said.append(("debug", fields["source"])),
        ),
    )
    peers = KnownPeers(lambda host: host == "203.0.113.9")
    carrier = Carrier("one", mode="static", sources=("198.51.100.0/24", "nonsense"))
    office = Trunk("K1", "office", mode="static", sources=("192.0.2.7",))
    peers.apply(Snapshot(Rows(carriers=(carrier,), trunks=(office,))))
    now = [0.0]
    failed = FailedHandshakes(peers.at, lambda: now[0])
    for now[0], host in [
        (0, "192.0.2.7"),
        (59, "192.0.2.7"),
        (59, "198.51.100.3"),
        (60, "192.0.2.7"),
        (61, "192.0.2.8"),
    ]:
        failed(host, failure("X"))
    failed("203.0.113.9", failure("X"))
    assert said == [
        ("warning", "trunk K1/office"),
        ("warning", "carrier one"),
        ("warning", "trunk K1/office"),
        ("debug", "192.0.2.8"),
        ("warning", "a carrier"),
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (failure("PEER_DID_NOT_RETURN_A_CERTIFICATE"), "shows no certificate"),
        (failure("TLSV1_ALERT_UNKNOWN_CA"), "let it trust the authority of tls_certificate"),
        (failure("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "does not accept our certificate"),
        (failure("WRONG_VERSION_NUMBER"), "TLS 1.2 or 1.3"),
        (TimeoutError(), "did not finish in time"),
    ],
)
def test_remedies(error: Exception, words: str) -> None:
    assert words in remedy(error)
