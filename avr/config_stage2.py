"""Every knob of Stage II and of answering with its model; `avr.config` has the shared parts."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from avr.config import (
    FirstAnswer,
    LimitsConfig,
    PairsConfig,
    PromptsConfig,
    RoleConfig,
    RulesConfig,
    RunConfig,
    TrainingConfig,
    TreeConfig,
    at_least,
)
from avr.config_health import HealthConfig
from avr.core.own_judge import META_REQUEST


@dataclass
class QueriesConfig(LimitsConfig):
    """How Ray tasks work through queries that need several calls each (search, whole outputs).

    A task carries `queries_per_task` queries and runs them concurrently, each committed on its
    own. One query per task is possible, and then every process that runs tasks keeps a Serve
    router for a single query: on two cores, with the engines of the miniature world and 64
    queries, 1 gave 2.71 queries/s (2.28 to 2.86), 8 gave 3.29, 32 gave 3.26 and 64 gave 3.01
    (2.92 to 4.07 all three; `benchmarks/search.py`, medians of 3). So the number matters little
    above a few, where engines are the limit as here; 32 keeps routers few on a large cluster,
    and a lost task repeats only the queries it had not committed.
    `max_queries_in_flight` bounds the queries that run at a time over all tasks (one task always
    runs). Tasks take no more CPUs than the pools leave at their largest.
    """

    queries_per_task: int = at_least(1, 32)
    max_queries_in_flight: int = at_least(1, 256)
    cpus_per_task: float = at_least(0.01, 0.5)


@dataclass
class ServingConfig:
    """Pools of engines on Ray Serve; replicas per pool are those of the role.

    `max_ongoing_requests` per replica is far above what an engine batches at once, because its own
    scheduler batches better than a queue in front of it. Replicas are added, up to the role's
    `max_replicas`, while more than `target_ongoing_requests` run or wait per replica; half of the
    engine's `max_num_seqs` lets a second one start before the first is short of slots. (Serve
    LLM's defaults for both are 1e9: its autoscaling never fires.) A replica that is taken away has
    `graceful_shutdown_timeout_s` for the requests it holds; what it does not finish is retried.
    """

    max_ongoing_requests: int = at_least(1, 1024)
    target_ongoing_requests: float = at_least(1, 128.0)
    upscale_delay_s: float = at_least(0, 30.0)
    downscale_delay_s: float = at_least(0, 600.0)
    health_check_period_s: float = at_least(0.1, 10.0)
    health_check_timeout_s: float = at_least(0.1, 60.0)
    graceful_shutdown_timeout_s: float = at_least(0, 60.0)


@dataclass
class TrajectoryTemplateConfig:
    """The separators of a user's own trajectory template, white space included."""

    start: str = MISSING
    critique: str = MISSING
    refinement: str = MISSING
    end: str = MISSING


class Closing(Enum):
    """Which critique ends a trajectory: see `avr.core.search.closing_critique`."""

    best_refinement = "best_refinement"
    highest_rating = "highest_rating"


@dataclass
class TrajectoriesConfig(RulesConfig):
    """How searched trees become training rows.

    `template` names one of `templates` or of `avr.core.trajectory.TRAJECTORY_TEMPLATES`, or is
    `plain`: whole answers without thinking, for a baseline.
    `unchanged_share` of the rows may be traces in which nothing had to be changed (unless the rule
    `improved` is on). A turn whose reward does not rise by more than `min_gain` logits ends the
    trajectory as if it had not improved; 0 is the released rule. `closing` says which critique of
    that level stands at its end; unset, it is what the profile has.
    """

    template: str = "think"
    templates: dict[str, TrajectoryTemplateConfig] = field(default_factory=dict)
    unchanged_share: float = 0.1
    min_gain: float = at_least(0, 0.0)
    closing: Closing | None = None


