"""The registrar (RFC 3261 section 10): answers REGISTER, keeps bindings, and tells calls where to go.

Everything on the path works in memory; `edge.registrar.keeper` writes behind, `edge.registrar.qualify` asks contacts
whether they are still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from config.model import AccountStatus, Seat, Trunk
from config.snapshot import EMPTY, Snapshot
from edge.observability.logging import get_logger
from edge.registrar.bindings import Accepted, Aor, Binding, Kind, Rejected, Rules, update
from edge.registrar.location import Location
from edge.sip.build import response_to
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request, Response

_log = get_logger("registrar")
_EXTENSIONS = frozenset({"path", "outbound"})


@dataclass(frozen=True, slots=True)
class RegistrarSettings:
    """Lifetimes in seconds."""

    min_expires: int = 60
    max_expires: int = 3600
    default_expires: int = 600


Elsewhere = Callable[[Aor, list[Binding], float], list[Binding]]
"""An AOR and its own contacts to all of its contacts, at a time."""


class Registrar:
    """All bindings of this edge. Responses lack their To tag, which the endpoint sets."""

    def __init__(self, utcnow: Callable[[], datetime], settings: RegistrarSettings | None = None) -> None:
        """`utcnow` gives the wall clock as an aware datetime."""
        self._utc = utcnow
        self.settings = settings or RegistrarSettings()
        """May be replaced at any time; holds for the next REGISTER."""
        self._location = Location()
        self._snapshot = EMPTY
        self._listeners: list[Callable[[Aor], None]] = []
        self.on_move: Callable[[str, str, Flow, Flow], None] = lambda kind, name, old, new: None
        """Called with kind and name of a seat or trunk, one of whose devices was registered over the first flow and
        has registered again over the second."""
        self._hosts: dict[str, int] = {}
        self.elsewhere: Elsewhere | None = None
        """Adds what other edges know to our own contacts (`edge.registrar.neighbours`)."""

    def own(self, aor: Aor, now: float) -> list[Binding]:
        """Contacts that registered with this edge."""
        return self._location.contacts(aor, now)

    def listen(self, on_change: Callable[[Aor], None]) -> None:
        """Call `on_change` with every AOR whose bindings changed, after the change."""
        self._listeners.append(on_change)

    # requests

    def handle(self, request: Request, flow: Flow, who: Seat | Trunk, now: float) -> tuple[Response, bool]:
        """The final response to an authenticated REGISTER that came over `flow`; and whether contacts came or went:
        no restart may undo that once the response left."""
        try:
            return self._handle(request, flow, who, now)
        except RemoteProtocolError as error:
            _log.info("registration.unreadable", remote=str(flow), detail=error.detail)
            return response_to(request, error.status or 400), False

    def _handle(self, request: Request, flow: Flow, who: Seat | Trunk, now: float) -> tuple[Response, bool]:
        aor = aor_of(who)
        bulk = isinstance(who, Trunk) and who.mode == "gin"
        known = _EXTENSIONS | {"gin"} if bulk else _EXTENSIONS
        unknown = [t for t in request.headers.tokens("require") if t not in known]
        if unknown:
            why = Rejected(420, "", (("Unsupported", ", ".join(unknown)),))
            return self._reject(request, flow, aor, why), False
        if isinstance(who, Trunk) and who.valid_from is not None and who.valid_from > self._utc():
            why = Rejected(403, f"planned trunk, valid from {who.valid_from:%Y-%m-%d}")
            return self._reject(request, flow, aor, why), False
        if self._locked(who.account):
            why = Rejected(403, f"account {who.account} is suspended and locked")
            return self._reject(request, flow, aor, why), False
        if not _may_register(who, request):
            return self._reject(request, flow, aor, Rejected(403, "To names somebody else")), False
        settings = self.settings
        rules = Rules(who.max_contacts, bulk, settings.min_expires, settings.max_expires, settings.default_expires)
        result = update(self._location.get(aor), aor, request, flow, rules, now)
        if isinstance(result, Rejected):
            return self._reject(request, flow, aor, result), False
        if result.changed:
            before = self._location.get(aor)
            self._put(aor, result.bindings)
            _log_change(result)
            for new in (*result.added, *result.refreshed):
                for old in before:
                    if old.source != new.source and old.registered_by(new):
                        self.on_move(
                            aor.kind, who.name if isinstance(who, Trunk) else who.username, old.source, new.source
                        )
        return self._accept(request, result, now), bool(result.added or result.removed)

    def _accept(self, request: Request, result: Accepted, now: float) -> Response:
        response = response_to(request, 200)
        headers = response.headers
        for binding in result.bindings:
            headers.add("Contact", binding.contact_value(now))
        for value in request.headers.get_all("path"):
            headers.add("Path", value)
        if any(b.reg_id is not None for b in (*result.added, *result.refreshed)):
            headers.add("Require", "outbound")
        headers.add("Supported", "path, outbound")
        headers.add("Date", format_datetime(self._utc(), usegmt=True))
        return response

    def _reject(self, request: Request, flow: Flow, aor: Aor, why: Rejected) -> Response:
        log = _log.warning if why.status == 403 else _log.info
        log("registration.rejected", seat=aor.username, source_kind=aor.kind, remote=str(flow), status=why.status,
            detail=why.detail)  # fmt: skip
        response = response_to(request, why.status)
        for name, value in why.headers:
            response.headers.add(name, value)
        return response

    # what calls ask

    def contacts(self, kind: Kind, username: str, now: float) -> list[Binding]:
        """Where the seat or trunk is: reachable bindings first, by q, the newest first among equals.

        A binding with a flow is called over it; one without is resolved from its Path or contact URI.
        """
        aor = Aor(kind, username)
        own = self._location.contacts(aor, now)
        return self.elsewhere(aor, own, now) if self.elsewhere is not None else own

    def at(self, flow: Flow) -> frozenset[Aor]:
        """Who registered over this flow."""
        return self._location.at(flow)

    def has_bindings_from(self, host: str) -> bool:
        """Whether anybody is registered from this address: it is not to be banned for one device's fault."""
        return host in self._hosts

    def live(self, now: float) -> list[Binding]:
        """All bindings, for the operator's view."""
        return [b for b in self._location if b.expires_at > now]

    def counts(self) -> dict[str, int]:
        """Bindings by kind, for the metric."""
        counts = {"seat": 0, "trunk": 0}
        for binding in self._location:
            counts[binding.aor.kind] += 1
        return counts

    # what happens to bindings

    def flow_closed(self, flow: Flow) -> None:
        """A connection is gone: its bindings cannot be reached over it any more, from now on."""
        lost = self._location.flow_closed(flow)
        if not lost:
            return
        self._count_host(flow, -len(lost))
        for aor in {b.aor for b in lost}:
            self._changed(aor)
        _log.info("registration.flow_lost", remote=str(flow), bindings=len(lost))

    def mark(self, binding: Binding, answers: bool) -> None:
        """Note whether the peer of `binding` answered an OPTIONS."""
        if binding.answers == answers or not self._location.mark(binding, answers):
            return
        event = "registration.reachable" if answers else "registration.unreachable"
        _log.info(event, seat=binding.aor.username, source_kind=binding.aor.kind, remote=str(binding.flow))

    def expire(self, now: float) -> None:
        """Drop bindings that have run out."""
        for binding in self._location.expire(now):
            self._count_host(binding.flow, -1)
            self._changed(binding.aor)
            _log.info("registration.expired", seat=binding.aor.username, source_kind=binding.aor.kind)

    def next_expiry(self) -> float | None:
        """When `expire` is worth calling."""
        return self._location.next_expiry()

    def restore(self, bindings: Iterable[Binding], now: float) -> None:
        """Take over bindings from before a restart, unless they have been registered anew meanwhile."""
        by_aor: dict[Aor, list[Binding]] = {}
        for binding in bindings:
            if binding.expires_at > now:
                by_aor.setdefault(binding.aor, []).append(binding)
        for aor, old in by_aor.items():
            if not self._location.get(aor) and self._provisioned(aor, self._snapshot):
                self._put(aor, tuple(old), tell=False)

    def apply(self, snapshot: Snapshot) -> None:
        """Provisioning changed: who is gone, or has a new password, has to register again to be called."""
        before, self._snapshot = self._snapshot, snapshot
        for aor in list(self._location.aors()):
            if not self._provisioned(aor, snapshot):
                reason = "no longer provisioned"
            elif before is not EMPTY and _ha1(aor, before) != _ha1(aor, snapshot):
                reason = "password changed"
            elif self._locked(_account_of(aor, snapshot)):
                reason = "account is suspended and locked"
            else:
                continue
            self._put(aor, ())
            _log.info("registration.dropped", seat=aor.username, source_kind=aor.kind, detail=reason)

    def _locked(self, account: str) -> bool:
        found = self._snapshot.accounts.get(account)
        return found is not None and found.status is AccountStatus.SUSPENDED and found.suspension == "lock"

    def _provisioned(self, aor: Aor, snapshot: Snapshot) -> bool:
        if aor.kind == "seat":
            return aor.username in snapshot.seats
        trunk = snapshot.trunk_by_username(aor.username)
        return trunk is not None and trunk.mode != "static"

    def _put(self, aor: Aor, bindings: tuple[Binding, ...], *, tell: bool = True) -> None:
        for old in self._location.get(aor):
            self._count_host(old.flow, -1)
        for new in bindings:
            self._count_host(new.flow, 1)
        self._location.put(aor, bindings)
        if tell:
            self._changed(aor)

    def _changed(self, aor: Aor) -> None:
        for listener in self._listeners:
            listener(aor)

    def _count_host(self, flow: Flow | None, difference: int) -> None:
        if flow is None:
            return
        count = self._hosts.get(flow.remote.host, 0) + difference
        if count > 0:
            self._hosts[flow.remote.host] = count
        else:
            self._hosts.pop(flow.remote.host, None)


