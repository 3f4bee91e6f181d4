"""Define a step of a recipe, a frozen value that owns all of itself, and the run it works in."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from avr.config.fields import SPEED_ONLY
from avr.config.roles import LimitsConfig, RoleConfig, is_reward_model
from avr.config.run import RunConfig
from avr.core.messages import content_id
from avr.plan.models import Use
from avr.plan.resources import StepPlan
from avr.reports.parts import Part
from avr.run.budget import Meter
from avr.run.decided import fields_of
from avr.run.ledger import Ledger
from avr.storage import Location
from avr.terminal import indented

if TYPE_CHECKING:
    from avr.hosting.host import Hosted

# Fields that say which prompts are used, and not what is done with each: ids of trees leave them
# out, so that a prompt has the same tree in a run of more prompts.
_WHICH_PROMPTS = ("prompts", "apart_from")


class NotWorthIt(RuntimeError):
    """Signal that a step ends the run for its own good; a summary says so first."""


@dataclass(frozen=True)
class Report:
    """Hold what a step reports when it is done: for summary.json, and for the screen."""

    summary: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Step:
    """Describe one step: check its settings, name its models and devices, do its work, report.

    `name` is its folder in the run directory and its entry in the ledger. All other fields decide
    the result, unless they are marked as speed only. A field may hold an earlier step of the run.
    """

    name: str = field(metadata=SPEED_ONLY)

    def check(self) -> None:
        """Raise ConfigError for what can be known to be wrong. Starts and imports nothing heavy."""

    def uses(self) -> Iterable[Use]:
        """Say which models are loaded, and what is asked of each."""
        return ()

    def needs(self) -> StepPlan | None:
        """Say which engines or workers are started; None for a step that needs no devices."""
        return None

    def work(self, run: "Run") -> dict[str, Any]:
        """Do the step and return plain data about it. Done again after a kill, it continues."""
        raise NotImplementedError

    def report(self, run: "Run") -> Report:
        """Report the result of the step, once it is done."""
        return Report(run.ledger.result(self.name))

    def decides(self, run: "Run") -> Any:
        """Return the part of this step that decides the results of those that build on it."""
        return {"after": content_id(run.ledger.inputs(self.name))}

    def origin(self) -> str | None:
        """Name the model that this step makes another of; None for a step that leaves no model."""
        return None

    def source(self) -> "Step | None":
        """Find the step whose prompts decide how much this one has to do."""
        if hasattr(self, "prompts"):
            return self
        return next((step.source() for step in self.earlier()), None)

    def earlier(self) -> list["Step"]:
        """List the steps that this one builds on, as its fields hold them."""
        return [step for each in fields(self) for step in _steps_in(getattr(self, each.name))]


def _steps_in(value: Any) -> Iterator[Step]:
    if isinstance(value, Step):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _steps_in(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _steps_in(getattr(value, each.name))


@dataclass(frozen=True)
class Run:
    """Describe the run that a step works in. Data travels between steps in files of `folder`."""

    config: RunConfig
    folder: Location
    ledger: Ledger
    meter: Meter

    def of(self, step: Step) -> Location:
        """Return the step's own folder."""
        return self.folder / step.name

    def decided_by(self, step: Step) -> dict[str, Any]:
        """Return the step's fields in plain data: prompts, models and earlier steps by content."""

        def other(value: Any) -> Any:
            return value.decides(self) if isinstance(value, Step) else NotImplemented

        return fields_of(step, other, step.name)

    def recipe(self, step: Step) -> str:
        """Return the id of everything that decides the result for one prompt in this step."""
        decided = self.ledger.begun(step.name)
        return content_id({k: v for k, v in decided.items() if k not in _WHICH_PROMPTS})

    @contextmanager
    def placed(self, step: Step) -> Iterator[None]:
        """Wait until the cluster has room for the step; inside, its device-hours are counted."""
        # Imported here, as it brings Ray along, which neither checks nor plans need.
        from avr.hosting.cluster import place

        plan = step.needs()
        assert plan is not None
        # A budget that is spent must not make a cluster grow.
        self.meter.check()
        place(plan, self.config.placement_timeout_s, indented)
        # Waiting for the cluster is over: from here on devices count.
        self.meter.start(plan)
        try:
            yield
        finally:
            self.meter.stop()

    def hosted(self, step: Step, role: str, settings: RoleConfig, limits: LimitsConfig) -> "Hosted":
        """Describe the engine of one of the step's pools."""
        from avr.hosting.host import Hosted

        return Hosted(
            name=step.name,
            role=role,
            config=settings,
            seed=self.config.seed,
            folder=self.of(step),
            max_deaths=limits.max_engine_deaths,
            parity=limits.parity_tolerance if is_reward_model(role) else None,
            start_timeout_s=limits.start_timeout_s,
        )
