"""Patterns of fraud (domain rule 7.3), each with the nearest thing that is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from config.model import Account
from edge.cdr.record import Attempt, CallRecord, Record, RefusedCall
from edge.defence.patterns import Patterns

NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
MIDNIGHT = datetime(2026, 12, 1, 23, 0, tzinfo=UTC)


def record(n: int, *, direction: str = "outbound", called: str = "+25261234567", talk: float | None = 20,
           at: datetime = NOON, **more: object) -> CallRecord:  # fmt: skip
    answered = None if talk is None else at
    return CallRecord(
        id=f"c{n}", edge="e", started_at=at, answered_at=answered, ended_at=at + timedelta(seconds=talk or 3),
        direction=direction, source_kind="seat", source_name="a", account="K1", called=called, outcome="answered",
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def kinds(*records: Record, every: float = 10) -> list[tuple[str, str]]:
    patterns = Patterns({"K1": Account("K1")}.get)
    return [(a.kind, a.subject) for n, r in enumerate(records) for a in patterns.see(r, n * every)]


def test_short_calls_to_one_dear_range() -> None:
    calls = [record(n, called=f"+2526123456{n}") for n in range(10)]
    assert kinds(*calls) == [("expensive-range", "+252612")]
    assert kinds(*calls[:9]) == []
    assert kinds(*calls, every=90) == [], "spread over a quarter of an hour"
    assert kinds(*(record(n, talk=600) for n in range(20))) == [], "people talk"
    assert kinds(*(record(n, called="+493012345678") for n in range(20))) == [], "at home"
    assert kinds(*(record(n, called="+4990012345") for n in range(10))) == [("expensive-range", "+499001")], "premium"
    assert kinds(*(record(n, called=f"+{n + 30}12345678") for n in range(14))) == [], "many ranges"


def test_a_surge_abroad_at_night() -> None:
    calls = [record(n, called=f"+4{3 + n % 2}1234{n:03}", talk=600, at=MIDNIGHT) for n in range(20)]
    assert kinds(*calls, every=60) == [("night-surge", "K1")]
    assert kinds(*(record(n, talk=600) for n in range(40)), every=60) == [], "by day"


def test_forwarded_abroad_again_and_again() -> None:
    sent = (Attempt("carrier", "c", NOON, 200, sent=("INVITE sip:0025261234567@c.example",)),)
    calls = [record(n, direction="inbound", called="+4930555190", number="+4930555190", target_kind="carrier",
                    attempts=sent) for n in range(10)]  # fmt: skip
    assert kinds(*calls) == [("forward-fraud", "+4930555190")]
    home = (Attempt("carrier", "c", NOON, 200, sent=("INVITE sip:01701234567@c.example",)),)
    assert kinds(*(record(n, direction="inbound", target_kind="carrier", attempts=home) for n in range(20))) == []


def ring(n: int, seconds: float = 1, called: str = "") -> CallRecord:
    return CallRecord(
        id=f"w{n}", edge="e", started_at=NOON, ringing_at=NOON, ended_at=NOON + timedelta(seconds=seconds),
        direction="inbound", source_kind="carrier", source_name="c", account="K1", caller=f"+252612345{n:02}",
        called=called or f"+49228386{n:02}", outcome="cancelled",
    )  # fmt: skip


def test_one_ring_calls_from_a_dear_range() -> None:
    assert kinds(*(ring(n) for n in range(10))) == [("wangiri", "+252612")]
    assert kinds(*(ring(n, seconds=20) for n in range(10))) == [], "they waited"
    assert kinds(*(ring(n, called="+4922838601") for n in range(20))) == [], "one who calls again and again"


def refused(n: int, **more: object) -> RefusedCall:
    fields: dict[str, object] = {
        "id": f"r{n}", "at": NOON, "direction": "outbound", "number": f"900{n}", "account": "K1",
        "reason": "unknown-number", "sip_status": 404, "source_ip": "198.51.100.7",
    }  # fmt: skip
    return RefusedCall(**(fields | more))  # type: ignore[arg-type]


def test_prefixes_tried_one_after_the_other() -> None:
    assert kinds(*(refused(n) for n in range(8)), every=1) == [("probing", "198.51.100.7")]
    assert kinds(*(refused(n, number="9001") for n in range(20)), every=1) == [], "a wrong number, again"
    assert kinds(*(refused(n, carrier="c", direction="inbound") for n in range(20)), every=1) == [], "a carrier's"
    assert kinds(*(refused(n, reason="account-limit") for n in range(20)), every=1) == []


def test_emergency_calls_are_nobodys_business() -> None:
    assert kinds(*(record(n, emergency=True) for n in range(20))) == []
