"""Run Stage II: search -> unroll -> RSFT -> sample -> pair -> DPO (-> evaluate)."""

from dataclasses import dataclass, field, replace
from enum import Enum

from avr.config.answers import EvaluationConfig, Mode
from avr.config.errors import ConfigError
from avr.config.fields import at_least
from avr.config.health import HealthConfig
from avr.config.prompts import PromptsConfig, templates_of
from avr.config.rewards import RewardConfig
from avr.config.roles import CorrectingConfig, FirstAnswer, RoleConfig
from avr.config.rows import (
    OutputPairsConfig,
    OutputsConfig,
    TrajectoriesConfig,
    TreeConfig,
    template_of,
)
from avr.config.run import AskingConfig
from avr.config.training import TrainingConfig
from avr.engines.model_config import folder_of
from avr.plan.checks import check_rounds
from avr.rewards.reward import reward_of
from avr.rows.rules import CLOSINGS
from avr.run.recipe import Recipe, made_in
from avr.run.step import Step
from avr.steps.entrant import Entrant
from avr.steps.evaluate import Evaluate
from avr.steps.rows import PairOutputs, Unroll, rules_of
from avr.steps.sample import Sample
from avr.steps.search import Search
from avr.steps.train import Train
from avr.storage import location
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft


@dataclass
class Stage2Prompts:
    """Describe two prompt sets: `search` for trajectories, `sample` for outputs in DPO pairs."""

    search: PromptsConfig = field(default_factory=PromptsConfig)
    sample: PromptsConfig = field(default_factory=PromptsConfig)


class Start(Enum):
    """Name the models that RSFT can start from: the untrained policy, or the Stage I model.

    The Stage I model has done the search. The released scripts leave the choice to their user. The
    paper's counts (10k items for Stage II's RSFT beside 20k for Stage I, 14k with length control)
    point to `policy`. `stage1` is the default: in the miniature world its final model was ahead by
    0.050 [0.031, 0.069] in quality, on one seed and with Stage I's rows behind it
    (docs/evidence/ablation).
    """

    policy = "policy"
    stage1 = "stage1"


@dataclass
class Stage2EvaluationConfig(EvaluationConfig):
    """Configure an evaluation in which four models answer held-out prompts.

    They are the seed policy, the Stage I model and both recursive models. `rounds` holds r, the
    rounds of refinement, for the seed (`seed_model`) and the Stage I model.
    """

    rounds: dict[str, int] = field(default_factory=lambda: {"seed": 0, "stage1": 2})


