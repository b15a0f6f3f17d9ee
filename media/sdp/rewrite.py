"""Write one side's session description for the other side: the relay's addresses in place of the peer's.

What is changed, and nothing else:

- o= becomes the relay's own ("-" as user name, RFC 8866 section 5.2), s= becomes "-"; i=, u=, e=, p= and k= go, for
  they speak of the peer and not of its media. So do a=tool and a=ssrc, whose cname is often the user's name and address
  (RFC 5576 section 6.1, RFC 7022 section 3); nobody needs them to take RTP.
- c= (session and media) names the relay; the hold form of RFC 2543, an unspecified address, stays one.
- the port of an m= line, and a=rtcp (RFC 3605). Port 0 stays 0. A medium no datagram relay can carry gets port 0, which
  an answerer has to leave at 0 (RFC 3264 section 6).
- lines that name ways around the relay go: ICE (RFC 8839), a=group:BUNDLE (RFC 9143), a=altc, capability negotiation
  (RFC 5939), leftovers of other relays.
- fingerprints go from media with a plain profile. A secure profile passes untouched, for the relay carries its packets
  as they are; so do keys (a=crypto), of which `media.sdp.srtp` decides who may have them.

Order and all other lines stay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from media.sdp.errors import UnusableSdp
from media.sdp.lines import Media, Sdp

_BYPASS: Final = frozenset(
    {
        "candidate", "remote-candidates", "end-of-candidates", "ice-ufrag", "ice-pwd", "ice-options", "ice-lite",
        "ice-mismatch", "ice-pacing", "altc", "alt", "source-filter", "csup", "creq", "acap", "tcap", "pcfg", "acfg",
        "bundle-only", "oldmediaip", "oldcip", "nortpproxy", "direction",
    }
)  # fmt: skip
_TELLING: Final = frozenset({"tool", "ssrc", "ssrc-group", "msid", "msid-semantic"})
_KEYS: Final = frozenset({"fingerprint", "setup", "tls-id", "key-mgmt", "identity", "dtls-id"})
_PERSONAL: Final = frozenset({"i=", "u=", "e=", "p=", "k="})


class Endpoint(NamedTuple):
    """Where a peer says it receives one medium. `address` is None where it is not a literal one (a name: learn it).

    `held`: the peer said it takes no ordinary media now: a direction other than sendrecv, or an unspecified address.
    """

    address: str | None
    port: int
    ipv6: bool
    held: bool
    loopback: bool


def endpoint(sdp: Sdp, media: Media) -> Endpoint:
    """The receiving address of a section whose port is not 0. Raises UnusableSdp (no c= line, or multicast)."""
    value = sdp.connection_of(media)
    if not value:
        raise UnusableSdp(f"m={media.kind} has no c= line", 400)
    address, ipv6, unspecified, loopback = _connection(value)
    held = unspecified or sdp.direction_of(media) != "sendrecv"
    return Endpoint(None if unspecified else address, media.port, ipv6, held, loopback)


@lru_cache(maxsize=4096)
def _connection(value: str) -> tuple[str | None, bool, bool, bool]:
    parts = value.split()
    if len(parts) != 3 or parts[0] != "IN" or parts[1] not in ("IP4", "IP6"):
        raise UnusableSdp(f"c= line is not of the form IN IP4 ADDRESS or IN IP6 ADDRESS: {value[:80]!r}", 400)
    ipv6 = parts[1] == "IP6"
    text = parts[2]
    if "/" in text:
        raise UnusableSdp("c= names a multicast address, which is not relayed", 488)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None, ipv6, False, False
    if address.is_multicast:
        raise UnusableSdp("c= names a multicast address, which is not relayed", 488)
    if (address.version == 6) != ipv6:
        raise UnusableSdp("c= names another address family than its address has", 400)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return None, ipv6, False, False
    return str(address), ipv6, address.is_unspecified, address.is_loopback


def require_media(sdp: Sdp) -> None:
    """Raises UnusableSdp (488) where media are asked for and the relay can carry none of them."""
    refused = ""
    for media in sdp.media:
        if media.port:
            if media.relayable:
                return
            refused = media.proto
    if refused:
        raise UnusableSdp(f"no medium that can be relayed: {refused}", 488)


def rewrite(sdp: Sdp, ports: Sequence[int], address: str) -> str:
    """All lines after o=, for the other side: `ports` are the relay's, one for each m= line (0: none).

    `address` is the relay's, a literal of either family. Begins with the s= line; `with_origin` completes it.
    """
    network = "IP6" if ":" in address else "IP4"
    connection = f"c=IN {network} {address}"
    nowhere = f"c=IN {network} {'::' if network == 'IP6' else '0.0.0.0'}"
    keep_keys = any(media.secure for media in sdp.media)
    out = ["s=-"]
    timed = False
    for line in sdp.session:
        kind = line[:2]
        if kind == "a=":
            # a=rtcp belongs to a medium (RFC 3605), a=crypto too; a stray one would show the peer's address, or a key.
            if kept_attribute(line, keys=keep_keys) and not line.startswith(("a=rtcp:", "a=crypto:")):
                out.append(line)
        elif kind == "c=":
            out.append(nowhere if is_unspecified(sdp.connection) else connection)
        elif kind not in _PERSONAL and kind not in ("v=", "o=", "s="):
            timed = timed or kind == "t="
            out.append(line)
    if not timed:
        # Peers that leave t= out exist; RFC 8866 section 5.9 demands it of us. Its place is before the attributes.
        place = next((n for n, line in enumerate(out) if line[:2] == "a="), len(out))
        out.insert(place, "t=0 0")
    for media, port in zip(sdp.media, ports, strict=True):
        _section(out, media, port if media.port else 0, connection, nowhere)
    out.append("")
    return "\r\n".join(out)


def _section(out: list[str], media: Media, port: int, connection: str, nowhere: str) -> None:
    keep_keys = media.secure
    first, _, rest = media.lines[0].split(" ", 2)
    out.append(f"{first} {port} {rest}")
    for line in media.lines[1:]:
        kind = line[:2]
        if kind == "a=":
            if line.startswith("a=rtcp:"):
                if port:
                    out.append(_rtcp(line, media.port, port, connection))
            elif kept_attribute(line, keys=keep_keys):
                out.append(line)
        elif kind == "c=":
            out.append(nowhere if is_unspecified(media.connection) else connection)
        elif kind not in _PERSONAL:
            out.append(line)


def kept_attribute(line: str, *, keys: bool) -> bool:
    """Whether an a= line passes: it names no way around the relay and not the peer itself, and no keys of DTLS where
    they are not wanted."""
    colon = line.find(":")
    name = line[2:] if colon < 0 else line[2:colon]
    if name in _BYPASS or name in _TELLING:
        return False
    if name == "group":
        return not line.startswith("a=group:BUNDLE")
    return keys or name not in _KEYS


def _rtcp(line: str, peer_port: int, port: int, connection: str) -> str:
    # RTCP that the peer shares with RTP (RFC 5761) stays shared; else it has the relay's next port.
    value = line[7:].split(" ", 1)
    shared = value[0] == str(peer_port)
    where = f" {connection[2:]}" if len(value) > 1 else ""
    return f"a=rtcp:{port if shared else port + 1}{where}"


def personal(kind: str) -> bool:
    """Whether a line of this kind (`i=`) speaks of the peer and not of its media."""
    return kind in _PERSONAL


def is_unspecified(value: str) -> bool:
    """Whether the value of a c= line names no address: the hold form of RFC 2543."""
    return value.endswith((" 0.0.0.0", " ::"))


def with_origin(rest: str, address: str, session_id: int, version: int) -> bytes:
    """The whole description: v= and the relay's own o= line before what `rewrite` made."""
    network = "IP6" if ":" in address else "IP4"
    return f"v=0\r\no=- {session_id} {version} IN {network} {address}\r\n{rest}".encode("latin-1")
