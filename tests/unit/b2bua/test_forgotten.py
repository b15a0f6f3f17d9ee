"""What lingers after a call goes by itself, also where no other call ever comes."""

from __future__ import annotations

import asyncio
import weakref
from types import SimpleNamespace
from typing import Any, cast

from edge.b2bua.calls import LINGER, Calls
from edge.b2bua.runner import CallRunner
from edge.forgetting import Forgetting
from edge.sip.flow import Flow
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId
from edge.transport.exchange import Exchange
from tests.unit.b2bua.fake_port import FLOW


class Leg:
    """As much of a leg as the index asks for."""

    local_tag = "ours"
    call_id = "dialog"


class Handler:
    """Hears nothing."""

    def on_response(self, tx: TransactionId, response: Response) -> None: ...

    def on_no_response(self, tx: TransactionId) -> None: ...


class FakeDriver:
    """A clock that is set, and requests that go nowhere."""

    at = 100.0

    def now(self) -> float:
        return self.at

    def send_request(self, request: Request, flow: Flow) -> TransactionId:
        return TransactionId(1)


async def test_last_call_is_forgotten_though_none_follows() -> None:
    """Its legs and those who heard its INVITE are kept for as long as a 2xx or a BYE may come again, and no longer."""
    driver, calls = FakeDriver(), Calls()
    exchange = Exchange(cast(Any, driver), LINGER)
    leg, handler = Leg(), Handler()
    calls.add_leg(cast(Any, leg))
    tx = exchange.request(Request("INVITE", "sip:a@b"), FLOW, handler)
    ok = SimpleNamespace(status=200, cseq=SimpleNamespace(method="INVITE"))
    exchange.response(tx, cast(Any, ok))
    calls.finished(cast(CallRunner, SimpleNamespace(id="call1", legs={"a": leg})), driver.at)
    kept = weakref.ref(leg), weakref.ref(handler)
    del leg, handler

    rounds = asyncio.Event()
    forgetting = Forgetting(lambda: calls.forget(driver.at), exchange.forget, rounds.set, every=0)
    running = asyncio.create_task(forgetting.run())

    async def round_at(at: float) -> list[bool]:
        driver.at = at
        for _ in range(2):  # the one that is under way, and one from its beginning
            rounds.clear()
            await rounds.wait()
        return [ref() is not None for ref in kept]

    assert await round_at(100.0 + LINGER - 0.1) == [True, True]
    assert await round_at(100.0 + LINGER) == [False, False]
    forgetting.stop()
    await running
