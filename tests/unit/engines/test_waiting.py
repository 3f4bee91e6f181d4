"""Requests to engines that may die without a word."""

import asyncio

import pytest

from avr.core.roles import EngineDied
from avr.engines.waiting import answer_or_death


async def _after(seconds, gives):
    await asyncio.sleep(seconds)
    if isinstance(gives, Exception):
        raise gives
    return gives


def test_an_answer_is_waited_for_as_long_as_the_engine_lives():
    assert asyncio.run(answer_or_death(_after(0.1, "yes"), lambda: False, 0.01)) == "yes"


def test_the_engine_s_own_error_comes_first():
    with pytest.raises(KeyError, match="its own"):
        asyncio.run(answer_or_death(_after(0.03, KeyError("its own")), lambda: True, 0.02))


def test_a_request_that_nobody_will_answer_ends_and_is_given_up():
    given_up = []

    async def never():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    async def ask():
        with pytest.raises(EngineDied):
            await answer_or_death(never(), lambda: True, 0.01)
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert given_up


def test_a_request_that_is_cancelled_takes_the_question_along():
    started, ended = asyncio.Event(), []

    async def slow():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def ask():
        asking = asyncio.create_task(answer_or_death(slow(), lambda: False, 0.01))
        await started.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert ended
