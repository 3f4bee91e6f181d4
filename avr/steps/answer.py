"""Have models answer the same prompts, each in its way, and have the answers rewarded."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.fields import SPEED_ONLY, speed_only
from avr.config.prompts import PromptsConfig, templates_of
from avr.config.roles import Placement, QueriesConfig, RoleConfig, ServingConfig
from avr.config.rows import TreeConfig
from avr.config.run import AskingConfig
from avr.core.growth import Shape, take_answer
from avr.core.messages import content_id
from avr.core.outputs import OutputSet, open_set
from avr.core.prompts import Templates
from avr.core.reward import Rewarding
from avr.core.roles import Generate
from avr.core.trajectory import PLAIN, TrajectoryTemplate
from avr.core.tree import Prompt, RefinementTree, plant
from avr.data.ids import Ids
from avr.data.schemas import OUTPUTS, TREES
from avr.data.tables import read_sets, read_trees
from avr.data.used_prompts import training_prompts
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.plan.checks import check_prompts
from avr.plan.models import Use, generating, judging
from avr.plan.resources import StepPlan, engines
from avr.rewards.reward import Reward
from avr.run.step import Run, Step
from avr.steps.ask import check_roles, judges_of, pools, prompts_in, take_in
from avr.steps.entrant import Entrant
from avr.steps.train import model_of
from avr.storage import Location, location

if TYPE_CHECKING:
    from avr.serving.journal import Place, Query
    from avr.serving.pools import Pools
    from avr.serving.queries import Work


@dataclass(frozen=True)
class Answer(Step):
    """Let every entrant answer the same prompts.

    One pool of the policy's engines loads each entrant's weights in turn. With a `reward` all
    answers are rewarded; under `placement` waves this happens when all are there. `given`: the
    first answer is the one that the input row brought along. `gated`: a round takes the best of its
    refinements, and goes on only while that is better. Prompts of the steps `apart_from`, and of
    the runs `used_in`, are set aside.
    """

    prompts: PromptsConfig
    entrants: tuple[Entrant, ...]
    policy: RoleConfig
    reward: Reward | None
    templates: Templates
    template: TrajectoryTemplate
    tree: TreeConfig
    seed: int
    queries: QueriesConfig = field(metadata=SPEED_ONLY)
    serving: ServingConfig = field(metadata=SPEED_ONLY)
    placement: Placement = speed_only(default=Placement.resident)
    given: bool = False
    gated: bool = False
    apart_from: tuple[Step, ...] = ()
    # Where runs lie decides nothing, and other prompts there have left other weights.
    used_in: tuple[str, ...] = speed_only(default=())

    @classmethod
    def of(
        cls,
        c: AskingConfig,
        name: str,
        prompts: PromptsConfig,
        entrants: Sequence[Entrant],
        reward: Reward | None,
        template: TrajectoryTemplate,
        tree: TreeConfig,
        **more: Any,
    ) -> Self:
        """Make the step of a job; what all such jobs name alike is taken from its configuration."""
        own = (
            name,
            prompts,
            tuple(entrants),
            c.policy,
            reward,
            templates_of(c.templates),
            template,
            tree,
        )
        return cls(*own, c.seed, c.queries, c.serving, **more)

    def check(self) -> None:
        """Raise ConfigError for prompts, models or settings that cannot be used."""
        check_prompts(self.name, self.prompts)
        check_roles({"policy": self.policy, **self._judges})
        if self.reward is not None:
            self.reward.check(self.prompts, f"the prompts of {self.name}")
        if self.gated and self.placement == Placement.waves:
            raise ConfigError("the placement is 'waves': a search needs both of its models at once")
        for entrant in self.entrants:
            if isinstance(entrant.model, str):
                check_model(entrant.at, entrant.model)
            if entrant.sampling is not None:
                role = replace(self.policy, sampling=self._sampling(entrant))
                check_role("policy", role, sampling_at=entrant.sampling_at)

    def uses(self) -> Iterable[Use]:
        """Name the model that the pool starts with, every entrant's model, and the reward model."""
        more = [
            {e.sampling_at: self._sampling(e)} if e.sampling is not None else {}
            for e in self.entrants
        ]
        yield generating("policy", self.policy, next(filter(None, more), {}))
        for entrant, sampling in zip(self.entrants, more, strict=True):
            use = generating("policy", self.policy, sampling)
            yield replace(use, name=entrant.at, model=entrant.origin)
        for name, role in self._judges.items():
            yield judging(name, role)

    def needs(self) -> StepPlan:
        """Plan the pool that answers and the one that rewards: at once, or in turn."""
        # The refinements of one round.
        width = self.tree.num_critiques * self.tree.num_refinements
        texts = rewards = 0
        for entrant in self.entrants:
            # Given answers are not generated. A round has critiques and refinements; of these only
            # refinements are rewarded.
            texts += (0 if self.given else entrant.best_of) + entrant.rounds * (
                self.tree.num_critiques + width
            )
            rewards += entrant.best_of + entrant.rounds * width
        pooled = [engines("policy", self.policy, texts)]
        if self.reward is not None:
            pooled += judges_of(self.reward, rewards)
        together, reserve = self.placement == Placement.resident, self.queries.cpus_per_task
        whole = any(entrant.mode == Mode.recursive for entrant in self.entrants)
        return StepPlan(self.name, tuple(pooled), together, reserve, waves=together, whole=whole)

    def work(self, run: Run) -> dict[str, Any]:
        """Ask one entrant after the other; each query is committed when it is done."""
        # Imported in here, as it brings Ray along, which checks and plans do not need.
        from avr.hosting.witness import witness_beside_driver

        if self.reward is not None:
            self.reward.reach()
        ingested = take_in(
            run,
            self,
            self.prompts,
            apart_from=self.apart_from,
            others=_used_in(self.used_in),
            needs_answer=self.given,
        )
        prompts = list(prompts_in(run.of(self)))
        recipe, witness = run.recipe(self), witness_beside_driver()
        roles = {"policy": self.policy}
        # Without reward models there is nothing to take turns with.
        if not self._judges or self.placement == Placement.resident:
            roles |= self._judges
            with pools(run, self, roles, self.queries, self.serving, witness) as up:
                worked = {
                    entrant.name: self._ask(run, entrant, prompts, recipe, up, witness)
                    for entrant in self.entrants
                }
            return {"input": asdict(ingested), "queries": worked}
        # In waves the two models never hold devices at once: all answers first, then all rewards.
        before = [self._place(self._unrewarded(run, each), each) for each in self.entrants]
        # Not again after a kill in the second wave: engines would start for nothing.
        if not all(place.finished() for place in before):
            with pools(run, self, roles, self.queries, self.serving, witness) as up:
                for entrant in self.entrants:
                    self._ask(run, entrant, prompts, recipe, up, witness, rewarded=False)
        with pools(run, self, self._judges, self.queries, self.serving, witness) as up:
            worked = {
                entrant.name: self._reward(run, entrant, up, witness) for entrant in self.entrants
            }
        return {"input": asdict(ingested), "queries": worked}

    def trees(self, run: Run, name: str) -> Iterator[RefinementTree]:
        """Read the answers and refinements of an entrant."""
        yield from read_trees(run.of(self) / name / "trees")

    def sets(self, run: Run, name: str) -> Iterator[OutputSet]:
        """Read the sampled outputs of an entrant."""
        yield from read_sets(run.of(self) / name / "outputs")

    def _ask(
        self,
        run: Run,
        entrant: Entrant,
        prompts: list[Prompt],
        recipe: str,
        up: "Pools",
        witness: Any,
        *,
        rewarded: bool = True,
    ) -> dict[str, Any]:
        from avr.serving.queries import run_queries

        model = model_of(entrant.model, run)
        policy = up.generate("policy", model, self._sampling(entrant))
        rewarding = self.reward.rewarding(up.score) if self.reward and rewarded else None
        work, queries = self.asked(entrant, policy, rewarding, prompts, recipe)
        folder = run.of(self) / entrant.name if rewarded else self._unrewarded(run, entrant)
        place = self._place(folder, entrant)
        return asdict(run_queries(queries, work, up, self.queries, place, entrant.name, witness))

    def asked(
        self,
        entrant: Entrant,
        policy: Generate,
        rewarding: Rewarding | None,
        prompts: Iterable[Prompt],
        recipe: str,
    ) -> tuple["Work", Iterator["Query"]]:
        """Return the work that gives an entrant's answers, and a query for each prompt."""
        from avr.serving.works import (
            AnswerAndRefine,
            SampleOutputs,
            SearchTree,
            set_query,
            tree_query,
        )

        words = self.templates
        # With its name in the ids, no two entrants have the same tree of a prompt.
        own = content_id(entrant.name, recipe)
        work: Work
        if entrant.samples:
            # Only recursive models write the form; in mode plain the whole text is the answer.
            template = self.template if entrant.mode == Mode.recursive else PLAIN
            work = SampleOutputs(
                policy=policy,
                rewarding=rewarding,
                templates=words,
                template=template,
                num_outputs=entrant.best_of,
                max_tries=entrant.max_tries,
                failures_count=rewarding is not None,
            )
            return work, (set_query(open_set(prompt, own)) for prompt in prompts)
        shape = asdict(self.tree)
        if self.gated and rewarding is not None:
            work = SearchTree(policy, rewarding, words, Shape(**shape), entrant.rounds)
        else:
            # Rewards come after all rounds, or never: each goes on from the last refinement.
            last = Shape(**shape, follow="last")
            work = AnswerAndRefine(policy, rewarding, words, last, entrant.rounds)
        planted = (plant(prompt, own) for prompt in prompts)
        trees = map(take_answer, planted) if self.given else planted
        return work, (tree_query(tree) for tree in trees)

    def _reward(self, run: Run, entrant: Entrant, up: "Pools", witness: Any) -> dict[str, Any]:
        from avr.serving.queries import run_queries
        from avr.serving.works import ScoreSet, ScoreTree, set_query, tree_query

        assert self.reward is not None
        rewarding = self.reward.rewarding(up.score)
        folder = run.of(self) / entrant.name
        before = self._place(self._unrewarded(run, entrant), entrant)
        # What is quarantined comes along as it is, so that every prompt is there at the end.
        parts = [before.folder / part for part in (before.out, "quarantine")]
        work: Work
        if entrant.samples:
            work = ScoreSet(rewarding)
            queries = (set_query(each) for part in parts for each in read_sets(part))
        else:
            work = ScoreTree(rewarding)
            queries = (tree_query(each) for part in parts for each in read_trees(part))
        place = self._place(folder, entrant)
        # The witness counts by name, and has counted the answers under the entrant's.
        name = f"{entrant.name}, rewards"
        return asdict(run_queries(queries, work, up, self.queries, place, name, witness))

    def _unrewarded(self, run: Run, entrant: Entrant) -> Location:
        """Return the folder of the answers that wait for their rewards."""
        return run.of(self) / entrant.name / "unrewarded"

    def _place(self, folder: Location, entrant: Entrant) -> "Place":
        from avr.serving.journal import Place

        if entrant.samples:
            return Place(folder, "outputs", OUTPUTS)
        return Place(folder, "trees", TREES)

    @property
    def _judges(self) -> dict[str, RoleConfig]:
        return self.reward.pools if self.reward else {}

    def _sampling(self, entrant: Entrant) -> dict[str, Any]:
        return {**self.policy.sampling, **(entrant.sampling or {})}


def _used_in(runs: Iterable[str]) -> dict[str, Ids]:
    """Read the ids of the prompts that other runs used, by run and step."""
    return {
        f"{step} of {run}": ids
        for run in runs
        for step, ids in training_prompts(location(run)).items()
    }
