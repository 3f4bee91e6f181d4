"""Every knob of every job, its type and its one default; files in conf/ hold only what differs.

`avr.loading.load` merges defaults, a file and overrides. Settings of vLLM, TRL and DeepSpeed pass
through under their own names.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from avr.config_health import HealthConfig
from avr.core.prompts import CRITIQUE_REQUEST, REFINE_REQUEST, Context


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says where and what would be right."""


def at_least(least: float, default: Any) -> Any:
    """A field whose value must not be below `least`; None, where the type has it, is fine."""
    return field(default=default, metadata={"least": least})


MAX_SEED = 2**64 - 1


def seed_field() -> Any:
    """A field for the seed of a run: 0 to `MAX_SEED`."""
    return field(default=0, metadata={"least": 0, "most": MAX_SEED})


class Placement(Enum):
    """`resident`: all pools live, trees stream. `waves`: one model at a time on all devices."""

    resident = "resident"
    waves = "waves"


class FirstAnswer(Enum):
    """Where y0 comes from: sampled from the policy, or the answer the input row brought along."""

    sampled = "sampled"
    input = "input"


class Resume(Enum):
    """Whether a run directory may, or must, hold a run already."""

    never = "never"
    always = "always"
    if_possible = "if_possible"


@dataclass
class PromptsConfig:
    """A prompt set: Parquet, JSONL or JSON files, or `hf://DATASET` (`split`, `subset`).

    `path` is a file, a folder or a pattern (`data/*.jsonl`); files are read in the order of names.
    Of a folder, files and folders whose names begin with a dot or an underscore are no part.
    `prompt_field` holds a text or a list of chat messages; `answer_field` (optional) a text or
    messages whose last assistant turn is taken. `limit` takes the first so many rows.
    """

    path: str | None = None
    prompt_field: str = "prompt"
    answer_field: str | None = None
    split: str = "train"
    subset: str | None = None
    skip: int = at_least(0, 0)
    limit: int | None = at_least(1, None)


@dataclass
class TemplatesConfig:
    """The words around the models' texts, everywhere (see `avr.core.prompts`)."""

    critique_request: str = CRITIQUE_REQUEST
    refine_request: str = REFINE_REQUEST
    system: str = ""


@dataclass
class RoleConfig:
    """One model and the pool of engines that serves it.

    `model` is a folder or a hub name, which may end in `@REVISION` (a commit, tag or branch):
    engine, tokenizer, reward check and training all read that one. `engine` holds vLLM's
    AsyncEngineArgs, `sampling` its SamplingParams, under their own names. A replica takes
    `num_cpus` CPUs and, where `use_gpu`, `engine.tensor_parallel_size` GPUs of one node, or a
    `gpu_share` of one (conf/miniature/one_gpu.yaml says what vLLM must know then), and has
    `max_rows_per_replica` trees in flight at a time.
    """

    model: str = MISSING
    min_replicas: int = at_least(1, 1)
    max_replicas: int = at_least(1, 1)
    num_cpus: float = at_least(0, 1.0)
    use_gpu: bool = True
    gpu_share: float = at_least(0.01, 1.0)
    max_rows_per_replica: int = at_least(1, 128)
    trust_remote_code: bool = False
    engine: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class TreeConfig:
    """Shape of a level (paper: 2 x 2), and the tries for a malformed sample (released: 5).

    `context` is what a critique and a refinement see from the second level on, in a search and
    where a model refines answers in several rounds: `answer` (released) the query and the current
    answer, `history` (paper) also all that led to it. Stage I's growths have one level only.
    """

    num_critiques: int = at_least(1, 2)
    num_refinements: int = at_least(1, 2)
    max_tries: int = at_least(1, 5)
    context: Context = "answer"


@dataclass
class LimitsConfig:
    """When a step that uses engines gives up.

    `max_engine_deaths` per role end the job, with the cause. `no_progress_timeout_s` ends one in
    which no tree or query advanced while every role had an engine; `start_timeout_s` one in which a
    role had none (downloads, loading, compiling), and is how long a request waits for another.
    `parity_tolerance` is how far rewards may lie from those of Hugging Face, in logits.
    """

    max_engine_deaths: int = at_least(1, 5)
    no_progress_timeout_s: float = at_least(1, 1800.0)
    start_timeout_s: float = at_least(1, 3600.0)
    parity_tolerance: float = at_least(0, 0.05)


@dataclass
class GrowthConfig(LimitsConfig):
    """How trees are grown: placement, where y0 comes from, and what is committed at a time.

    `rows_per_block` trees travel and are committed together: what a kill can cost. Each block costs
    the driver some CPU, so by default blocks grow with the pools (`plan.rows_per_block`).
    """

    placement: Placement = Placement.resident
    first_answer: FirstAnswer = FirstAnswer.sampled
    rows_per_block: int | None = at_least(1, None)
    health: HealthConfig = field(default_factory=HealthConfig)


@dataclass
class RulesConfig:
    """A profile of named rules (as_released, as_paper, recommended) and single switches over it."""

    profile: str = "recommended"
    switches: dict[str, bool] = field(default_factory=dict)


