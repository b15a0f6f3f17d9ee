"""TLS handshakes that failed: those of carriers and customers' PBXs are told to who can mend them, not scanners'."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from edge.observability.logging import get_logger
from edge.observability.seldom import Seldom

_log = get_logger("tls")


class FailedHandshakes:
    """Logs them: a warning with the peer's name and the remedy, once a minute and address; strangers' for debugging."""

    def __init__(self, who: Callable[[str], str | None], now: Callable[[], float]) -> None:
        """`who` names the carrier or trunk at an address."""
        self._who = who
        self._now = now
        self._seldom = Seldom()

    def __call__(self, host: str, error: Exception) -> None:
        """A peer at `host` did not finish its handshake."""
        peer = self._who(host)
        if peer is None:
            _log.debug("tls.handshake_failed", source=host, detail=str(error))
        elif self._seldom(host, self._now()):
            _log.warning("tls.handshake_failed", source=host, peer=peer, detail=str(error), remedy=remedy(error))


def remedy(error: Exception) -> str:
    """What mends a handshake that failed with this."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({error.verify_message}): renew it, "
            "or add the authority that signed it to tls_client_ca_file"
        )
    reason = getattr(error, "reason", None) or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it shows no certificate and the listener wants one: install one there, or ask for none (optional)"
    if "UNKNOWN_CA" in reason or ("ALERT" in reason and "CERTIFICATE" in reason):
        return (
            "it does not accept our certificate: let it trust the authority of tls_certificate, and call us by its name"
        )
    if isinstance(error, TimeoutError):
        return "it did not finish in time: check the network between, and whether it means TLS at this port"
    return "check that it speaks TLS 1.2 or 1.3 at this port, and its clock"
