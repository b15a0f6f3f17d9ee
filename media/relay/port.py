"""What the edge asks of a media relay, whichever it is (docs/architecture.md, "Media").

A relay session has two sides: `a` (the caller, our UAS leg) and `b` (the called). Each side's SDP goes through the
relay on its way to the other side, so that each peer sends to the relay. Nothing here knows SIP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from media.sdp.errors import UnusableSdp as UnusableSdp

Side = Literal["a", "b"]


class RelayError(Exception):
    """The relay is away, full, or refused; the text names which and is fit for an operator."""


class RelayFull(RelayError):
    """The relay works and has no room for one more call; the text says of what there is too little."""


class RelayStats(NamedTuple):
    """Packets as the relay counted them; `from_a` came from the caller's side."""

    from_a: int = 0
    from_b: int = 0
    to_a: int = 0
    to_b: int = 0
    lost_a: int | None = None
    """Missing of what the caller's side sent: before the relay where it counts itself, else as the far end's receiver
    reports (RTCP) tell; None: nobody told."""
    lost_b: int | None = None
    jitter_a: float | None = None
    """Mean interarrival jitter (RFC 3550 section 6.4.1) of what came from the caller's side, milliseconds, of the same
    source as the loss; None: not known."""
    jitter_b: float | None = None
    round_trip: float | None = None
    """Between the two ends, milliseconds; None: not known, as without RTCP of both."""


class RelaySession(Protocol):
    """The media of one call; made without I/O, ports are taken at the first `forward`."""

    id: str
    passive: bool
    """True: another session relays these media (of two calls that a transfer joined), and its descriptions pass with
    nothing changed but o=. May be set at any time."""

    async def forward(
        self,
        sdp: bytes,
        origin: Side,
        leg: str,
        *,
        answer: bool = False,
        early: bool = False,
        trusted: bool = False,
        network: str = "",
        keys: bool = False,
        more_codecs: Sequence[str] = (),
    ) -> bytes:
        """SDP of side `origin`, written for the other side: relay addresses and ports in place of the peer's.

        Takes ports where a medium is new, updates the peer's address where it is known; keeps order and unknown
        attributes, port 0 stays 0; hides the peer's o= and s= lines. `leg` names the dialog (forked B-legs each have
        their own) so that o= versions rise per dialog and only when the description changes (RFC 3264 section 8).

        `answer`: whether it answers what the other side offered (RFC 3264); else it is an offer. `early`: the call is
        not answered yet, silence is no fault (an answer in a provisional response). `trusted`:
        packets are taken from the address in this SDP alone; otherwise the relay learns where the peer sends from and
        then stays there. `network` names the relay's address that the other side is given (two networks, or IPv4 on
        one side and IPv6 on the other); empty: the relay's choice.

        A relay that `bridges` takes SRTP (SDES) from either side, as RTP/SAVP or as RTP/AVP with a=crypto (RFC 8643),
        whatever the other has, and answers in the profile that it was offered, RTP/SAVP for both of these. To an offer
        it adds keys where `keys` is set, in the second form, so that the caller may cut them out for a receiver or
        make the profile a secure one; and `more_codecs` behind those of the peer, between which it transcodes where
        one of them is taken. One that does not bridge passes profile, keys and codecs as they are. Raises UnusableSdp,
        RelayError.
        """
        ...

    def save(self) -> dict[str, object]:
        """What another process needs to go on with this session, as JSON can hold it."""
        ...

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on with a session of the same id that another process began: `saved` is what it had. No I/O."""
        ...

    async def check(self) -> bool:
        """After `restore`: whether the relay still has media of this session. Raises RelayError."""
        ...

    @property
    def lost(self) -> str:
        """Why the media are gone in the relay though packets may have come, such as its end; empty: they are not."""
        ...

    async def delete(self) -> RelayStats:
        """Give the ports back. Safe to call twice (the second gives the first's figures); never raises."""
        ...


class MediaRelay(Protocol):
    """A connection to a relay, which may be several processes."""

    @property
    def bridges(self) -> bool:
        """Whether it carries SRTP (SDES) on one side and plain RTP on the other, and transcodes."""
        ...

    async def start(self) -> None:
        """Connect (and start the child where there is one). Raises RelayError."""
        ...

    async def stop(self) -> None: ...

    def session(self, session_id: str, on_media_timeout: Callable[[], None]) -> RelaySession:
        """A session for a new call; `on_media_timeout` is called once when no packet came from either side, or the
        relay that had it is gone (`RelaySession.lost`)."""
        ...

    @property
    def ready(self) -> bool:
        """False while the relay process is away."""
        ...

    @property
    def sessions(self) -> int:
        """Sessions that hold ports, for the metric and for leak tests."""
        ...

    @property
    def instances(self) -> Mapping[str, bool]:
        """Each relay process by its name, and whether it answers."""
        ...

    async def clear(self) -> None:
        """End every session of ours, whichever process of ours made it: for a start that takes no calls over.

        Raises RelayError."""
        ...
