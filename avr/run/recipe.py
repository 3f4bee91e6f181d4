"""Define a recipe: the steps of one job, and what is written when they are done."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from avr.config.run import RunConfig
from avr.run.ledger import done_in
from avr.run.step import Run, Step

S = TypeVar("S", bound=Step)


def nothing() -> None:
    """Check nothing more than the steps do."""


@dataclass(frozen=True)
class Recipe:
    """List the steps of one job in their order, each of which builds on those before it.

    `title` heads the summary. Where `finish` is given, it writes the job's own files in the place
    of the summary. `check` raises ConfigError for what no single step could know to be wrong.
    `ready` does so for what a run needs and a plan does not: files that other runs have yet to
    leave.
    """

    title: str
    steps: tuple[Step, ...]
    finish: Callable[[Run], None] | None = None
    check: Callable[[], object] = nothing
    ready: Callable[[], object] = nothing

    def made(self, run_dir: str) -> dict[str, str]:
        """Map the models that the steps will leave to those that they start from."""
        origins = {step.name: step.origin() for step in self.steps}
        folder = run_dir.rstrip("/")
        return {f"{folder}/{name}": model for name, model in origins.items() if model is not None}


def made_in(config: RunConfig, steps: Iterable[S]) -> list[S]:
    """Pick the steps that are asked for, or were done in this run_dir before."""
    if config.steps is None:
        return list(steps)
    there = {*config.steps, *done_in(config.run_dir)}
    return [step for step in steps if step.name in there]
