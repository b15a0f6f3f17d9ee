"""From a target of the route plan to the INVITEs that try it: contacts of a seat or PBX, or a carrier."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from config.model import Trunk
from dialplan.model import Reason, Refusal, Target, TargetKind
from edge.b2bua.call_media import MediaTerms, media_terms
from edge.b2bua.engine import Engine
from edge.b2bua.invite import build_invite
from edge.b2bua.leg import Authorize
from edge.b2bua.outgoing import CalledNumber, called_number, country_of, to_carrier, to_customer
from edge.b2bua.static_trunk import static_way
from edge.carriers.hosts import Hosts
from edge.registrar.bindings import Binding
from edge.sip.address import NameAddr
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.uri import Uri, encode_user
from edge.sip.value import quick
from edge.transport.errors import ConnectError, ResolveError
from media.relay.port import UnusableSdp
from media.sdp.srtp import Srtp

_SMALL = 350
"""Bytes of a description with which no INVITE of ours is too large for a datagram."""
_PUT_IN_LATER = 520
"""Bytes that the leg adds: Via, Call-ID, CSeq, Contact, tag, Allow, Supported and those of the session timer."""

SEAT_SESSION_EXPIRES = 1800
"""Seconds; finds phones that vanished in a call (RFC 4028)."""


@quick
@dataclass(frozen=True, slots=True)
class BranchPlan:
    """An INVITE that is ready to go."""

    name: str
    flow: Flow
    invite: Request
    contact_user: str
    sdp: bytes | None
    session_expires: int | None
    form: Srtp = "off"
    """Which form `sdp` has of SRTP."""
    authorize: Authorize | None = None
    contact: str | None = None
    """Contact as the far side knows it (a carrier that we registered with); None: made from `contact_user`."""
    proxy: str | None = None
    """The outbound proxy that a call to a carrier goes over."""
    hosts: Hosts | None = None
    """Where the INVITE goes on to where the host of `flow` does not take it."""


Dress = Callable[[MediaTerms], tuple[bytes | None, Srtp]]
"""The offer as a party with these terms is to get it, and its form; raises UnusableSdp. None: there is no offer yet."""


@quick
@dataclass(frozen=True, slots=True)
class Prepared:
    branches: tuple[BranchPlan, ...]
    failover_on: frozenset[int] = frozenset()


async def prepare(
    engine: Engine,
    target: Target,
    a_invite: Request,
    dress: Dress,
    *,
    anyway: bool = False,
    avoid: Collection[str | None] = (),
) -> Prepared | Refusal:
    """All INVITEs for `target`, each with its flow and its offer. Never fails: a refusal says why there is no way to
    the target.

    `anyway`: a carrier is tried even where it counts as down. `avoid`: outbound proxies of it that were tried."""
    if target.kind is TargetKind.CARRIER:
        return await _carrier(engine, target, a_invite, dress, anyway, avoid)
    if target.kind in (TargetKind.SEAT, TargetKind.TRUNK):
        return await _registered(engine, target, a_invite, dress)
    return Refusal(Reason.MEDIA_NOT_ACCEPTABLE, f"{target.kind.value} {target.name} takes no calls on this edge")


async def _registered(engine: Engine, target: Target, a_invite: Request, dress: Dress) -> Prepared | Refusal:
    snapshot = engine.snapshot()
    called = None
    if target.kind is TargetKind.SEAT:
        username, is_trunk = target.name, False
    else:
        trunk = snapshot.trunks.get((target.account, target.name))
        if trunk is None:
            return Refusal(Reason.NOT_REGISTERED, "the trunk is not provisioned any more")
        called = called_number(target, trunk, country_of(snapshot, trunk), engine.domain)
        if trunk.mode == "static":
            return await _static_trunk(engine, target, trunk, called, a_invite, dress)
        username, is_trunk = trunk.username or "", True
    bindings = engine.registrar.contacts("trunk" if is_trunk else "seat", username, engine.driver.now())
    if not bindings:
        return Refusal(Reason.NOT_REGISTERED, "not registered")
    branches: list[BranchPlan] = []
    why = Refusal(Reason.NOT_REGISTERED, "no contact can be reached")
    for binding in bindings:
        try:
            flow = binding.flow or await engine.reach(_way_to(binding))
        except (ResolveError, ConnectError) as error:
            why = Refusal(Reason.NOT_REGISTERED, str(error))
            continue
        try:
            sdp, form = dress(_terms(engine, target, flow))
        except UnusableSdp as error:
            why = _unusable(error)
            continue
        uri = binding.request_uri(encode_user(called.in_uri) if called is not None else "")
        call = to_customer(target, username, engine.domain, str(uri), called)
        branches.append(
            BranchPlan(
                target.name,
                flow,
                build_invite(a_invite, call.uri, call.from_, call.to, list(binding.path), call.identity),
                call.contact_user,
                sdp,
                SEAT_SESSION_EXPIRES,
                form,
            )
        )
    return Prepared(tuple(branches)) if branches else why


def _terms(engine: Engine, target: Target, flow: Flow) -> MediaTerms:
    keys = flow.transport == "tls" or engine.srtp_without_tls
    return media_terms(engine.snapshot(), target.kind.value, target.name, target.account, tls=keys)


def _unusable(error: UnusableSdp) -> Refusal:
    return Refusal(Reason(error.reason), error.detail, error.status)


def _way_to(binding: Binding) -> Uri:
    return NameAddr.parse(binding.path[0]).uri if binding.path else binding.uri


async def _fitting(engine: Engine, flow: Flow, invite: Request, sdp: bytes | None) -> Flow:
    """RFC 3261 section 18.1.1: a request that is too large for a datagram takes a connection, if the peer has one."""
    if flow.transport != "udp" or sdp is None or len(sdp) < _SMALL:
        return flow
    return await engine.fitting(flow, len(invite.to_bytes()) + len(sdp) + _PUT_IN_LATER)


async def _static_trunk(
    engine: Engine, target: Target, trunk: Trunk, called: CalledNumber, a_invite: Request, dress: Dress
) -> Prepared | Refusal:
    try:
        where, flow = await static_way(engine.reach, engine.driver.connections.certified_peers, trunk)
    except (ResolveError, ConnectError) as error:
        return Refusal(Reason.NOT_REGISTERED, str(error))
    uri = replace(where, user=encode_user(called.in_uri or trunk.username or trunk.name))
    try:
        sdp, form = dress(_terms(engine, target, flow))
    except UnusableSdp as error:
        return _unusable(error)
    call = to_customer(target, target.name, engine.domain, str(uri), called)
    invite = build_invite(a_invite, call.uri, call.from_, call.to, [], call.identity)
    flow = await _fitting(engine, flow, invite, sdp)
    return Prepared((BranchPlan(target.name, flow, invite, call.contact_user, sdp, SEAT_SESSION_EXPIRES, form),))


async def _carrier(
    engine: Engine,
    target: Target,
    a_invite: Request,
    dress: Dress,
    anyway: bool,
    avoid: Collection[str | None],
) -> Prepared | Refusal:
    carrier = engine.snapshot().carriers.get(target.name)
    if carrier is None:
        return Refusal(Reason.NO_CARRIER, "the carrier is not provisioned any more")
    try:
        timers = engine.call_timers
        first = timers.first_response_emergency if anyway else timers.first_response
        way = await engine.carriers.way(carrier.name, anyway=anyway, avoid=avoid, patience=first / 3)
    except (ResolveError, ConnectError) as error:
        return Refusal(Reason.NO_CARRIER, str(error))
    try:
        sdp, form = dress(_terms(engine, target, way.flow))
    except UnusableSdp as error:
        return _unusable(error)
    call = to_carrier(carrier, target)
    invite = build_invite(a_invite, call.uri, call.from_, call.to, way.routes, call.identity)
    engine.carriers.preauthorize(carrier.name, invite)
    # where we are registered the flow is part of the registration, and the carrier takes calls over no other
    flow = way.flow if way.contact is not None else await _fitting(engine, way.flow, invite, sdp)
    branch = BranchPlan(
        carrier.name,
        flow,
        invite,
        call.contact_user,
        sdp,
        carrier.session_expires,
        form,
        engine.carriers.authorize(carrier.name),
        f"<{way.contact}>" if way.contact is not None else None,
        way.proxy,
        way.hosts,
    )
    return Prepared((branch,), frozenset(carrier.failover_on))