def aor_of(who: Seat | Trunk) -> Aor:
    """The AOR of a seat, or of a trunk that registers."""
    if isinstance(who, Seat):
        return Aor("seat", who.username)
    if who.username is None:
        raise ValueError(f"trunk {who.name!r} has no username and cannot register")
    return Aor("trunk", who.username)


def _may_register(who: Seat | Trunk, request: Request) -> bool:
    """RFC 3261 section 10.3 step 4: a seat registers itself; a PBX may name itself by one of its numbers."""
    if isinstance(who, Trunk):
        return True
    return request.to.uri.decoded_user in (who.username, who.extension, who.primary_number)


def _account_of(aor: Aor, snapshot: Snapshot) -> str:
    who = snapshot.seats.get(aor.username) if aor.kind == "seat" else snapshot.trunk_by_username(aor.username)
    return who.account if who is not None else ""


def _ha1(aor: Aor, snapshot: Snapshot) -> object:
    who = snapshot.seats.get(aor.username) if aor.kind == "seat" else snapshot.trunk_by_username(aor.username)
    return who.ha1 if who is not None else None


def _log_change(result: Accepted) -> None:
    for binding in result.added:
        _log.info(
            "registration.added", seat=binding.aor.username, source_kind=binding.aor.kind, remote=str(binding.flow),
            user_agent=binding.user_agent, behind_nat=binding.behind_nat,
        )  # fmt: skip
    for binding in result.removed:
        _log.info("registration.removed", seat=binding.aor.username, source_kind=binding.aor.kind)
