"""Reward answers by a function of the user's own."""

import asyncio
import inspect
import math
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Self

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.rewards.verifier import Verifier


@dataclass(frozen=True, kw_only=True)
class Function(Verifier):
    """Call `function`, "module:function", with the prompt and the answer; it returns a number.

    It may return a coroutine. A plain function works in a thread, and must not wait for ever.
    Where it raises ValueError this one answer is left out, with its words; any other error ends the
    run.
    """

    function: str

    @classmethod
    def of(cls, name: str, config: JudgingConfig, **own: Any) -> Self:
        """Make it of its configuration. Raises ConfigError for a function that is not there."""
        if not config.function:
            raise ConfigError("function is not set; it must be MODULE:FUNCTION")
        return super().of(name, config, function=config.function)

    def check(self, prompts: PromptsConfig, at: str) -> None:
        """Raise ConfigError for a function that cannot be imported."""
        _loaded(self.function)

    async def score(self, prompt: Prompt, answer: str) -> Verdict:
        """Return the function's number. Raises TreeFault where it is none, or not finite."""
        try:
            found = await asyncio.to_thread(_loaded(self.function), prompt, answer)
            found = await found if inspect.isawaitable(found) else found
        except ValueError as error:
            raise TreeFault(f"the reward function {self.function}: {error}") from error
        try:
            reward = float(found)
        except (ValueError, TypeError) as error:
            raise TreeFault(f"the reward function {self.function}: {error}") from error
        if not math.isfinite(reward):
            raise TreeFault(f"the reward function {self.function} returned {reward}")
        return Verdict(self.name, reward)


@cache
def _loaded(name: str) -> Any:
    module, _, function = name.partition(":")
    try:
        loaded = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"reward function {name!r} is no module:function: {error}") from error
    if not callable(loaded):
        raise ConfigError(f"reward function {name!r} is not a function")
    return loaded
