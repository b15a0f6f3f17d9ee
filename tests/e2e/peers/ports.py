"""Free ports for the peers of one test run, out of one window."""

from __future__ import annotations

import os
import socket
import threading

_WINDOW = os.environ.get("PEER_PORTS", "10000-19999")
_LOW, _HIGH = (int(part) for part in _WINDOW.split("-"))
if (_worker := os.environ.get("PYTEST_XDIST_WORKER", "")) and (
    _workers := int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
) > 1:
    # files of tests that run side by side never share a port
    _share = (_HIGH - _LOW) // _workers
    _LOW += _share * int(_worker.removeprefix("gw"))
    _HIGH = _LOW + _share
_lock = threading.Lock()
# Two runs on one machine begin at different places of the window.
_next = _LOW + (os.getpid() * 64) % (_HIGH - _LOW)


def take_port() -> int:
    """An even port that is free for UDP and TCP on every address; given out once per round through the window."""
    return take_ports(1)


def take_ports(count: int) -> int:
    """The first of `count` ports in a row (rounded up to even) that are all free, for RTP ranges."""
    global _next
    count += count % 2
    with _lock:
        for _ in range((_HIGH - _LOW) // 2):
            first = _next
            if first + count > _HIGH:
                first = _LOW
            if all(_is_free(port) for port in range(first, first + count)):
                _next = first + count
                return first
            _next = first + 2
    raise RuntimeError(f"no {count} free ports in {_WINDOW}; set PEER_PORTS to another window")


def _is_free(port: int) -> bool:
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind(("", port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(("", port))
    except OSError:
        return False
    return True
