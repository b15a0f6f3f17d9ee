"""One call's media at an rtpengine, which writes the descriptions itself.

Its two parties are always `a` and `b`: forked B legs share what A sends to, and A hears the branch whose description
came last, as with the relay of our own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from media.relay import ng_messages as ng
from media.relay.ng_client import Unanswered
from media.relay.ng_messages import Plain, Value
from media.relay.origins import Origins
from media.relay.port import RelayError, RelayStats, Side
from media.relay.rtpproxy_commands import other
from media.sdp.bridged import for_relay, from_relay, profile
from media.sdp.lines import Media, Sdp, parse
from media.sdp.rewrite import endpoint, is_unspecified, require_media

if TYPE_CHECKING:
    from media.relay.rtpengine import Instance, RtpEngineRelay

_FLAGS: Final = ("trust-address", "strict-source", "port-latching", "no-rtcp-attribute", "original-sendrecv")
_LEARNT: Final = ng.encoded([*_FLAGS, "endpoint-learning-immediate"])
_TRUSTED: Final = ng.encoded([*_FLAGS, "asymmetric"])
_DEMUX: Final = ng.encoded(["demux"])
# Only the suites of RFC 4568 that everybody has: keys of twelve suites make an offer too long for UDP.
_SDES: Final = ng.encoded([
    f"no-{suite}"
    for suite in (
        "AEAD_AES_256_GCM", "AEAD_AES_128_GCM", "AES_256_CM_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_32",
        "AES_192_CM_HMAC_SHA1_80", "AES_192_CM_HMAC_SHA1_32", "F8_128_HMAC_SHA1_80", "F8_128_HMAC_SHA1_32",
        "NULL_HMAC_SHA1_80", "NULL_HMAC_SHA1_32",
    )
])  # fmt: skip
# For a peer whose address is not known. It is learnt from the first packet, which rtpengine does not do where it is
# told an unspecified address: so it is told one that nobody has (RFC 5737, RFC 6666).
_UNKNOWN: Final = ("IN IP4 192.0.2.1", "IN IP6 100::1")
_NOWHERE: Final = ("IN IP4 0.0.0.0", "IN IP6 ::")
_FAMILY: Final = {"ip4": "IP4", "ip6": "IP6"}


class RtpEngineSession:
    """A `RelaySession`; made by `RtpEngineRelay.session`."""

    __slots__ = (
        "_deletion",
        "_family",
        "_gone",
        "_heard",
        "_instance",
        "_last",
        "_on_media_timeout",
        "_origins",
        "_relay",
        "_silent",
        "id",
        "passive",
    )

    def __init__(self, relay: RtpEngineRelay, session_id: str, on_media_timeout: Callable[[], None]) -> None:
        self.id = session_id
        self.passive = False
        self._relay = relay
        self._on_media_timeout = on_media_timeout
        self._origins = Origins(session_id)
        self._instance: Instance | None = None
        self._family: dict[Side, str] = {}
        self._heard: set[Side] = set()
        self._gone = ""
        self._silent = False
        # The command under way: one that ends the session must come after it.
        self._last: asyncio.Future[dict[bytes, Value]] | None = None
        self._deletion: asyncio.Task[RelayStats] | None = None

    def save(self) -> dict[str, object]:
        """See `RelaySession.save`."""
        return {
            "instance": self._instance.name if self._instance is not None else None,
            "heard": sorted(self._heard),
            "family": self._family,
            "versions": self._origins.save(),
            "passive": self.passive,
            "holds": self._instance is not None,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """See `RelaySession.restore`."""
        self._heard.update(saved.get("heard", ()))
        self._family.update(saved.get("family", {}))
        self._origins.restore(saved.get("versions", {}))
        self.passive = saved.get("passive", False)
        if (name := saved.get("instance")) is not None:
            instance = self._relay.instance(name)
            if instance is None:
                self._gone = f"rtpengine {name}, which has the media of this call, is not in the settings any more"
                return
            self._instance = instance
            self._relay.hold(self, instance)

    async def check(self) -> bool:
        """See `RelaySession.check`."""
        if self._instance is None or self._gone:
            return not self._gone
        reply = await self._instance.client.ask("query", call_id=self._relay.prefix + self.id)
        return ng.text(reply, b"result") == "ok"

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
        """SDP of side `origin`, written for the other side; see `RelaySession.forward`. UnusableSdp, RelayError.

        `network`: `ip4` or `ip6`, the family that the other side is given; empty: its own where that is known.
        """
        if self.passive:
            return self._origins.pass_on(sdp, origin, leg)
        if self._gone:
            raise RelayError(self._gone)
        description = parse(sdp)
        require_media(description)
        fields = self._fields(description, origin, answer, trusted, network, keys)
        if more_codecs and not answer:
            fields["codec"] = {"transcode": list(more_codecs)}
        reply = await self._ask("answer" if answer else "offer", fields)
        self._heard.add(origin)
        written = parse(_sdp(reply))
        rest, address = from_relay(written, description, offer=not answer)
        return self._origins.write(rest, address, origin, leg)

    def _fields(
        self, description: Sdp, origin: Side, answer: bool, trusted: bool, network: str, keys: bool
    ) -> dict[str, Plain]:
        def locate(media: Media) -> str:
            peer = endpoint(description, media)
            self._family[origin] = "IP6" if peer.ipv6 else "IP4"
            if is_unspecified(description.connection_of(media)):
                return _NOWHERE[peer.ipv6]
            # A peer must not have the relay send to services of its own machine.
            if peer.address is None or (peer.loopback and not self._relay.on_loopback):
                return _UNKNOWN[peer.ipv6]
            return f"IN {self._family[origin]} {peer.address}"

        if network and network not in _FAMILY:
            raise RelayError(f"rtpengine has no network {network!r}; it has ip4 and ip6")
        across = other(origin)
        fields: dict[str, Plain] = {
            "call-id": self._relay.prefix + self.id,
            "sdp": for_relay(description, locate),
            "flags": _TRUSTED if trusted else _LEARNT,
            "ICE": "remove",
            "DTLS": "off",
            "SDES": _SDES,
            "rtcp-mux": _DEMUX,
        }
        if answer:
            fields |= {"from-tag": across, "to-tag": origin}
        else:
            fields["from-tag"] = origin
            if across in self._heard:
                fields["to-tag"] = across
            if any(m.kind != "image" and m.port for m in description.media):
                fields["transport-protocol"] = profile(description, keys)
        family = _FAMILY.get(network) or self._family.get(across)
        if family is not None:
            fields["address-family"] = family
        return fields

    async def _ask(self, command: str, fields: dict[str, Plain]) -> dict[bytes, Value]:
        """Ask the session's instance; a session that has none tries those that answer, one after the other."""
        if self._instance is not None:
            return await self._ask_one(self._instance, command, fields)
        for instance in self._relay.places(self.id):
            self._relay.hold(self, instance)
            self._instance = instance
            try:
                return await self._ask_one(instance, command, fields)
            except Unanswered as error:
                if error.refused:
                    # `failed` has counted us among the lost; nothing was ever there
                    self._gone = ""
                self._relay.release(self, instance)
                self._instance = None
                failed = error
        raise RelayError(f"no media relay took the call: {failed}")

    async def _ask_one(self, instance: Instance, command: str, fields: dict[str, Plain]) -> dict[bytes, Value]:
        self._last = instance.client.ask(command, **fields)
        try:
            reply = await asyncio.shield(self._last)
        except Unanswered as error:
            first = not self._heard
            if first:
                self._relay.release(self, instance)
            self._relay.failed(instance, error)
            raise
        result = ng.text(reply, b"result")
        if result != "ok":
            why = ng.text(reply, b"error-reason") or result
            if "Unknown call" in why:
                self._gone = "the relay does not know the media of this call any more"
                why = self._gone
            raise RelayError(f"rtpengine {instance.name}: {_plain(why)}")
        return reply

    async def delete(self) -> RelayStats:
        """Give the ports back; see `RelaySession.delete`."""
        if self._deletion is None:
            self._deletion = asyncio.get_running_loop().create_task(self._delete())
        return await asyncio.shield(self._deletion)

    async def _delete(self) -> RelayStats:
        self._gone = self._gone or "the media of this call were released"
        self._on_media_timeout = _nobody
        if self._last is not None and not self._last.done():
            await asyncio.wait([self._last])
        instance = self._instance
        self._relay.release(self, instance)
        if instance is None:
            return RelayStats()
        call_id = self._relay.prefix + self.id
        try:
            # with the tag of one side the answer has the figures of both, and the whole call is deleted
            side = min(self._heard, default="a")
            figures = await instance.client.ask("delete", call_id=call_id, from_tag=side, delete_delay=0)
        except RelayError:
            return RelayStats()
        return _statistics(figures)

    async def look(self) -> None:
        """See whether the instance still has the session. Raises Unanswered."""
        instance = self._instance
        if instance is None or self._gone or not self._heard:
            return
        reply = await instance.client.ask("query", call_id=self._relay.prefix + self.id)
        if ng.text(reply, b"result") != "ok" and not self._gone:
            self._relay.release(self, instance)
            self._silent = True
            self.lose("the media of this call timed out")

    @property
    def lost(self) -> str:
        """See `RelaySession.lost`."""
        return "" if self._silent else self._gone

    def lose(self, reason: str) -> None:
        """The media are gone in the relay: `forward` fails from here on, and the call is told once."""
        if not self._gone:
            self._gone = reason
            self._instance = None
            asyncio.get_running_loop().call_soon(self._on_media_timeout)


