"""TLS contexts: 1.2 and 1.3, certificates of peers checked against the service domain (RFC 5922).

Certificates are read again by `Tls.reload`: connections from then on see the new ones, those that are up go on. Nothing
watches the files, so that a renewal that is half written is never read.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography.x509 import load_pem_x509_certificates

ClientCertificates = Literal["none", "optional", "required"]
"""What a listener wants of peers: no certificate; to see one if they have it; one, or no connection."""

_VERIFY: dict[ClientCertificates, ssl.VerifyMode] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class TlsFileError(Exception):
    """A certificate, key or list of authorities cannot be used; the text names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. `certificate` (with its chain) and `key` are shown by our listeners, `client_certificate` and
    `client_key` by connections of ours to whoever asks for one. `authorities` vouch for those we connect to (None: the
    system's), `client_authorities` for those who connect to us with a certificate."""

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    client_authorities: Path | None = None


class Tls:
    """All TLS contexts of an edge. Raises TlsFileError where a file cannot be used."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._doors: dict[ClientCertificates, _Door] = {}
        self._client = _client(files)
        self.expires: datetime | None = _expires(files)
        """When the first certificate of the chain that our listeners show runs out; None without one."""
        if files.certificate is not None:
            self.server("none")

    @property
    def client(self) -> ssl.SSLContext:
        """For connections of ours; another one after `reload`."""
        return self._client

    def server(self, clients: ClientCertificates) -> ssl.SSLContext:
        """For listeners that want this of their peers. It stays the same object after `reload`."""
        door = self._doors.get(clients)
        if door is None:
            door = self._doors[clients] = _Door(_server(self.files, clients))
        return door.context

    def reload(self) -> None:
        """Read all files again. Raises TlsFileError, and then changes nothing."""
        client = _client(self.files)
        doors = {clients: _server(self.files, clients) for clients in self._doors}
        self._client = client
        self.expires = _expires(self.files)
        for clients, context in doors.items():
            self._doors[clients].current = context


class _Door:
    """A context that hands each new connection to the newest one."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = self.current = context
        context.sni_callback = self._enter

    def _enter(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self.current is not self.context:
            connection.context = self.current


def server_context(
    certificate: Path,
    key: Path,
    client_authorities: Path | None = None,
    clients: ClientCertificates = "required",
) -> ssl.SSLContext:
    """For our listeners: `certificate` is the chain in PEM, `key` its key.

    With `client_authorities` peers are asked for a certificate of one of these. Raises TlsFileError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    load_certificate(context, certificate, key)
    if client_authorities is not None:
        _load_authorities(context, client_authorities)
        context.verify_mode = _VERIFY[clients]
    return context


def client_context(
    authorities: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """For connections of ours: `authorities` in PEM instead of the system's; `certificate` and `key` to show.

    It checks the chain; the name is checked by `StreamConnection`, by the rules of SIP. Raises TlsFileError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    _harden(context)
    if authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authorities(context, authorities)
    if certificate is not None:
        load_certificate(context, certificate, key or certificate)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load our certificate into a context. Raises TlsFileError and changes nothing."""
    for path in (certificate, key):
        _readable(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError(f"the key {key} does not belong to the certificate {certificate}") from error
        raise TlsFileError(
            f"{certificate} and {key} are no certificate chain and unencrypted key in PEM ({error.reason})"
        ) from error


def _expires(files: TlsFiles) -> datetime | None:
    if files.certificate is None:
        return None
    chain = load_pem_x509_certificates(files.certificate.read_bytes())
    return min(certificate.not_valid_after_utc for certificate in chain)


def _server(files: TlsFiles, clients: ClientCertificates) -> ssl.SSLContext:
    if files.certificate is None or files.key is None:
        raise TlsFileError("there is no certificate for TLS listeners; set tls_certificate and tls_key")
    if clients != "none" and files.client_authorities is None:
        raise TlsFileError(
            "a listener asks for certificates of peers, but nobody vouches for them; set tls_client_ca_file"
        )
    authorities = files.client_authorities if clients != "none" else None
    return server_context(files.certificate, files.key, authorities, clients)


def _client(files: TlsFiles) -> ssl.SSLContext:
    return client_context(files.authorities, files.client_certificate, files.client_key)


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _readable(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsFileError(f"{path} holds no certificates in PEM ({error.reason})") from error


def _readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise TlsFileError(f"cannot read {path}: {error.strerror}; check the path and who may read it") from error


def _no_password() -> str:
    return ""  # a key with a password is refused rather than asked for on the terminal
