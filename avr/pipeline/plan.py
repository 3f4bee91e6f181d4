"""What each step needs before anything is started: pools, devices, requests per tree. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from avr.config import (
    ConfigError,
    FirstAnswer,
    GrowthConfig,
    Placement,
    PromptsConfig,
    RoleConfig,
    Stage1Config,
    TrainingConfig,
)
from avr.config_checks import check_values


@dataclass(frozen=True, slots=True)
class Pool:
    """Engines or training workers of one model: `cpus` and `gpus` are those of one replica.

    `samples` are texts generated, or conversations scored, per prompt (retries not counted; in an
    evaluation by all models). `trained`: the weights are those that RSFT makes of the model.
    `settings` are those of the role or the training that it is of.
    """

    name: str
    model: str
    min_replicas: int
    max_replicas: int
    cpus: float
    gpus: float
    samples: int = 0
    trained: bool = False
    settings: RoleConfig | TrainingConfig | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The pools of a step; `together` says whether all of them live at once or one by one.

    `reserve` CPUs are for what works between the pools. `waves`: they could run one by one.
    `whole`: texts are whole outputs, or some are, which are several times as long as a tree's.
    """

    step: str
    pools: tuple[Pool, ...]
    together: bool
    reserve: float = 1.0
    waves: bool = False
    whole: bool = False

    def least(self) -> tuple[float, float]:
        """(CPUs, GPUs) without which the step cannot run."""
        cpus = [p.min_replicas * p.cpus for p in self.pools]
        gpus = [p.min_replicas * p.gpus for p in self.pools]
        if self.together:
            return sum(cpus) + self.reserve, sum(gpus)
        return max(cpus) + self.reserve, max(gpus)

    def groups(self) -> tuple[tuple[Pool, ...], ...]:
        """Pools that must have room at the same time: all of them, or each alone where in waves.

        The reserve is in every group, as a pool of one replica.
        """
        reserve = (Pool("Ray tasks", "", 1, 1, self.reserve, 0.0),) if self.reserve else ()
        groups = (self.pools,) if self.together else tuple((pool,) for pool in self.pools)
        return tuple((*group, *reserve) for group in groups)


def plan_stage1(config: Stage1Config) -> list[StepPlan]:
    """Every step of Stage I that starts engines or workers. Raises ConfigError on nonsense."""
    check(config)
    together = config.growth.placement == Placement.resident
    width = config.tree.num_critiques * config.tree.num_refinements
    refining = config.tree.num_critiques + width
    sampled = config.growth.first_answer == FirstAnswer.sampled
    reward = engines("reward_model", config.reward_model, 1 + width)
    if config.corrector is None:
        first = [engines("policy", config.policy, sampled + refining)]
    else:
        first = [engines("corrector", config.corrector, refining)]
        first = [*([engines("policy", config.policy, 1)] if sampled else []), *first]
    second = engines("policy", second_policy(config), 1 + refining)
    steps = {
        "grow_rsft": StepPlan("grow_rsft", (*first, reward), together, waves=together),
        "rsft": StepPlan("rsft", (workers(config.policy.model, config.rsft),), True, 0.0),
        "grow_dpo": StepPlan(
            "grow_dpo",
            (replace(second, trained=True), reward),
            together,
            waves=together,
        ),
        "dpo": StepPlan(
            "dpo", (workers(config.policy.model, config.dpo, trained=True),), True, 0.0
        ),
    }
    if config.evaluation is not None:
        rounds = [config.evaluation.rounds.get(name, 0) for name in ("seed", "rsft", "dpo")]
        pools = (
            engines("policy", config.policy, sum(1 + 2 * r for r in rounds)),
            engines("reward_model", config.reward_model, sum(1 + r for r in rounds)),
        )
        steps["evaluate"] = StepPlan("evaluate", pools, together, waves=together)
    return [step for name, step in steps.items() if name in config.steps]


def prompts_stage1(config: Stage1Config) -> dict[str, tuple[str, PromptsConfig]]:
    """For each step, the step that reads the prompts it depends on, and which."""
    sets = {
        "grow_rsft": ("grow_rsft", config.prompts.rsft),
        "rsft": ("grow_rsft", config.prompts.rsft),
        "grow_dpo": ("grow_dpo", config.prompts.dpo),
        "dpo": ("grow_dpo", config.prompts.dpo),
    }
    if config.evaluation is not None:
        sets["evaluate"] = ("evaluate", config.evaluation.prompts)
    return {step: read for step, read in sets.items() if step in config.steps}


def second_policy(config: Stage1Config) -> RoleConfig:
    """The policy's settings for the second growth, where it is its own corrector.

    The GPUs that the corrector held in the first growth go to more replicas of the policy.
    """
    policy, corrector = config.policy, config.corrector
    if corrector is None or not policy.use_gpu or not corrector.use_gpu:
        return policy
    freed = corrector.max_replicas * gpus_of(corrector) / gpus_of(policy)
    return replace(policy, max_replicas=policy.max_replicas + math.floor(freed + 1e-6))


