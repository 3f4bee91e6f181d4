"""What every job has: a run directory, its budget, its cluster."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from avr.config.fields import at_least, seed_field
from avr.config.prompts import TemplatesConfig


class Resume(Enum):
    """Whether a run directory may, or must, hold a run already."""

    never = "never"
    always = "always"
    if_possible = "if_possible"


@dataclass
class BudgetConfig:
    """What a run may spend, all its jobs together.

    After `max_device_hours` (GPUs, or engines and workers without one) a job stops at the next
    commit of trees or queries, or before the next step. Training is not interrupted.
    """

    max_device_hours: float | None = at_least(0, None)


@dataclass
class RunConfig:
    """What every job has. A run directory belongs to one configuration and is continued by it.

    `steps` are the ones that are done; unset, all. `resume` says whether the directory may hold a
    run already (`if_possible`), must (`always`: a mistyped run_dir starts nothing) or must not
    (`never`); under other settings than before none
    is continued. Each step waits until the cluster has room for all that it needs at once, saying
    what is missing; after `placement_timeout_s` the job ends. `ray` goes to `ray.init` of a
    cluster that the job starts for itself. `gpu_memory_gib` is the memory of one GPU; unset, it is
    that of the GPUs of the machine that the job is started on, if it has any.
    """

    run_dir: str = MISSING
    seed: int = seed_field()
    steps: list[str] | None = None
    templates: TemplatesConfig = field(default_factory=TemplatesConfig)
    resume: Resume = Resume.if_possible
    placement_timeout_s: float = at_least(1, 3600.0)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    gpu_memory_gib: float | None = at_least(1, None)
    ray: dict[str, Any] = field(default_factory=dict)

    def trains(self, step: str) -> bool:
        """Whether a training is among the steps that are done, or has been done before them."""
        trainings = {"rsft", "dpo"} & set(self.steps or ())
        return step in trainings if trainings else True
