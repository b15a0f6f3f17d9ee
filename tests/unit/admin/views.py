"""An edge as the admin HTTP sees it, with one of everything."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from dialplan.explain import Question
from edge.admin.views import CallView, CarrierView, LimitView, RegistrationView
from edge.inbound.bans import Bans
from edge.inbound.steps.authenticate import Authenticator, DigestSettings
from edge.sip.auth.nonce import Nonces
from edge.transport.guard import Guard

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class FakeRecords:
    """Records that are or are not there."""

    def __init__(self) -> None:
        self.away: Exception | None = None
        self.asked: tuple[datetime, str | None, str | None, int] | None = None
        self.limits_only = False
        self.found: dict[str, dict[str, object]] = {}

    async def refusals(
        self,
        since: datetime,
        number: str | None = None,
        account: str | None = None,
        limit: int = 200,
        *,
        limits_only: bool = False,
    ) -> list[dict[str, object]]:
        if self.away is not None:
            raise self.away
        self.asked, self.limits_only = (since, number, account, limit), limits_only
        return [REFUSAL]

    async def find(self, key: str) -> dict[str, object] | None:
        if self.away is not None:
            raise self.away
        return self.found.get(key)


REFUSAL: dict[str, object] = {
    "id": "r1", "at": NOON, "level": "number", "direction": "inbound", "number": "+4922838600", "account": "K1",
    "trunk": None, "carrier": "telekom", "caller": None, "caller_withheld": True, "reason": "number-limit",
    "sip_status": 486, "limit_value": 2, "used": 2, "detail": "both channels are in use", "source_ip": None,
}  # fmt: skip

RECORD: dict[str, object] = {
    "table": "call_records", "id": "c9", "started_at": NOON, "direction": "outbound", "outcome": "answered",
    "source_kind": "seat", "source_name": "a.mueller", "caller": "+4922838600", "caller_withheld": False,
    "dialled": "23442036427900", "called": "+442036427900", "target_kind": "carrier", "target_name": "telekom",
    "sip_status": 200, "reason": None, "account": "K1", "billed_account": "K2",
    "attempts": [
        {"kind": "carrier", "name": "other", "status": 503, "sent": ["INVITE sip:+442036427900@other.example"]},
        {"kind": "carrier", "name": "telekom", "status": 200},
    ],
    "trace": [{"rule": "E10", "text": "23 chooses +442088198786"}, {"rule": "E6", "text": "an international number"}],
}  # fmt: skip


BUDGET: dict[str, object] = {
    "level": "account", "key": "K1", "calls_per_hour": 10, "calls_per_hour_used": 3, "calls_per_day": None,
    "calls_per_day_used": 7, "minutes_per_hour": 60, "minutes_per_hour_used": 60, "minutes_per_day": None,
    "minutes_per_day_used": 90,
}  # fmt: skip


class FakeBans:
    """Bans of a real guard that nobody asks."""

    def __init__(self) -> None:
        self.guard = Guard()
        door = Authenticator(DigestSettings("sip-edge"), Nonces(b"k" * 32), self.guard, lambda host: False)
        self.bans = Bans(self.guard, door, lambda: 0.0, lambda: NOON)


class FakeViews:
    """Implements `AdminViews`."""

    def __init__(self) -> None:
        self.bans = FakeBans().bans
        self.records = FakeRecords()
        self.lacks: list[str] = []
        self.up = [
            CallView(
                id="c1", state="up", direction="inbound", source="carrier telekom", target="trunk hq", account="K1",
                caller="anonymous", called="+4922838600", started_at=NOON - timedelta(seconds=75),
                answered_at=NOON - timedelta(seconds=70), a_call_id="x/y@far", b_call_id="b1",
            )
        ]  # fmt: skip
        self.drained = False

    def budgets(self) -> Sequence[Mapping[str, object]]:
        return [BUDGET]

    async def reset_budget(self, level: str, key: str) -> bool:
        return (level, key) == ("account", "K1")

    def calls(self) -> Sequence[CallView]:
        return self.up

    def registrations(self) -> Sequence[RegistrationView]:
        return [
            RegistrationView(
                kind="seat", name="a.mueller", account="K1", contact="sip:a@10.0.0.5", flow="udp:10.0.0.5:5060",
                user_agent="phone 1", expires_at=NOON + timedelta(minutes=9),
            )
        ]  # fmt: skip

    def carriers(self) -> Sequence[CarrierView]:
        return [
            CarrierView(
                name="telekom", mode="register", state="registered", usable=True, since=NOON, next_attempt_at=None,
                last_answer="200 OK", calls=3, max_calls=200,
            )
        ]  # fmt: skip

    def so_far(self, call: str) -> Mapping[str, object] | None:
        return {**RECORD, "table": "live", "id": "c1", "outcome": "up"} if call in ("c1", "x/y@far") else None

    def explain(self, question: Question) -> str:
        if question.source == "nobody":
            raise ValueError("there is no seat nobody")
        self.question = question
        return "How it was decided\n"

    def missing(self) -> Sequence[str]:
        return self.lacks

    def ladder(self, key: str, messages: bool) -> str | None:
        return f"call c1, messages {messages}\n" if key in ("c1", "x/y@far", "last") else None

    def pcap(self, key: str) -> bytes | None:
        return b"\xd4\xc3\xb2\xa1capture" if key == "c1" else None

    def metrics(self) -> bytes:
        return b"sip_edge_live_calls 1.0\n"

    def utc(self) -> datetime:
        return NOON

    def limits(self) -> Sequence[LimitView]:
        return [LimitView("number", "+49301", "in", 1, 2)]

    async def reload(self) -> tuple[Sequence[str], Sequence[str]]:
        return ["log_level"], ["listeners"]

    async def erase(self) -> int:
        return 0

    def upgrade(self) -> int:
        return 0

    def drain(self) -> int:
        self.drained = True
        return len(self.up)
