"""The media of one call: its relay session, and what each party may and must have of codecs and encryption.

The relay writes descriptions; here it is decided who gets keys (`media.sdp.srtp`) and which codecs
(`media.sdp.codecs`), by the setting of the party that a leg belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Final, cast

from config.snapshot import Snapshot
from edge.b2bua.events import LegId
from edge.sip.value import quick
from media.relay.port import RelaySession, RelayStats, Side, UnusableSdp
from media.sdp import srtp
from media.sdp.codecs import cut, first_voice, to_add, voices
from media.sdp.lines import parse
from media.sdp.srtp import Srtp

_UNHEARD: Final = (None, None)
_ANSWERS: Final = frozenset(("answer", "late-answer", "modify-answer", "modify-ack"))


@quick
@dataclass(frozen=True, slots=True)
class MediaTerms:
    """What holds for the media of a party now."""

    srtp: Srtp = "optional"
    codecs: tuple[str, ...] = ()
    """What it takes, in its order; empty: not limited."""
    trusted: bool = False
    """Its packets come from the address in its description alone."""


WITHIN: Final = MediaTerms()
"""The end of a bridge: what is offered there was accepted elsewhere."""


def media_terms(snapshot: Snapshot, kind: str, name: str, account: str, *, tls: bool) -> MediaTerms:
    """The terms of a carrier, trunk or seat. `tls`: keys may stand in its signalling.

    Raises UnusableSdp where SRTP is required and keys may not."""
    codecs: tuple[str, ...] = ()
    mode = "off"
    trusted = False
    if kind == "carrier":
        carrier = snapshot.carriers.get(name)
        if carrier is not None:
            mode, codecs, trusted = carrier.srtp, carrier.codecs, carrier.media_source == "sdp"
    elif kind == "trunk":
        trunk = snapshot.trunks.get((account, name))
        mode = trunk.srtp if trunk is not None else "off"
    elif kind == "seat":
        seat = snapshot.seats.get(name)
        mode = seat.srtp if seat is not None else "off"
    if mode != "off" and not tls:
        if mode == "required":
            raise UnusableSdp(f"SRTP is required of {kind} {name}, whose signalling is not TLS", reason=srtp.REQUIRED)
        mode = "off"
    return MediaTerms(cast(Srtp, mode), codecs, trusted)


class CallMedia:
    """A relay session under the terms of the call's parties. `terms` gives those of a leg; it may raise UnusableSdp."""

    __slots__ = ("__weakref__", "_bridges", "_forms", "_offered", "_own", "_session", "_terms", "codecs")

    def __init__(self, session: RelaySession, bridges: bool, terms: Callable[[LegId], MediaTerms]) -> None:
        self._session = session
        self._bridges = bridges
        self._terms = terms
        self._forms: dict[LegId, Srtp] = {}
        """The form of each party's last description."""
        self._offered: dict[LegId, Srtp] = {}
        """The form in which each party had its last offer."""
        self._own: tuple[str, ...] = ()
        """The codecs of the last offer, as its party named them."""
        self.codecs: tuple[str | None, str | None] = _UNHEARD
        """What each side (a, b) sends, by the last answer: its encoding name."""

    @property
    def passive(self) -> bool:
        """Another session relays these media (of two calls that a transfer joined)."""
        return self._session.passive

    @passive.setter
    def passive(self, value: bool) -> None:
        self._session.passive = value

    @property
    def lost(self) -> str:
        """Why the relay has these media no more; empty: it has, or nobody sent any."""
        return self._session.lost

    def save(self) -> dict[str, object]:
        """What another process needs to go on with these media, as JSON can hold it."""
        return self._session.save() | {
            "forms": dict(self._forms),
            "offered": dict(self._offered),
            "codecs": {side: name for side, name in zip("ab", self.codecs, strict=True) if name is not None},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on with media that another process began: `saved` is what it had. No I/O."""
        self._session.restore(saved)
        self._forms.update(saved.get("forms", {}))
        self._offered.update(saved.get("offered", {}))
        codecs = saved.get("codecs", {})
        self.codecs = codecs.get("a"), codecs.get("b")

    async def check(self) -> bool:
        """After `restore`: whether the relay still has these media. Raises RelayError."""
        return await self._session.check()

    async def delete(self) -> RelayStats:
        """Give the ports back; see `RelaySession.delete`."""
        self._terms = _nobodys  # the call is freed when its last leg is
        return await self._session.delete()

    async def forward(self, purpose: str, leg: LegId, sdp: bytes, to: LegId, heard: bytes | None) -> bytes:
        """What a party said, as the other is to hear it: ready for leg `to`, whose party last said `heard`.

        Raises UnusableSdp, RelayError."""
        early = purpose.startswith("early")
        if early or purpose in _ANSWERS:
            mine = self._terms(leg)
            sdp, self._forms[leg] = srtp.accept(sdp, self._offered.get(leg) or mine.srtp)
            out = await self._session.forward(sdp, _side(leg), leg, answer=True, early=early, trusted=mine.trusted)
            said, told = intern(first_voice(sdp)), intern(first_voice(out))
            self.codecs = (said, told) if _side(leg) == "a" else (told, said)
            if not early:
                self._offered = {}  # a call is long, and this was the answer
            return srtp.dress(out, self._forms.get(to, "off"), answer=True)[0]
        terms = self._terms(to)
        known = self._forms.get(to)
        wanted = terms.srtp if known is None else known
        lists: list[Sequence[str]] = [terms.codecs]
        if not terms.codecs and heard is not None and self._bridges:
            lists = [voices(parse(heard))]
        out = await self._offer(leg, sdp, lists, keys=wanted != "off")
        out, self._offered[to] = self._dress(out, MediaTerms(wanted, terms.codecs))
        return out

    async def offer(self, leg: LegId, sdp: bytes, lists: Iterable[Sequence[str]] = ()) -> bytes:
        """An offer to whoever is tried next: `dress` makes it fit each of them. `lists`: the codecs of those that are
        limited. Raises UnusableSdp, RelayError."""
        return await self._offer(leg, sdp, lists, keys=True)

    async def take_back(self, leg: LegId, sdp: bytes, to: LegId) -> None:
        """What `offer` said of a party came to nothing: it goes on with leg `to`. Raises UnusableSdp, RelayError."""
        if not self.passive:
            await self._offer(leg, sdp, (), keys=self._forms.get(to, "off") != "off")

    async def _offer(self, leg: LegId, sdp: bytes, lists: Iterable[Sequence[str]], *, keys: bool) -> bytes:
        mine = self._terms(leg)
        sdp, self._forms[leg] = srtp.accept(sdp, mine.srtp)
        self._own = ()
        more: tuple[str, ...] = ()
        if self._bridges and not self.passive:
            self._own = voices(parse(sdp))
            more = to_add(self._own, lists)
        return await self._session.forward(sdp, _side(leg), leg, trusted=mine.trusted, keys=keys, more_codecs=more)

    def dress(self, sdp: bytes | None, terms: MediaTerms) -> tuple[bytes | None, Srtp]:
        """What `offer` gave, for a party with these terms, and the form it got. Raises UnusableSdp."""
        return (None, terms.srtp) if sdp is None else self._dress(sdp, terms)

    def offered(self, leg: LegId, form: Srtp) -> None:
        """The party of a leg is offered what `dress` made."""
        self._offered[leg] = form

    def _dress(self, sdp: bytes, terms: MediaTerms) -> tuple[bytes, Srtp]:
        if terms.codecs or self._own:
            description = parse(sdp)
            cut(description, self._own, terms.codecs)
            sdp = description.to_bytes()
        return srtp.dress(sdp, terms.srtp)


def _nobodys(leg: LegId) -> MediaTerms:
    return WITHIN


def _side(leg: LegId) -> Side:
    return "a" if leg == "a" else "b"
