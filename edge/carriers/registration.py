"""Our registration with one carrier as a state machine on a virtual clock (domain rules 1.2, 1.3, 1.7). Pure.

RFC 3261 section 10.2 (client), RFC 3581, RFC 5626 section 4.5 (back-off), RFC 3263 section 4.3 (next target),
RFC 6140 (bulk), RFC 3608 (Service-Route).

The runner feeds events (`start`, `resolved`, `opened`, `response`, `failed`, `flow_lost`, `timer`, `stop`) and carries
out the actions that come back. One REGISTER is in flight at most; all have one Call-ID and a rising CSeq.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from hashlib import sha256
from typing import Generic

from config.model import Carrier
from edge.carriers.actions import Action, Finished, Lease, Open, Resolve, Send, State, T
from edge.carriers.login import Judgement, Login
from edge.carriers.own_address import OwnAddress
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.ids import IdSource
from edge.sip.message import Request, Response
from edge.sip.params import Params, split_quoted
from edge.sip.uri import Uri, encode_user

BACKOFF_FIRST = 30.0
BACKOFF_MAX = 1800.0
FAULT_FIRST = 600.0
"""Seconds after which a configuration fault is tried again: it heals when a person mends it, and each try may count."""
RETRY_AFTER_MAX = 3600.0
STABLE_AFTER = 60.0
"""Seconds a registration must have held before the loss of its flow is no longer a failure of its own."""
LIFETIME_MAX = 7 * 86400
_TRIES = 6
"""REGISTERs in one attempt at one target: challenge, stale, 423, 420 and one spare."""


class _Phase(StrEnum):
    IDLE = "idle"
    RESOLVING = "resolving"
    OPENING = "opening"
    WAITING = "waiting"
    """A REGISTER is in flight."""
    HOLDING = "holding"
    """Until `_wake`: the refresh or the next try."""


def line_token(carrier: Carrier, nth: int = 0) -> str:
    """The parameter of our Contact that carriers send back in the Request-URI, and that tells two registrations with
    one carrier apart, also over its `nth` outbound proxy. The same after a restart, so that the new registration
    replaces the old one."""
    text = f"{carrier.name}\0{carrier.username}\0{carrier.domain}" + (f"\0{nth}" if nth else "")
    return sha256(text.encode()).hexdigest()[:12]


class Registration(Generic[T]):
    """The state machine of one carrier in mode `register`, over its outbound proxy (`nth` of several).

    `jitter` gives numbers from 0 to 1. `learn` allows the Contact to take the address that the carrier sees us at
    (RFC 3581), where the operator has not named one.
    """

    def __init__(
        self,
        carrier: Carrier,
        login: Login,
        ids: IdSource,
        jitter: Callable[[], float],
        *,
        nth: int = 0,
        learn: bool = True,
        user_agent: str = "sip-edge",
    ) -> None:
        self.carrier = carrier
        self.login = login
        self.lease: Lease | None = None
        self.gin = carrier.gin
        """Off after a carrier said it does not know it, until the configuration changes (T1.2)."""
        self.status: int | None = None
        """The last final response's status; None after a timeout or before the first."""
        self.detail = ""
        """The last failure in words, "" while all is well."""
        self.since = 0.0
        """When `state` became what it is."""
        self.failures = 0
        """Failed rounds in a row."""
        self._mark = line_token(carrier, nth)
        self._registrar = Uri.parse(f"sip:{carrier.domain}")
        self._user = encode_user(carrier.username or "")
        self._jitter = jitter
        self._user_agent = user_agent
        self._call_id = ids.token()
        self._from_tag = ids.token()
        self._cseq = 0
        self._state = State.STOPPED
        self._phase = _Phase.IDLE
        self._wake: float | None = None
        self._targets: list[T] = []
        self._flow: Flow | None = None
        self._own = OwnAddress(learn)
        self._relearned = False
        self._sent: Request | None = None
        self._sent_contact: Uri | None = None
        self._granted_contact: Uri | None = None
        """Stays when the registration is lost, so that the next one takes its dead contact away."""
        self._tries = 0
        self._min_expires = 0
        self._retry_after = 0.0
        self._stopping = False
        self._at_once = False
        """The connection was lost while a REGISTER was in flight over it: the next one need not wait."""

    @property
    def state(self) -> State:
        return self._state

    @property
    def deadline(self) -> float | None:
        """When `timer` wants to be called; None: not at all."""
        ends = self.lease.expires_at if self.lease is not None else None
        if self._wake is None or ends is None:
            return ends if self._wake is None else self._wake
        return min(self._wake, ends)

    # events

    def start(self, now: float) -> list[Action[T]]:
        """Begin to register."""
        self._set(State.REGISTERING, now)
        return self._resolve()

    def resolved(self, targets: Sequence[T], now: float) -> list[Action[T]]:
        """The next hop's targets, best first."""
        if self._phase is not _Phase.RESOLVING:
            return []
        self._targets = list(targets)
        return self._next_target("the next hop's name has no address", now)

    def opened(self, flow: Flow, address: Address, now: float) -> list[Action[T]]:
        """The flow that `Open` asked for; `address` is where the carrier reaches us (advertised, else local)."""
        if self._phase is not _Phase.OPENING:
            return []
        self._flow = flow
        self._own.opened(flow, address)
        self._tries = 0
        return self._register(now)

    def response(self, response: Response, now: float) -> list[Action[T]]:
        """A response to the REGISTER in flight; those to earlier ones and provisional ones are ignored."""
        if self._phase is not _Phase.WAITING or self._sent is None or response.status < 200:
            return []
        try:
            if response.cseq.number != self._cseq:
                return []
            self.status = response.status
            if self._flow is None:
                return self.failed("connection lost", now)
            if self._state is State.UNREGISTERING:
                return self._unregister_answered(response, now)
            return self._answered(response, now)
        except RemoteProtocolError as error:
            return self._fault(f"unreadable answer {response.status}: {error.detail}", now)

    def failed(self, detail: str, now: float) -> list[Action[T]]:
        """Nothing could be resolved, no flow opened, or the REGISTER was not answered."""
        self.status = None
        if self._phase is _Phase.RESOLVING:
            self._targets = []
            if self.lease is not None and self.lease.flow == self._flow and not self._stopping:
                self._tries = 0
                return self._register(now)  # without an answer of the name servers the way stays as it was
            return self._next_target(detail, now)
        if self._phase is _Phase.OPENING:
            return self._next_target(detail, now)
        if self._phase is not _Phase.WAITING:
            return []
        if self._state is State.UNREGISTERING:
            return self._finish(now)
        return self._target_failed(detail, now)

    def flow_lost(self, flow: Flow, now: float) -> list[Action[T]]:
        """A connection is gone. A registration over it holds no more: register again at once (T1.24)."""
        if flow == self._flow:
            self._flow = None
        if self.lease is None or self.lease.flow != flow:
            return []
        held = now - self.lease.since
        self.lease = None
        if self._stopping:
            return self._finish(now)
        self.detail = "connection lost"
        if self._phase is not _Phase.HOLDING:
            self._at_once = held >= STABLE_AFTER
            return []  # the REGISTER in flight will be reported as failed, or goes over another flow
        if held >= STABLE_AFTER:
            self.failures = 0
        elif self.failures:  # a peer that takes our REGISTER and then hangs up, again and again
            return self._back_off(State.RETRYING, BACKOFF_FIRST, now)
        self.failures += 1
        self._set(State.REGISTERING, now)
        return self._resolve()

    def timer(self, now: float) -> list[Action[T]]:
        """`deadline` has come: refresh, try again, or note that the registration ran out."""
        if self.lease is not None and self.lease.expires_at <= now:
            self.lease = None
            if self._state is State.REGISTERED:
                self._set(State.REGISTERING, now)
        if self._wake is None or self._wake > now or self._phase is not _Phase.HOLDING:
            return []
        self._wake = None
        self._relearned = False
        if self.lease is None:
            self._set(State.REGISTERING, now)
            return self._resolve()
        self.failures = 0 if self._state is State.REGISTERED else self.failures
        return self._resolve()  # the name may lead elsewhere by now; who is still meant keeps its flow

    def refresh(self, now: float) -> list[Action[T]]:
        """Refresh at once: there is a doubt whether the carrier still reaches us."""
        if self._state is not State.REGISTERED or self._phase is not _Phase.HOLDING:
            return []
        self._wake = now
        return self.timer(now)

    def stop(self, now: float) -> list[Action[T]]:
        """Unregister (T1.27); `Finished` follows when that is done. To be called once."""
        self._stopping = True
        self._wake = None
        if self._phase is _Phase.WAITING:
            return []  # one in flight at most: its answer says whether there is something to take back
        return self._unregister(now)

    # what comes back

    def _answered(self, response: Response, now: float) -> list[Action[T]]:
        status = response.status
        self._own.seen(response.top_via)
        if status < 300:
            return self._granted(response, now)
        if self._stopping:
            return self._unregister(now)
        if status in (401, 407):
            return self._challenged(response, now)
        if status == 423:
            minimum = response.integer("min-expires") or 0
            if self._requested() < minimum <= LIFETIME_MAX:
                self._min_expires = minimum
                return self._again("423 again and again", now)
            return self._fault(f"423 with Min-Expires {minimum}", now)
        if status == 420 and self.gin and "gin" in response.headers.tokens("unsupported"):
            self.gin = False
            return self._again("420 again and again", now)
        detail = f"{status} {response.reason}".strip()
        after = retry_after(response)
        if after is not None:
            self._retry_after = max(self._retry_after, min(after, RETRY_AFTER_MAX))
        if status in (408, 430, 480, 491) or 500 <= status < 600:
            return self._target_failed(detail, now)
        if after is not None and status in (404, 413, 486, 600, 603):
            return self._back_off(State.RETRYING, BACKOFF_FIRST, now, detail)
        return self._fault(detail, now)

    def _granted(self, response: Response, now: float) -> list[Action[T]]:
        assert self._flow is not None and self._sent_contact is not None
        granted = self._lifetime(response)
        if granted <= 0:
            return self._target_failed(f"{response.status} that grants no time", now)
        before = self.lease
        self.lease = Lease(
            flow=self._flow,
            contact=self._sent_contact,
            granted=granted,
            since=before.since if before is not None and before.flow == self._flow else now,
            expires_at=now + granted,
            service_route=tuple(
                p for v in response.headers.get_all("service-route") for p in split_quoted(v, ",") if p
            ),
        )
        self._granted_contact = self._sent_contact
        self._retry_after = 0.0
        self._targets = []
        self.detail = ""
        if self._stopping:
            return self._unregister(now)
        self._set(State.REGISTERED, now)
        if not self._relearned and self._contact_uri() != self.lease.contact:
            self._relearned = True
            return self._register(now)
        self._phase = _Phase.HOLDING
        self._wake = now + max(5.0, granted * (0.8 + 0.1 * self._jitter()))
        return []

    def _lifetime(self, response: Response) -> int:
        """Granted seconds: our contact's expires, the Expires header, what we asked for (T1.7)."""
        contacts = response.contacts
        token = self._mark
        sent = self._sent_contact
        assert sent is not None
        ours = [c for c in contacts if c.uri.params.get("line") == token and c.uri.host.lower() == sent.host.lower()]
        ours = ours or [c for c in contacts if c.uri.equivalent(sent)]
        if not ours and len(contacts) == 1:
            ours = contacts  # a border element that shows us its own contact
        texts = [c.params.get("expires") for c in ours] + [response.headers.get("expires")]
        for text in texts:
            if text is not None and text.strip().isascii() and text.strip().isdigit():
                return min(int(text), LIFETIME_MAX)
        return self._requested()

    def _challenged(self, response: Response, now: float) -> list[Action[T]]:
        assert self._sent is not None
        judgement = self.login.judge(self._sent, response)
        if judgement is Judgement.RETRY:
            return self._again("challenged again and again", now)
        return self._fault(f"{response.status} {judgement.value}", now)

    def _unregister_answered(self, response: Response, now: float) -> list[Action[T]]:
        challenged = response.status in (401, 407) and self._tries < _TRIES
        if challenged and self._sent is not None and self.login.judge(self._sent, response) is Judgement.RETRY:
            return self._register(now, expires=0)
        if response.status < 300:
            self.detail = ""
        return self._finish(now)

    # what goes out

    def _resolve(self) -> list[Action[T]]:
        self._phase = _Phase.RESOLVING
        self._wake = None
        self._retry_after = 0.0
        return [Resolve()]

    def _next_target(self, detail: str, now: float) -> list[Action[T]]:
        if self._stopping:
            return self._unregister(now)
        if not self._targets:
            return self._back_off(State.RETRYING, BACKOFF_FIRST, now, detail)
        self._phase = _Phase.OPENING
        return [Open(self._targets.pop(0))]

    def _target_failed(self, detail: str, now: float) -> list[Action[T]]:
        """The next target at once (RFC 3263 section 4.3); a refresh that fails looks for targets anew."""
        self.detail = detail
        refreshing = self.lease is not None and self._flow is not None and self.lease.flow == self._flow
        self._flow = None
        if self._stopping:
            return self._unregister(now)
        at_once, self._at_once = self._at_once, False
        if at_once and not self._targets:  # it went down with its connection (T1.24)
            self._set(State.REGISTERING, now)
            return self._resolve()
        if refreshing and not self._targets and not self._retry_after and self._state is State.REGISTERED:
            self._set(State.REGISTERING, now)
            return self._resolve()
        return self._next_target(detail, now)

    def _again(self, loop: str, now: float) -> list[Action[T]]:
        return self._register(now) if self._tries < _TRIES else self._fault(loop, now)

    def _fault(self, detail: str, now: float) -> list[Action[T]]:
        return self._back_off(State.FAULT, FAULT_FIRST, now, detail)

    def _back_off(self, state: State, first: float, now: float, detail: str = "") -> list[Action[T]]:
        """RFC 5626 section 4.5: a random time between half and the whole of first·2^n, at most 30 minutes."""
        if self._stopping:
            return self._unregister(now)
        upper = min(BACKOFF_MAX, first * 2 ** min(self.failures, 10))
        wait = upper * (0.5 + 0.5 * self._jitter())
        if self._retry_after > wait:
            wait = self._retry_after * (1 + 0.1 * self._jitter())
        self.failures += 1
        self.detail = detail or self.detail
        self._targets = []
        self._phase = _Phase.HOLDING
        self._wake = now + wait
        self._set(state, now)
        return []

    def _unregister(self, now: float) -> list[Action[T]]:
        if self.lease is None or self._state is State.UNREGISTERING:
            return self._finish(now)
        self._flow = self.lease.flow
        self._tries = 0
        self._set(State.UNREGISTERING, now)
        return self._register(now, expires=0)

    def _finish(self, now: float) -> list[Action[T]]:
        self.lease = None
        self._phase = _Phase.IDLE
        self._wake = None
        self._set(State.STOPPED, now)
        return [Finished()]

    def _register(self, now: float, expires: int | None = None) -> list[Action[T]]:
        assert self._flow is not None
        self._cseq += 1
        self._tries += 1
        aor = f"<{replace(self._registrar, user=self._user)}>"
        headers = Headers()
        if self.carrier.outbound_proxy:
            headers.add("Route", f"<{proxy_route(self.carrier)}>")
        headers.add("Max-Forwards", "70")
        headers.add("From", f"{aor};tag={self._from_tag}")
        headers.add("To", aor)
        headers.add("Call-ID", self._call_id)
        headers.add("CSeq", f"{self._cseq} REGISTER")
        old = self._granted_contact
        if expires is None:
            contact = self._contact_uri()
            headers.add("Contact", f"<{contact}>")
            if old is not None and not old.equivalent(contact):
                headers.add("Contact", f"<{old}>;expires=0")
            headers.add("Expires", str(self._requested()))
        else:
            contact = old if old is not None else self._contact_uri()
            headers.add("Contact", f"<{contact}>;expires=0")
            headers.add("Expires", "0")
        if self.gin:
            headers.add("Require", "gin")
            headers.add("Proxy-Require", "gin")
        headers.add("Supported", "path")
        headers.add("User-Agent", self._user_agent)
        request = Request("REGISTER", str(self._registrar), headers)
        self.login.apply(request)
        self._sent, self._sent_contact = request, contact
        self._phase = _Phase.WAITING
        self._wake = None
        return [Send(request, self._flow)]

    def _requested(self) -> int:
        """What we ask for: the configured lifetime, raised where the carrier named a minimum; never what was granted
        (T1.8)."""
        return max(self.carrier.expires, self._min_expires)

    def _contact_uri(self) -> Uri:
        assert self._flow is not None
        address = self._own.address
        params = Params() if self._flow.transport == "udp" else Params((("transport", self._flow.transport),))
        params = params.with_("line", self._mark)
        if self.gin:
            return Uri("sip", None, address.host, address.port, params.with_("bnc", None))
        return Uri("sip", self._user, address.host, address.port, params)

    def _set(self, state: State, now: float) -> None:
        if state is not self._state:
            self._state = state
            self.since = now


def proxy_route(carrier: Carrier) -> Uri:
    """The outbound proxy as a Route URI: with `lr` (RFC 3261 section 16.12)."""
    assert carrier.outbound_proxy is not None
    text = carrier.outbound_proxy
    uri = Uri.parse(text if text.lower().startswith(("sip:", "sips:")) else f"sip:{text}")
    return uri if "lr" in uri.params else replace(uri, params=uri.params.with_("lr", None))


def retry_after(response: Response) -> float | None:
    """RFC 3261 section 20.33: seconds, perhaps with a comment and parameters behind."""
    text = (response.headers.get("retry-after") or "").strip()
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return float(digits) if 0 < len(digits) <= 10 else None
