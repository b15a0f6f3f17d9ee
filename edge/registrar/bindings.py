"""Bindings of one address of record, and what a REGISTER does to them (RFC 3261 section 10.3). Pure.

Also RFC 5626 section 6 (instance and reg-id name a binding, whatever its contact says), RFC 3327 (Path) and
RFC 6140 section 5 (a PBX that registers all its numbers with one `bnc` contact).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal, NamedTuple
from urllib.parse import unquote

from edge.sip.address import NameAddr
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.params import split_quoted
from edge.sip.uri import Uri

Kind = Literal["seat", "trunk"]


class Aor(NamedTuple):
    """Who is registered: the username of a seat or of a trunk."""

    kind: Kind
    username: str


class Rules(NamedTuple):
    """What a REGISTER may do. Times in seconds."""

    max_contacts: int = 5
    bulk: bool = False
    """The AOR is a PBX that may register with a `bnc` contact (RFC 6140)."""
    min_expires: int = 60
    max_expires: int = 3600
    default_expires: int = 600


@dataclass(frozen=True, slots=True)
class Binding:
    """One contact of an AOR. Times are seconds on the monotonic clock."""

    aor: Aor
    contact: NameAddr
    """As registered, without `expires`; other parameters (q, +sip.instance ...) stay as they came."""
    expires_at: float
    call_id: str
    cseq: int
    source: Flow
    """The flow it registered over."""
    connected: bool = True
    """False where that connection is gone."""
    path: tuple[str, ...] = ()
    """Path values, first one is the next hop (RFC 3327)."""
    q: float = 1.0
    instance: str | None = None
    reg_id: int | None = None
    bulk: bool = False
    behind_nat: bool = False
    """The contact's own address is not where the request came from: only the flow reaches it."""
    user_agent: str = ""
    registered_at: float = 0.0
    answers: bool = True
    """False after OPTIONS went unanswered."""

    @property
    def uri(self) -> Uri:
        """The contact URI as registered."""
        return self.contact.uri

    @property
    def flow(self) -> Flow | None:
        """The flow that reaches the contact; None where the connection is gone, or a restart lost it."""
        return self.source if self.connected else None

    @property
    def reachable(self) -> bool:
        """A call can be tried with hope: the peer answers, on its flow or at an address that can be connected to."""
        return self.answers and (self.flow is not None or not (self.behind_nat or self.path))

    @property
    def mapped(self) -> bool:
        """A NAT's UDP mapping leads to it, which closes unless something passes every half minute."""
        seen = _received(self.path) if self.path else None
        transport = self.source.transport if seen is None else seen.params.get("transport") or "udp"
        return self.behind_nat and transport.lower() == "udp"

    def request_uri(self, user: str = "") -> Uri:
        """The Request-URI for a call to this contact.

        `user` replaces the contact's user part (the called number towards a PBX); a `bnc` contact has none of its own,
        its other parameters stay and `bnc` goes (RFC 6140 section 7.1).
        """
        uri = self.contact.uri
        if self.bulk:
            return replace(uri, user=user or None, params=uri.params.without("bnc"))
        return replace(uri, user=user) if user else uri

    def contact_value(self, now: float) -> str:
        """The Contact value of a response: with the seconds that remain, at least 1."""
        return f"{self.contact};expires={max(1, round(self.expires_at - now))}"

    def registered_by(self, other: Binding) -> bool:
        """The device of `other` made this binding too: the same instance (RFC 5626), the same contact, or the same user
        and REGISTER Call-ID, which a device keeps for as long as it runs (RFC 3261 section 10.2)."""
        if self.instance is not None and other.instance is not None:
            return self.instance == other.instance and self.reg_id == other.reg_id
        if self.call_id == other.call_id and self.contact.uri.user == other.contact.uri.user:
            return True
        return self.contact.uri.equivalent(other.contact.uri)

    def same_device(self, other: Binding) -> bool:
        """Registered by the same device, as far as can be told: by instance, else by where it sits."""
        if self.instance is not None and other.instance is not None:
            return self.instance == other.instance
        return self.source.remote.host == other.source.remote.host


