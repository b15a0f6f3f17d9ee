"""A certificate authority and server certificates for one test run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files of a server: its chain, its key, and the authority that clients trust."""

    chain: Path
    key: Path
    authority: Path

    @property
    def chain_and_key(self) -> Path:
        """Both in one file, as baresip wants them."""
        return self.chain.with_name("chain-and-key.pem")


def issue(folder: Path, *names: str, authority: trustme.CA | None = None) -> Certificate:
    """A certificate for the host names and addresses `names`, from `authority` or one of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = authority or trustme.CA()
    server = authority.issue_cert(*names, common_name=names[0])
    certificate = Certificate(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    authority.cert_pem.write_to_path(certificate.authority)
    server.private_key_pem.write_to_path(certificate.key)
    certificate.chain.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_and_cert_chain_pem.write_to_path(certificate.chain_and_key)
    return certificate
