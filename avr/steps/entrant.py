"""Hold a model and its way of answering."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avr.config.answers import Mode
from avr.config.fields import WEIGHTS, speed_only
from avr.steps.train import Train


@dataclass(frozen=True)
class Entrant:
    """Name a model and how it answers: once, with `rounds` refinements of its own, or recursively.

    `model` is a folder or name, or an earlier training. `best_of` answers are sampled in mode
    plain. `sampling` is laid over the policy's. `max_tries` is for an output without a final
    answer; refinements have the tries of the tree. `at` is the setting that names the model, and
    `sampling_at` the one that holds `sampling`.
    """

    name: str
    model: "str | Train" = field(metadata=WEIGHTS)
    mode: Mode = Mode.plain
    rounds: int = 0
    best_of: int = 1
    sampling: Mapping[str, Any] | None = None
    max_tries: int = 1
    at: str = speed_only(default="policy.model")
    sampling_at: str = speed_only(default="thinking")

    @property
    def samples(self) -> bool:
        """Say whether the answers are sampled outputs, and not trees."""
        return self.mode == Mode.recursive or self.best_of > 1

    @property
    def origin(self) -> str:
        """Return the model whose shape it has: its own, or the one its trainings started from."""
        return self.model if isinstance(self.model, str) else self.model.origin()