@dataclass
class OutputsConfig:
    """Whole outputs of the recursive model (released: 5 per prompt).

    `sampling` replaces the policy's: a whole loop is several times as long as an answer.
    `max_tries` requests, the first included, until every output has a final answer, and a judgement
    its rating. With `judgements` the policy judges its outputs itself, each so often, instead of
    the reward model, and learns from its judgements as well; `meta_request` asks it to judge one
    (Meta-Rewarding).
    """

    num_outputs: int = at_least(2, 5)
    max_tries: int = at_least(1, 5)
    sampling: dict[str, Any] = field(default_factory=dict)
    judgements: int = at_least(0, 0)
    meta_request: str = META_REQUEST


@dataclass
class OutputPairsConfig(PairsConfig):
    """How many pairs are made of a prompt's outputs, and of all.

    With `per_prompt` 2 the second best and the second worst of a prompt make a pair as well, if the
    rules let it through, and so on. Of all these the first `max_pairs` are taken: best and worst of
    every prompt come before any second pair. Pairs of judgements are not counted.

    `malformed_share` of all pairs of outputs may have a malformed output as rejected, with the best
    output of its prompt as chosen (ours; 0: none, as released).
    """

    per_prompt: int = at_least(1, 1)
    max_pairs: int | None = at_least(1, None)
    malformed_share: float = at_least(0, 0.0)


@dataclass
class Stage2Prompts:
    """Two prompt sets: `search` for the trajectories, `sample` for the outputs of DPO's pairs."""

    search: PromptsConfig = field(default_factory=PromptsConfig)
    sample: PromptsConfig = field(default_factory=PromptsConfig)


@dataclass
class Stage2EvaluationConfig:
    """Held-out prompts answered by the seed policy, the Stage I model and both recursive models.

    `rounds` is r, for the seed (`seed_model`) and the Stage I model.
    """

    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    rounds: dict[str, int] = field(default_factory=lambda: {"seed": 0, "stage1": 2})
    oracle: str | None = None


class Start(Enum):
    """What RSFT trains on trajectories: the untrained policy, or the Stage I model that searched.

    The released scripts leave it to their user. The paper's counts (10k items for Stage II's RSFT
    beside 20k for Stage I, 14k with length control) read as `policy`. `stage1` is the default: in
    the miniature world its final model was ahead by 0.050 [0.031, 0.069] in quality, on one seed
    and with Stage I's rows behind it (docs/ablation).
    """

    policy = "policy"
    stage1 = "stage1"


STAGE2_STEPS = ("search", "unroll", "rsft", "sample", "pair", "dpo", "evaluate")


@dataclass
class Stage2Config(RunConfig):
    """Stage II: search -> unroll -> RSFT -> sample -> pair -> DPO (-> evaluate).

    `stage1_dir` is the run directory of Stage I: a recipe's `policy.model` is `${stage1_dir}/dpo`,
    and held-out prompts must not be among its prompts. `seed_model` is the untrained policy, from
    which Stage I started: `start: policy` trains it, and an evaluation compares with it.
    `first_answer` says where a search has its y0 from (released: `input`, the data set's own).
    `max_depth` is the number of turns a search may take (released: 5); `health` checks its first
    trees. Of the roles `max_rows_per_replica` plays no part here: see `queries`.
    """

    stage1_dir: str | None = None
    steps: list[str] = field(default_factory=lambda: list(STAGE2_STEPS))
    prompts: Stage2Prompts = field(default_factory=Stage2Prompts)
    policy: RoleConfig = field(default_factory=RoleConfig)
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    seed_model: str | None = None
    start: Start = Start.stage1
    first_answer: FirstAnswer = FirstAnswer.sampled
    tree: TreeConfig = field(default_factory=TreeConfig)
    max_depth: int = at_least(1, 5)
    queries: QueriesConfig = field(default_factory=QueriesConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    pairs: OutputPairsConfig = field(default_factory=OutputPairsConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: Stage2EvaluationConfig | None = None


@dataclass
class AnswerConfig(RunConfig):
    """Prompts answered by a recursive model: final answers and thinking apart."""

    steps: list[str] = field(default_factory=lambda: ["answer"])
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    policy: RoleConfig = field(default_factory=RoleConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    max_tries: int = at_least(1, 1)
    queries: QueriesConfig = field(default_factory=QueriesConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
