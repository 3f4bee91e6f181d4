"""Configure Stage II."""

from dataclasses import dataclass, field
from enum import Enum

from avr.config.answers import Stage2EvaluationConfig
from avr.config.fields import at_least
from avr.config.health import HealthConfig
from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer, RoleConfig
from avr.config.rows import (
    OutputPairsConfig,
    OutputsConfig,
    TrajectoriesConfig,
    TreeConfig,
)
from avr.config.run import AskingConfig
from avr.config.training import TrainingConfig


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
class Stage2Config(AskingConfig):
    """Configure Stage II: search, unroll, RSFT, sample, pair, DPO (-> evaluate).

    `stage1_dir` is the run directory of Stage I: a recipe's `policy.model` is `${stage1_dir}/dpo`,
    and held-out prompts must not be among its prompts. `seed_model` is the untrained policy that
    Stage I started from: `start: policy` trains it, and an evaluation compares with it.
    `first_answer` is the source of a search's y0 (released: `input`, the data set's own answer).
    `max_depth` is the number of turns that a search may take (released: 5); `health` checks its
    first trees. A role's `max_rows_per_replica` has no effect here: see `queries`.
    """

    stage1_dir: str | None = None
    prompts: Stage2Prompts = field(default_factory=Stage2Prompts)
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    seed_model: str | None = None
    start: Start = Start.stage1
    first_answer: FirstAnswer = FirstAnswer.sampled
    tree: TreeConfig = field(default_factory=TreeConfig)
    max_depth: int = at_least(1, 5)
    health: HealthConfig = field(default_factory=HealthConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    pairs: OutputPairsConfig = field(default_factory=OutputPairsConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: Stage2EvaluationConfig | None = None
