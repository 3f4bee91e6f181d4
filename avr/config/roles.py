"""Describe models, the pools that serve them, and how growths and queries use these."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from avr.config.fields import at_least, decides_by, speed_only
from avr.config.health import HealthConfig


class Placement(Enum):
    """`resident`: all pools live, trees stream. `waves`: one model at a time on all devices."""

    resident = "resident"
    waves = "waves"


class FirstAnswer(Enum):
    """Where y0 comes from: sampled from the policy, or the answer the input row brought along."""

    sampled = "sampled"
    input = "input"


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

    model: str = decides_by("weights", default=MISSING)
    min_replicas: int = at_least(1, 1, speed=True)
    max_replicas: int = at_least(1, 1, speed=True)
    num_cpus: float = at_least(0, 1.0, speed=True)
    use_gpu: bool = speed_only(default=True)
    gpu_share: float = at_least(0.01, 1.0, speed=True)
    max_rows_per_replica: int = at_least(1, 128, speed=True)
    trust_remote_code: bool = speed_only(default=False)
    engine: dict[str, Any] = decides_by("texts", default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = speed_only(default_factory=dict)


@dataclass
class LimitsConfig:
    """When a step that uses engines gives up.

    `max_engine_deaths` per role end the job, with the cause. `no_progress_timeout_s` ends one in
    which no tree or query advanced while every role had an engine; `start_timeout_s` one in which a
    role had none (downloads, loading, compiling), and is how long a request waits for another.
    `parity_tolerance` is how far rewards may lie from those of Hugging Face, in logits.
    """

    max_engine_deaths: int = at_least(1, 5, speed=True)
    no_progress_timeout_s: float = at_least(1, 1800.0, speed=True)
    start_timeout_s: float = at_least(1, 3600.0, speed=True)
    parity_tolerance: float = at_least(0, 0.05, speed=True)


@dataclass
class GrowthConfig(LimitsConfig):
    """How trees are grown: placement, where y0 comes from, and what is committed at a time.

    `rows_per_block` trees travel and are committed together: what a kill can cost. Each block costs
    the driver some CPU, so by default blocks grow with the pools (`plan.rows_per_block`).
    """

    placement: Placement = speed_only(default=Placement.resident)
    first_answer: FirstAnswer = FirstAnswer.sampled
    rows_per_block: int | None = at_least(1, None, speed=True)
    health: HealthConfig = speed_only(default_factory=HealthConfig)


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

    queries_per_task: int = at_least(1, 32, speed=True)
    max_queries_in_flight: int = at_least(1, 256, speed=True)
    cpus_per_task: float = at_least(0.01, 0.5, speed=True)


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

    max_ongoing_requests: int = at_least(1, 1024, speed=True)
    target_ongoing_requests: float = at_least(1, 128.0, speed=True)
    upscale_delay_s: float = at_least(0, 30.0, speed=True)
    downscale_delay_s: float = at_least(0, 600.0, speed=True)
    health_check_period_s: float = at_least(0.1, 10.0, speed=True)
    health_check_timeout_s: float = at_least(0.1, 60.0, speed=True)
    graceful_shutdown_timeout_s: float = at_least(0, 60.0, speed=True)
