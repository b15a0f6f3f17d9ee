"""Coroutines that begin at once: `edge.b2bua.work`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from edge.b2bua.work import Work

Ends = list[BaseException | None]


def begin(coroutine: Coroutine[Any, Any, None]) -> tuple[Work, Ends]:
    ends: Ends = []
    work = Work(coroutine, lambda which, error: ends.append(error))
    work.begin()
    return work, ends


async def test_what_need_not_wait_is_done_when_begin_returns() -> None:
    done: list[str] = []

    async def at_once() -> None:
        done.append("it")

    _, ends = begin(at_once())
    assert (done, ends) == (["it"], [None])


async def test_goes_on_when_its_future_is_done() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    heard: list[str] = []

    async def ask() -> None:
        heard.append(await answer)

    _, ends = begin(ask())
    assert not ends
    answer.set_result("yes")
    assert not heard, "who sets a result is not run over by whoever waits for it"
    await asyncio.sleep(0)
    assert (heard, ends) == (["yes"], [None])


@pytest.mark.looptime
async def test_tells_what_was_raised() -> None:
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask() -> None:
        await asyncio.sleep(0)
        await failed

    _, ends = begin(ask())
    failed.set_exception(ValueError("no"))
    await asyncio.sleep(0.001)
    assert [str(error) for error in ends] == ["no"]


@pytest.mark.looptime
async def test_timeouts_are_its_own_and_not_those_of_who_began_it() -> None:
    async def impatient() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.get_running_loop().create_future()

    async def patient() -> None:
        with pytest.raises(TimeoutError):
            await impatient()

    outer = asyncio.current_task()
    _, failed = begin(impatient())
    _, caught = begin(patient())
    assert asyncio.current_task() is outer
    await asyncio.sleep(0.01)
    assert isinstance(failed[0], TimeoutError) and caught == [None]
    assert outer is not None and outer.cancelling() == 0


@pytest.mark.looptime
async def test_one_begins_another() -> None:
    async def inner() -> None:
        assert asyncio.current_task() is works[1]
        await asyncio.sleep(0)
        assert asyncio.current_task() is works[1]

    async def outer() -> None:
        made = Work(inner(), lambda which, error: inner_ends.append(error))
        works.append(made)
        made.begin()
        assert asyncio.current_task() is works[0]
        await asyncio.sleep(0)

    works: list[Any] = []
    inner_ends: Ends = []
    outer_ends: Ends = []
    work = Work(outer(), lambda which, error: outer_ends.append(error))
    works.append(work)
    work.begin()
    await asyncio.sleep(0.001)
    assert (inner_ends, outer_ends) == ([None], [None])
