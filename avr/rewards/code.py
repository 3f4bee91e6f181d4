"""Reward a program by the share of the row's unit tests that it passes, in a sandbox."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig
from avr.config.sandbox import SandboxConfig
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.rewards.program import program_of
from avr.rewards.verifier import Verifier, needs
from avr.sandbox.isolation import resolve
from avr.sandbox.job import SandboxError
from avr.sandbox.run import run_tests


@dataclass(frozen=True, kw_only=True)
class Code(Verifier):
    """Give the share of the row's tests that the answer's program passes; 1 means right.

    An answer without a program gets 0. Programs run in a sandbox (`avr.sandbox`), never in this
    process.
    """

    sandbox: SandboxConfig = field(default_factory=SandboxConfig)

    @classmethod
    def of(cls, name: str, config: JudgingConfig, **own: Any) -> Self:
        """Make it of its configuration."""
        return super().of(name, config, sandbox=config.sandbox)

    @property
    def exact(self) -> bool:
        """Say that reward 1 means right."""
        return True

    def check(self, prompts: PromptsConfig, at: str) -> None:
        """Raise ConfigError where rows bring no tests, or nothing isolates programs here."""
        needs(prompts.tests_field, "tests_field", self, at)
        try:
            resolve(self.sandbox)
        except SandboxError as error:
            raise ConfigError(str(error)) from error

    def record(self) -> Mapping[str, Any]:
        """Return the isolation that `auto` stands for here."""
        return {"isolation": resolve(self.sandbox).isolation.value}

    async def score(self, prompt: Prompt, answer: str) -> Verdict:
        """Return the share of tests passed; the feedback says how the first other one ended.

        Raises TreeFault for a prompt whose tests are no Python.
        """
        program = program_of(answer)
        if program is None:
            return Verdict(self.name, 0.0, "There is no program in the answer.")
        try:
            found = await run_tests(program, prompt.tests, prompt.setup, self.sandbox)
        except ValueError as error:
            raise TreeFault(f"{prompt.source}: {error}") from error
        told = [each.told for each in found.outcomes if each.told != "passed"]
        return Verdict(self.name, found.num_passed / len(found.outcomes), told[0] if told else "")
