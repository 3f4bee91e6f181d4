"""Define a verifier: a judge without an engine of ours, a value that travels to its work."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from avr.config.errors import ConfigError
from avr.config.fields import speed_only
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig
from avr.config.roles import RoleConfig
from avr.core.tree import Prompt, Verdict


@dataclass(frozen=True)
class Verifier:
    """Judge answers without an engine of ours; see `avr.core.roles.Score`.

    A growth gives it a pool of `replicas` processes, each with `num_cpus` CPUs and `at_a_time`
    trees in work. Elsewhere it works in the process that asks it.
    """

    name: str
    replicas: int = speed_only(default=1)
    num_cpus: float = speed_only(default=0.25)
    at_a_time: int = speed_only(default=8)

    @classmethod
    def of(cls, name: str, config: JudgingConfig, **own: Any) -> Self:
        """Make it of its configuration; a subclass adds its `own` fields. Raises ConfigError."""
        return cls(name, config.replicas, config.num_cpus, config.at_a_time, **own)

    @property
    def exact(self) -> bool:
        """Say whether reward 1 means right, and less means wrong."""
        return False

    def check(self, prompts: PromptsConfig, at: str) -> None:
        """Raise ConfigError where it cannot work here, or `prompts` lack what it needs.

        `at` is the setting that holds the prompts.
        """

    def reach(self) -> None:
        """Raise ConfigError where what it asks cannot be reached. Called before engines start."""

    def record(self) -> Mapping[str, Any]:
        """Return what a run's record must say of how it worked on this machine."""
        return {}

    async def score(self, prompt: Prompt, answer: str) -> Verdict:
        """Return the verdict on an answer; see `avr.core.roles.Score`."""
        raise NotImplementedError

    @property
    def role(self) -> RoleConfig:
        """Return the settings of its pool in a growth, which holds no model."""
        return RoleConfig(
            model="",
            min_replicas=self.replicas,
            max_replicas=self.replicas,
            num_cpus=self.num_cpus,
            use_gpu=False,
            max_rows_per_replica=self.at_a_time,
        )


def needs(field: str | None, name: str, verifier: Verifier, at: str) -> None:
    """Raise ConfigError where a setting that names a field of the rows is not set."""
    if field is None:
        raise ConfigError(
            f"{at}.{name} is not set: the reward {verifier.name!r} needs that field of each row"
        )


class VerifierEngine:
    """Put a verifier in the place of an engine, in the process that a host watches."""

    def __init__(self, verifier: Verifier):
        self.judge = verifier

    async def check_health(self) -> None:
        """Find nothing: there is no other process that could have died."""
        await asyncio.sleep(0)

    def shutdown(self) -> None:
        """Leave nothing behind."""