def check(config: Stage1Config) -> None:
    """Raise ConfigError for values that no type can exclude."""
    check_values(config)
    roles = {"policy": config.policy, "reward_model": config.reward_model}
    roles |= {"corrector": config.corrector} if config.corrector else {}
    check_replicas(roles)
    sets = {"grow_rsft": ("prompts.rsft", config.prompts.rsft)}
    sets |= {"grow_dpo": ("prompts.dpo", config.prompts.dpo)}
    if config.evaluation:
        sets |= {"evaluate": ("evaluation.prompts", config.evaluation.prompts)}
    for step, (name, prompts) in sets.items():
        if step in config.steps and not prompts.path:
            raise ConfigError(f"{name}.path is not set, and step {step} needs it")
    if config.evaluation:
        check_rounds(config.evaluation.rounds, ("seed", "rsft", "dpo"))


def rows_per_block(config: GrowthConfig, pools: Sequence[RoleConfig]) -> int:
    """Trees that travel together: what is asked for, else an eighth of the number of all engines.

    Then 8 at the least, and at most half of what one replica has in flight. A block passes the
    driver once for each operator, however few trees it holds, which is the first thing to fill up
    on a large cluster. A large block waits longer for its last tree, and so for the next operator.
    """
    if config.rows_per_block is not None:
        return config.rows_per_block
    num_engines = sum(pool.max_replicas for pool in pools)
    most = min(pool.max_rows_per_replica for pool in pools) // 2
    return max(1, min(max(8, num_engines // 8), most))


def check_rounds(rounds: Mapping[str, int], models: Sequence[str]) -> None:
    """Raise ConfigError for rounds of a model that is not evaluated, or fewer than none."""
    for name, number in rounds.items():
        if name not in models:
            raise ConfigError(f"evaluation.rounds.{name}: there are {', '.join(models)}")
        if number < 0:
            raise ConfigError(f"evaluation.rounds.{name} is {number}, must be at least 0")


def check_replicas(roles: Mapping[str, RoleConfig]) -> None:
    """Raise ConfigError for numbers of replicas, or shares of GPUs, that cannot be."""
    for name, role in roles.items():
        if role.gpu_share > 1:
            raise ConfigError(
                f"{name}.gpu_share is {role.gpu_share:g}, must be at most 1: an engine takes more "
                f"GPUs by {name}.engine.tensor_parallel_size"
            )
        if role.gpu_share < 1:
            _check_share(name, role)
        if role.max_replicas < role.min_replicas:
            raise ConfigError(
                f"{name}.max_replicas {role.max_replicas} < min_replicas {role.min_replicas}"
            )


def _check_share(name: str, role: RoleConfig) -> None:
    words = f"{name}.gpu_share is {role.gpu_share:g}, and"
    if not role.use_gpu:
        raise ConfigError(f"{words} {name}.use_gpu is false")
    if role.engine.get("tensor_parallel_size", 1) != 1:
        raise ConfigError(f"{words} its engine is tensor-parallel")
    # vLLM does not start where less is free than this share, 0.92 unless it is told another.
    memory = role.engine.get("gpu_memory_utilization")
    if memory is None or not memory <= role.gpu_share:
        raise ConfigError(
            f"{words} {name}.engine.gpu_memory_utilization is {memory or 'not set'}: it must be at "
            "most that share"
        )


def engines(name: str, role: RoleConfig, samples: int) -> Pool:
    """The pool of a role."""
    return Pool(
        name,
        role.model,
        role.min_replicas,
        role.max_replicas,
        role.num_cpus,
        gpus_of(role),
        samples,
        settings=role,
    )


def workers(model: str, training: TrainingConfig, trained: bool = False) -> Pool:
    """The worker group of a training job; `trained`: by RSFT before."""
    resources = training.resources_per_worker
    gpus = resources.get("GPU", 1.0 if training.use_gpu else 0.0)
    count = training.num_workers
    cpus = resources.get("CPU", 1.0)
    name = "training worker"
    return Pool(name, model, count, count, cpus, gpus, trained=trained, settings=training)


def gpus_of(role: RoleConfig) -> float:
    """GPUs of one replica, all inside one node: the tensor-parallel size, or a share of one."""
    if not role.use_gpu:
        return 0.0
    return int(role.engine.get("tensor_parallel_size", 1)) * role.gpu_share


def devices(plan: StepPlan) -> float:
    """The devices a step takes at its most: GPUs, or engines and workers that have none."""
    counts = [pool.max_replicas * (pool.gpus or 1.0) for pool in plan.pools]
    return sum(counts) if plan.together else max(counts)
