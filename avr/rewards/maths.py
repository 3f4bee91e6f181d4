"""Reward an answer to a problem of mathematics: is its final answer that of the reference?"""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from avr.config.prompts import PromptsConfig
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.rewards.final_answer import expected_answer, final_answer, holds_number
from avr.rewards.verifier import Verifier, needs

# math-verify has limits of its own, 5 s for each of three parts; but a power of huge numbers is one
# step of Python that no signal ends.
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Maths(Verifier):
    """Give 1 where the final answer has the value of the reference's, else 0.

    Values are compared by math-verify: 0.5 is 1/2 and 1,200 is 1200. Where an answer has no final
    answer the reward is 0, too. Equal texts are compared once.
    """

    @property
    def exact(self) -> bool:
        """Say that reward 1 means right."""
        return True

    def check(self, prompts: PromptsConfig, at: str) -> None:
        """Raise ConfigError where rows bring no reference."""
        needs(prompts.reference_field, "reference_field", self, at)

    async def score(self, prompt: Prompt, answer: str) -> Verdict:
        """Return 1 or 0; the feedback says what was found, and never what is right.

        Raises TreeFault for a prompt whose reference has no final answer.
        """
        expected = expected_answer(prompt.reference or "")
        if expected is None:
            raise TreeFault(f"{prompt.source}: the reference has no final answer")
        # Of equal value may be a formula without a number, too: x*x is x^2.
        found = final_answer(answer, needs_number=holds_number(expected)) or final_answer(
            answer, needs_number=False
        )
        if found is None:
            return Verdict(self.name, 0.0, "There is no final answer.")
        if await _COMPARER.equal(expected, found):
            return Verdict(self.name, 1.0)
        return Verdict(self.name, 0.0, f"The final answer, {found}, is wrong.")


@dataclass
class _Comparer:
    """Compare values in a process of its own: a huge power or root must not stop this one.

    The process ends with this one, as its input does. One pair is compared at a time.
    """

    _known: dict[tuple[str, str], bool] = field(default_factory=dict)
    _process: Any = None
    _loop: Any = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def equal(self, expected: str, found: str) -> bool:
        """Say whether two final answers have the same value; not where it takes for ever."""
        if expected == found:
            return True
        key = (expected, found)
        if key not in self._known:
            # A loop that is gone took its process and lock along.
            if self._loop is not asyncio.get_running_loop():
                self._loop, self._process = asyncio.get_running_loop(), None
                self._lock = asyncio.Lock()
            async with self._lock:
                self._known[key] = await self._asked(expected, found)
        return self._known[key]

    async def _asked(self, expected: str, found: str) -> bool:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "avr.rewards.maths_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        self._process.stdin.write(json.dumps([expected, found]).encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            return False
        if not line:
            raise RuntimeError("the process that compares final answers has died")
        return bool(json.loads(line))


_COMPARER = _Comparer()
