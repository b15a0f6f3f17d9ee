"""From a target of the route plan to the INVITEs that try it: contacts of a seat or PBX, or a carrier."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dialplan.model import Reason, Refusal, Target, TargetKind
from edge.b2bua.engine import Engine
from edge.b2bua.invite import build_invite
from edge.b2bua.leg import Authorize
from edge.b2bua.outgoing import to_carrier, to_customer
from edge.registrar.bindings import Binding
from edge.sip.address import NameAddr
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.uri import Uri, encode_user
from edge.transport.errors import ConnectError, ResolveError
from media.relay.port import UnusableSdp
from media.sdp.codecs import limit_codecs
from media.sdp.lines import parse

SEAT_SESSION_EXPIRES = 1800
"""Seconds; finds phones that vanished in a call (RFC 4028)."""


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """An INVITE that is ready to go."""

    name: str
    flow: Flow
    invite: Request
    contact_user: str
    sdp: bytes | None
    session_expires: int | None
    authorize: Authorize | None = None
    contact: str | None = None
    """Contact as the far side knows it (a carrier that we registered with); None: made from `contact_user`."""
    proxy: str | None = None
    """The outbound proxy that a call to a carrier goes over."""


@dataclass(frozen=True, slots=True)
class Prepared:
    branches: tuple[BranchPlan, ...]
    failover_on: frozenset[int] = frozenset()


async def prepare(
    engine: Engine,
    target: Target,
    a_invite: Request,
    sdp: bytes | None,
    *,
    anyway: bool = False,
    avoid: Collection[str | None] = (),
) -> Prepared | Refusal:
    """All INVITEs for `target`, each with its flow; `sdp` is the offer as the relay wrote it. Never fails: a refusal
    says why there is no way to the target.

    `anyway`: a carrier is tried even where it counts as down. `avoid`: outbound proxies of it that were tried."""
    if target.kind is TargetKind.CARRIER:
        return await _carrier(engine, target, a_invite, sdp, anyway, avoid)
    if target.kind in (TargetKind.SEAT, TargetKind.TRUNK):
        return await _registered(engine, target, a_invite, sdp)
    return Refusal(Reason.MEDIA_NOT_ACCEPTABLE, f"{target.kind.value} {target.name} takes no calls on this edge")


async def _registered(engine: Engine, target: Target, a_invite: Request, sdp: bytes | None) -> Prepared | Refusal:
    snapshot = engine.snapshot()
    if target.kind is TargetKind.SEAT:
        username, is_trunk = target.name, False
    else:
        trunk = snapshot.trunks.get((target.account, target.name))
        if trunk is None:
            return Refusal(Reason.NOT_REGISTERED, "the trunk is not provisioned any more")
        if trunk.mode == "static":
            return await _static_trunk(engine, target, trunk.sources, a_invite, sdp)
        username, is_trunk = trunk.username or "", True
    bindings = engine.registrar.contacts("trunk" if is_trunk else "seat", username, engine.driver.now())
    if not bindings:
        return Refusal(Reason.NOT_REGISTERED, "not registered")
    branches: list[BranchPlan] = []
    detail = "no contact can be reached"
    for binding in bindings:
        try:
            flow = binding.flow or await engine.reach(_way_to(binding))
        except (ResolveError, ConnectError) as error:
            detail = str(error)
            continue
        uri = binding.request_uri(encode_user(target.user) if is_trunk else "")
        call = to_customer(target, username, engine.domain, str(uri))
        branches.append(
            BranchPlan(
                target.name,
                flow,
                build_invite(a_invite, call.uri, call.from_, call.to, list(binding.path), call.identity),
                call.contact_user,
                sdp,
                SEAT_SESSION_EXPIRES,
            )
        )
    return Prepared(tuple(branches)) if branches else Refusal(Reason.NOT_REGISTERED, detail)


def _way_to(binding: Binding) -> Uri:
    return NameAddr.parse(binding.path[0]).uri if binding.path else binding.uri


async def _static_trunk(
    engine: Engine, target: Target, sources: tuple[str, ...], a_invite: Request, sdp: bytes | None
) -> Prepared | Refusal:
    host = next((s for s in sources if "/" not in s), None)
    if host is None:
        return Refusal(Reason.NOT_REGISTERED, "the static trunk has no source that is one address")
    uri = Uri("sip", encode_user(target.user), host)
    try:
        flow = await engine.reach(uri)
    except (ResolveError, ConnectError) as error:
        return Refusal(Reason.NOT_REGISTERED, str(error))
    call = to_customer(target, target.name, engine.domain, str(uri))
    invite = build_invite(a_invite, call.uri, call.from_, call.to, [], call.identity)
    return Prepared((BranchPlan(target.name, flow, invite, call.contact_user, sdp, SEAT_SESSION_EXPIRES),))


async def _carrier(
    engine: Engine,
    target: Target,
    a_invite: Request,
    sdp: bytes | None,
    anyway: bool,
    avoid: Collection[str | None],
) -> Prepared | Refusal:
    carrier = engine.snapshot().carriers.get(target.name)
    if carrier is None:
        return Refusal(Reason.NO_CARRIER, "the carrier is not provisioned any more")
    try:
        way = await engine.carriers.way(carrier.name, anyway=anyway, avoid=avoid)
    except (ResolveError, ConnectError) as error:
        return Refusal(Reason.NO_CARRIER, str(error))
    if sdp is not None:
        try:
            description = parse(sdp)
            limit_codecs(description, carrier.codecs)
            sdp = description.to_bytes()
        except UnusableSdp as error:
            return Refusal(Reason.MEDIA_NOT_ACCEPTABLE, error.detail, error.status)
    call = to_carrier(carrier, target)
    invite = build_invite(a_invite, call.uri, call.from_, call.to, way.routes, call.identity)
    engine.carriers.preauthorize(carrier.name, invite)
    branch = BranchPlan(
        carrier.name,
        way.flow,
        invite,
        call.contact_user,
        sdp,
        carrier.session_expires,
        engine.carriers.authorize(carrier.name),
        f"<{way.contact}>" if way.contact is not None else None,
        way.proxy,
    )
    return Prepared((branch,), frozenset(carrier.failover_on))
