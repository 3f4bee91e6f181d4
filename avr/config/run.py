"""Configure what every job has: a run directory, a budget, a cluster."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from avr.config.fields import at_least, seed_field
from avr.config.prompts import TemplatesConfig
from avr.config.roles import QueriesConfig, RoleConfig, ServingConfig


class Resume(Enum):
    """Name the conditions on a run directory: it may, must or must not hold a run already."""

    never = "never"
    always = "always"
    if_possible = "if_possible"


@dataclass
class BudgetConfig:
    """Limit what a run may spend, over all its jobs together.

    After `max_device_hours` (of GPUs, or of engines and workers without one) a job stops at the
    next commit of trees or queries, or before the next step. Training is not interrupted.
    """

    max_device_hours: float | None = at_least(0, None)


@dataclass
class RunConfig:
    """Configure any job. A run directory belongs to one configuration, which continues it.

    `steps` lists the steps to do; unset, all are done. `resume` says whether the directory may hold
    a run already (`if_possible`), must (`always`: a mistyped run_dir starts nothing) or must not
    (`never`). A run is never continued under other settings. Each step waits until the cluster has
    room for all that it needs at once, and says what is missing; after `placement_timeout_s` the
    job ends. `ray` goes to `ray.init` of a cluster that the job starts for itself. `gpu_memory_gib`
    is the memory of one GPU; unset, it is the memory of the GPUs of the machine that the job is
    started on, if it has any.
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


@dataclass
class AskingConfig(RunConfig):
    """Configure any job that asks models: the policy, and how queries and pools work."""

    policy: RoleConfig = field(default_factory=RoleConfig)
    queries: QueriesConfig = field(default_factory=QueriesConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
