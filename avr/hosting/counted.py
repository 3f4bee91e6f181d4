"""Count the tokens that an engine generates, and tell the witness now and then."""

import asyncio
from typing import Any

from avr.core.roles import Completion

_TELL_EVERY_S = 2.0


class Counted:
    """Be an engine, and count what it generates.

    A tree of a real model takes minutes, so a count of trees says nothing for as long.
    """

    def __init__(self, engine: Any, witness: Any):
        self._engine = engine
        self._witness = witness
        self._num_tokens = 0

    def __getattr__(self, name: str) -> Any:
        """Return what is the engine's own."""
        return getattr(self._engine, name)

    async def generate(self, *arguments: Any, **more: Any) -> tuple[Completion, ...]:
        """Generate as the engine does; see `avr.core.roles.Generate`."""
        completions: tuple[Completion, ...] = await self._engine.generate(*arguments, **more)
        if not self._num_tokens:
            asyncio.get_running_loop().call_later(_TELL_EVERY_S, self._tell)
        self._num_tokens += sum(completion.num_tokens for completion in completions)
        return completions

    def _tell(self) -> None:
        count, self._num_tokens = self._num_tokens, 0
        self._witness.generated.remote(count)
