"""TLS contexts: 1.2 at least, certificates of peers checked against the service domain (RFC 5922)."""

from __future__ import annotations

import ssl
from pathlib import Path


class TlsFileError(Exception):
    """A certificate, key or list of authorities cannot be used; the text names the file and the remedy."""


def server_context(certificate: Path, key: Path, client_authorities: Path | None = None) -> ssl.SSLContext:
    """For our listeners: `certificate` is the chain in PEM, `key` its key.

    With `client_authorities` peers must show a certificate of one of these. Raises TlsFileError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    if client_authorities is not None:
        _load_authorities(context, client_authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    authorities: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """For connections of ours: `authorities` in PEM instead of the system's; `certificate` and `key` to show.

    Raises TlsFileError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authorities(context, authorities)
    if certificate is not None:
        load_certificate(context, certificate, key or certificate)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load or replace our certificate; connections from then on show it. Raises TlsFileError and changes nothing."""
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
