"""Which media relay an edge works with, by its settings (docs/media.md)."""

from __future__ import annotations

import os
import resource
import sys
from ipaddress import ip_address

from config.settings import Settings
from edge.transport.own_address import own_address
from media.relay.child import RelayChild
from media.relay.embedded import EmbeddedRelays
from media.relay.port import MediaRelay
from media.relay.process import Bind, RelayOptions
from media.relay.room import processes, shares
from media.relay.rtpengine import RtpEngineAddress, RtpEngineRelay
from media.relay.rtpio import RtpIoRelay

_WAITS = 600
"""Seconds for which the relay of an edge that was killed keeps its calls for the next."""


def media_relay(settings: Settings) -> MediaRelay:
    """The relay that these settings name."""
    if settings.relay == "rtpengine":
        addresses = tuple(RtpEngineAddress(e.host, e.port, e.weight) for e in settings.rtpengines)
        return RtpEngineRelay(addresses, settings.edge_name, lost_after=settings.media_timeout)
    if settings.relay_socket is not None:
        return EmbeddedRelays([RtpIoRelay(str(settings.relay_socket))])
    among = settings.relay_processes or processes(settings.media_ports, _cores(), allow_descriptors())
    children = [
        RelayChild(
            relay_options(settings, str(settings.data_dir / _socket(n)), ports=ports, alone=_WAITS),
        )
        for n, ports in enumerate(shares(settings.media_ports, among), 1)
    ]
    if among == 1:
        return EmbeddedRelays([RtpIoRelay(child=children[0])])
    return EmbeddedRelays([RtpIoRelay(child=child, name=f"embedded-{n}") for n, child in enumerate(children, 1)])


def relay_options(
    settings: Settings, socket_path: str, *, ports: tuple[int, int] | None = None, alone: int = 0
) -> RelayOptions:
    """What a relay process is started with; `ports`: its part of all."""
    return RelayOptions(
        socket=socket_path,
        bind=(Bind(media_address(settings), "main", settings.media_advertised or ""),),
        ports=ports or settings.media_ports,
        timeout=int(settings.media_timeout),
        alone=alone,
    )


def media_address(settings: Settings) -> str:
    """The address of ours that media come to."""
    bind = settings.media_address
    return own_address(bind) if ip_address(bind).is_unspecified else bind


def allow_descriptors() -> int:
    """Have this process, and those that it starts, use as many file descriptors as they may; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _socket(n: int) -> str:
    return "relay.sock" if n == 1 else f"relay-{n}.sock"
