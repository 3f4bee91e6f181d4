"""Run Stage I: grow -> select -> RSFT -> grow with the RSFT model -> pair -> DPO (-> evaluate)."""

import math
from dataclasses import dataclass, field, fields, replace

from avr.config.answers import EvaluationConfig, Mode
from avr.config.prompts import PromptsConfig, templates_of
from avr.config.rewards import RewardConfig
from avr.config.roles import FirstAnswer, GrowthConfig, LimitsConfig, Placement, RoleConfig
from avr.config.rows import SelectionConfig, TreeConfig, TreePairsConfig
from avr.config.run import AskingConfig
from avr.config.training import TrainingConfig
from avr.core.trajectory import PLAIN
from avr.plan.checks import check_rounds
from avr.plan.resources import gpus_of
from avr.rewards.reward import reward_of
from avr.run.recipe import Recipe, made_in
from avr.run.step import Step
from avr.steps.entrant import Entrant
from avr.steps.evaluate import Evaluate
from avr.steps.grow import Grow
from avr.steps.rows import Pair, Select, rules_of
from avr.steps.train import Train
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft


@dataclass
class Stage1Prompts:
    """Describe two prompt sets: `rsft` for the first training's trees, `dpo` for the second's."""

    rsft: PromptsConfig = field(default_factory=PromptsConfig)
    dpo: PromptsConfig = field(default_factory=PromptsConfig)


@dataclass
class Stage1Config(AskingConfig):
    """Configure Stage I: grow, select, RSFT, grow with the RSFT model, pair, DPO (-> evaluate).

    Without a `corrector` the policy corrects itself in the same pool, as the RSFT model does in
    the second growth. Without `evaluation` that step is left out; `queries` and `serving` are for
    that step alone, whose limits (deaths, clocks, parity) are those of `growth`.
    """

    prompts: Stage1Prompts = field(default_factory=Stage1Prompts)
    corrector: RoleConfig | None = None
    reward: RewardConfig = field(default_factory=RewardConfig)
    reward_model: RoleConfig | None = None
    tree: TreeConfig = field(default_factory=TreeConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    pairs: TreePairsConfig = field(default_factory=TreePairsConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig | None = None


SCHEMA = Stage1Config


def recipe(c: Stage1Config) -> Recipe:
    """Put Stage I's steps together. Raises ConfigError for rules that do not exist."""
    # One level has no turns before it to see.
    tree = replace(c.tree, context="answer")
    words, judge = templates_of(c.templates), reward_of(c.reward, c.reward_model)
    trees = Grow(
        "grow_rsft",
        c.prompts.rsft,
        c.policy,
        c.corrector,
        judge.for_trees(),
        words,
        tree,
        c.growth,
        c.seed,
        title="RSFT (seed policy)",
        prompts_at="prompts.rsft",
    )
    rules, kept = rules_of("selection", "rsft", c.selection), c.selection.kept_share
    how, flat = judge.combination, c.reward.length_calibrated
    rows = Select("select", trees, rules, words, how, flat, kept)
    rsft = Train("rsft", Rsft(), c.rsft, c.policy.model, rows)
    more = Grow(
        "grow_dpo",
        c.prompts.dpo,
        second_policy(c),
        None,
        judge.for_trees(),
        words,
        tree,
        replace(c.growth, first_answer=FirstAnswer.sampled),
        c.seed,
        weights=rsft,
        apart_from=(trees,),
        title="DPO (RSFT model)",
        prompts_at="prompts.dpo",
    )
    rules = rules_of("pairs", "pairs", c.pairs)
    pairs = Pair("pair", more, c.pairs.kinds, c.pairs.min_margin, rules, words, how, flat)
    dpo = Train("dpo", Dpo(), c.dpo, rsft, pairs)
    steps: list[Step] = [trees, rows, rsft, more, pairs, dpo]
    if c.evaluation is not None:
        steps.append(_evaluated(c, (rsft, dpo), (trees, more)))
    return Recipe("Stage I", tuple(steps))


def _evaluated(
    c: Stage1Config, trained: tuple[Train, ...], apart_from: tuple[Step, ...]
) -> Evaluate:
    """Evaluate the seed and the models that this run trains; each refines its own answers."""
    assert c.evaluation is not None
    rounds = c.evaluation.rounds
    check_rounds(rounds, ("seed", "rsft", "dpo"))
    asked = made_in(c, trained)
    entrants = [Entrant("seed", c.policy.model, Mode.refine, rounds.get("seed", 0))]
    entrants += [Entrant(one.name, one, Mode.refine, rounds.get(one.name, 0)) for one in asked]
    # Engines of the evaluation have the limits of the growths.
    limits = {each.name: getattr(c.growth, each.name) for each in fields(LimitsConfig)}
    return Evaluate.of(
        replace(c, queries=replace(c.queries, **limits)),
        "evaluate",
        c.evaluation.prompts,
        entrants,
        reward_of(c.reward, c.reward_model),
        PLAIN,
        TreeConfig(1, 1, c.tree.max_tries, c.tree.context),
        placement=c.growth.placement,
        apart_from=tuple(made_in(c, apart_from)),
        oracle=c.evaluation.oracle,
    )


def second_policy(c: Stage1Config) -> RoleConfig:
    """Return the policy's settings for the second growth, where it is its own corrector.

    The GPUs that the corrector held in the first growth go to more replicas of the policy. In waves
    both had the same GPUs, one after the other: nothing is freed.
    """
    policy, corrector = c.policy, c.corrector
    if c.growth.placement == Placement.waves:
        return policy
    if corrector is None or not policy.use_gpu or not corrector.use_gpu:
        return policy
    freed = corrector.max_replicas * gpus_of(corrector) / gpus_of(policy)
    return replace(policy, max_replicas=policy.max_replicas + math.floor(freed + 1e-6))
