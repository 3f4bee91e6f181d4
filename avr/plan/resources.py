"""Plan what each step needs before anything starts: pools, devices, requests per tree. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from avr.config.roles import GrowthConfig, RoleConfig
from avr.config.training import TrainingConfig
from avr.training.methods.method import Method


@dataclass(frozen=True, slots=True)
class Pool:
    """Describe engines or training workers of one model; `cpus` and `gpus` are per replica.

    `samples` are texts generated, or conversations scored, per prompt (without retries; in an
    evaluation by all models). `trained`: the weights are those that RSFT makes of the model.
    `settings` are those of the pool's role or training, and `method` is the training's.
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
    method: Method | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Hold the pools of a step; `together` says whether all live at once or one by one.

    `reserve` CPUs are for the tasks between the pools. `waves`: the pools could run one by one.
    `whole`: texts are whole outputs, or some are; these are several times as long as a tree's.
    """

    step: str
    pools: tuple[Pool, ...]
    together: bool
    reserve: float = 1.0
    waves: bool = False
    whole: bool = False

    def least(self) -> tuple[float, float]:
        """Return (CPUs, GPUs) without which the step cannot run."""
        cpus = [p.min_replicas * p.cpus for p in self.pools]
        gpus = [p.min_replicas * p.gpus for p in self.pools]
        if self.together:
            return sum(cpus) + self.reserve, sum(gpus)
        return max(cpus) + self.reserve, max(gpus)

    def groups(self) -> tuple[tuple[Pool, ...], ...]:
        """Return pools that need room at the same time: all of them, or each alone where in waves.

        The reserve is in every group, as a pool of one replica.
        """
        reserve = (Pool("Ray tasks", "", 1, 1, self.reserve, 0.0),) if self.reserve else ()
        groups = (self.pools,) if self.together else tuple((pool,) for pool in self.pools)
        return tuple((*group, *reserve) for group in groups)


def rows_per_block(config: GrowthConfig, pools: Sequence[RoleConfig]) -> int:
    """Return how many trees travel together: as asked for, else an eighth of all engines' number.

    In the second case it is at least 8, and at most half of what one replica has in flight. A block
    passes the driver once for each operator, however few trees it holds, and on a large cluster the
    driver is the first thing to fill up. A large block waits longer for its last tree, and so for
    the next operator.
    """
    if config.rows_per_block is not None:
        return config.rows_per_block
    num_engines = sum(pool.max_replicas for pool in pools)
    most = min(pool.max_rows_per_replica for pool in pools) // 2
    return max(1, min(max(8, num_engines // 8), most))


def engines(name: str, role: RoleConfig, samples: int) -> Pool:
    """Make the pool of a role."""
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


def workers(model: str, method: Method, training: TrainingConfig, trained: bool = False) -> Pool:
    """Make the worker group of a training job; `trained`: the model was trained by RSFT before."""
    resources = training.resources_per_worker
    gpus = resources.get("GPU", 1.0 if training.use_gpu else 0.0)
    count = training.num_workers
    cpus = resources.get("CPU", 1.0)
    name = "training worker"
    return Pool(
        name, model, count, count, cpus, gpus, trained=trained, settings=training, method=method
    )


def gpus_of(role: RoleConfig) -> float:
    """Return the GPUs of one replica, all in one node: the tensor-parallel size, or a share."""
    if not role.use_gpu:
        return 0.0
    return int(role.engine.get("tensor_parallel_size", 1)) * role.gpu_share


def devices(plan: StepPlan) -> float:
    """Return the devices a step takes at its most: GPUs, or engines and workers without any."""
    counts = [pool.max_replicas * (pool.gpus or 1.0) for pool in plan.pools]
    return sum(counts) if plan.together else max(counts)
