"""Set up Ray Data before it streams, in one place: half of these settings are undocumented."""

import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    DownstreamCapacityBackpressurePolicy,
)
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.planner import plan_udf_map_op
from ray.data.exceptions import ExecutionTimeoutError

from avr.config.roles import GrowthConfig, LimitsConfig
from avr.hosting.patience import Patience
from avr.hosting.release import last_words, without_engine
from avr.hosting.witness import told

# Bytes of blocks that may wait while engines start: the first engines then find work at once, and
# the reader fills up from there.
_READ_AHEAD_BYTES = 1 << 20
_LOOK_EVERY_S = 2.0


class ForgetBlocks(ExecutionCallback):
    """Drop the statistics of blocks that are through.

    They are kept for a report that nobody asks for, and take about ten kilobytes of the driver for
    each block, over all operators: a hundred megabytes for a million prompts, 128 in a block.
    """

    def on_execution_step(self, executor: Any) -> None:
        """Clear the statistics; the executor calls this in every turn of its loop."""
        for operator in executor._topology:
            statistics = getattr(operator, "_output_blocks_stats", None)
            if statistics:
                statistics.clear()


class HoldReader(DownstreamCapacityBackpressurePolicy):
    """Hold the reader back, by the trees that engines have in hand and while engines start.

    Ray Data's policy does the first, but only once half of the object store is full, and does
    nothing while no engine has anything in hand. Prompts would pile up in the driver, where small
    blocks are kept: two megabytes in each second that engines take to start.
    """

    OBJECT_STORE_BUDGET_UTIL_THRESHOLD = 0.0

    def _get_output_pressure(self, op: Any) -> float:
        if not _before_pools(op) or self._get_downstream_capacity_size_bytes(op):
            pressure: float = super()._get_output_pressure(op)
            return pressure
        ahead = self._resource_manager.get_mem_op_outputs(op, include_ineligible_downstream=True)
        return math.inf if ahead > _READ_AHEAD_BYTES else 0.0


class EndStalled(ExecutionCallback):
    """End a stream that stands still, or in which a role gets no engine.

    A stream stands still where no tree has advanced and no block has left a pool; see `Patience`.
    Ray Data's own clock starts again with each block that is read. A reader that is held back gets
    one block through every ten seconds, so with many prompts that clock would hardly ever end a
    stream.
    """

    def __init__(
        self,
        limits: LimitsConfig,
        witness: Any,
        roles: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._witness, self._roles, self._clock = witness, roles, clock
        self._moved = self._advanced = 0
        self._patience = Patience(limits, clock())
        if not roles:
            self._patience.look((), clock())
        self._looked = -math.inf

    def on_execution_step(self, executor: Any) -> None:
        """Look at the clocks; the executor calls this in every turn of its loop.

        An error that is raised here ends the stream.
        """
        operators = [op for op in executor._topology if not _before_pools(op)]
        moved, now = sum(op.metrics.num_outputs_taken for op in operators), self._clock()
        if moved > self._moved:
            self._moved = moved
            self._patience.advance(now)
        if self._patience.starting and now - self._looked > _LOOK_EVERY_S:
            self._look(now)
        # Ask the witness once more before giving up: trees may have advanced inside blocks that are
        # on their way, and an engine that was lost has the start clock.
        if self._patience.still_for(now) is not None:
            self._look(now)
        if (waited := self._patience.still_for(now)) is not None:
            running = ", ".join(_state_of(op) for op in operators if not op.has_completed())
            raise ExecutionTimeoutError(
                f"stopped: no tree advanced in {waited:.0f} s (growth.no_progress_timeout_s; "
                f"blocks in hand: {running}); the same command continues"
            )
        if (overdue := self._patience.without_for(now)) is not None:
            roles, waited = overdue
            words = last_words(told(self._witness), roles[0])
            raise ExecutionTimeoutError(
                f"stopped: no engine of the {' and the '.join(roles)} for {waited:.0f} s "
                f"(growth.start_timeout_s; last known: {words}); the same command continues"
            )

    def _look(self, now: float) -> None:
        report, self._looked = told(self._witness), now
        advanced = report.advanced.total()
        if advanced > self._advanced:
            self._advanced = advanced
            self._patience.advance(now)
        self._patience.look(without_engine(report, self._roles), now)


def _state_of(op: Any) -> str:
    done = op.metrics.num_outputs_taken
    return f"{op.name} {op.num_active_tasks()} ({done} done)"


def _before_pools(op: Any) -> bool:
    """Say whether an operator belongs to the reader, before the engines' pools."""
    return bool(op.output_dependencies) and not isinstance(op, ActorPoolMapOperator)


def tell_ray_data(config: GrowthConfig, rows: int, witness: Any, roles: Sequence[str] = ()) -> None:
    """Set up this process for streams of blocks of at most `rows` rows.

    `witness` follows the stream, and engines of `roles` work on it. The settings hold for the whole
    process; they are read when a stream is planned. Raises AttributeError where this version of Ray
    Data does not have a setting.
    """
    context = ray.data.DataContext.get_current()
    _tell(context, "enable_progress_bars", False)
    _tell(context, "execution_no_progress_timeout_s", -1)  # `EndStalled` has the clock
    _tell(context, "max_consecutive_actor_init_deaths", config.max_engine_deaths)
    stalled = partial(EndStalled, config, witness, roles)
    _tell(context, "custom_execution_callback_classes", [ForgetBlocks, stalled])
    # Otherwise there is a thread per block, for the report that nobody asks for.
    _tell(context, "memory_usage_poll_interval_s", None)
    # Pools grow and shrink by the share of blocks that their replicas hold. A replica holds twice
    # the blocks that it works on (`_pool` in `grow.py`), and Ray Data takes all of them for worked
    # on: therefore half of its own values.
    _tell(context.autoscaling_config, "actor_pool_util_upscaling_threshold", 0.875)
    _tell(context.autoscaling_config, "actor_pool_util_downscaling_threshold", 0.25)
    # Ray Data has 16 rows of a block in hand in an asynchronous operator, however many the actor
    # could take. (Ray's environment variables for this and for the policy below are read on import
    # only.)
    _tell(plan_udf_map_op, "DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY", rows)
    _hold_reader(context)
    # Ray Data would start 32 actors to read footers, each a process and seconds of CPU time, and
    # there is one file. It reads this variable in the driver's environment.
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")


def _hold_reader(context: Any) -> None:
    theirs = DownstreamCapacityBackpressurePolicy
    # `HoldReader` overrides or calls these; without one of them it would do nothing, silently.
    for name in (
        "OBJECT_STORE_BUDGET_UTIL_THRESHOLD",
        "_should_apply_backpressure",
        "_get_output_pressure",
        "_get_downstream_capacity_size_bytes",
    ):
        _check(theirs, name)
    if theirs not in ENABLED_BACKPRESSURE_POLICIES:
        raise AttributeError(f"Ray {ray.__version__}: Ray Data does not enable {theirs.__name__}")
    policies = [HoldReader if one is theirs else one for one in ENABLED_BACKPRESSURE_POLICIES]
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)


def _tell(listener: Any, name: str, value: Any) -> None:
    # Most of these objects would take any name without a word.
    _check(listener, name)
    setattr(listener, name, value)


def _check(listener: Any, name: str) -> None:
    if not hasattr(listener, name):
        raise AttributeError(f"Ray {ray.__version__}: Ray Data has no {name} in {listener}")
