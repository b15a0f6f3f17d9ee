"""TLS contexts and what is said of files that cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from edge.transport.certificate import certified_names
from edge.transport.tls import Tls, TlsFileError, TlsFiles, client_context, server_context

from .shell import AUTHORITY


def issue(path: Path, name: str, authority: trustme.CA = AUTHORITY) -> tuple[Path, Path]:
    """Files of a chain and a key for `name`."""
    issued = authority.issue_cert(name)
    chain, key = path / f"{name}.pem", path / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return chain, key


def authorities(path: Path) -> Path:
    file = path / "authorities.pem"
    file.write_bytes(AUTHORITY.cert_pem.bytes())
    return file


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Shake hands in memory; the client's side of the connection."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = 0
    for _ in range(10):
        for side in (theirs, ours):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                done = 0
    assert done
    return theirs


def test_handshake_of_our_own_contexts(tmp_path: Path) -> None:
    """A listener of ours and a connection of ours agree, on 1.2 or later."""
    made = handshake(
        server_context(*issue(tmp_path, "edge.example")), client_context(authorities(tmp_path)), "edge.example"
    )
    assert made.version() in ("TLSv1.2", "TLSv1.3")


def test_authority_is_checked(tmp_path: Path) -> None:
    """The certificate is from somebody we trust; its name is checked by the connection (test_tls_peers)."""
    server = server_context(*issue(tmp_path, "edge.example"))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self.signed|local issuer"):
        handshake(server, client_context(), "edge.example")


def test_old_versions_are_refused(tmp_path: Path) -> None:
    """Domain 7.6: TLS 1.2 at least, as server and as client."""
    server = server_context(*issue(tmp_path, "edge.example"))
    assert server.minimum_version == client_context().minimum_version == ssl.TLSVersion.TLSv1_2
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(authorities(tmp_path))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        handshake(server, old, "edge.example")


def test_client_certificates_can_be_demanded(tmp_path: Path) -> None:
    """Domain 7.6: mutual TLS where it is wanted."""
    trust = authorities(tmp_path)
    server = server_context(*issue(tmp_path, "edge.example"), client_authorities=trust)
    handshake(server, client_context(trust, *issue(tmp_path, "pbx.example")), "edge.example")
    with pytest.raises(ssl.SSLError):
        handshake(server, client_context(trust), "edge.example")


def test_certificates_are_replaced_while_running(tmp_path: Path) -> None:
    """Connections after a renewal see the new certificate and are judged by the new authorities; a broken renewal
    changes nothing and says what is broken."""
    chain, key = issue(tmp_path, "old.example")
    trust = authorities(tmp_path).rename(tmp_path / "trust.pem")
    tls = Tls(TlsFiles(chain, key, trust, client_authorities=trust))
    listening = tls.server("required")
    ours = client_context(trust, *issue(tmp_path, "pbx.example"))
    assert certified_names(handshake(listening, ours, "x").getpeercert()) == ("old.example",)

    other = trustme.CA()
    for file, new in zip((chain, key), issue(tmp_path, "new.example"), strict=True):
        file.write_bytes(new.read_bytes())
    trust.write_bytes(AUTHORITY.cert_pem.bytes() + other.cert_pem.bytes())
    tls.reload()
    assert certified_names(handshake(listening, ours, "x").getpeercert()) == ("new.example",)
    handshake(listening, client_context(trust, *issue(tmp_path, "pbx2.example", other)), "x")
    assert certified_names(handshake(listening, ours, None).getpeercert()) == ("new.example",)

    trust.write_bytes(other.cert_pem.bytes())
    tls.reload()
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed|unknown ca"):
        handshake(listening, client_context(authorities(tmp_path), *issue(tmp_path, "pbx3.example")), "x")

    assert tls.expires is not None and tls.expires.year == 3000
    before = tls.client
    chain.write_text("no certificate")
    with pytest.raises(TlsFileError, match=r"old\.example\.pem"):
        tls.reload()
    assert tls.client is before


def test_missing_and_mismatched_files_are_named(tmp_path: Path) -> None:
    """The operator learns which file and what is wrong with it."""
    chain, key = issue(tmp_path, "a.example")
    _, other = issue(tmp_path, "b.example")
    with pytest.raises(TlsFileError, match=r"cannot read .*none\.pem: No such file"):
        server_context(tmp_path / "none.pem", key)
    with pytest.raises(TlsFileError, match=r"b\.example\.key does not belong to the certificate .*a\.example\.pem"):
        server_context(chain, other)
    (tmp_path / "empty").write_text("")
    with pytest.raises(TlsFileError, match="holds no certificates"):
        client_context(tmp_path / "empty")
