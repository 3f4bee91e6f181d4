"""Have a judge compare a model's answers with those of a baseline."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from avr.config.answers import DuelEndpointConfig, EvaluateConfig, Format
from avr.config.errors import ConfigError
from avr.config.fields import SPEED_ONLY
from avr.config.prompts import PromptsConfig
from avr.config.roles import QueriesConfig, RoleConfig, ServingConfig
from avr.core.messages import content_id
from avr.core.reward import Rewarding
from avr.data.prompt_files import on_hub
from avr.evaluation.endpoint import check_endpoint
from avr.evaluation.judged import load_oracle
from avr.evaluation.judges import INSTRUCTIONS, Duel
from avr.plan.checks import check_set
from avr.plan.models import Use, judging
from avr.plan.resources import StepPlan, engines
from avr.reports.answers import duels_of
from avr.run.step import Run, Step
from avr.steps.answer import Answer
from avr.steps.ask import check_roles, pools
from avr.storage import Location, files_at, location, reached


@dataclass(frozen=True)
class Judge(Step):
    """Give a preference for every prompt, by a server, a reward model or a named oracle."""

    answers: Answer
    baseline: PromptsConfig
    format: Format
    by: DuelEndpointConfig | RoleConfig | str
    queries: QueriesConfig = field(metadata=SPEED_ONLY)
    serving: ServingConfig = field(metadata=SPEED_ONLY)
    # In the fields because it decides the result: other instructions give other preferences.
    words: str = content_id(INSTRUCTIONS)

    def check(self) -> None:
        """Raise ConfigError for a baseline or a judge that cannot be used."""
        self._check_baseline()
        if isinstance(self.by, RoleConfig):
            check_roles({"judge.reward_model": self.by})
        elif isinstance(self.by, str):
            if load_oracle(self.by or None) is None:
                raise ConfigError(
                    "judge.kind is oracle, but judge.oracle is not set; it must be MODULE:FUNCTION"
                )
        else:
            check_endpoint(self.by, "judge.endpoint")

    def uses(self) -> Iterable[Use]:
        """Name the reward model, where one judges."""
        return [judging("judge.reward_model", self.by)] if isinstance(self.by, RoleConfig) else []

    def needs(self) -> StepPlan | None:
        """Plan the reward model's engines, where one judges; None otherwise."""
        if not isinstance(self.by, RoleConfig):
            return None
        # Of each duel both answers are scored.
        pool = engines("reward_model", self.by, 2)
        return StepPlan(self.name, (pool,), True, self.queries.cpus_per_task)

    def work(self, run: Run) -> dict[str, Any]:
        """Judge each duel once; duels of equal texts are one."""
        from avr.hosting.witness import witness_beside_driver
        from avr.serving.duels import PREFERENCES, JudgeDuels, duel_queries
        from avr.serving.journal import Place
        from avr.serving.queries import run_queries

        run.ledger.check_same(self.answers.name, run.decided_by(self.answers))
        duels = self._duels(run.of(self.answers))
        witness, place = witness_beside_driver(), Place(run.of(self), "preferences", PREFERENCES)

        def judged(work: JudgeDuels, up: Any) -> dict[str, Any]:
            queries = duel_queries(duels)
            done = run_queries(queries, work, up, self.queries, place, self.name, witness)
            return asdict(done)

        # A server and an oracle need no engines of ours, and so no room in the cluster.
        if isinstance(self.by, DuelEndpointConfig):
            return judged(JudgeDuels(endpoint=self.by), None)
        if isinstance(self.by, str):
            return judged(JudgeDuels(oracle=self.by), None)
        roles = {"reward_model": self.by}
        with pools(run, self, roles, self.queries, self.serving, witness) as up:
            return judged(JudgeDuels(rewarding=Rewarding.by(up.score())), up)

    def _duels(self, answered: Location) -> list[Duel]:
        (entrant,) = self.answers.entrants
        # Of an evaluation's configuration, these are the settings that duels are made by.
        config = EvaluateConfig(
            format=self.format,
            mode=entrant.mode,
            rounds=entrant.rounds,
            prompts=self.answers.prompts,
            baseline=self.baseline,
        )
        return [duel for _, duel in duels_of(config, answered / entrant.name)]

    def _check_baseline(self) -> None:
        path = self.baseline.path or ""
        if not path:
            raise ConfigError("baseline.path is not set: which file holds the baseline's answers?")
        if self.format == Format.alpaca_eval and not self.baseline.answer_field:
            raise ConfigError("baseline.answer_field is not set: which field holds the answers?")
        there = on_hub(self.baseline)
        if not there:
            with reached("baseline.path", location(path)):
                there = bool(files_at(path))
        if not there:
            left = "outputs.json" if self.format == Format.alpaca_eval else "NAME.jsonl"
            raise ConfigError(
                f"baseline.path: no answers at {path}; an evaluation of the baseline leaves them "
                f"there, as RUN_DIR/{left}"
            )
        # Arena-Hard's own records hold no prompt.
        if self.format == Format.alpaca_eval:
            check_set("baseline", self.baseline)
