"""What operators see of a running edge, made from its rooms at the moment they ask."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from dialplan.explain import Question
from dialplan.model import Direction, Target, TargetKind
from edge.admin.views import Bans, CallView, CarrierView, Faxes, LimitView, ProxyView, Records, RegistrationView
from edge.cdr.latest import LatestRecords
from edge.cdr.record import to_json
from edge.channels.ledger import STARTS
from edge.channels.upkeep import LiveCall
from edge.explain import answer
from edge.observability import ladder
from edge.observability.metrics import Live

if TYPE_CHECKING:
    from edge.app import Edge

_SPOOL_FULL = 100_000
_NO_CALLS: dict[str, int] = dict.fromkeys((direction.value for direction in Direction), 0)
_NO_CHANNELS: dict[str, int] = dict.fromkeys(("number", "trunk", "account", "carrier"), 0)


class Views:
    """The live views of one edge (`edge.admin.views.AdminViews`, and the gauges of the metrics)."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    @property
    def records(self) -> Records:
        """What was written, from the database."""
        return LatestRecords(self._edge.records, self._edge.writer)

    @property
    def faxes(self) -> Faxes:
        """Faxes, and sending them."""
        return self._edge.faxes

    @property
    def bans(self) -> Bans:
        """Who is not heard."""
        return self._edge.bans

    def calls(self) -> Sequence[CallView]:
        """Calls that are up or being set up, oldest first."""
        return [
            CallView(
                id=call.id,
                state=call.state,
                direction=call.plan.direction.value,
                source=f"{call.attempt.source.kind.value} {call.attempt.source.name}",
                target=", ".join(f"{t.kind.value} {t.name}" for t in call.plan.targets[:1]),
                account=call.plan.account,
                caller="anonymous" if call.plan.caller.anonymous else call.plan.caller.presented or "",
                called=call.plan.called,
                started_at=call.started_at,
                answered_at=self._edge.engine.wall(call.answered_at),
                a_call_id=call.a.call_id,
                b_call_id=call.winner_call_id,
            )
            for call in self._edge.calls.live()
        ]

    def live_calls(self) -> Iterator[LiveCall]:
        """The same for the table `live_calls`, which portals read."""
        for call in self._edge.calls.live():
            plan, source = call.plan, call.attempt.source
            target = plan.targets[0] if plan.targets else None
            yield LiveCall(
                id=call.id,
                state=call.state,
                started_at=call.started_at,
                answered_at=self._edge.engine.wall(call.answered_at),
                direction=plan.direction.value,
                source_kind=source.kind.value,
                source_name=source.name,
                account=plan.account,
                caller=None if plan.caller.anonymous else plan.caller.presented,
                called=plan.called,
                target_kind=target.kind.value if target is not None else None,
                target_name=target.name if target is not None else None,
            )

    def registrations(self) -> Sequence[RegistrationView]:
        """Contacts of seats and trunks."""
        edge = self._edge
        now, utc, snapshot = edge.driver.now(), edge.clock.utcnow(), edge.snapshot()
        out: list[RegistrationView] = []
        for binding in edge.registrar.live(now):
            kind, name = binding.aor
            who = snapshot.seats.get(name) if kind == "seat" else snapshot.trunk_by_username(name)
            out.append(
                RegistrationView(
                    kind=kind,
                    name=name,
                    account=who.account if who is not None else "",
                    contact=str(binding.uri),
                    flow=str(binding.flow) if binding.flow is not None else "connection lost",
                    user_agent=binding.user_agent,
                    expires_at=utc + timedelta(seconds=binding.expires_at - now),
                )
            )
        return sorted(out, key=lambda view: (view.kind, view.name, view.contact))

    def carriers(self) -> Sequence[CarrierView]:
        """Carriers and how they stand."""
        edge = self._edge
        calls = Counter(
            target.name
            for call in edge.calls.live()
            for target in call.plan.targets[:1]
            if target.kind.value == "carrier"
        )
        calls.update(
            call.attempt.source.name for call in edge.calls.live() if call.attempt.source.kind.value == "carrier"
        )
        limits = {name: carrier.max_calls for name, carrier in edge.snapshot().carriers.items()}
        return [
            CarrierView(
                name=state.carrier,
                mode=state.mode,
                state=state.state,
                usable=state.up,
                since=edge.engine.wall(state.since),
                next_attempt_at=edge.engine.wall(state.registered_until),
                last_answer=state.detail or (str(state.status) if state.status is not None else ""),
                calls=calls[state.carrier],
                max_calls=limits.get(state.carrier),
                proxies=tuple(
                    ProxyView(
                        p.proxy,
                        p.state,
                        p.up,
                        edge.engine.wall(p.since),
                        p.detail,
                        tuple(f"{at}: {why}" for at, why in p.hosts if why),
                    )
                    for p in state.proxies
                ),
            )
            for state in edge.carriers.states()
        ]

    def limits(self) -> Sequence[LimitView]:
        """Limits that live calls count against, the fullest first."""
        claims = {
            claim[:3]: claim.limit
            for call in self._edge.calls.live()
            for claim in (*call.plan.claims, *(c for target in call.plan.targets for c in target.claims))
            if claim.limit and claim.direction != STARTS
        }
        used = self._edge.channels.used
        views = [LimitView(*row, used(*row), limit) for row, limit in claims.items()]
        return sorted((v for v in views if v.used), key=lambda v: (-v.used / v.limit, v.level, v.key))

    def so_far(self, call: str) -> Mapping[str, object] | None:
        """The record of a call that is up, as far as it is written."""
        for live in self._edge.calls.live():
            if call in (live.id, live.a.call_id, live.winner_call_id):
                return {"table": "live", **json.loads(to_json(live.record_so_far()))}
        return None

    def explain(self, question: Question) -> str:
        """What would become of a call."""
        edge = self._edge
        return answer(question, edge.snapshot(), edge.clock.utcnow(), edge.settings.realm, self._standing)

    def _standing(self, target: Target) -> str:
        edge = self._edge
        if target.kind is TargetKind.CARRIER:
            state = edge.carriers.state(target.name)
            return "" if state is None else f"{state.state}: {state.detail}" if state.detail else state.state
        username: str | None = target.name
        if target.kind is TargetKind.TRUNK:
            trunk = edge.snapshot().trunks.get((target.account, target.name))
            username = trunk.username if trunk is not None and trunk.mode != "static" else None
        elif target.kind is not TargetKind.SEAT:
            username = None
        if username is None:
            return ""
        kind: Literal["seat", "trunk"] = "trunk" if target.kind is TargetKind.TRUNK else "seat"
        contacts = edge.registrar.contacts(kind, username, edge.driver.now())
        if not contacts:
            return "not registered now"
        return f"registered now at {', '.join(str(c.uri) for c in contacts)}"

    def missing(self) -> Sequence[str]:
        """What keeps this edge from taking calls."""
        edge = self._edge
        out: list[str] = []
        if not edge.relay.ready:
            out.append("the media relay is away")
        if edge.admission.draining:
            out.append("draining")
        if edge.snapshot().version == 0:
            out.append("provisioning is not loaded")
        if edge.writer.waiting > _SPOOL_FULL:
            out.append("records cannot be stored")
        return out

    def ladder(self, key: str, messages: bool) -> str | None:
        """The ladder of a call."""
        found = self._edge.tap.find(key)
        if found is not None:
            return ladder.render(found, self._offset(), messages)
        kept = self._edge.kept.ladder(key)
        return kept if messages or kept is None else kept.partition("\n\n----")[0] + "\n"

    def pcap(self, key: str) -> bytes | None:
        """The messages of a call as a capture file."""
        found = self._edge.tap.find(key)
        return ladder.pcap(found, self._offset()) if found is not None else self._edge.kept.pcap(key)

    def metrics(self) -> bytes:
        """Prometheus text."""
        return self._edge.metrics.exposition()

    def utc(self) -> datetime:
        """Wall clock."""
        return self._edge.clock.utcnow()

    async def reload(self) -> tuple[Sequence[str], Sequence[str]]:
        """Read settings and certificates again."""
        return await self._edge.reload()

    async def erase(self) -> int:
        """See AdminViews."""
        return await self._edge.erasures.once()

    def budgets(self) -> Sequence[Mapping[str, object]]:
        """Each budget and what is used of it."""
        return list(self._edge.engine.budgets.listed())

    async def reset_budget(self, level: str, key: str) -> bool:
        """Count a budget anew."""
        return await self._edge.budgets.reset((level, key))

    def upgrade(self) -> int:
        """See AdminViews."""
        self._edge.upgrade.set()
        return len(self._edge.calls)

    def drain(self) -> int:
        """Take no new calls; how many are up."""
        return self._edge.drain()

    def live(self) -> Live:
        """The gauges at this moment."""
        edge = self._edge
        return Live(
            calls=_NO_CALLS | Counter(call.plan.direction.value for call in edge.calls.live()),
            registrations=edge.registrar.counts(),
            carriers=edge.carriers.up(),
            carrier_states={(s.carrier, p.proxy): p.state for s in edge.carriers.states() for p in s.proxies},
            transactions=edge.driver.transactions(),
            channels=_NO_CHANNELS | edge.channels.by_level(),
            channels_shared=edge.channels.shared,
            relay_up=edge.relay.ready,
            relay_sessions=edge.relay.sessions,
            relay_instances=edge.relay.instances,
            database_up=edge.store.connected,
            certificate_expires=edge.tls.expires.timestamp() if edge.tls.expires is not None else None,
            snapshot_version=edge.snapshot().version,
            spool_records=edge.writer.waiting,
            trace_bytes=edge.tap.bytes_kept,
            faxes=edge.faxes.running,
            fax_mails=edge.faxes.mails,
            bans=edge.bans.count(),
            draining=edge.admission.draining,
            connections=len(edge.driver.connections),
            retransmissions=edge.driver.resent,
            socket_drops=edge.driver.dropped(),
            snapshot_age=edge.store.age(),
            attempts=edge.calls.books.begun,
            attempts_ended=edge.calls.books.ended,
            tasks=len(asyncio.all_tasks()),
            attempts_up=len(edge.calls) + len(edge.calls.books.closing),
            differences=edge.audit.differences,
            disagreements=edge.audit.disagreements,
            clock_steps=edge.clock_watch.steps,
            dns_failures=edge.resolver.failures,
            traces={"kept": edge.kept.kept, "dropped": edge.kept.dropped},
            captured={"sent": edge.hep.sent, "dropped": edge.hep.dropped} if edge.hep is not None else {},
        )

    def _offset(self) -> float:
        return self._edge.clock.utcnow().timestamp() - self._edge.driver.now()
