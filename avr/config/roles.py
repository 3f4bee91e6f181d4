"""Configure models, the pools or servers that have them, and growths and queries on pools."""

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from omegaconf import MISSING

from avr.config.errors import ConfigError
from avr.config.fields import at_least, decides_by, speed_only
from avr.config.health import HealthConfig


class Placement(Enum):
    """Name the ways to place models on devices.

    `resident`: all pools live, and trees stream through them. `waves`: one model at a time has all
    devices.
    """

    resident = "resident"
    waves = "waves"


def is_reward_model(role: str) -> bool:
    """Say whether the models of a role score; those of all other roles generate.

    A role is told by its name: `reward_model`, or `judge.reward_model` where a setting names it.
    """
    return role.rpartition(".")[2] == "reward_model"


class FirstAnswer(Enum):
    """Name the sources of y0: sampled from the policy, or the answer in the input row."""

    sampled = "sampled"
    input = "input"


@dataclass
class RoleConfig:
    """Configure one model and the pool of engines that serves it.

    `model` is a folder or a hub name, which may end in `@REVISION` (a commit, tag or branch):
    engine, tokenizer, reward check and training all read that revision. `engine` holds vLLM's
    AsyncEngineArgs, `sampling` its SamplingParams, under their own names. A replica takes
    `num_cpus` CPUs. With `use_gpu` it also takes `engine.tensor_parallel_size` GPUs of one node, or
    a `gpu_share` of one GPU (conf/miniature/one_gpu.yaml says what vLLM must know then). A replica
    has `max_rows_per_replica` trees in flight at a time.
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


OPENAI = "https://api.openai.com/v1"


@dataclass
class EndpointConfig:
    """Describe an OpenAI-compatible server that is asked for judgements.

    `api_key_variable` names the environment variable that holds the key. Unset, it is
    OPENAI_API_KEY for OpenAI's own address; for any other address no key is sent. `request`
    (temperature, max_tokens, ...) goes into each request under the server's own names. A request
    is repeated `max_retries` times after a lost connection, a server's error or a rate limit.
    """

    base_url: str = OPENAI
    model: str | None = None
    api_key_variable: str | None = speed_only(default=None)
    request: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.0})
    max_retries: int = at_least(0, 6, speed=True)
    timeout_s: float = at_least(1, 300.0, speed=True)

    @property
    def key_variable(self) -> str | None:
        """Return the environment variable that holds the key; None where no key is sent."""
        if self.api_key_variable is None and self.base_url.rstrip("/") == OPENAI:
            return "OPENAI_API_KEY"
        return self.api_key_variable or None

    def check_address(self, at: str) -> None:
        """Raise ConfigError for a malformed address, or one that a key would go to unencrypted.

        `at` is the place of these settings in the configuration.
        """
        there = urlsplit(self.base_url)
        if there.scheme not in ("http", "https") or not there.hostname:
            raise ConfigError(
                f"{at}.base_url is {self.base_url!r}, must have the form https://HOST/v1"
            )
        if self.key_variable and there.scheme == "http" and not _is_loopback(there.hostname):
            raise ConfigError(
                f"{at}.base_url: the key in {self.key_variable} would go to "
                f"{there.hostname} unencrypted; use https://, or name no api_key_variable"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass
class LimitsConfig:
    """Set the limits at which a step that uses engines gives up.

    `max_engine_deaths` per role end the job, with the cause. `no_progress_timeout_s` ends a job in
    which no tree or query advanced while every role had an engine. `start_timeout_s` ends a job in
    which a role had no engine (downloads, loading, compiling); a request also waits this long for
    another engine. `parity_tolerance` is the largest difference, in logits, between our rewards
    and Hugging Face's.
    """

    max_engine_deaths: int = at_least(1, 5, speed=True)
    no_progress_timeout_s: float = at_least(1, 1800.0, speed=True)
    start_timeout_s: float = at_least(1, 3600.0, speed=True)
    parity_tolerance: float = at_least(0, 0.05, speed=True)


class Sees(Enum):
    """Name what a corrector is shown of the truth: nothing, a verifier's words, or a solution."""

    nothing = "nothing"
    feedback = "feedback"
    reference = "reference"


@dataclass
class CorrectingConfig:
    """Say what the corrector is shown of the truth while trees are grown, and what it corrects.

    `corrector_sees` (ours): with `feedback` it sees what the verifier found wrong with the answer,
    with `reference` the row's solution. Rows for training and all evaluation hold neither. It takes
    the place of a larger corrector: a model that knows the solution can say what is wrong with its
    own answer. Of the answers that are right already, `criticised_share` are criticised all the
    same: nothing can be gained there, but a model should see answers that are to stay.
    """

    corrector_sees: Sees = Sees.nothing
    criticised_share: float = at_least(0, 1.0)


@dataclass
class GrowthConfig(LimitsConfig, CorrectingConfig):
    """Configure growth: placement, source of y0, size of a block, health checks.

    `rows_per_block` trees travel and are committed together, so a kill can cost that many. Each
    block costs the driver some CPU time, so by default blocks grow with the pools
    (`avr.plan.resources.rows_per_block`).
    """

    placement: Placement = speed_only(default=Placement.resident)
    first_answer: FirstAnswer = FirstAnswer.sampled
    rows_per_block: int | None = at_least(1, None, speed=True)
    health: HealthConfig = speed_only(default_factory=HealthConfig)


@dataclass
class QueriesConfig(LimitsConfig):
    """Configure Ray tasks that work through queries of several calls each (search, whole outputs).

    A task carries `queries_per_task` queries and runs them concurrently; each is committed on its
    own. With one query per task, every process that runs tasks keeps a Serve router for a single
    query. On two cores, with the engines of the miniature world and 64 queries, 1 per task gave
    2.71 queries/s (2.28 to 2.86), 8 gave 3.29, 32 gave 3.26 and 64 gave 3.01 (all three 2.92 to
    4.07; `benchmarks/search.py`, medians of 3). So above a few the number matters little where
    engines are the limit, as here. 32 keeps routers few on a large cluster, and a lost task
    repeats only the queries that it had not committed.
    `max_queries_in_flight` bounds the queries that run at a time over all tasks (one task always
    runs). Tasks take no more CPUs than the pools leave at their largest size.
    """

    queries_per_task: int = at_least(1, 32, speed=True)
    max_queries_in_flight: int = at_least(1, 256, speed=True)
    cpus_per_task: float = at_least(0.01, 0.5, speed=True)


@dataclass
class ServingConfig:
    """Configure the pools of engines on Ray Serve; the role sets the replicas of its pool.

    `max_ongoing_requests` per replica is far above the batch of an engine, because the engine's
    own scheduler batches better than a queue in front of it. Replicas are added, up to the role's
    `max_replicas`, while more than `target_ongoing_requests` run or wait per replica. With half of
    the engine's `max_num_seqs` a second replica starts before the first is short of slots. (Serve
    LLM's defaults for both are 1e9: its autoscaling never fires.) A replica that is taken away has
    `graceful_shutdown_timeout_s` to finish its requests; unfinished ones are retried.
    """

    max_ongoing_requests: int = at_least(1, 1024, speed=True)
    target_ongoing_requests: float = at_least(1, 128.0, speed=True)
    upscale_delay_s: float = at_least(0, 30.0, speed=True)
    downscale_delay_s: float = at_least(0, 600.0, speed=True)
    health_check_period_s: float = at_least(0.1, 10.0, speed=True)
    health_check_timeout_s: float = at_least(0.1, 60.0, speed=True)
    graceful_shutdown_timeout_s: float = at_least(0, 60.0, speed=True)
