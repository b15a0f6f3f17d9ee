"""What every kind of phone can do, so that a test can run with any of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Account:
    """Where a phone registers: `server` is `host:port`, `transport` udp, tcp or tls; no `domain`: the server."""

    username: str
    password: str
    server: str
    transport: str = "udp"
    domain: str = ""
    auth_username: str = ""
    expires: int = 60

    @property
    def host(self) -> str:
        """What stands behind the @ of the address of record."""
        return self.domain or self.server

    @property
    def aor(self) -> str:
        return f"sip:{self.username}@{self.host}"

    @property
    def proxy(self) -> str:
        return f"sip:{self.server};transport={self.transport}"

    def uri(self, target: str) -> str:
        """A number, an extension or a user name as the SIP URI that this account would call; URIs stay as they are."""
        return target if target.startswith("sip:") else f"sip:{target}@{self.host}"


class Phone(Protocol):
    """A running phone with one account, which plays the tone `tone` (Hz) into its calls and records what it hears.

    The waits raise PeerFailed when `timeout` (seconds) ends; `after` is a `mark` taken before.
    """

    account: Account
    tone: int

    @property
    def mark(self) -> int: ...
    def wait_registered(self, timeout: float = 10.0) -> None: ...
    def dial(self, target: str) -> None: ...
    def wait_incoming(self, timeout: float = 10.0, after: int = 0) -> str:
        """The URI of the caller."""
        ...

    def wait_ringing(self, timeout: float = 10.0, after: int = 0) -> None: ...
    def wait_established(self, timeout: float = 10.0, after: int = 0) -> None: ...
    def wait_closed(self, timeout: float = 10.0, after: int = 0) -> str:
        """What the phone says about the end of the call."""
        ...

    def answer(self) -> None: ...
    def hangup(self) -> None:
        """End the call, refuse a ringing one, or give up an own attempt."""
        ...

    def hold(self) -> None:
        """Put the call on hold; returns when the other side has agreed."""
        ...

    def resume(self) -> None:
        """Take the call back; returns when the other side has agreed."""
        ...

    def transfer(self, target: str) -> None:
        """Blind transfer (REFER) of the call."""
        ...

    def send_dtmf(self, digits: str) -> None: ...
    def wait_dtmf(self, digits: str, timeout: float = 10.0, after: int = 0) -> None: ...

    @property
    def recording(self) -> Path:
        """The WAV file of what the phone heard in its newest call; complete after the call."""
        ...

    def stop(self) -> None:
        """Unregister and end."""
        ...
