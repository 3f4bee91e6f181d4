"""Wait for an engine that may die without a word."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from avr.core.roles import EngineDied

T = TypeVar("T")


async def answer_or_death(
    answer: Coroutine[Any, Any, T], is_dead: Callable[[], bool], look_every_s: float = 2.0
) -> T:
    """Return the result of `answer`. Raises EngineDied where `is_dead` and no answer will come.

    vLLM ends the requests of an engine core that dies by an error. It does not end the first
    requests of an engine, as its client notices the death before it has a task to tell, nor calls
    that are no requests, such as loading weights: these would wait for ever.
    """
    asked = asyncio.ensure_future(answer)
    try:
        while not (await asyncio.wait({asked}, timeout=look_every_s))[0]:
            if is_dead():
                # vLLM's own error may still come.
                await asyncio.wait({asked}, timeout=look_every_s)
                if not asked.done():
                    raise EngineDied("the engine died while a request was waiting for it")
        return asked.result()
    finally:
        asked.cancel()
