"""Words between a carrier's registration and its runner: states, actions, what was granted. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.uri import Uri

T = TypeVar("T")
"""A resolved target: opaque here, the resolver's business."""


class State(StrEnum):
    """What an operator sees."""

    STOPPED = "stopped"
    REGISTERING = "registering"
    REGISTERED = "registered"
    DEAF = "deaf"
    """Registered, but the carrier does not answer OPTIONS or calls; it comes back by itself."""
    RETRYING = "retrying"
    """The carrier is away or overloaded; tried again by itself."""
    FAULT = "fault"
    """The carrier refuses us (password, account, configuration): a person is needed; tried again slowly."""
    UNREGISTERING = "unregistering"


@dataclass(frozen=True, slots=True)
class Resolve:
    """Resolve the carrier's next hop, then call `resolved` or `failed`."""


@dataclass(frozen=True, slots=True)
class Open(Generic[T]):
    """Get a flow to this target, then call `opened` or `failed`."""

    target: T


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request over this flow; then `response` for every response, or `failed`."""

    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class Finished:
    """After `stop`: nothing more to do."""


Action = Resolve | Open[T] | Send | Finished


@dataclass(frozen=True, slots=True)
class Lease:
    """A registration that the carrier granted. Times are seconds on the monotonic clock."""

    flow: Flow
    contact: Uri
    granted: int
    since: float
    expires_at: float
    service_route: tuple[str, ...] = ()
