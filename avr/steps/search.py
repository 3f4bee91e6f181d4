"""Search greedily for a better answer to every query, in Ray tasks."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from avr.config.errors import ConfigError
from avr.config.fields import SPEED_ONLY, speed_only
from avr.config.health import HealthConfig
from avr.config.prompts import PromptsConfig
from avr.config.roles import (
    CorrectingConfig,
    FirstAnswer,
    QueriesConfig,
    RoleConfig,
    ServingConfig,
)
from avr.config.rows import TreeConfig
from avr.core.growth import Shape
from avr.core.prompts import Templates
from avr.data.schemas import TREES
from avr.evaluation.judged import load_oracle
from avr.plan.checks import check_prompts
from avr.plan.models import Use, generating, judging
from avr.plan.resources import StepPlan, engines
from avr.reports.trees import search_column, search_statistics
from avr.rewards.reward import Reward
from avr.run.step import Report, Run, Step
from avr.steps.ask import (
    check_roles,
    check_truth,
    judges_of,
    planted_in,
    pools,
    shape_of,
    take_in,
)
from avr.terminal import indented


@dataclass(frozen=True)
class Search(Step):
    """Search a tree for every query: up to `max_depth` turns, each better than the last.

    `oracle` is used by the report alone.
    """

    prompts: PromptsConfig
    policy: RoleConfig
    reward: Reward
    templates: Templates
    tree: TreeConfig
    max_depth: int
    first_answer: FirstAnswer
    seed: int
    queries: QueriesConfig
    serving: ServingConfig
    correcting: CorrectingConfig
    health: HealthConfig = field(metadata=SPEED_ONLY)
    oracle: str | None = speed_only(default=None)

    def check(self) -> None:
        """Raise ConfigError for queries, roles or templates that cannot be used."""
        if self._from_input and not self.prompts.answer_field:
            raise ConfigError("first_answer is 'input', but prompts.search.answer_field is not set")
        check_prompts(self.name, self.prompts)
        check_roles({"policy": self.policy, **self.reward.pools})
        self.reward.check(self.prompts, "prompts.search")
        check_truth(self.correcting, self.reward, self.prompts, "prompts.search")

    def uses(self) -> Iterable[Use]:
        """Name the models of the policy and the reward."""
        judges = (judging(name, role) for name, role in self.reward.pools.items())
        return [generating("policy", self.policy), *judges]

    def needs(self) -> StepPlan:
        """Plan all pools at once.

        The number of texts is the largest there can be: a search may end at any turn.
        """
        width = self.tree.num_critiques * self.tree.num_refinements
        texts = (not self._from_input) + self.max_depth * (self.tree.num_critiques + width)
        pooled = (
            engines("policy", self.policy, texts),
            *judges_of(self.reward, 1 + self.max_depth * width),
        )
        return StepPlan(self.name, pooled, True, self.queries.cpus_per_task)

    def work(self, run: Run) -> dict[str, Any]:
        """Search for every query; each is committed when it is done."""
        # Imported in here, as they bring Ray along, which checks and plans do not need.
        from avr.hosting.witness import witness_beside_driver
        from avr.serving.journal import Place
        from avr.serving.queries import run_queries
        from avr.serving.works import SearchTree, tree_query
        from avr.steps.health import HealthWatch

        self.reward.reach()
        place, words = Place(run.of(self), "trees", TREES), self.templates
        ingested = take_in(run, self, self.prompts, needs_answer=self._from_input)
        # A function, as trees are planted twice: for their ids, and to search them.
        planted = partial(planted_in, place.folder, run.recipe(self), self._from_input)
        first = (tree.id for tree in islice(planted(), self.health.num_trees))
        shape = self.shape
        watch = HealthWatch(place.folder, self.health, "health", first, words, indented, shape)
        parts = [place.folder / place.out, place.folder / "quarantine"]

        def look() -> None:
            watch.look_at_parts(parts, place.journal)

        # Before engines start: a run that is continued may have its first trees already.
        look()
        witness = witness_beside_driver()
        roles = {"policy": self.policy, **self.reward.pools}
        with pools(run, self, roles, self.queries, self.serving, witness, look) as up:
            rewarding = self.reward.rewarding(up.score)
            work = SearchTree(up.generate("policy"), rewarding, words, shape, self.max_depth)
            asked = map(tree_query, planted())
            worked = run_queries(asked, work, up, self.queries, place, self.name, witness)
        # The last queries may have ended after the last check of the pools.
        look()
        done = {"input": asdict(ingested), "queries": asdict(worked)}
        return done | self.reward.record()

    def report(self, run: Run) -> Report:
        """Report depths, gains and rewards of the searches."""
        statistics = search_statistics(run.of(self), load_oracle(self.oracle), self.shape)
        result = run.ledger.result(self.name) | {"trees": statistics}
        return Report(result, (search_column(result),))

    @property
    def shape(self) -> Shape:
        """Return the shape of the levels that it grows."""
        return shape_of(self.tree, self.correcting, self.reward)

    @property
    def _from_input(self) -> bool:
        return self.first_answer == FirstAnswer.input
