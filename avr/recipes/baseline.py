"""Train the policy on its own judged answers: traditional DPO, SimPO, Meta-Rewarding."""

from dataclasses import dataclass, field

from avr.config.answers import EvaluationConfig, Mode
from avr.config.fields import at_least
from avr.config.prompts import PromptsConfig, templates_of
from avr.config.rewards import RewardConfig
from avr.config.roles import RoleConfig
from avr.config.rows import OutputPairsConfig, OutputsConfig, TreeConfig
from avr.config.run import AskingConfig
from avr.config.training import TrainingConfig
from avr.core.own_judge import META_REQUEST, OwnJudge
from avr.core.trajectory import PLAIN
from avr.plan.checks import check_rounds
from avr.rewards.reward import reward_of
from avr.run.recipe import Recipe
from avr.run.step import Step
from avr.steps.entrant import Entrant
from avr.steps.evaluate import Evaluate
from avr.steps.rows import PairOutputs, rules_of
from avr.steps.sample import Sample
from avr.steps.train import Train
from avr.training.methods.dpo import Dpo
from avr.training.methods.simpo import Simpo


@dataclass
class BaselinePrompts:
    """Describe the prompt set of a baseline: the policy answers `sample`."""

    sample: PromptsConfig = field(default_factory=PromptsConfig)


@dataclass
class BaselineEvaluationConfig(EvaluationConfig):
    """Configure an evaluation: the seed policy and the trained model answer held-out prompts.

    `rounds` holds r, the rounds of refinement, for the seed, which may refine its answers.
    """

    rounds: dict[str, int] = field(default_factory=lambda: {"seed": 0})


@dataclass
class JudgedOutputsConfig(OutputsConfig):
    """Configure the outputs of a baseline, and how the policy judges them if it does.

    With `judgements` the policy, instead of the reward model, judges each of its outputs that many
    times, and learns from its judgements as well; `meta_request` asks it to judge one
    (Meta-Rewarding). Every judgement has `max_tries` requests to get its rating, too.
    """

    judgements: int = at_least(0, 0)
    meta_request: str = META_REQUEST


@dataclass
class BaselineConfig(AskingConfig):
    """Configure a baseline: judge, pair and train on the policy's whole answers (-> evaluate).

    As it stands it is traditional DPO. With `simpo_margin`, SimPO's gamma, and `dpo.trl.loss_type`
    `sigmoid_norm` it is SimPO. With `outputs.judgements` it is an iteration of Meta-Rewarding: the
    policy judges, and `reward_model` only evaluates. The evaluation compares with `seed_model`, the
    policy itself where it is unset. Where the policy was trained before, `stage1_dir` is the run
    that made it: held-out prompts must not be among its prompts.
    """

    prompts: BaselinePrompts = field(default_factory=BaselinePrompts)
    reward: RewardConfig = field(default_factory=RewardConfig)
    reward_model: RoleConfig | None = None
    outputs: JudgedOutputsConfig = field(default_factory=JudgedOutputsConfig)
    pairs: OutputPairsConfig = field(default_factory=OutputPairsConfig)
    max_tries: int = at_least(1, 5)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    simpo_margin: float | None = at_least(0, None)
    seed_model: str | None = None
    stage1_dir: str | None = None
    evaluation: BaselineEvaluationConfig | None = None


SCHEMA = BaselineConfig


def recipe(c: BaselineConfig) -> Recipe:
    """Sample whole answers -> pair -> DPO (-> evaluate). Raises ConfigError."""
    asked, words = c.outputs, templates_of(c.templates)
    own = OwnJudge(asked.judgements, asked.meta_request, asked.max_tries)
    oracle = c.evaluation.oracle if c.evaluation else None
    outputs = Sample(
        "sample",
        c.prompts.sample,
        c.policy,
        None if asked.judgements else reward_of(c.reward, c.reward_model),
        words,
        PLAIN,
        asked,
        c.seed,
        c.queries,
        c.serving,
        own_judge=own if asked.judgements else None,
        title="Answers of the model that DPO starts from",
        oracle=oracle,
    )
    rules = rules_of("pairs", "outputs", c.pairs)
    pairs = PairOutputs("pair", outputs, rules, c.pairs, words)
    method = Dpo() if c.simpo_margin is None else Simpo(margin=c.simpo_margin)
    dpo = Train("dpo", method, c.dpo, c.policy.model, pairs)
    steps: list[Step] = [outputs, pairs, dpo]
    if c.evaluation is not None:
        rounds = c.evaluation.rounds
        check_rounds(rounds, ("seed",))
        seed = c.seed_model or c.policy.model
        at = "seed_model" if c.seed_model else "policy.model"
        entrants = (
            Entrant("seed", seed, Mode.refine, rounds.get("seed", 0), at=at),
            # As Stage II's models are asked: one output each, and one without an answer counts.
            Entrant(
                "baseline dpo",
                dpo,
                Mode.recursive,
                sampling=asked.sampling,
                sampling_at="outputs.sampling",
            ),
        )
        evaluated = Evaluate.of(
            c,
            "evaluate",
            c.evaluation.prompts,
            entrants,
            reward_of(c.reward, c.reward_model),
            PLAIN,
            TreeConfig(1, 1, c.max_tries),
            apart_from=(outputs,),
            used_in=(c.stage1_dir,) if c.stage1_dir else (),
            oracle=oracle,
        )
        steps.append(evaluated)
    return Recipe("Baseline", tuple(steps))