@dataclass
class Stage2Config(AskingConfig):
    """Configure Stage II: search, unroll, RSFT, sample, pair, DPO (-> evaluate).

    `stage1_dir` is the run directory of Stage I: a recipe's `policy.model` is `${stage1_dir}/dpo`,
    and held-out prompts must not be among its prompts. `seed_model` is the untrained policy that
    Stage I started from: `start: policy` trains it, and an evaluation compares with it.
    `first_answer` is the source of a search's y0 (released: `input`, the data set's own answer).
    `max_depth` is the number of turns that a search may take (released: 5); `correcting` says what
    of the truth the search's corrector sees, and `health` checks its first trees. A role's
    `max_rows_per_replica` has no effect here: see `queries`.
    """

    stage1_dir: str | None = None
    prompts: Stage2Prompts = field(default_factory=Stage2Prompts)
    reward: RewardConfig = field(default_factory=RewardConfig)
    reward_model: RoleConfig | None = None
    seed_model: str | None = None
    start: Start = Start.stage1
    first_answer: FirstAnswer = FirstAnswer.sampled
    tree: TreeConfig = field(default_factory=TreeConfig)
    max_depth: int = at_least(1, 5)
    correcting: CorrectingConfig = field(default_factory=CorrectingConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    pairs: OutputPairsConfig = field(default_factory=OutputPairsConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: Stage2EvaluationConfig | None = None


SCHEMA = Stage2Config


def recipe(c: Stage2Config) -> Recipe:
    """Put Stage II's steps together. Raises ConfigError for a model or rules that do not exist."""
    if c.prompts.sample.path and not (c.prompts.search.path or c.stage1_dir):
        raise ConfigError(
            "prompts.search.path is not set: which queries are to be searched? A baseline, which"
            " only samples answers, is trained by jobs/baseline.py"
        )
    words, rules = templates_of(c.templates), c.trajectories
    judge = reward_of(c.reward, c.reward_model)
    template, oracle = template_of(rules), c.evaluation.oracle if c.evaluation else None
    trees = Search(
        "search",
        c.prompts.search,
        c.policy,
        judge,
        words,
        c.tree,
        c.max_depth,
        c.first_answer,
        c.seed,
        c.queries,
        c.serving,
        c.correcting,
        c.health,
        oracle,
    )
    rows = Unroll(
        "unroll",
        trees,
        rules_of("trajectories", "trajectories", rules),
        template,
        rules.closing or CLOSINGS[rules.profile],
        rules.unchanged_share,
        rules.min_gain,
        words,
    )
    base, at = start_model(c)
    rsft = Train("rsft", Rsft(), c.rsft, base, rows, at)
    outputs = Sample(
        "sample",
        c.prompts.sample,
        c.policy,
        judge,
        words,
        template,
        c.outputs,
        c.seed,
        c.queries,
        c.serving,
        weights=rsft,
        apart_from=(trees,),
        title="Whole outputs (RSFT model)",
        oracle=oracle,
    )
    pairs = PairOutputs("pair", outputs, rules_of("pairs", "outputs", c.pairs), c.pairs, words)
    dpo = Train("dpo", Dpo(), c.dpo, rsft, pairs, at)
    steps: list[Step] = [trees, rows, rsft, outputs, pairs, dpo]
    if c.evaluation is not None:
        steps.append(_evaluated(c, (rsft, dpo), (trees, outputs)))
    return Recipe("Stage II", tuple(steps), ready=lambda: check_stage1(c))


def start_model(c: Stage2Config) -> tuple[str, str]:
    """Return the model that RSFT starts from, and the setting that names it. Raises ConfigError."""
    if c.start == Start.stage1:
        return c.policy.model, "policy.model"
    if c.seed_model is None:
        raise ConfigError("start is 'policy', but seed_model is not set: name the untrained model")
    return c.seed_model, "seed_model"


def check_stage1(c: Stage2Config) -> None:
    """Raise ConfigError where Stage I has not left the model that searches."""
    model = c.policy.model
    if c.stage1_dir is None:
        if model.startswith("None/"):
            raise ConfigError(f"policy.model is {model!r}: stage1_dir is not set")
        return
    if not location(c.stage1_dir).is_dir():
        raise ConfigError(
            f"stage1_dir: no folder {c.stage1_dir}; jobs/stage1.py makes one, and "
            "stage1_dir=DIR names another"
        )
    inside = model.startswith(f"{c.stage1_dir.rstrip('/')}/")
    # On a store a model arrives file by file, and its record last.
    last = "training.json" if "://" in model else "config.json"
    if inside and not (location(model) / last).exists():
        raise ConfigError(f"no model at {model}: Stage I has not come to its end there")


def _evaluated(
    c: Stage2Config, trained: tuple[Train, ...], apart_from: tuple[Step, ...]
) -> Evaluate:
    """Evaluate the seed and Stage I's model, which refine when asked, and Stage II's models.

    The latter refine unasked, in one output.
    """
    assert c.evaluation is not None
    rounds = c.evaluation.rounds
    check_rounds(rounds, ("seed", "stage1"))
    refining = {
        "seed": (c.seed_model or "", "seed_model"),
        "stage1": (c.policy.model, "policy.model"),
    }
    entrants = [
        Entrant(name, model, Mode.refine, rounds.get(name, 0), at=at)
        for name, (model, at) in refining.items()
    ]
    entrants += [
        Entrant(
            f"stage2 {one.name}",
            one,
            Mode.recursive,
            sampling=c.outputs.sampling,
            sampling_at="outputs.sampling",
        )
        for one in made_in(c, trained)
    ]
    return Evaluate.of(
        c,
        "evaluate",
        c.evaluation.prompts,
        entrants,
        reward_of(c.reward, c.reward_model),
        template_of(c.trajectories),
        TreeConfig(1, 1, c.tree.max_tries, c.tree.context),
        apart_from=tuple(made_in(c, apart_from)),
        used_in=(c.stage1_dir,) if c.stage1_dir else (),
        oracle=c.evaluation.oracle,
    )


def planned(c: Stage2Config) -> Stage2Config:
    """Return a configuration to plan with before Stage I has run.

    The seed stands in the place of the model that Stage I has yet to leave.
    """
    folder = folder_of(c.policy.model)
    if c.seed_model is None or folder is None or (folder / "config.json").exists():
        return c
    print(f"no model at {folder} yet; planned with seed_model ({c.seed_model}) in its place")
    return replace(c, policy=replace(c.policy, model=c.seed_model))
