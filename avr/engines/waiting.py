"""Waiting for an engine that may die without a word."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from avr.core.roles import EngineDied

T = TypeVar("T")


async def answer_or_death(
    answer: Coroutine[Any, Any, T], is_dead: Callable[[], bool], look_every_s: float = 2.0
) -> T:
    """What `answer` gives. Raises EngineDied where `is_dead` and no answer will come any more.

    vLLM ends the requests of an engine core that dies by an error, but not the first ones of an
    engine, as its client notices the death before it has a task to tell, nor calls that are no
    requests, such as loading weights: these would wait for ever.
    """
    asked = asyncio.ensure_future(answer)
    try:
        while not (await asyncio.wait({asked}, timeout=look_every_s))[0]:
            if is_dead():
                await asyncio.wait({asked}, timeout=look_every_s)  # vLLM's own error, if it comes
                if not asked.done():
                    raise EngineDied("the engine has died; a request was not told")
        return asked.result()
    finally:
        asked.cancel()
