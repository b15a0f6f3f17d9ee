"""G.711 or T.38: what our fax machine says in descriptions, and what it makes of theirs (domain rules 4.1, 4.2).

The same for a fax that we receive and one that we send; the owner carries descriptions to and from a dialog. T.38 is
offered once. Whatever is refused, G.711 goes on. Without T.38 a fax still arrives; with a lost dialog it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, Protocol

from edge.b2bua.port import Timer
from media.relay.port import UnusableSdp
from media.sdp import t38
from media.sdp.lines import Sdp, parse
from media.sdp.srtp import Srtp, accept
from media.sdp.t38 import Origin, RemoteAudio, RemoteT38

ANSWER_TIMEOUT: Final = 5.0
"""Seconds after which an offer of T.38 counts as refused (domain rule 4.1.6). A later 200 is obeyed all the same."""


class FaxMedia(Protocol):
    """The running fax; `media.fax.engine.FaxJob`."""

    local_audio: int
    local_t38: int

    def use_audio(self, remote: RemoteAudio, our_key: str = "") -> None: ...

    def use_t38(self, remote: RemoteT38) -> None: ...

    def t38_refused(self) -> None: ...


class Negotiation:
    """One fax's side of offers and answers (RFC 3264). At most one offer of ours is out."""

    def __init__(
        self,
        media: FaxMedia,
        host: str,
        propose: Callable[[bytes], None],
        later: Callable[[float, Callable[[], None]], Timer],
        draw: Callable[[], float],
        *,
        may_offer: bool,
        may_accept: bool,
        srtp: Srtp = "off",
        our_key: str = "",
    ) -> None:
        """`host`: the address that descriptions name. `propose`: send an offer inside the dialog. `draw`: a random
        number, 0 <= x < 1. `may_offer`, `may_accept`: T.38. `srtp`: of the far end; `our_key`: for it."""
        self._media = media
        self._host = host
        self._propose = propose
        self._later = later
        self._draw = draw
        self._may_offer = may_offer
        self._may_accept = may_accept
        self._srtp: Srtp = srtp
        self._our_key = our_key
        self._secure = srtp == "required"
        self._session = int(draw() * (1 << 31)) + 1
        self._version = 1
        self._sections = 1
        self._said: bytes | None = None
        self._offered: bytes | None = None
        self._retry: Timer | None = None
        self._slow: Timer | None = None
        self._over = False
        self.over_t38 = False
        """T.38 is agreed now."""

    def first_offer(self) -> bytes:
        """G.711, for an INVITE without a description and for one of ours."""
        return self._say(self._audio_offer())

    def answer(self, sdp: bytes) -> bytes | None:
        """The answer to an offer of theirs, which holds from now on; None where nothing in it can be used (488)."""
        try:
            theirs = parse(accept(sdp, self._srtp)[0])
        except UnusableSdp:
            return None
        image = t38.image_of(theirs) if self._may_accept else None
        if image is not None and _is_address(image.host):
            answer = t38.answer(theirs, self._origin(), self._media.local_t38)
            if answer is not None:
                self._cancel_retry()
                self._sections = len(theirs.media)
                self._use_t38(image)
                return self._say(answer)
        audio = t38.audio_of(theirs)
        if audio is None or not _is_address(audio.host):
            return None
        answer = t38.audio_answer(theirs, self._origin(), self._media.local_audio, self._our_key)
        if answer is None:
            return None
        self._sections = len(theirs.media)
        self._use_audio(audio)
        return self._say(answer)

    def current(self) -> bytes | None:
        """What we said last, as the offer that a re-INVITE without a description asks for."""
        return self._said

    def fax_heard(self) -> None:
        """The far end is a fax, or our preamble begins: time for T.38, the first time."""
        if self._may_offer and not self.over_t38 and self._offered is None and not self._over:
            self._may_offer = False
            self._offer_t38()

    def answered(self, sdp: bytes | None) -> None:
        """The 2xx to an offer of ours, however late."""
        offered, self._offered = self._offered, None
        self._stop_waiting()
        if self._over:
            return
        if offered is not None:
            self._said = offered
        if not self._use(sdp) and offered is not None and b"m=image" in offered:
            # Taken and yet not taken (image with port 0): the session has no media now, so it gets its audio back.
            self._media.t38_refused()
            self._offered = self._made(self._audio_offer())
            self._propose(self._offered)

    def acknowledged(self, sdp: bytes) -> bool:
        """Their answer to `first_offer` or `current`, in an ACK; False where it cannot be used."""
        return self._use(sdp)

    def refused(self, status: int) -> None:
        """The failure to an offer of ours: after 491 again (we do not own the Call-ID: within 2 s), else G.711."""
        self._stop_waiting()
        offered, self._offered = self._offered, None
        if self._over or offered is None:
            return
        if status == 491 and not self.over_t38:
            self._retry = self._later(round(self._draw() * 2.0, 2), self._offer_t38)
        else:
            self._media.t38_refused()

    def end(self) -> None:
        """The dialog is over."""
        self._over = True
        self._cancel_retry()
        self._stop_waiting()

    def _audio_offer(self) -> bytes:
        key = self._our_key if self._secure else ""
        return t38.audio_offer(self._origin(), self._media.local_audio, key)

    def _offer_t38(self) -> None:
        self._retry = None
        if self.over_t38 or self._over:
            return
        offer = t38.offer(self._origin(), self._media.local_t38, audio_sections=self._sections)
        self._offered = self._made(offer)
        self._slow = self._later(ANSWER_TIMEOUT, self._media.t38_refused)
        self._propose(self._offered)

    def _use(self, sdp: bytes | None) -> bool:
        if sdp is None:
            return False
        try:
            theirs: Sdp = parse(accept(sdp, self._srtp)[0])
        except UnusableSdp:
            return False
        image, audio = t38.image_of(theirs), t38.audio_of(theirs)
        if image is not None and _is_address(image.host):
            self._use_t38(image)
        elif audio is not None and _is_address(audio.host):
            self._use_audio(audio)
        else:
            return False
        return True

    def _use_t38(self, remote: RemoteT38) -> None:
        self.over_t38 = True
        self._media.use_t38(remote)

    def _use_audio(self, remote: RemoteAudio) -> None:
        self.over_t38 = False
        self._secure = remote.crypto is not None
        self._media.use_audio(remote, self._our_key)

    def _origin(self) -> Origin:
        return Origin(self._host, self._session, self._version)

    def _say(self, description: bytes) -> bytes:
        self._said = self._made(description)
        return self._said

    def _made(self, description: bytes) -> bytes:
        """The description with a version of its own, unless it is the one that holds (RFC 3264 section 8)."""
        before = self._said
        if before is None or description == before:
            return description
        old = b" %d IN " % self._version
        self._version += 1
        return description.replace(old, b" %d IN " % self._version, 1)

    def _stop_waiting(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


def _is_address(host: str) -> bool:
    """Media go to addresses: looking up a name would hold up the fax."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
