"""Sample whole outputs of a model for every prompt, and have their final answers judged."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from avr.config.errors import ConfigError
from avr.config.fields import speed_only
from avr.config.prompts import PromptsConfig
from avr.config.roles import QueriesConfig, RoleConfig, ServingConfig
from avr.config.rows import OutputsConfig
from avr.core.outputs import open_set
from avr.core.own_judge import OwnJudge
from avr.core.prompts import Templates
from avr.core.trajectory import TrajectoryTemplate
from avr.data.schemas import OUTPUTS
from avr.engines.settings import check_role
from avr.evaluation.judged import load_oracle
from avr.plan.checks import check_prompts
from avr.plan.models import Use, generating, judging
from avr.plan.resources import StepPlan, engines
from avr.reports.outputs import output_statistics, outputs_column
from avr.rewards.reward import Reward
from avr.run.step import Report, Run, Step
from avr.steps.ask import check_roles, judges_of, pools, prompts_in, take_in
from avr.steps.train import Train


@dataclass(frozen=True)
class Sample(Step):
    """Sample outputs of the policy, or of the model that a training (`weights`) made of it.

    Without a `reward` the policy judges its outputs itself, by `own_judge` (Meta-Rewarding).
    Prompts of the steps `apart_from` are set aside. `title` heads the report, and `oracle` is used
    by the report alone.
    """

    prompts: PromptsConfig
    policy: RoleConfig
    reward: Reward | None
    templates: Templates
    template: TrajectoryTemplate
    outputs: OutputsConfig
    seed: int
    queries: QueriesConfig
    serving: ServingConfig
    own_judge: OwnJudge | None = None
    weights: Train | None = None
    apart_from: tuple[Step, ...] = ()
    title: str = speed_only(default="Whole outputs")
    oracle: str | None = speed_only(default=None)

    def check(self) -> None:
        """Raise ConfigError for prompts, roles or judgements that cannot be used."""
        check_prompts(self.name, self.prompts)
        check_roles({"policy": self.policy, **self._judges})
        if self.reward is not None:
            self.reward.check(self.prompts, f"the prompts of {self.name}")
        # Outputs have a sampling of their own, which `check_roles` has not seen.
        whole = replace(self.policy, sampling=self._sampling)
        check_role("policy", whole, sampling_at="outputs.sampling")
        if self.own_judge is not None:
            self._check_own_judge(self.own_judge)

    def uses(self) -> Iterable[Use]:
        """Name the roles' models; the policy's outputs are as long as `outputs.sampling` says."""
        policy = generating("policy", self.policy, {"outputs.sampling": self._sampling})
        return [policy, *(judging(name, role) for name, role in self._judges.items())]

    def needs(self) -> StepPlan:
        """Plan all pools at once.

        Where the policy judges its outputs, the judgements of one output of a prompt are judged,
        too.
        """
        number, own = self.outputs.num_outputs, self.own_judge
        judged = (number + 1) * own.num_judgements if own else 0
        policy = engines("policy", self.policy, number + judged)
        if self.weights is not None:
            policy = replace(policy, model=self.weights.origin(), trained=True)
        pooled = [policy]
        if self.reward is not None:
            # An answer that the input row brought along is rewarded for comparison.
            pooled += judges_of(self.reward, number + bool(self.prompts.answer_field))
        whole = not self.template.plain
        return StepPlan(self.name, tuple(pooled), True, self.queries.cpus_per_task, whole=whole)

    def work(self, run: Run) -> dict[str, Any]:
        """Sample outputs; each prompt is committed when its outputs are judged."""
        # Imported in here, as they bring Ray along, which checks and plans do not need.
        from avr.hosting.witness import witness_beside_driver
        from avr.serving.journal import Place
        from avr.serving.queries import run_queries
        from avr.serving.works import SampleOutputs, set_query

        if self.reward is not None:
            self.reward.reach()
        place = Place(run.of(self), "outputs", OUTPUTS)
        ingested = take_in(run, self, self.prompts, apart_from=self.apart_from)
        recipe, witness = run.recipe(self), witness_beside_driver()
        policy = self.policy
        if self.weights is not None:
            policy = replace(policy, model=self.weights.model(run))
        roles = {"policy": policy, **self._judges}
        with pools(run, self, roles, self.queries, self.serving, witness) as up:
            work = SampleOutputs(
                policy=up.generate("policy", sampling=self._sampling),
                rewarding=self.reward.rewarding(up.score) if self.reward else None,
                templates=self.templates,
                template=self.template,
                num_outputs=self.outputs.num_outputs,
                max_tries=self.outputs.max_tries,
                own_judge=self.own_judge,
            )
            queries = (set_query(open_set(each, recipe)) for each in prompts_in(place.folder))
            worked = run_queries(queries, work, up, self.queries, place, self.name, witness)
        done = {"input": asdict(ingested), "queries": asdict(worked)}
        return done | (self.reward.record() if self.reward else {})

    def report(self, run: Run) -> Report:
        """Report failures, turns and qualities of the outputs."""
        statistics = output_statistics(run.of(self), load_oracle(self.oracle))
        result = run.ledger.result(self.name) | {"outputs": statistics}
        return Report(result, (outputs_column(self.title, result),))

    @property
    def _judges(self) -> dict[str, RoleConfig]:
        return self.reward.pools if self.reward else {}

    @property
    def _sampling(self) -> dict[str, Any]:
        """Return the policy's sampling, with `outputs.sampling` laid over it."""
        return {**self.policy.sampling, **self.outputs.sampling}

    def _check_own_judge(self, judge: OwnJudge) -> None:
        if not self.template.plain:
            raise ConfigError("outputs.judgements: only whole answers, without a loop, are judged")
        if self.prompts.answer_field:
            raise ConfigError(
                f"outputs.judgements: it does not go with an answer_field of {self.name}'s prompts;"
                " set that to null"
            )
        if not self.templates.rated:
            raise ConfigError(
                "outputs.judgements: templates.rated is false, but a judgement's rating is the"
                " answer's reward; take templates.set=chat, or words that ask for a rating"
            )
        if not judge.meta_request.strip():
            raise ConfigError(
                "outputs.meta_request is empty; it must ask the policy for a rating of a judgement"
            )
