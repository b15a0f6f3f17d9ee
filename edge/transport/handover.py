"""Open connections across a change of the program in the same process (`sip-edge upgrade`): descriptors stay open, and
what is known of each goes along in a file without a name (memfd). What comes meanwhile waits in the kernel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

from edge.sip.flow import Address, Flow

VARIABLE = "SIP_EDGE_CONNECTIONS"


@dataclass(frozen=True, slots=True)
class KeptConnection:
    """One connection of the program before this one.

    `descriptor`: its socket, or the near end of `tls_keeper`. `flow`: as dialogs and bindings know it. `listener`:
    where it was accepted, None for ours; then `server_name` and `reached` are what it is found by. `names`: of its
    certificate. `unread`: of a message that is not complete. `spoke`: the peer has sent a message.
    """

    descriptor: int
    flow: Flow
    listener: Address | None
    names: tuple[str, ...] = ()
    unread: bytes = b""
    spoke: bool = True
    reached: Address | None = None
    server_name: str = ""


def leave(kept: Iterable[KeptConnection]) -> None:
    """Keep these for the program that takes the place of this one."""
    rows = []
    for each in kept:
        os.set_inheritable(each.descriptor, True)
        flow = each.flow
        rows.append(
            {
                "descriptor": each.descriptor,
                "flow": [flow.transport, *flow.local, *flow.remote, flow.connection],
                "listener": each.listener,
                "names": each.names,
                "unread": each.unread.decode("latin-1"),
                "spoke": each.spoke,
                "reached": each.reached,
                "server_name": each.server_name,
            }
        )
    if not rows:
        return
    file = os.memfd_create("sip-edge-connections", 0)
    with os.fdopen(os.dup(file), "w") as out:
        json.dump(rows, out)
    os.environ[VARIABLE] = str(file)


def take() -> list[KeptConnection]:
    """What the program before this one left; nothing the second time."""
    file = os.environ.pop(VARIABLE, "")
    if not file.isdigit():
        return []
    try:
        with os.fdopen(int(file), "rb") as left:
            left.seek(0)
            rows = json.load(left)
        return [_read(row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, AssertionError):
        return []  # of a version that wrote something else


def _read(row: dict[str, object]) -> KeptConnection:
    flow, descriptor, names = row["flow"], row["descriptor"], row["names"]
    assert isinstance(flow, list) and isinstance(descriptor, int) and isinstance(names, list)
    transport, local, local_port, remote, remote_port, number = flow
    os.set_inheritable(descriptor, False)
    return KeptConnection(
        descriptor,
        Flow(transport, Address(local, local_port), Address(remote, remote_port), number),
        _address(row["listener"]),
        tuple(map(str, names)),
        str(row["unread"]).encode("latin-1"),
        bool(row["spoke"]),
        _address(row["reached"]),
        str(row["server_name"]),
    )


def _address(value: object) -> Address | None:
    return Address(str(value[0]), int(value[1])) if isinstance(value, list) else None