@dataclass
class PairsConfig(RulesConfig):
    """Rules for pairs, whose rewards are to differ by more than `min_margin` (0 is the method's).

    It is in the reward model's logits, or in ratings where a policy judges its own answers. Pairs
    of such judgements need any difference only.
    """

    min_margin: float = at_least(0, 0.0)


@dataclass
class TreePairsConfig(PairsConfig):
    """Which kinds of pairs are made of a tree."""

    kinds: list[str] = field(default_factory=lambda: ["generation", "critique", "refinement"])


def _zero3() -> dict[str, Any]:
    return {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "bf16": {"enabled": "auto"},
    }


@dataclass
class TrainingConfig:
    """One training job on Ray Train: `num_workers` ranks under DeepSpeed.

    `trl` holds SFTConfig or DPOConfig fields and `deepspeed` a DeepSpeed configuration, under their
    own names. A checkpoint is written every `checkpoint_every_s`, counted from the end of the last
    one, and at the earliest after ten times what that took to write; `trl.save_steps` or
    `trl.save_strategy` have it written by steps instead. `save_dtype` (bfloat16, float16, float32)
    casts the saved weights; unset, they stay as trained. `max_failures` worker-group restarts from
    the last checkpoint, preemptions (-1: any number) not counted. `trackers`: tensorboard, wandb,
    mlflow. `simpo_margin` (of DPO) makes it SimPO: no reference model, rewards are beta times the
    mean log-probability of a token, and the chosen one's is to be ahead by this gamma;
    `trl.loss_type` is `sigmoid_norm` then.
    """

    num_workers: int = at_least(1, 8)
    use_gpu: bool = True
    resources_per_worker: dict[str, float] = field(default_factory=dict)
    max_failures: int = at_least(0, 2)
    max_preemption_failures: int = at_least(-1, -1)
    trl: dict[str, Any] = field(default_factory=dict)
    deepspeed: dict[str, Any] = field(default_factory=_zero3)
    checkpoint_every_s: float = at_least(0, 600.0)
    save_dtype: str | None = None
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    simpo_margin: float | None = at_least(0, None)


@dataclass
class EvaluationConfig:
    """Held-out prompts answered by the seed policy and both trained models, refined r times.

    `oracle` names a function `(prompt, answer) -> quality in [0, 1]` as "module:function", for
    worlds where the truth is known. `rounds` is r of the trained models, by step.
    """

    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    rounds: dict[str, int] = field(default_factory=lambda: {"seed": 1, "rsft": 1, "dpo": 2})
    oracle: str | None = None


@dataclass
class Stage1Prompts:
    """Two prompt sets: `rsft` grows the trees of the first training, `dpo` those of the second."""

    rsft: PromptsConfig = field(default_factory=PromptsConfig)
    dpo: PromptsConfig = field(default_factory=PromptsConfig)


@dataclass
class BudgetConfig:
    """What a run may spend, all its jobs together.

    After `max_device_hours` (GPUs, or engines and workers without one) a job stops at the next
    commit of trees or queries, or before the next step. Training is not interrupted.
    """

    max_device_hours: float | None = at_least(0, None)


@dataclass
class RunConfig:
    """What every job has. A run directory belongs to one configuration and is continued by it.

    `resume` says whether the directory may hold a run already (`if_possible`), must (`always`: a
    mistyped run_dir starts nothing) or must not (`never`); under other settings than before none
    is continued. Each step waits until the cluster has room for all that it needs at once, saying
    what is missing; after `placement_timeout_s` the job ends. `ray` goes to `ray.init` of a
    cluster that the job starts for itself. `gpu_memory_gib` is the memory of one GPU; unset, it is
    that of the GPUs of the machine that the job is started on, if it has any.
    """

    run_dir: str = MISSING
    seed: int = seed_field()
    steps: list[str] = field(default_factory=list)
    templates: TemplatesConfig = field(default_factory=TemplatesConfig)
    resume: Resume = Resume.if_possible
    placement_timeout_s: float = at_least(1, 3600.0)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    gpu_memory_gib: float | None = at_least(1, None)
    ray: dict[str, Any] = field(default_factory=dict)


STEPS = ("grow_rsft", "select", "rsft", "grow_dpo", "pair", "dpo", "evaluate")


@dataclass
class Stage1Config(RunConfig):
    """Stage I: grow -> select -> RSFT -> grow with the RSFT model -> pair -> DPO (-> evaluate).

    Without a `corrector` the policy corrects itself in the same pool, as the RSFT model does in
    the second growth. Without `evaluation` that step is left out.
    """

    steps: list[str] = field(default_factory=lambda: list(STEPS))
    prompts: Stage1Prompts = field(default_factory=Stage1Prompts)
    policy: RoleConfig = field(default_factory=RoleConfig)
    corrector: RoleConfig | None = None
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    tree: TreeConfig = field(default_factory=TreeConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    selection: RulesConfig = field(default_factory=RulesConfig)
    pairs: TreePairsConfig = field(default_factory=TreePairsConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig | None = None
