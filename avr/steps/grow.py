"""Grow refinement trees on Ray Data: answers, critiques, refinements, rewards."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from avr.config.errors import ConfigError
from avr.config.fields import speed_only
from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer, GrowthConfig, Placement, RoleConfig
from avr.config.rows import TreeConfig
from avr.core.growth import Shape
from avr.core.prompts import Templates
from avr.core.reward import Rewarding
from avr.plan.checks import check_prompts
from avr.plan.models import Use, generating, judging
from avr.plan.resources import StepPlan, engines
from avr.reports.trees import growth_column, tree_statistics
from avr.rewards.reward import Classifier, Reward
from avr.rewards.verifier import Verifier, VerifierEngine
from avr.run.step import Report, Run, Step
from avr.steps.ask import (
    check_roles,
    check_truth,
    judges_of,
    planted_in,
    shape_of,
    take_in,
)
from avr.steps.train import Train
from avr.terminal import indented

if TYPE_CHECKING:
    from avr.dataflow.operators import Operator
    from avr.hosting.host import Hosted


@dataclass(frozen=True)
class Grow(Step):
    """Grow a tree for every prompt.

    Without a `corrector` the policy corrects itself in the same pool. With `weights`, an earlier
    training, the policy has the weights that this has left. Where `growth.first_answer` is input,
    y0 is the answer that the input row brought along; a `policy` beside a corrector then plays no
    part, and may be None. Prompts of the steps `apart_from` are set aside. `title` heads the column
    of the report. `prompts_at` is the setting that holds the prompts.
    """

    prompts: PromptsConfig
    policy: RoleConfig | None
    corrector: RoleConfig | None
    reward: Reward
    templates: Templates
    tree: TreeConfig
    growth: GrowthConfig
    seed: int
    weights: Train | None = None
    apart_from: tuple[Step, ...] = ()
    title: str = speed_only(default="")
    prompts_at: str = speed_only(default="prompts")

    def check(self) -> None:
        """Raise ConfigError for prompts, roles or templates that cannot be used."""
        if self._from_input and not self.prompts.answer_field:
            raise ConfigError(
                f"growth.first_answer is 'input', but {self.prompts_at}.answer_field is not set"
            )
        check_prompts(self.name, self.prompts)
        for other in self.apart_from:
            if isinstance(other, Grow):
                check_apart(other, self)
        check_roles({**self._roles(), **self.reward.pools})
        self.reward.check(self.prompts, self.prompts_at)
        check_truth(self.growth, self.reward, self.prompts, self.prompts_at)

    def uses(self) -> Iterable[Use]:
        """Name the models of the roles; the policy has the shape of the untrained one."""
        roles = [generating(name, role) for name, role in self._roles().items()]
        return [*roles, *(judging(name, role) for name, role in self.reward.pools.items())]

    def needs(self) -> StepPlan:
        """Plan all pools at once, or one after the other where `placement` is waves."""
        width = self.tree.num_critiques * self.tree.num_refinements
        refining = self.tree.num_critiques + width
        texts = {"policy": 1, "corrector": refining}
        if self.corrector is None:
            texts = {"policy": (not self._from_input) + refining}
        pools = [engines(name, role, texts[name]) for name, role in self._roles().items()]
        if self.weights is not None:
            pools = [replace(pool, trained=True) for pool in pools]
        pools += judges_of(self.reward, 1 + width, verifiers=True)
        together = self.growth.placement == Placement.resident
        return StepPlan(self.name, tuple(pools), together, waves=together)

    def work(self, run: Run) -> dict[str, Any]:
        """Stream the prompts through the pools; trees are committed block by block."""
        from avr.dataflow.grow import grow, waves
        from avr.steps.health import HealthWatch

        self.reward.reach()
        folder, config = run.of(self), self.growth
        ingested = take_in(
            run, self, self.prompts, apart_from=self.apart_from, needs_answer=self._from_input
        )
        # A function, as trees are planted twice: for their ids, and to grow them.
        planted = partial(planted_in, folder, run.recipe(self), self._from_input)
        first = (tree.id for tree in islice(planted(), config.health.num_trees))
        words = self.templates
        shape = self.shape
        watch = HealthWatch(folder, config.health, "growth.health", first, words, indented, shape)
        operators = self._operators(run)
        # In waves, trees have critiques in a folder of an early wave before they are in `trees`.
        parts = [out for out, _ in waves(operators, config.placement, folder)]

        def committed() -> None:
            watch.look_at_parts([*parts, folder / "quarantine"])
            run.meter.tick()

        # Before engines start: a run that goes on may have its first trees already.
        watch.look_at_parts([*parts, folder / "quarantine"])
        grown = grow(planted(), operators, config, folder, lambda: run.placed(self), committed)
        done = {"input": asdict(ingested), "growth": asdict(grown)}
        return done | self.reward.record()

    def report(self, run: Run) -> Report:
        """Report counts and gains of the trees."""
        trees = tree_statistics(run.of(self), self.shape)
        result = run.ledger.result(self.name) | {"trees": trees}
        return Report(result, (growth_column(self.title, result, run.of(self)),))

    @property
    def shape(self) -> Shape:
        """Return the shape of the levels that it grows."""
        return shape_of(self.tree, self.growth, self.reward)

    @property
    def _from_input(self) -> bool:
        return self.growth.first_answer == FirstAnswer.input

    def _roles(self) -> dict[str, RoleConfig]:
        """Return the roles that generate; a policy that gives no text plays no part."""
        roles = {}
        if self.policy is not None and (self.corrector is None or not self._from_input):
            roles["policy"] = self.policy
        return roles | ({"corrector": self.corrector} if self.corrector else {})

    def _operators(self, run: Run) -> list["Operator"]:
        from avr.dataflow.operators import Operator, by_reward_model, by_verifier

        roles = self._roles()
        # The training is done by now, so its folder is there.
        if self.weights is not None:
            roles["policy"] = replace(roles["policy"], model=self.weights.model(run))
        # Where the policy corrects itself, one pool does both acts.
        acts = {"policy": "grow"} if self.corrector is None else {}
        acts = acts or {"policy": "respond", "corrector": "correct"}
        words, shape = self.templates, self.shape
        combination, truth = self.reward.combination, self.reward.truth
        verifier = None
        if truth is not None and shape.needs_verdicts:
            verifier = Rewarding((truth,), combination)

        def hosted(role: str, settings: RoleConfig) -> "Hosted":
            return run.hosted(self, role, settings, self.growth)

        growing = [
            Operator(acts[name], hosted(name, role), words, shape, verifier=verifier)
            for name, role in roles.items()
        ]
        several = len(self.reward.judges) > 1
        for judge in self.reward.judges:
            how: Callable[[Any], Rewarding]
            if isinstance(judge, Classifier):
                how = partial(by_reward_model, name=judge.name, combination=combination)
                engine = hosted(judge.pool, judge.role)
            else:
                how = partial(by_verifier, combination=combination)
                engine = replace(
                    hosted(f"verifier {judge.name}", judge.role), make_engine=partial(_put, judge)
                )
            named = judge.name if several else ""
            growing.append(Operator("score", engine, words, shape, how, judge=named))
        return growing


def _put(verifier: Verifier, role: str, config: RoleConfig, seed: int) -> VerifierEngine:
    """Put a verifier where a host makes its engine."""
    return VerifierEngine(verifier)


def check_apart(first: Grow, second: Grow) -> None:
    """Raise ConfigError where the first growth has every row of the second.

    All of the second's prompts would be set aside, hours later.
    """

    def end(prompts: PromptsConfig) -> float:
        return math.inf if prompts.limit is None else prompts.skip + prompts.limit

    one, two = first.prompts, second.prompts
    same = all(getattr(one, f) == getattr(two, f) for f in ("path", "split", "subset"))
    if same and one.skip <= two.skip and end(two) <= end(one):
        raise ConfigError(
            f"{second.prompts_at} asks for rows of {two.path} that {first.prompts_at} has: the two"
            f" growths need different prompts ({second.prompts_at}.skip leaves out so many)"
        )