@dataclass(frozen=True, slots=True)
class Accepted:
    """All bindings of the AOR after the REGISTER, and what it changed."""

    bindings: tuple[Binding, ...]
    added: tuple[Binding, ...] = ()
    refreshed: tuple[Binding, ...] = ()
    removed: tuple[Binding, ...] = ()

    @property
    def changed(self) -> bool:
        """False for a query."""
        return bool(self.added or self.refreshed or self.removed)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The REGISTER changed nothing. `detail` is for the log."""

    status: int
    detail: str
    headers: tuple[tuple[str, str], ...] = ()


def update(
    current: Iterable[Binding], aor: Aor, request: Request, flow: Flow, rules: Rules, now: float
) -> Accepted | Rejected:
    """What `request`, which came over `flow`, makes of the `current` bindings of `aor`: all of it, or nothing.

    Raises RemoteProtocolError where the request cannot be read.
    """
    live = [b for b in current if b.expires_at > now]
    call_id, cseq = request.call_id, request.cseq.number
    values = request.headers.get_all("contact")
    if not values:
        return Accepted(tuple(live))
    if any(v.strip() == "*" for v in values):
        if len(values) > 1 or request.integer("expires") != 0:
            return Rejected(400, "Contact * needs Expires: 0 and no other contact")
        if any(_out_of_order(b, call_id, cseq) for b in live):
            return _OUT_OF_ORDER
        return Accepted((), removed=tuple(live))

    wanted = _wanted(aor, request, flow, rules, now)
    if isinstance(wanted, Rejected):
        return wanted
    added: list[Binding] = []
    refreshed: list[Binding] = []
    removed: list[Binding] = []
    for binding in wanted:
        old = next((b for b in live if _same_binding(b, binding)), None)
        if old is not None and _out_of_order(old, call_id, cseq):
            return _OUT_OF_ORDER
        if binding.expires_at <= now:
            if old is not None:
                live.remove(old)
                removed.append(old)
            continue
        if old is not None:
            live[live.index(old)] = binding
            refreshed.append(binding)
            continue
        if binding.bulk:
            other = next((b for b in live if b.bulk and b.reachable and not b.same_device(binding)), None)
            if other is not None:
                return Rejected(403, f"its numbers are registered by another PBX at {other.source}")
            for gone in [b for b in live if b.bulk]:
                live.remove(gone)
                removed.append(gone)
        # A phone that comes back over a new connection with a new contact must not fill its places with its dead ones.
        for gone in [b for b in live if not b.reachable and b.instance is not None and b.instance == binding.instance]:
            live.remove(gone)
            removed.append(gone)
        if len(live) >= rules.max_contacts:
            dead = [b for b in live if not b.reachable]
            if not dead:
                return Rejected(403, f"more than {rules.max_contacts} contacts")
            oldest = min(dead, key=lambda b: b.registered_at)
            live.remove(oldest)
            removed.append(oldest)
        live.append(binding)
        added.append(binding)
    return Accepted(tuple(live), tuple(added), tuple(refreshed), tuple(removed))


_LONGEST = 512
"""Characters of a contact, which is the key of a row, and of a User-Agent."""

_OUT_OF_ORDER = Rejected(500, "CSeq not above the binding's (RFC 3261 section 10.3 step 7)")


def _out_of_order(binding: Binding, call_id: str, cseq: int) -> bool:
    return binding.call_id == call_id and cseq <= binding.cseq


def _same_binding(a: Binding, b: Binding) -> bool:
    if a.reg_id is not None and b.reg_id is not None and a.instance is not None and b.instance is not None:
        return a.reg_id == b.reg_id and a.instance == b.instance
    return a.contact.uri.equivalent(b.contact.uri)


def _wanted(aor: Aor, request: Request, flow: Flow, rules: Rules, now: float) -> list[Binding] | Rejected:
    """The bindings that the request asks for; a removal has `expires_at` == now."""
    call_id, cseq = request.call_id, request.cseq.number
    default = request.integer("expires")
    path = tuple(p for v in request.headers.get_all("path") for p in split_quoted(v, ",") if p)
    gin = "gin" in request.headers.tokens("require")
    outbound = _outbound(request, path)
    user_agent = (request.headers.get("user-agent") or "")[:_LONGEST]
    wanted: list[Binding] = []
    for contact in request.contacts:
        uri = contact.uri
        if uri.scheme == "tel":
            return Rejected(400, "a tel URI is no contact")
        if len(str(uri)) > _LONGEST:
            return Rejected(400, f"a contact of more than {_LONGEST} characters")
        seconds = _expires(contact, default, rules)
        if 0 < seconds < rules.min_expires:
            return Rejected(423, f"{seconds} s is too brief", (("Min-Expires", str(rules.min_expires)),))
        bulk = "bnc" in uri.params
        if bulk:
            if uri.user:
                return Rejected(400, "a bnc contact has no user part (RFC 6140 section 5.2)")
            if not gin:
                return Rejected(400, "a bnc contact needs Require: gin (RFC 6140 section 5.1)")
            if not rules.bulk:
                return Rejected(403, "this AOR may not register in bulk")
        instance = contact.params.get("+sip.instance")
        reg_text = contact.params.get("reg-id")
        reg_id: int | None = None
        if reg_text is not None and instance is not None:
            if not (reg_text.isascii() and reg_text.isdigit() and len(reg_text) <= 10 and int(reg_text) > 0):
                return Rejected(400, "bad reg-id")
            if outbound:
                reg_id = int(reg_text)
            elif "outbound" in request.headers.tokens("supported"):
                return Rejected(439, "the first hop does not keep flows (RFC 5626 section 6)")
        wanted.append(
            Binding(
                aor=aor,
                contact=replace(contact, params=contact.params.without("expires")),
                expires_at=now + min(seconds, rules.max_expires),
                call_id=call_id,
                cseq=cseq,
                source=flow,
                path=path,
                q=_q(contact),
                instance=instance,
                reg_id=reg_id,
                bulk=bulk,
                behind_nat=behind_nat(uri.host, flow.remote.host, path),
                user_agent=user_agent,
                registered_at=now,
            )
        )
    if sum(b.reg_id is not None and b.expires_at > now for b in wanted) > 1:
        return Rejected(400, "more than one contact with a reg-id (RFC 5626 section 6)")
    return wanted


def _outbound(request: Request, path: tuple[str, ...]) -> bool:
    """RFC 5626 section 6: the device is our neighbour, or its edge proxy keeps the flow (`ob` in the first Path)."""
    if path and "ob" in NameAddr.parse(path[0]).uri.params:
        return True
    return sum(len(split_quoted(v, ",")) for v in request.headers.get_all("via")) == 1


def _expires(contact: NameAddr, default: int | None, rules: Rules) -> int:
    text = contact.params.get("expires")
    if text is None:
        return rules.default_expires if default is None else default
    # RFC 3261 section 20.10 would have a malformed value read as 3600; what we grant then is our own default
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else rules.default_expires


def _q(contact: NameAddr) -> float:
    text = contact.params.get("q")
    try:
        value = float(text) if text else 1.0
    except ValueError:
        return 1.0
    return value if 0.0 <= value <= 1.0 else 1.0


def behind_nat(host: str, source: str, path: tuple[str, ...]) -> bool:
    """Whether a contact's `host` is another address than the `source` it registers from. Behind a Path the proxy says
    what it saw, in `received`; where it does not, nobody knows."""
    if path:
        seen = _received(path)
        if seen is None:
            return False
        source = seen.host
    if host == source:
        return False
    try:
        return ip_address(host) != ip_address(source)
    except ValueError:  # a name: it may well resolve to the source
        return False


def _received(path: tuple[str, ...]) -> Uri | None:
    """Where the proxy next to the device had its REGISTER from, as Kamailio and OpenSIPS write it into their Path:
    `received=sip:192.0.2.7:5062%3Btransport%3Dtls`; the last Path value is the device's own proxy."""
    try:
        text = NameAddr.parse(path[-1]).uri.params.get("received")
        return Uri.parse(unquote(text)) if text else None
    except RemoteProtocolError:
        return None