def _nobody() -> None:
    """Hears of a session that was deleted, which keeps its call alive no longer."""


def _sdp(reply: dict[bytes, Value]) -> bytes:
    sdp = reply.get(b"sdp")
    if not isinstance(sdp, bytes):
        raise RelayError("rtpengine gave no description")
    return sdp


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _statistics(figures: dict[bytes, Value]) -> RelayStats:
    a, b = _side(figures, b"a"), _side(figures, b"b")
    return RelayStats(
        a.packets, b.packets, max(0, b.packets - b.errors), max(0, a.packets - a.errors), b.lost, a.lost,
        b.jitter, a.jitter, b.round_trip or a.round_trip,
    )  # fmt: skip


class _Side(NamedTuple):
    """RTP packets from a side, those of them that could not be relayed, and what its receiver reports said of the
    *other* side's packets (None: it sent none that rtpengine could use, which takes RTCP of both ends)."""

    packets: int
    errors: int
    lost: int | None
    jitter: float | None
    round_trip: float | None


def _side(figures: dict[bytes, Value], tag: bytes) -> _Side:
    packets = errors = 0
    lost: int | None = None
    jitter = round_trip = None
    tags = figures.get(b"tags")
    party = tags.get(tag) if isinstance(tags, dict) else None
    medias = party.get(b"medias") if isinstance(party, dict) else None
    sources = figures.get(b"SSRC")
    for media in medias if isinstance(medias, list) else ():
        streams = media.get(b"streams") if isinstance(media, dict) else None
        for stream in streams if isinstance(streams, list) else ():
            if not isinstance(stream, dict):
                continue
            flags = stream.get(b"flags")
            if isinstance(flags, list) and b"RTCP" in flags and b"RTP" not in flags:
                continue
            packets += ng.number(stream, b"stats", b"packets")
            errors += ng.number(stream, b"stats", b"errors")
            source = str(ng.number(stream, b"SSRC")).encode()
            if isinstance(sources, dict) and source in sources:
                lost = (lost or 0) + ng.number(sources, source, b"cumulative loss")
                jitter = float(ng.number(sources, source, b"average MOS", b"jitter"))
                round_trip = ng.number(sources, source, b"average MOS", b"round-trip time") / 1000 or None
    return _Side(packets, errors, lost, jitter, round_trip)
